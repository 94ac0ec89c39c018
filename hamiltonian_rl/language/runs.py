"""Runs of language models in their folders: begun, gone on with, and opened as a model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hamiltonian_rl.agents.settings import make_settings
from hamiltonian_rl.errors import CheckpointError, UsageError
from hamiltonian_rl.language.model import LanguageModel
from hamiltonian_rl.language.symbols import Symbols, train_symbols
from hamiltonian_rl.language.text import check_length, digest, parts, read_text
from hamiltonian_rl.language.training import LanguageConfig, LanguageRun, new_transformer, seconds_a_step
from hamiltonian_rl.tracking.checkpoint import Tree
from hamiltonian_rl.tracking.run_folder import RunFolder

AGENT = "transformer"  # the folder's name where a run of an agent has the agent's
RULES: dict[str, Callable[[Any], bool]] = {
    "step": lambda value: type(value) is int and value >= 0,
    "seconds": lambda value: type(value) is float and math.isfinite(value) and value >= 0.0,
    "evaluations": lambda value: isinstance(value, list) and all(map(_is_evaluation, value)),
    "config": lambda value: isinstance(value, dict),
    "weights": lambda value: isinstance(value, dict),
    "moments": lambda value: isinstance(value, dict),
    "merges": lambda value: isinstance(value, np.ndarray),
}


def start_language_run(
    config: LanguageConfig, root: Path, *, minutes: float | None = None, show: Callable[[str], None], **arguments: Any
) -> LanguageRun:
    """Make the folder of a new run and the run in it.

    Args:
        config: What to run; the digest of its text is filled in.
        root: Where runs are kept.
        minutes: How long it shall train, about: its steps are what this machine manages in that time now.
        show: Is told how far it is.
        arguments: For `LanguageRun`.

    Raises:
        UsageError: The text cannot be read, or is too short.
    """
    raw = read_text(Path(config.text))
    learnt, held = parts(raw)
    symbols = Symbols() if config.symbols == "bytes" else train_symbols(learnt, config.vocabulary, show)
    config = dataclasses.replace(config, text_sha256=digest(raw), vocabulary=symbols.n_symbols)
    encoded = _encoded(config, symbols, learnt, held)
    folder = RunFolder.create(root, Path(config.text).stem, AGENT, config.seed)
    try:
        if minutes is not None:
            show("timing a step")
            seconds = seconds_a_step(config, symbols, encoded[0], folder.path)
            config = dataclasses.replace(config, steps=max(1, round(60.0 * minutes / seconds)))
        folder.write_config(dataclasses.asdict(config))
        folder.write_provenance()
        return LanguageRun(config, folder, symbols, *encoded, show=show, **arguments)
    except BaseException:
        folder.remove(root)  # nothing has run: leave no empty run behind
        raise


def resume_language_run(path: Path, text: Path | None = None, **arguments: Any) -> LanguageRun:
    """Go on with an interrupted run, exactly.

    Args:
        path: The run's folder.
        text: Where the text is now; where it was unless given.
        arguments: For `LanguageRun`.

    Raises:
        UsageError: There is no run, it has reached its steps, or the text is another one.
        CheckpointError: Its checkpoint is damaged.
    """
    folder, tree, config, symbols = _opened(path)
    if tree["step"] >= config.steps:
        raise UsageError(f"{path} has taken its {config.steps:,} steps. To measure it: --model {path}.")
    place = Path(config.text) if text is None else text
    raw = read_text(place)
    if digest(raw) != config.text_sha256:
        raise UsageError(
            f"{place} is not the text that {path} learnt from: its SHA-256 differs. Give that one with --text."
        )
    encoded = _encoded(config, symbols, *parts(raw))
    return LanguageRun(config, folder, symbols, *encoded, checkpoint={"language": tree}, **arguments)


def open_language_model(path: Path) -> LanguageModel:
    """Return what a run learnt, at its last checkpoint.

    Raises:
        UsageError: There is no such run.
        CheckpointError: Its checkpoint is damaged.
    """
    _, tree, config, symbols = _opened(path)
    model = new_transformer(config, symbols.n_symbols)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in tree["weights"].items()})
    n = symbols.n_symbols
    return LanguageModel(f"the {AGENT} {path.name}", model, n, config.context, n, symbols.encode, config.text_sha256)


def _encoded(config: LanguageConfig, symbols: Symbols, learnt: bytes, held: bytes) -> tuple[np.ndarray, np.ndarray]:
    named = {"The part of the text to learn from": learnt, "The last tenth of the text, which is held out,": held}
    found = []
    for what, raw in named.items():
        found.append(symbols.encode(raw))
        check_length(len(found[-1]), config.context, what)
    return found[0], found[1]


def _opened(path: Path) -> tuple[RunFolder, Tree, LanguageConfig, Symbols]:
    """Return a run's folder, the tree of its last checkpoint, its configuration and its symbols, checked."""
    if not path.is_dir():
        raise UsageError(f"There is no run folder {path}. Runs look like runs/<text>/{AGENT}/0-...")
    folder = RunFolder.open(path)
    file, tree = folder.read_latest_checkpoint()
    if not isinstance(tree, dict) or not isinstance(tree.get("language"), dict):
        raise UsageError(f"{path} is no run of a language model. `hrl kinematics --text FILE` makes one.")
    found = tree["language"]
    for name, holds in RULES.items():
        if not holds(found.get(name)):
            raise CheckpointError(f"{file} was altered: its {name} is not what a run writes. Use another checkpoint.")
    config = make_settings(LanguageConfig, found["config"], str(file))
    written = make_settings(LanguageConfig, folder.read_config(), f"The config.toml of {path}")
    if config != written:
        raise UsageError(f"The config.toml of {path} is not what its checkpoint was trained with. Undo the edit.")
    symbols = Symbols.from_array(found["merges"], str(file))
    _check_weights(found["weights"], config, symbols, file)
    _check_moments(found["moments"], found["weights"], found["step"], file)
    return folder, found, config, symbols


def _is_evaluation(value: Any) -> bool:
    return isinstance(value, dict) and {"step", "seconds", "loss"} <= value.keys()


def _check_moments(moments: dict[str, Any], weights: dict[str, Any], step: int, file: Path) -> None:
    """Refuse an optimizer's moments that are not those of the weights, in their order."""
    expected = [value.shape for value in weights.values()] if step else []
    got = [
        tuple(np.shape(moments.get(str(index), {}).get(name)) for name in ("exp_avg", "exp_avg_sq", "step"))
        for index in range(len(moments))
    ]
    if got != [(shape, shape, ()) for shape in expected]:
        raise CheckpointError(
            f"{file} was altered: its optimizer's moments are not those of its weights. Use another checkpoint."
        )


def _check_weights(weights: dict[str, Any], config: LanguageConfig, symbols: Symbols, file: Path) -> None:
    """Refuse weights that are not those of the configuration's model."""
    expected = {
        name: tuple(value.shape) for name, value in new_transformer(config, symbols.n_symbols).state_dict().items()
    }
    got = {name: value.shape for name, value in weights.items() if isinstance(value, np.ndarray)}
    if got != expected:
        raise CheckpointError(
            f"{file} was altered: its weights are not those of {config.layers} layers of width {config.width} on "
            f"{symbols.n_symbols:,} symbols. Use another checkpoint."
        )
