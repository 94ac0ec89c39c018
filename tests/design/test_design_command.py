"""`hrl design`: the rows of a file, what they are worth, and files it cannot take."""

from __future__ import annotations

import csv
import itertools
import json
import shlex

import numpy as np
import pytest

from hamiltonian_rl.design.model_terms import model_columns, parse_model
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.principles.fermat import criterion_value


@pytest.fixture
def file(tmp_path):
    """Write a table, and return where."""

    def write(text, name="candidates.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def corners(file, factors=3, name="candidates.csv"):
    """The corners of a cube, with a name each that is no number."""
    lines = [",".join(["id", *"abc"[:factors]])]
    for i, corner in enumerate(itertools.product((-1, 1), repeat=factors)):
        lines.append(",".join([f"run {i}", *map(str, corner)]))
    return file("\n".join(lines) + "\n", name)


def run_of(folder):
    (found,) = folder.glob("runs/design/*/*")
    with open(found / "design.csv", encoding="utf-8") as lines:
        return found, list(csv.DictReader(lines))


def test_the_known_design_of_three_factors_is_printed_kept_and_built_upon(hrl, file, tmp_path):
    path = corners(file)
    outcome = hrl("design", path, "--rows", 7, "--model", "1 + a + b + c", "--run-dir", tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    assert "0.625" in outcome.out
    folder, rows = run_of(tmp_path)
    assert json.loads((folder / "result.json").read_text())["criterion"] == pytest.approx(0.625, rel=1e-9)
    assert (folder / "design.png").stat().st_size > 5000
    table = np.array([[1.0, *(float(row[name]) for name in "abc")] for row in rows])
    assert criterion_value(table.T @ table) == pytest.approx(0.625, rel=1e-9)
    assert all(row["id"] == f"run {int(row['row']) - 1}" for row in rows)
    again = hrl(
        *("design", path, "--rows", 1, "--model", "1 + a + b + c", "--include", folder / "design.csv"),
        *("--run-dir", tmp_path / "more"),
    )
    assert "0.5" in again.out
    (line,) = [line for line in again.out.splitlines() if "Criterion A" in line]
    assert "0.5 " in line  # the eighth corner makes it orthogonal


def test_the_call_that_builds_upon_a_design_asks_the_same_again_of_all_that_is_measured(hrl, file, tmp_path):
    x = np.linspace(-1.0, 1.0, 21)
    path = file("x,y\n" + "".join(f"{value:.1f},0\n" for value in x))
    folders, call = [], ["design", str(path), "--rows", "N", "--model", "1 + x + x^2", "--criterion", "D"]
    for step in range(3):
        outcome = hrl(*(str(3) if word == "N" else word for word in call), "--run-dir", tmp_path / str(step))
        assert outcome.code == 0, outcome.err
        (line,) = [line for line in outcome.out.splitlines() if line.startswith("Build upon them")]
        _, *call = shlex.split(line.removeprefix("Build upon them"))
        folders.append(next((tmp_path / str(step)).glob("design/*/*")))
    assert [call[i + 1] for i, word in enumerate(call) if word == "--include"] == [
        str(f / "design.csv") for f in folders
    ]
    # Three times the best three points of a parabola, -1, 0 and 1, where det(XᵀX) is 4: after n rounds 4 n³.
    found = [json.loads((folder / "result.json").read_text())["criterion"] for folder in folders]
    assert found == pytest.approx([(4 * n**3) ** (-1 / 3) for n in (1, 2, 3)], rel=1e-9)
    assert "3 of the chosen rows equal an included one" in outcome.out


def test_repeats_are_written_as_often_as_they_are_to_be_measured(hrl, file, tmp_path):
    x = np.linspace(-1.0, 1.0, 21)
    path = file("x;y\n" + "".join(f"{value:.1f};0\n" for value in x))
    outcome = hrl(
        *("design", path, "--rows", 4, "--model", "1 + x + x^2", "--repeat"), *("--run-dir", tmp_path / "runs")
    )
    assert outcome.code == 0, outcome.err
    assert [float(row["x"]) for row in run_of(tmp_path)[1]] == [-1.0, 0.0, 0.0, 1.0]
    assert "0.00% at most" in outcome.out or "0.01% at most" in outcome.out


def test_without_a_model_there_are_an_intercept_and_every_column(hrl, file, tmp_path):
    path = file("a,b\n1,2\n2,1\n3,5\n4,4\n2,1\n")
    outcome = hrl("design", path, "--rows", 3, "--run-dir", tmp_path / "runs")
    assert "1 + a + b (3 parameters)" in outcome.out
    assert "1 candidates equal an earlier one" in outcome.out


def test_names_that_look_like_terms_are_columns_where_no_model_is_given(hrl, file, tmp_path):
    path = file("a+b,x:y\n1,2\n2,1\n3,5\n4,4\n")
    outcome = hrl("design", path, "--rows", 3, "--run-dir", tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    assert "(3 parameters)" in outcome.out


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("", (), "is empty"),
        ("a,b\n", (), "no candidate below them"),
        ("1,2\n3,4\n", (), "begins with numbers"),
        ("a,a\n1,2\n", (), 'column "a" twice'),
        ("a,b\n1,2\n3,x\n", (), 'Row 2 of {path} holds "x" in column "b"'),
        ("a,b\n1,2\n3,x\n", (), 'leave the column out: --model "1 + a"'),
        ("a,b\n1,2\n3,\n", (), 'Row 2 of {path} holds "" in column "b"'),
        ("a,b\n1,2\n3,nan\n", (), 'Row 2 of {path} holds "nan" in column "b"'),
        ("a,b\n1,2\n3\n", (), "Row 2 of {path} has 1 cells; expected 2"),
        ("a,b\n1,2\n3,5,4\n4,1\n", (), "Row 2 of {path} has 3 cells; expected 2"),
        (",a,b\n0,1,2\n1,3,5\n2,4,1\n", (), 'no name. Give it one, or leave it out: --model "1 + a + b"'),
        ("a,b\n1,7\n2,7\n3,7\n", (), 'Column "b" is 7 in every row'),
        ("a,b\n1,2\n2,4\n3,6\n", (), "b is a combination of a"),
        ("a,b\n1,2\n2,1\n3,5\n", ("--rows", 4), "Choose fewer, or let them repeat: --repeat"),
        ("a,b\n1,2\n2,1\n3,5\n", ("--rows", 2), "2 rows cannot determine 3 parameters"),
        ("a,b\n1,2\n2,1\n3,5\n", ("--criterion", "E"), 'no criterion "E"'),
        ("a,b\n1,2\n2,1\n3,5\n", ("--model", "1 + c"), 'names "c", which is no column'),
        ("a,b\n1,2\n2,1\n3,5\n", ("--model", "1 + a^x"), 'power "a^x"'),
        ("a,b\n1,2\n2,1\n3,5\n", ("--model", "a +"), 'The model "a +" has an empty term'),
        ("a,b\n1,2\n2,1\n3,5\n", ("--model", "a + a"), "term a twice"),
        ("a,b\n1,2\n2,1\n3,5\n", ("--include", "nowhere.csv"), "Cannot read nowhere.csv"),
    ],
)
def test_what_cannot_be_taken_is_told_in_a_sentence_and_nothing_is_kept(hrl, file, tmp_path, text, options, sentence):
    path = file(text)
    outcome = hrl("design", path, "--rows", 3, "--run-dir", tmp_path / "runs", *options)
    assert outcome.code == 2
    assert sentence.replace("{path}", str(path)) in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "runs").exists()


def test_a_file_that_is_not_there_is_told(hrl, tmp_path):
    outcome = hrl("design", tmp_path / "none.csv", "--rows", 3)
    assert outcome.code == 2
    assert "No such file" in outcome.err


def test_terms_are_products_of_powers():
    values = {"a": np.array([2.0, 3.0]), "b b": np.array([5.0, 7.0])}
    terms = parse_model("1+a + b b + a^2:b b + a:a", list(values))
    assert [term.name for term in terms] == ["1", "a", "b b", "a^2:b b", "a^2"]
    np.testing.assert_array_equal(model_columns(terms, values), [[1, 2, 5, 20, 4], [1, 3, 7, 63, 9]])
    with pytest.raises(UsageError, match=r"term a:b b twice"):
        parse_model("a:b b + b b:a", list(values))


def test_names_that_matplotlib_would_take_for_formulas_are_names(hrl, file, tmp_path):
    path = file("price ($),c_$x{$\n1,2\n2,1\n3,5\n4,4\n")
    outcome = hrl("design", path, "--rows", 3, "--run-dir", tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    assert (run_of(tmp_path)[0] / "design.png").stat().st_size > 5000
