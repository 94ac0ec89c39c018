"""`hrl kinematics`: how fast something is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hamiltonian_rl.console import RUNS
from hamiltonian_rl.text_command import TextOptions, measure_text


def kinematics(
    text: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A text, to measure in-context learning on.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="In a text's place a source whose curve is known exactly: coin, hidden-markov, markov, repeat.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A run of this command, or a Hugging Face causal model [default: train one first]."
        ),
    ] = None,
    symbols: Annotated[str | None, typer.Option(metavar="bytes|bpe", help="What to train on [default: bytes].")] = None,
    vocabulary: Annotated[
        int | None, typer.Option(metavar="N", min=257, max=65536, help="Symbols of bpe [default: 1024].")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(metavar="X", min=0.0, help="How long to train, about [default: 10].")
    ] = None,
    context: Annotated[
        int | None, typer.Option(metavar="N", min=2, max=65536, help="Longest context [default: 256, or the model's].")
    ] = None,
    targets: Annotated[
        int | None, typer.Option(metavar="N", min=64, help="Symbols whose loss is taken [default: 8192].")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", min=0, max=2**32 - 1, help="Seed [default: 0].")] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a training that was interrupted.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Load pickled weights and a model's own code, which may do anything.")
    ] = False,
    run_dir: Annotated[Path, typer.Option(metavar="DIR", file_okay=False, help="Where runs are kept.")] = RUNS,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Where to keep numbers and picture [default: with the run]."),
    ] = None,
) -> None:
    """Measure how surprise falls with context (Figure 1)."""
    measure_text(
        TextOptions(
            run_dir, text, source, model, resume, symbols, vocabulary, minutes, context, targets, seed, trust, out
        )
    )
