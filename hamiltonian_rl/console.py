"""What the commands of `hrl` print, and the options that they share."""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

RUNS = Path("runs")
SECONDS_BETWEEN_LINES = 10.0
COMMAND = re.compile(r"(?:  |: )(?:hrl|tensorboard) ")
EnvSettings = Annotated[
    list[str] | None, typer.Option("--env-set", metavar="KEY=VALUE", help="Argument of the environment, repeatable.")
]


class Interrupted(Exception):
    """Ctrl-C, where there is something to say of it."""


def say(text: str) -> None:
    """Print lines; on a terminal broken between words, so that paths and numbers stay whole.

    Lines with a command are left to the terminal to break: what is copied from there then stays one line.
    """
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        wrap = functools.partial(textwrap.fill, width=width, break_long_words=False, break_on_hyphens=False)
        lines = text.splitlines()
        text = "\n".join(wrap(line) if len(line) > width and not COMMAND.search(line) else line for line in lines)
    print(text, flush=True)


def print_table(title: str, rows: dict[str, str]) -> None:
    """Print a table of two columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))  # names come from people: [x] is no markup
    Console(highlight=False).print(table)


@contextlib.contextmanager
def handling_stops(handler: Callable[[int], None]) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM call a function with their number, instead of what they do; in the main thread alone."""
    try:
        previous = {
            number: signal.signal(number, lambda number, frame: handler(number))
            for number in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:  # not the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def print_rows(title: str, rows: list[dict[str, str]]) -> None:
    """Print a table with the columns that the rows name."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(title=Text(title), title_justify="left")
    for index, (name, wide) in enumerate(_widths(rows, console.width).items()):
        table.add_column(name, overflow="fold", no_wrap=index == 0, width=wide)
    for row in rows:
        table.add_row(*map(Text, row.values()))
    console.print(table)


def _widths(rows: list[dict[str, str]], room: int) -> dict[str, int | None]:
    """Return widths of columns that break no word of a heading, and of the cells as few as there is room for."""
    widths = {name: max(map(len, name.split())) for name in rows[0]}
    first = next(iter(widths))
    widths[first] = max(widths[first], *(len(row[first]) for row in rows))  # the first column is never broken
    left = room - sum(widths.values()) - 3 * len(widths) - 1  # between two columns a line and two spaces
    if left < 0:
        return dict.fromkeys(widths)
    for name in widths:
        more = max(0, *(len(word) - widths[name] for row in rows for word in row[name].split()))
        if more <= left:
            widths[name], left = widths[name] + more, left - more
    wanted = {name: max(len(name), *(len(row[name]) for row in rows)) - wide for name, wide in widths.items()}
    share = min(1.0, left / max(1, sum(wanted.values())))
    return {name: wide + int(share * wanted[name]) for name, wide in widths.items()}


@contextlib.contextmanager
def work_shown() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows what is being done, and for how long: a line every ten seconds off a terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if console.is_terminal:
        columns = SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("Solving")
            yield lambda text: bar.update(task, description=text)
        return
    started = last = time.monotonic()

    def show(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{last - started:.0f} s: {text}", file=sys.stderr, flush=True)

    yield show
