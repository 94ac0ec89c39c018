"""The Python of the pages runs as printed, from top to end, and gives what its comments claim."""

import ast
import re
from pathlib import Path

import gymnasium as gym

from hamiltonian_rl.registry import PROBLEMS

DOCS = Path(__file__).parent.parent / "docs"
CLAIM = re.compile(r"  # (?:.* )?-> (.+)$", re.MULTILINE)  # behind a value: what it is
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run_page(name: str) -> None:
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
            claimed = CLAIM.search(lines[(statement.end_lineno or 1) - 1])
            assert claimed is None or repr(value) == claimed[1], code


def claims(name: str) -> int:
    return len(CLAIM.findall((DOCS / name).read_text(encoding="utf-8")))


def test_the_page_on_control_runs_as_printed_and_says_what_comes_out():
    assert claims("control.md") >= 8
    run_page("control.md")


def test_the_page_on_problems_runs_as_printed_and_its_own_problem_is_one():
    assert claims("problems.md") >= 4
    run_page("problems.md")


def test_the_page_on_estimation_runs_as_printed_and_each_verdict_has_its_number():
    assert claims("estimation.md") >= 20
    run_page("estimation.md")


def test_the_page_on_designs_runs_as_printed_and_says_what_comes_out():
    assert claims("design.md") >= 7
    run_page("design.md")


def test_the_page_on_optimality_runs_as_printed_in_an_environment_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # it saves a model
    assert claims("optimality.md") >= 5
    try:
        run_page("optimality.md")
        assert (tmp_path / "room-ppo.zip").exists()
    finally:
        gym.registry.pop("Room-v0", None)
        PROBLEMS.pop("Room-v0", None)


def test_the_page_on_optimizers_runs_as_printed():
    assert claims("optim.md") >= 2
    run_page("optim.md")


def test_the_page_on_kinematics_runs_as_printed_and_says_what_comes_out():
    assert claims("kinematics.md") >= 4
    run_page("kinematics.md")
