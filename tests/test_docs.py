"""The pages of docs/ on control: their Python runs as printed, from the top of a page to its end, and says what it says."""

import ast
import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

DOCS = Path(__file__).parent.parent / "docs"
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run_page(name: str) -> dict[str, object]:
    """Run a page's Python; compare each value that a line's comment claims behind an arrow."""
    names: dict[str, object] = {}
    for snippet in FENCED.findall((DOCS / name).read_text(encoding="utf-8")):
        lines = snippet.splitlines()
        for statement in ast.parse(snippet).body:
            code = ast.get_source_segment(snippet, statement) or ""
            if not isinstance(statement, ast.Expr):
                exec(compile(code, name, "exec"), names)
                continue
            value = eval(compile(code, name, "eval"), names)
            claimed = re.search(r"# -> (.+)$", lines[(statement.end_lineno or 1) - 1])
            assert claimed is None or repr(value) == claimed[1], code
    return names


def claims(name: str) -> int:
    return len(re.findall(r"# -> ", (DOCS / name).read_text(encoding="utf-8")))


def test_the_page_on_control_runs_as_printed_and_says_what_comes_out():
    assert claims("control.md") >= 5
    run_page("control.md")


def test_the_page_on_problems_runs_as_printed_and_its_own_problem_is_one():
    assert claims("problems.md") >= 3
    run_page("problems.md")
