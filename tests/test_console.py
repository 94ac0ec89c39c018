"""What is printed can be copied and read, however narrow the terminal."""

from __future__ import annotations

import sys

from hamiltonian_rl.console import print_rows, say


def narrow(monkeypatch):
    """Make of standard output a terminal of 40 columns."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)


def test_a_command_stays_one_line_and_prose_is_broken_between_words(monkeypatch, capsys):
    narrow(monkeypatch)
    command = "Go on with: hrl train --resume runs/CartPole-v1/dqn/0-20260101-120000"
    prose = "Note: what a run had saved before it was stopped is kept beside it."
    say(f"{command}\n{prose}")
    first, *others = capsys.readouterr().out.splitlines()
    assert first == command
    assert " ".join(others) == prose
    assert max(map(len, others)) <= 40


def test_a_table_fits_and_breaks_no_word_for_which_there_is_room(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    row = {"run": "0-20260101", "a": "1.25 ± 0.5 or so", "slowing": "undecided (46.1 %)"}
    print_rows("Runs", [row, {**row, "a": "much, much more"}])
    printed = capsys.readouterr().out
    assert "undecided" in printed
    assert max(map(len, printed.splitlines())) <= 40
    print_rows("Runs", [{"run": "r", "name": "exploration_initial_eps", "what": "share of random actions at first"}])
    printed = capsys.readouterr().out
    assert "exploration_initial_eps" in printed
    assert max(map(len, printed.splitlines())) <= 40
