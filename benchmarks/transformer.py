"""A small character model at equal CPU time: `LeastAction`, diagonal and Kronecker-factored, beside torch's Adam.

A causal transformer (2 layers of width 64, 4 heads, rotary positions, context 64) on bytes of a text, the last tenth
held out. Every method has the same CPU seconds for forward and backward passes and steps, evaluations apart; its step
size is tuned, among the same number of values a factor of two apart, on seeds from 1000 on, and falls to zero along a
cosine of the time that is gone. Seeds from 0 on are reported: median and range of the held-out loss in nats a byte.

    python benchmarks/transformer.py                   # this project's own documentation as the text
    python benchmarks/transformer.py --text FILE --seconds 120 --seeds 5

Nothing here is asserted: it prints one table.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn

from hamiltonian_rl.language.transformer import Transformer
from hamiltonian_rl.optim import LeastAction, ModelFisher

WIDTH, HEADS, LAYERS, CONTEXT, BATCH = 64, 4, 2, 64, 16
TUNING_SEED, VALUES = 1000, 5
EVERY, REFRESH = 10, 5  # steps between two looks at the Fisher information, looks between two eigenbases


def watched(model: nn.Module, length: float) -> torch.optim.Optimizer:
    """Return `LeastAction` with the Fisher information of the model's own predictions."""
    fisher = ModelFisher(model, "categorical", every=EVERY)
    return LeastAction(model.parameters(), length, structure="kronecker", fisher=fisher, refresh=REFRESH)


def of_gradients(structure: str) -> Callable[[nn.Module, float], torch.optim.Optimizer]:
    """Return how `LeastAction` is made with the second moments of the batches' gradients."""
    options = {"betas": (0.9, 0.999), "eps": 1e-8, "refresh": EVERY * REFRESH}
    return lambda model, length: LeastAction(model.parameters(), length, structure=structure, **options)


# How each is made, and the middle of the step sizes that are tried.
METHODS: dict[str, tuple[Callable[[nn.Module, float], torch.optim.Optimizer], float]] = {
    "Adam": (lambda model, rate: torch.optim.Adam(model.parameters(), rate), 8e-3),
    "LeastAction, diagonal": (of_gradients("diagonal"), 8e-3),
    "LeastAction, kronecker, of the batches' gradients": (of_gradients("kronecker"), 4e-3),
    "LeastAction, kronecker, of the model": (watched, 3e-2),
}


def run(text: Tensor, method: str, length: float, seed: int, seconds: float) -> tuple[float, int]:
    """Train for some CPU seconds; return the held-out loss, infinite where it diverged, and the steps taken."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    symbols = int(text.max()) + 1
    model = Transformer(symbols, width=WIDTH, heads=HEADS, layers=LAYERS)
    draw = torch.Generator().manual_seed(seed)
    optimizer = METHODS[method][0](model, length)
    learnt, held = text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :]
    begin, steps, gone = time.process_time(), 0, 0.0
    while (gone := (time.process_time() - begin) / seconds) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = length * 0.5 * (1.0 + math.cos(math.pi * gone))
        at = torch.randint(len(learnt) - CONTEXT, (BATCH, 1), generator=draw) + torch.arange(CONTEXT + 1)
        rows = learnt[at]
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        if not loss.isfinite():
            return math.inf, steps
        loss.backward()
        optimizer.step()
        steps += 1
    model.eval()
    windows = held[: len(held) // (CONTEXT + 1) * (CONTEXT + 1)].view(-1, CONTEXT + 1)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
    return float(loss), steps


def as_symbols(raw: bytes) -> Tensor:
    """Return a text's bytes, numbered by those that occur."""
    values = sorted(set(raw))
    return torch.tensor([values.index(byte) for byte in raw])


def own_documentation() -> bytes:
    """Return the pages of this project."""
    root = Path(__file__).parents[1]
    return b"\n".join(page.read_bytes() for page in sorted([*root.glob("*.md"), *(root / "docs").glob("*.md")]))


def main() -> None:
    """Tune, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, help="a text of some 100 kB or more (default: the documentation)")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds of a run (default: 60)")
    parser.add_argument("--seeds", type=int, default=5, help="reported, from 0 on (default: 5)")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side (default: 2)")
    arguments = parser.parse_args()
    raw = own_documentation() if arguments.text is None else arguments.text.read_bytes()
    text = as_symbols(raw)
    print(f"{len(text):,} bytes, {int(text.max()) + 1} symbols, {arguments.seconds:.0f} CPU seconds a run")
    print("| method | step size (tuned) | steps | held-out loss: median (range) |\n| --- | --- | --- | --- |")
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for method, (_, middle) in METHODS.items():
            lengths = [middle * 2.0**power for power in range(-(VALUES // 2), VALUES // 2 + 1)]
            tried = [pool.submit(run, text, method, x, TUNING_SEED, arguments.seconds) for x in lengths]
            best = min(zip((one.result()[0] for one in tried), lengths, strict=True))[1]
            runs = [pool.submit(run, text, method, best, seed, arguments.seconds) for seed in range(arguments.seeds)]
            losses, steps = zip(*(one.result() for one in runs), strict=True)
            shown = f"{statistics.median(losses):.3f} ({min(losses):.3f} to {max(losses):.3f})"
            print(f"| {method} | {best:g} | {statistics.median(steps):,.0f} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
