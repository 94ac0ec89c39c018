"""Training a small transformer on a text, as a run in its folder: resumed exactly, like a run of an agent.

The batch of a step is a function of the seed and the step, so that a checkpoint needs no generator's state.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl
import torch
from torch import Tensor, nn

from hamiltonian_rl.agents.settings import setting
from hamiltonian_rl.console import handling_stops
from hamiltonian_rl.errors import HamiltonianRLError, TrainingError
from hamiltonian_rl.language.symbols import MOST_SYMBOLS, Symbols
from hamiltonian_rl.language.text import spread_windows, windows_at
from hamiltonian_rl.language.transformer import Transformer
from hamiltonian_rl.run_config import Say
from hamiltonian_rl.tracking.checkpoint import Tree
from hamiltonian_rl.tracking.logger import Logger
from hamiltonian_rl.tracking.run_folder import RunFolder
from hamiltonian_rl.tracking.tensorboard import TensorBoardSink

SECONDS_BETWEEN_CHECKPOINTS = 30.0
EVALUATIONS, EVALUATION_WINDOWS = 40, 64
STEPS_TIMED = 5
LAST_RATE = 0.1  # of the step size, at the end of its cosine
LARGEST_GRADIENT = 1.0


@dataclasses.dataclass(frozen=True)
class LanguageConfig:
    """Everything that determines a run, but for the text itself, which it knows by its digest."""

    text: str = setting("", "file of the text")
    text_sha256: str = setting("", "its digest")
    symbols: str = setting("bytes", "bytes or bpe")
    vocabulary: int = setting(256, "symbols at most", least=256, most=MOST_SYMBOLS)
    context: int = setting(256, "symbols that it learns to look back upon", least=2, most=65_536)
    steps: int = setting(1000, "gradient steps", least=1)
    seed: int = setting(0, "seed", least=0, most=2**32 - 1)
    threads: int = setting(1, "threads; results depend on it to the last bit", least=1, most=1024)
    width: int = setting(128, "of the layers", least=2)
    heads: int = setting(4, "of each layer's attention", least=1)
    layers: int = setting(4, "layers", least=1)
    batch: int = setting(16, "windows a step", least=1)
    learning_rate: float = setting(2e-3, "largest step size", above=0)
    warmup: int = setting(100, "steps that the step size rises", least=0)


def new_transformer(config: LanguageConfig, n_symbols: int) -> Transformer:
    """Return the model with the initial weights of the configuration's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Transformer(n_symbols, width=config.width, heads=config.heads, layers=config.layers, starts=True)


def loss_of(model: nn.Module, windows: np.ndarray, n_symbols: int) -> Tensor:
    """Return the mean loss in nats a symbol of windows ``(B, T)``, each taken for the start of a text."""
    rows = torch.from_numpy(windows)
    shown = torch.cat([rows.new_full((len(rows), 1), n_symbols), rows[:, :-1]], dim=1)
    return nn.functional.cross_entropy(model(shown).flatten(0, 1), rows.flatten())


class LanguageRun:
    """A run in its folder: trains, evaluates on what is held out, keeps checkpoints, and ends with a result.

    Args:
        config: What to run.
        folder: Where.
        symbols: What the text is made of.
        learnt: Symbols to learn from, shape ``(T,)``.
        held: Symbols that are held out, each part longer than the context.
        checkpoint: What `LanguageRun` wrote, to go on from.
        say: Is told what a person should know.
        show: Is told how far it is.
        checkpoint_every: Seconds between checkpoints. Saving never changes what is learnt.
    """

    def __init__(
        self,
        config: LanguageConfig,
        folder: RunFolder,
        symbols: Symbols,
        learnt: np.ndarray,
        held: np.ndarray,
        *,
        checkpoint: Tree = None,
        say: Say = lambda sentence: None,
        show: Say = lambda text: None,
        checkpoint_every: float = SECONDS_BETWEEN_CHECKPOINTS,
    ) -> None:
        self.config, self.folder, self.symbols, self.say, self.show = config, folder, symbols, say, show
        self._learnt, self._checkpoint_every = learnt, checkpoint_every
        length = config.context + 1
        self._evaluated = spread_windows(held, EVALUATION_WINDOWS, length, np.random.default_rng(0))
        self.model = new_transformer(config, symbols.n_symbols)
        self._optimizer = torch.optim.AdamW(self.model.parameters(), config.learning_rate, betas=(0.9, 0.98))
        self.step, self.seconds = 0, 0.0
        self.evaluations: list[dict[str, float]] = []
        if checkpoint is not None:
            self._restore(checkpoint)
        self._stop_reason: str | None = None
        self._first = self.step

    def execute(self) -> dict[str, Any]:
        """Train to the end and return the result, which is also in ``result.json``.

        Raises:
            HamiltonianRLError: The run failed; what it had learnt at its last checkpoint is kept.
        """
        self._logger = Logger(TensorBoardSink(self.folder.path, None if self._first == 0 else self._first + 1))
        try:
            with threadpoolctl.threadpool_limits(self.config.threads), handling_stops(self._stop):
                self._train()
            status = "stopped" if self.step < self.config.steps else "finished"
            result = self._result(status)
            self.folder.write_result(result)
        except HamiltonianRLError as error:
            self.folder.write_result({**self._result("failed"), "error": str(error)})
            raise
        finally:
            self._logger.close()
        return result

    def _train(self) -> None:
        self._began = time.monotonic()
        saved = self._began
        every = max(1, self.config.steps // EVALUATIONS)
        if self.step == 0:
            self._save()  # so that there is something to go on from, whenever it is cut off
        while self.step < self.config.steps and self._stop_reason is None:
            begun = time.process_time()
            loss = self._one_step()
            self.seconds += time.process_time() - begun
            if self.step % every == 0 or self.step == self.config.steps:
                self._evaluate(loss)
            self._show(loss)
            if time.monotonic() - saved >= self._checkpoint_every:
                self._save()
                saved = time.monotonic()
        self._save()

    def _one_step(self) -> float:
        """Take a gradient step; return the loss before it, in nats a symbol."""
        config = self.config
        generator = np.random.default_rng([config.seed, self.step])
        starts = generator.integers(len(self._learnt) - config.context, size=config.batch)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate()
        self._optimizer.zero_grad()
        loss = loss_of(self.model, windows_at(self._learnt, starts, config.context + 1), self.symbols.n_symbols)
        if not loss.isfinite():
            raise TrainingError(
                f"The loss is {float(loss.detach())} at step {self.step:,}. The last checkpoint in "
                f"{self.folder.path} is from before. Try another --seed."
            )
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_GRADIENT)
        self._optimizer.step()
        self.step += 1
        return float(loss.detach())

    def _rate(self) -> float:
        """Return the step size now: it rises to its largest along a line, then falls along a cosine."""
        config = self.config
        if self.step < config.warmup:
            return config.learning_rate * (self.step + 1) / config.warmup
        gone = (self.step - config.warmup) / max(1, config.steps - config.warmup)
        return config.learning_rate * (LAST_RATE + (1.0 - LAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * gone)))

    def _evaluate(self, train_loss: float) -> None:
        with torch.inference_mode():
            batches = [self._evaluated[at : at + 16] for at in range(0, len(self._evaluated), 16)]
            losses = [float(loss_of(self.model, batch, self.symbols.n_symbols)) for batch in batches]
        loss = float(np.average(losses, weights=[len(batch) for batch in batches]))
        self.evaluations.append({"step": self.step, "seconds": self.seconds, "loss": loss})
        values = {"eval/loss": loss, "train/loss": train_loss, "train/learning_rate": self._rate()}
        for tag, value in values.items():
            self._logger.record(tag, value)
        self._logger.dump(self.step)

    def _show(self, loss: float) -> None:
        left = (time.monotonic() - self._began) / (self.step - self._first) * (self.config.steps - self.step)
        held = f", held out {self.evaluations[-1]['loss']:.3f}" if self.evaluations else ""
        self.show(
            f"step {self.step:,} of {self.config.steps:,}, loss {loss:.3f}{held} nats a symbol, {left:.0f} s left"
        )

    def _stop(self, number: int) -> None:
        """Let Ctrl-C and SIGTERM stop the run after the step; a second one at once."""
        if self._stop_reason is not None:
            raise KeyboardInterrupt
        self._stop_reason = signal.Signals(number).name
        self.say(f"{self._stop_reason}: saving a checkpoint. Once more to stop at once, without saving.")

    def _save(self) -> None:
        weights = {name: value.numpy() for name, value in self.model.state_dict().items()}
        moments = {
            str(index): {name: value.numpy() for name, value in state.items()}
            for index, state in self._optimizer.state_dict()["state"].items()
        }
        language = {
            "config": dataclasses.asdict(self.config),
            "merges": self.symbols.to_array(),
            "weights": weights,
            "moments": moments,
            "step": self.step,
            "seconds": self.seconds,
            "evaluations": self.evaluations,
        }
        self.folder.write_checkpoint(self.step, {"language": language})

    def _restore(self, checkpoint: Tree) -> None:
        language = checkpoint["language"]
        self.model.load_state_dict({name: torch.from_numpy(value) for name, value in language["weights"].items()})
        state = {
            int(index): {name: torch.from_numpy(value) for name, value in moments.items()}
            for index, moments in language["moments"].items()
        }
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": state})
        self.step, self.seconds = language["step"], language["seconds"]
        self.evaluations = list(language["evaluations"])

    def _result(self, status: str) -> dict[str, Any]:
        return {
            "status": status,
            "steps": self.step,
            "training_cpu_seconds": self.seconds,
            "loss": self.evaluations[-1]["loss"] if self.evaluations else None,
            "evaluations": self.evaluations,
            "resume": "exact",
        }


def seconds_a_step(config: LanguageConfig, symbols: Symbols, learnt: np.ndarray, folder: Path) -> float:
    """Return how long a step takes on this machine now, the quickest of some on a model that is thrown away."""
    run = LanguageRun(config, RunFolder(folder), symbols, learnt, learnt)
    with threadpoolctl.threadpool_limits(config.threads):
        run._one_step()  # the first one is slower
        times = []
        for _ in range(STEPS_TIMED):
            begun = time.monotonic()
            run._one_step()
            times.append(time.monotonic() - begun)
    return min(times)
