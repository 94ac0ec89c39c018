"""`hrl kinematics --text FILE`: Figure 1 of a text, by a model that is trained first, or by one that there is."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hamiltonian_rl.console import Interrupted, print_rows, say, work_shown
from hamiltonian_rl.errors import RunStorageError, UsageError, did_you_mean

if TYPE_CHECKING:
    from hamiltonian_rl.language.measurement import Measurement
    from hamiltonian_rl.language.model import LanguageModel
    from hamiltonian_rl.language.training import LanguageRun

CONTEXT, MINUTES, TARGETS, VOCABULARY = 256, 10.0, 8192, 1024  # where nobody says
PROBE = ".written-to-by-hrl-kinematics"  # a file that comes and goes
Show = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class TextOptions:
    """What to measure, and with what; None where nobody said.

    Attributes:
        run_dir: Where runs are kept.
        text: The file.
        source: An exact source in its place.
        model: Folder of a run of ours or of a Hugging Face model; None to train one first.
        resume: Folder of a run whose training was interrupted.
        symbols: What to train on, "bytes" or "bpe".
        vocabulary: How many symbols BPE makes.
        minutes: How long to train, about.
        context: The longest context.
        targets: Symbols whose velocity is taken.
        seed: Of everything random.
        trust: Whether a model's folder may run code.
        out: Where to keep numbers and picture; in the run's folder unless given.
    """

    run_dir: Path
    text: Path | None = None
    source: str | None = None
    model: Path | None = None
    resume: Path | None = None
    symbols: str | None = None
    vocabulary: int | None = None
    minutes: float | None = None
    context: int | None = None
    targets: int | None = None
    seed: int | None = None
    trust: bool = False
    out: Path | None = None


def measure_text(options: TextOptions) -> None:
    """Measure the velocity of a text against the context; print, draw and keep what comes out.

    Raises:
        UsageError: The call, the text or the model is wrong.
        Interrupted: Ctrl-C before there was a result.
    """
    _check(options)
    if options.out is not None:
        _make(options.out)  # before the work, which may take long
    try:
        with work_shown() as show:
            if options.source is not None:
                found, title, table = _of_source(options, show)
            else:
                found, title, table = _of_text(options, show)
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted before anything was measured. A run keeps what it had saved: go on with --resume RUN, or "
            "measure it with --model RUN."
        ) from None
    except MemoryError:
        raise UsageError("There is not enough memory for that. Take a shorter --context or fewer --targets.") from None
    _report(found, title, table)


def _check(options: TextOptions) -> None:
    """Refuse options that do not go together."""
    training = {"--symbols": options.symbols, "--vocabulary": options.vocabulary, "--minutes": options.minutes}
    others = {"--text": options.text, "--model": options.model, "--resume": options.resume}
    for name, value, excluded in (
        ("--source", options.source, {**others, **training}),
        ("--model", options.model, {"--resume": options.resume, **training}),
        ("--resume", options.resume, training),
    ):
        clash = next((other for other, given in excluded.items() if given is not None), None)
        if value is not None and clash is not None:
            raise UsageError(f"{clash} cannot go with {name}. Leave one of them out.")
    if options.trust and options.model is None:
        raise UsageError("--trust is about what --model names; without --model leave it out.")
    if options.symbols not in (None, "bytes", "bpe"):
        raise UsageError(f'--symbols "{options.symbols}" is unknown. {did_you_mean(options.symbols, ["bytes", "bpe"])}')
    if options.vocabulary is not None and options.symbols != "bpe":
        raise UsageError("--vocabulary is of --symbols bpe; bytes are always 256. Leave it out, or add --symbols bpe.")
    if options.minutes is not None and not math.isfinite(options.minutes):
        raise UsageError(f"--minutes is {options.minutes}; expected a finite number.")
    if options.text is None and options.resume is None and options.source is None:
        raise UsageError("Which text? For instance: hrl kinematics --text book.txt")


def _of_source(options: TextOptions, show: Show) -> tuple[Measurement, str, Path]:
    """Measure an exact source; return what was found, a title, and where to write the numbers."""
    from hamiltonian_rl.language.measurement import measure_source
    from hamiltonian_rl.principles.sources import SOURCES

    name = str(options.source)
    if name not in SOURCES:
        raise UsageError(f'There is no source "{name}". {did_you_mean(name, SOURCES)}')
    source = SOURCES[name]()
    context = options.context or source.longest_context
    found = measure_source(source, context, options.targets or TARGETS, options.seed or 0, show)
    return found, f"{name}, by its own model", _folder(options, name) / "information.csv"


def _of_text(options: TextOptions, show: Show) -> tuple[Measurement, str, Path]:
    """Measure a text, by a model that is trained first where none is given; return the same."""
    from hamiltonian_rl.language.measurement import measure_symbols
    from hamiltonian_rl.language.runs import open_language_model
    from hamiltonian_rl.language.text import digest, parts, read_text

    if options.model is None:
        run = _trained(options, show)
        text, model = Path(options.text or run.config.text), open_language_model(run.folder.path)
        home: Path | None = run.folder.path
    else:
        text = Path(str(options.text))
        read_text(text)  # before a model is loaded, which may take long
        model, ours = _opened(options.model, options.trust)
        home = options.model if ours else None
    raw, what = read_text(text), "all of it"
    if digest(raw) == model.text_sha256:
        raw, what = parts(raw)[1], "its held-out last tenth"
    show(f"reading {text}")
    symbols = model.encode(raw)
    context = options.context or min(CONTEXT, model.longest_context)
    found = measure_symbols(model, symbols, len(raw), context, options.targets or TARGETS, options.seed or 0, show)
    title = f"{text.name} ({what}), by {model.name}"
    folder = options.out or home or _folder(options, text.stem)
    return found, title, folder / f"information-{text.stem}.csv"


def _trained(options: TextOptions, show: Show) -> LanguageRun:
    """Return a run that has been trained to its end; stop where it was stopped."""
    import torch

    from hamiltonian_rl.language.runs import resume_language_run, start_language_run
    from hamiltonian_rl.language.training import LanguageConfig

    if options.resume is not None:
        run = resume_language_run(options.resume, options.text, show=show, say=say)
        say(f"Going on with {run.folder.path} from step {run.step:,} of {run.config.steps:,}.")
    else:
        kind = options.symbols or "bytes"
        config = LanguageConfig(
            text=str(options.text),
            symbols=kind,
            vocabulary=256 if kind == "bytes" else options.vocabulary or VOCABULARY,
            context=options.context or CONTEXT,
            seed=options.seed or 0,
            threads=torch.get_num_threads(),
        )
        minutes = MINUTES if options.minutes is None else options.minutes
        run = start_language_run(config, options.run_dir, minutes=minutes, show=show, say=say)
        say(
            f"Training on {config.text} for {run.config.steps:,} steps, about {minutes:g} minutes, in {run.folder.path}"
        )
    result = run.execute()
    text = options.text or run.config.text
    if result["status"] == "stopped":
        say(
            f"Stopped at step {run.step:,} of {run.config.steps:,}; everything is kept in {run.folder.path}\n"
            f"Go on with: hrl kinematics {_shell('--text', text, '--resume', run.folder.path)}"
        )
        raise SystemExit(1)
    say(
        f"Trained to {result['loss']:.4f} nats a symbol on what is held out. The run lies in {run.folder.path}\n"
        f"Measure it again with: hrl kinematics {_shell('--text', text, '--model', run.folder.path)}"
    )
    return run


def _shell(*words: object) -> str:
    """Return words as a shell takes them, also those with spaces."""
    return shlex.join(map(str, words))


def _opened(path: Path, trust: bool) -> tuple[LanguageModel, bool]:
    """Return a model from a folder, and whether it is a run of ours."""
    from hamiltonian_rl.language.hugging_face import is_hugging_face_folder, open_hugging_face_model
    from hamiltonian_rl.language.runs import open_language_model

    if (path / "config.toml").is_file():
        return open_language_model(path), True
    if is_hugging_face_folder(path):
        return open_hugging_face_model(path, trust=trust), False
    raise UsageError(
        f"{path} is no model: expected the folder of a run that `hrl kinematics --text` trained, or of a Hugging Face "
        "model on this machine, with its config.json, its tokenizer and model.safetensors."
    )


def _folder(options: TextOptions, name: str) -> Path:
    """Return where to keep what no run's folder is there for."""
    from hamiltonian_rl.tracking.run_folder import RunFolder

    if options.out is not None:
        return options.out
    folder = RunFolder.create(options.run_dir, "kinematics", name, options.seed or 0)
    given: dict[str, Any] = {key: value for key, value in dataclasses.asdict(options).items() if value is not None}
    folder.write_config({key: str(value) if isinstance(value, Path) else value for key, value in given.items()})
    folder.write_provenance()
    return folder.path


def _make(folder: Path) -> None:
    """Make a folder for results, if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PROBE).touch()
        (folder / PROBE).unlink()
    except OSError as error:
        raise RunStorageError(
            f"Cannot write to the folder {folder}: {error.strerror}. Choose another with --out."
        ) from None


def _report(found: Measurement, title: str, table: Path) -> None:
    from hamiltonian_rl.information_report import keep, sentences, table_rows

    _make(table.parent)
    picture = table.with_suffix(".png")
    keep(found, table, picture, title)
    print_rows(f"{title}: {found.n_targets:,} targets, the same at each context", table_rows(found))
    for sentence in sentences(found):
        say(sentence)
    say(f"The numbers are in   {table}\nA picture is         {picture}")
