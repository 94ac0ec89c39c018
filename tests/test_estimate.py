"""`hrl estimate` as a person meets it: its table against statsmodels, its test, and a sentence for each bad input."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest


def write(path: Path, columns: dict[str, np.ndarray]) -> Path:
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(str(value) for value in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def logistic_data(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(2, 120))
    y = (rng.random(120) < 1.0 / (1.0 + np.exp(-0.5 - x))).astype(int)
    columns = {"x": x, "z": z, "y": y}
    return write(tmp_path / "data.csv", columns), columns


def row_of(printed: str, name: str) -> list[str]:
    """The cells of a parameter's row."""
    (line,) = re.findall(rf"^│ {re.escape(name)} +│(.*)│$", printed, re.MULTILINE)
    return [cell.strip() for cell in line.split("│")]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


def test_the_table_is_that_of_statsmodels(hrl, logistic_data) -> None:
    sm = pytest.importorskip("statsmodels.api")
    path, columns = logistic_data
    outcome = hrl("estimate", path, "--target", "y", "--model", "logistic", "--bootstrap", 19, "--seed", 3)
    assert outcome.code == 0, outcome.err
    design = sm.add_constant(np.column_stack([columns["x"], columns["z"]]))
    plain, robust = (sm.Logit(columns["y"], design).fit(disp=0, cov_type=kind) for kind in ("nonrobust", "HC0"))
    for i, name in enumerate(("intercept", "x", "z")):
        cells = [float(cell) for cell in row_of(outcome.out, name)]
        expected = [plain.params[i], plain.bse[i], robust.bse[i], (plain.bse[i] / robust.bse[i]) ** 2]
        np.testing.assert_allclose(cells, expected, rtol=6e-4)  # as many digits as are printed
    assert "CONVERGED" in outcome.out
    assert re.search(
        r"ρ = -?0\.\d+ ± 0\.\d+ .* p = \S+ by White's asymptotics; \S+ by parametric bootstrap \(19 draws\)",
        outcome.out,
    )
    assert "No sign against the model" in outcome.out
    assert "does not see" in outcome.out
    again = hrl("estimate", path, "--target", "y", "--model", "logistic", "--bootstrap", 19, "--seed", 3)
    assert again.out == outcome.out


def test_overdispersed_counts_are_contradicted_and_their_plain_errors_inefficient(hrl, tmp_path) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=2000)
    path = write(tmp_path / "counts.csv", {"x": x, "y": rng.negative_binomial(np.exp(0.5 + 0.3 * x), 0.5)})
    outcome = hrl("estimate", path, "--target", "y", "--model", "poisson")
    assert outcome.code == 0, outcome.err
    assert "contradict the model: scores are larger" in outcome.out
    # The variance is twice the mean, and the sandwich is that much wider: 5 standard errors of 2,000 heavy squares.
    assert "It does not see" in outcome.out
    assert float(row_of(outcome.out, "x")[3]) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(
    ("model", "options", "names"),
    [
        ("linear", [], ["intercept", "x", "z", "sigma"]),
        ("linear", ["--sigma", 1.0, "--inputs", "x", "--no-intercept"], ["x"]),
        ("softmax", ["--inputs", "x"], ["1: intercept", "1: x"]),
        ("poisson", ["--inputs", "x, z"], ["intercept", "x", "z"]),
        ("gaussian", [], ["mean", "sigma"]),
        ("gaussian", ["--sigma", 2.0], ["mean"]),
        ("bernoulli", [], ["mean"]),
        ("bernoulli", ["--parameter", "logit"], ["logit"]),
        ("exponential", ["--parameter", "mean"], ["mean"]),
    ],
)
def test_every_model_prints_its_parameters(hrl, logistic_data, model: str, options: list, names: list[str]) -> None:
    outcome = hrl("estimate", logistic_data[0], "--target", "y", "--model", model, *options)
    assert outcome.code == 0, outcome.err
    assert re.findall(r"^│ ([\w: ]+?) +│ -?\d", outcome.out, re.MULTILINE)[-len(names) :] == names


def test_of_classes_the_test_sees_a_missing_curve(hrl, tmp_path) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=3000)
    y = (rng.random(3000) < 1.0 / (1.0 + np.exp(2.0 - x - x**2))).astype(int)
    bent = hrl("estimate", write(tmp_path / "bent.csv", {"x": x, "y": y}), "--target", "y", "--model", "logistic")
    assert "contradict the model" in bent.out
    both = write(tmp_path / "both.csv", {"x": x, "square": x**2, "y": y})
    assert "No sign against" in hrl("estimate", both, "--target", "y", "--model", "logistic").out


def test_in_small_samples_a_small_p_value_is_doubted_without_the_bootstrap(hrl, tmp_path) -> None:
    path = write(tmp_path / "few.csv", {"y": np.array([0, 0, 0, 2, 2, 2, 6, 0, 9, 0] * 6)})
    plain = hrl("estimate", path, "--target", "y", "--model", "poisson")
    assert "too often: ask for 199 draws" in plain.out
    drawn = hrl("estimate", path, "--target", "y", "--model", "poisson", "--bootstrap", 39)
    assert "contradict the model" in drawn.out
    assert "too often" not in drawn.out


def test_a_bernoulli_model_leaves_nothing_to_test(hrl, logistic_data) -> None:
    outcome = hrl("estimate", logistic_data[0], "--target", "y", "--model", "bernoulli", "--bootstrap", 5)
    assert "Nothing to test: the model's ρ is 0 at every maximum." in outcome.out


def test_a_rho_without_a_standard_error_is_printed_without_a_p_value(hrl, tmp_path) -> None:
    """Counts of 0 and 20 are all 10 from their mean: ρ is 1 - 10/100, and every observation adds the same to it."""
    path = write(tmp_path / "two.csv", {"y": np.array([0, 20] * 20)})
    outcome = hrl("estimate", path, "--target", "y", "--model", "poisson", "--bootstrap", 5)
    assert outcome.code == 0, outcome.err
    assert "ρ = 0.9000, and no p-value" in outcome.out


def test_a_fit_without_a_residual_leaves_nothing_to_test(hrl, tmp_path) -> None:
    """As many parameters as rows with sigma known, and counts that are all one: every score is zero, or rounding."""
    rng = np.random.default_rng(0)
    exact = write(tmp_path / "exact.csv", {name: rng.normal(size=4) for name in "abcdy"})
    outcome = hrl("estimate", exact, "--target", "y", "--model", "linear", "--sigma", 1)
    assert outcome.code == 0, outcome.err
    assert "Nothing to test: the fit leaves no residual" in outcome.out
    square = hrl("estimate", exact, "--target", "y", "--model", "linear", "--sigma", 1, "--inputs", "a,b,c")
    assert "Nothing to test: the fit leaves no residual" in square.out
    assert row_of(square.out, "a")[2:] == ["not defined"] * 2
    assert float(row_of(square.out, "a")[1]) > 0.0
    ones = write(tmp_path / "ones.csv", {"x": rng.normal(size=9), "y": np.ones(9, int)})
    assert "the fit leaves no residual" in hrl("estimate", ones, "--target", "y", "--model", "poisson").out


def test_a_bootstrap_whose_draws_have_no_maximum_says_nothing(hrl, tmp_path) -> None:
    """One row of six is out of order: what such a model draws is separable most of the time."""
    path = write(tmp_path / "few.csv", {"x": np.arange(6.0), "y": np.array([0, 0, 1, 0, 1, 1])})
    outcome = hrl("estimate", path, "--target", "y", "--model", "logistic", "--bootstrap", 39)
    assert "without a maximum" in outcome.out
    assert "none by parametric bootstrap" in outcome.out
    assert "Nothing can be said" in outcome.out


def test_inputs_too_large_to_be_squared_are_refused(hrl, logistic_data, tmp_path) -> None:
    columns = logistic_data[1]
    path = write(tmp_path / "huge.csv", {"x": columns["x"] * 1e200, "y": columns["y"]})
    outcome = hrl("estimate", path, "--target", "y", "--model", "logistic")
    assert outcome.code == 2
    assert "Scale the inputs" in outcome.err


def test_collinear_columns_are_named_and_have_no_standard_errors(hrl, logistic_data, tmp_path) -> None:
    columns = logistic_data[1]
    path = write(tmp_path / "twice.csv", {**columns, "x2": 2.0 * columns["x"]})
    outcome = hrl("estimate", path, "--target", "y", "--model", "logistic")
    assert outcome.code == 0
    assert "SINGULAR" in outcome.out
    assert "x, x2: 4 parameters, of which the data determine 3 combinations" in outcome.out
    assert row_of(outcome.out, "x2")[1:] == ["not identified"] * 3
    assert "not identified" not in row_of(outcome.out, "z")


def test_labels_are_said(hrl, logistic_data, tmp_path) -> None:
    columns = logistic_data[1]
    path = write(tmp_path / "labels.csv", {"x": columns["x"], "y": np.array(["no", "yes"])[columns["y"]]})
    assert "yes is 1, no is 0" in hrl("estimate", path, "--target", "y", "--model", "logistic").out
    assert "no: coefficients are log odds" in hrl("estimate", path, "--target", "y", "--model", "softmax").out


def test_a_label_that_python_reads_as_a_number_is_one_among_others(hrl, tmp_path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("x,y\n0,a\n1,1_0\n2,a\n3,1_0\n", encoding="utf-8")
    assert "1_0: coefficients are log odds" in hrl("estimate", path, "--target", "y", "--model", "softmax").out


def test_names_with_brackets_are_printed_as_they_are(hrl, logistic_data, tmp_path) -> None:
    columns = logistic_data[1]
    path = write(tmp_path / "names.csv", {"[red]x": columns["x"], "[/]": columns["z"], "y [m]": columns["y"]})
    outcome = hrl("estimate", path, "--target", "y [m]", "--model", "logistic")
    assert outcome.code == 0, outcome.err
    assert "model of y [m] in" in outcome.out
    assert row_of(outcome.out, "[red]x")
    assert row_of(outcome.out, "[/]")


def test_separable_data_exit_with_one_and_the_reason(hrl, tmp_path) -> None:
    path = write(tmp_path / "apart.csv", {"x": np.arange(8), "y": np.arange(8) // 4})
    outcome = hrl("estimate", path, "--target", "y", "--model", "logistic")
    assert outcome.code == 1
    assert "NO_MAXIMUM" in outcome.out
    assert "separable data" in outcome.out
    assert "Fisher" not in outcome.out


def test_more_parameters_than_rows_exit_with_one_and_the_reason(hrl, tmp_path) -> None:
    rng = np.random.default_rng(0)
    path = write(tmp_path / "wide.csv", {name: rng.normal(size=4) for name in "abcdey"})
    outcome = hrl("estimate", path, "--target", "y", "--model", "linear")
    assert outcome.code == 1
    assert "without a residual" in outcome.out


def test_an_input_that_rounding_takes_for_a_constant_does_not_make_the_test_speak(hrl, logistic_data, tmp_path) -> None:
    """Intercept and x + 1e8 are collinear to rounding, and a share of ones alone leaves nothing to test."""
    columns = logistic_data[1]
    path = write(tmp_path / "far.csv", {"x": columns["x"] + 1e8, "y": columns["y"]})
    outcome = hrl("estimate", path, "--target", "y", "--model", "logistic")
    assert "Nothing to test" in outcome.out


@pytest.mark.parametrize(
    ("text", "arguments", "says"),
    [
        ("x,y\n1,0\n2,1\n", ["--target", "z", "--model", "logistic"], 'no column "z"'),
        ("x;y\n1;0\n2;1\n", ["--target", "y", "--model", "logistic"], "separated by semicolons; expected commas"),
        ("x,yes\n1,0\n2,1\n", ["--target", "yse", "--model", "logistic"], 'Did you mean "yes"'),
        ("x,y\n1,0\n2,1\n", ["--target", "y", "--model", "logistics"], 'Did you mean "logistic"'),
        ("x,y\n1,0\n2,3\n", ["--target", "y", "--model", "logistic"], '"y" is 3 at line 3 of'),
        ("x,y\n1,0\n2,0\n", ["--target", "y", "--model", "logistic"], "of one class only"),
        ("x,y\n1,0\n2,0\n", ["--target", "y", "--model", "softmax"], "of one class"),
        ("x,y\n1,0\n2,-2\n", ["--target", "y", "--model", "poisson"], '"y" is -2 at line 3 of'),
        ("x,y\n1,0\nnan,1\n", ["--target", "y", "--model", "logistic"], 'column "x" at line 3'),
        ("x,y\nred,0\nblue,1\n", ["--target", "y", "--model", "logistic"], 'holds "red" at line 2'),
        ("x,y\n1,a\n2,b\n", ["--target", "y", "--model", "linear"], "holds labels (a, b)"),
        ("x,y\n1,a\n2,b\n", ["--target", "y", "--model", "gaussian"], "holds labels (a, b)"),
        ("x,y\n1,0\n2,1000000000000\n", ["--target", "y", "--model", "softmax"], "expected the number of a class"),
        ("x,y\n1,0\n2,1e19\n", ["--target", "y", "--model", "softmax"], "expected the number of a class"),
        ("intercept,y\n1,0\n2,1\n", ["--target", "y", "--model", "linear"], 'an input "intercept" beside'),
        ("sigma,y\n1,0\n2,1\n", ["--target", "y", "--model", "linear"], 'an input "sigma" beside'),
        ("x,y\n1,0\n2,1\n", ["--target", "y", "--model", "logistic", "--seed", 2**70], "--seed"),
        ("", ["--target", "y", "--model", "linear"], "is empty"),
        ("x,y\n1,0\n2,1\n", ["--target", "y", "--model", "gaussian", "--inputs", "x"], '"inputs" does not apply'),
        ("x,y\n1,0\n2,1\n", ["--target", "y", "--model", "poisson", "--sigma", 1], '"sigma" does not apply'),
        ("x,y\n1,0\n2,1\n", ["--target", "y", "--model", "linear", "--sigma", -1], "sigma = -1"),
        ("x,y\n1,0\n2,1\n", ["--target", "y", "--model", "linear", "--inputs", "y"], "cannot be an input too"),
        ("x,y\n1,0\n2,1\n", ["--target", "y", "--model", "linear", "--inputs", "x,x"], '"x" is named twice'),
        ("x,x,y\n1,1,0\n2,1,1\n", ["--target", "y", "--model", "linear"], 'two columns "x"'),
        ("x,y\n1,0\n1_000,1\n", ["--target", "y", "--model", "linear"], '"1_000" at line 3; expected digits alone'),
        ("x,y\n1,1_0\n2,2_0\n", ["--target", "y", "--model", "softmax"], '"1_0" at line 2'),
        ("x,y\n1,0,\n2,1,\n", ["--target", "y", "--model", "linear"], "It ends with a comma"),
        ("x,y,\n1,0,\n2,1,5\n", ["--target", "y", "--model", "linear"], "Column 3 of"),
        (",x,y\n0,1,0\n1,2,1\n", ["--target", "y", "--model", "linear"], "has no name, as an index"),
        (",,y\n0,1,0\n1,2,1\n", ["--target", "y", "--model", "linear"], "two columns without a name"),
        ("x;y\n1,5;0\n2,5;1\n", ["--target", "y", "--model", "linear"], "Write decimals with a point"),
        ("x\ty\n1\t0\n2\t1\n", ["--target", "y", "--model", "linear"], "separated by tabs"),
        ("\n \n", ["--target", "y", "--model", "linear"], "is empty"),
        ("x,y\n1,0\n,\n", ["--target", "y", "--model", "linear"], "at line 3"),
        ("x,y\n1,1e300\n2,3e300\n", ["--target", "y", "--model", "linear"], 'target "y" is 3e+300'),
        ("x,y\n1,0\n2,1\n", ["--target", "y", "--model", "linear", "--sigma", "1e-300"], "sigma = 1e-300"),
        ("x,y\n1,0\n2,1\n", ["--target", "y", "--model", "bernoulli", "--parameter", "odds"], 'no parameter "odds"'),
    ],
)
def test_what_is_wrong_is_a_sentence_and_exits_with_two(hrl, tmp_path, text: str, arguments: list, says: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text(text, encoding="utf-8")
    outcome = hrl("estimate", path, *arguments)
    assert outcome.code == 2
    assert says in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    "written",
    [
        b"\xef\xbb\xbfx,y\n0,1\n1,3\n2,4\n",
        b"x,y\r\n0,1\r\n1,3\r\n2,4\r\n",
        b"x,y\r0,1\r1,3\r2,4\r",
        b"\n\nx,y\n\n0,1\n  \n1,3\n2,4\n\n",
        b'"x","y"\n"0","1"\n"1", "3"\n2,"4"',
        b"x,y,\n0,1,\n1,3,\n2,4,\n",
        b"x,y,,\n0,1,,\n1,3,, \n2,4,,\n",
        b" x , y \n 0 , 1 \n 1, 3\n2 ,4",
        b"x,y\n0,1\n1.0,+3\n2e0,4.\n",
    ],
)
def test_a_file_however_it_was_saved_is_the_same_table(hrl, tmp_path, written: bytes) -> None:
    """The least squares of (0, 1), (1, 3), (2, 4): 7/6 + 3/2 x."""
    path = tmp_path / "data.csv"
    path.write_bytes(written)
    outcome = hrl("estimate", path, "--target", "y", "--model", "linear")
    assert outcome.code == 0, outcome.err
    assert [float(row_of(outcome.out, name)[0]) for name in ("intercept", "x")] == pytest.approx([7 / 6, 1.5], rel=1e-5)


def test_an_index_without_a_name_may_stay_where_the_inputs_are_named(hrl, tmp_path) -> None:
    path = tmp_path / "data.csv"
    path.write_text(",x,y\n7,0,1\n8,1,3\n9,2,4\n", encoding="utf-8")
    outcome = hrl("estimate", path, "--target", "y", "--model", "linear", "--inputs", "x")
    assert float(row_of(outcome.out, "x")[0]) == pytest.approx(1.5, rel=1e-5)


def test_thousands_of_classes_exit_with_two_and_the_size(hrl, tmp_path) -> None:
    path = write(tmp_path / "wide.csv", {name: np.arange(3000) for name in "abcdefy"})
    outcome = hrl("estimate", path, "--target", "y", "--model", "softmax")
    assert outcome.code == 2
    assert "20,993 parameters" in outcome.err
    assert "3.5 GB" in outcome.err
