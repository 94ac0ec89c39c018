"""`hrl kinematics --text`: trained, measured, drawn and kept; stopped and gone on with; and what it cannot take."""

from __future__ import annotations

import csv
import json
import shlex
import signal

import pytest

from hamiltonian_rl.language.measurement import measure_symbols
from hamiltonian_rl.language.runs import open_language_model, start_language_run
from hamiltonian_rl.language.text import parts
from hamiltonian_rl.language.training import LanguageConfig, LanguageRun

SMALL = ("--minutes", 0.02, "--context", 8, "--targets", 128)


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
    """The folder of a run of a few steps."""
    small = LanguageConfig(text=str(text), context=8, width=16, heads=2, layers=1, steps=4)
    run = start_language_run(small, tmp_path_factory.mktemp("runs"), show=lambda text: None)
    run.execute()
    return run.folder.path


def rows_of(path):
    with open(path, encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_a_text_is_learnt_measured_and_kept_and_its_run_measures_again(hrl, text, tmp_path):
    outcome = hrl("kinematics", "--text", text, *SMALL, "--run-dir", tmp_path)
    assert outcome.code == 0, outcome.err
    assert "its held-out last tenth" in outcome.out
    assert "Insight 1, bounded below" in outcome.out
    assert "times the standard error" in outcome.out
    (folder,) = tmp_path.glob("chain/transformer/0-*")
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"
    assert (folder / "information-chain.png").stat().st_size > 10_000
    rows = rows_of(folder / "information-chain.csv")
    assert [row["context"] for row in rows] == ["0", "1", "2", "4", "8"]
    changes = [float(row["change"]) for row in rows[1:]]
    assert sum(changes) == pytest.approx(float(rows[-1]["velocity"]) - float(rows[0]["velocity"]), abs=1e-9)
    model, held = open_language_model(folder), parts(text.read_bytes())[1]
    found = measure_symbols(model, model.encode(held), len(held), 8, 128, 0, lambda text: None)
    assert [float(row["velocity"]) for row in rows] == pytest.approx(found.paired.velocity.tolist(), abs=1e-6)
    again = hrl("kinematics", "--text", text, "--model", folder, "--targets", 128, "--out", tmp_path / "again")
    assert again.code == 0, again.err
    assert (tmp_path / "again" / "information-chain.csv").read_text() == (folder / "information-chain.csv").read_text()


def test_a_stopped_training_is_gone_on_with_and_measured(hrl, text, tmp_path, monkeypatch):
    step = LanguageRun._one_step

    def stopping(run):
        if run.step == 1 and run.folder.path.joinpath("config.toml").exists():
            signal.raise_signal(signal.SIGTERM)
        return step(run)

    monkeypatch.setattr(LanguageRun, "_one_step", stopping)
    outcome = hrl("kinematics", "--text", text, *SMALL, "--run-dir", tmp_path)
    assert outcome.code == 1
    assert "SIGTERM: saving a checkpoint" in outcome.out
    (folder,) = tmp_path.glob("chain/transformer/0-*")
    assert f"Go on with: hrl kinematics --text {text} --resume {folder}" in outcome.out
    again = hrl("kinematics", "--text", text, "--resume", folder, "--targets", 128)
    assert again.code == 0, again.err
    assert "from step 2 of" in again.out
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"


def test_another_text_is_measured_whole(hrl, text, trained, tmp_path):
    other = tmp_path / "other.txt"
    other.write_bytes(text.read_bytes()[::-1])
    outcome = hrl("kinematics", "--text", other, "--model", trained, "--targets", 64, "--out", tmp_path)
    assert "other.txt (all of it)" in outcome.out


def test_the_coin_stands_beside_its_exact_curve(hrl, tmp_path):
    outcome = hrl("kinematics", "--source", "coin", "--targets", 2048, "--context", 32, "--run-dir", tmp_path)
    assert outcome.code == 0, outcome.err
    assert "0.6365" in outcome.out  # the entropy after one toss
    assert "From the exact curve" in outcome.out
    (folder,) = tmp_path.glob("kinematics/coin/0-*")
    rows = rows_of(folder / "information.csv")
    apart = [abs(float(row["velocity"]) - float(row["exact"])) for row in rows]
    assert all(far <= 4.0 * float(row["velocity_se"]) + 1e-12 for far, row in zip(apart, rows, strict=True))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "Cannot read the text"),
        (b"", "is empty"),
        (b"text\0more" * 1000, "is no text: byte 4 is zero"),
        (b"too short", "has 9 symbols, too few for a context of 256; expected 2,056 at least"),
        (b"short in its last tenth. " * 200, "The last tenth of the text, which is held out, has 500 symbols"),
    ],
)
def test_a_text_that_cannot_be_learnt_is_refused_and_leaves_nothing(hrl, tmp_path, content, sentence):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    outcome = hrl("kinematics", "--text", path, "--run-dir", tmp_path / "runs")
    assert outcome.code == 2
    assert sentence in outcome.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--source", "coyn"), 'Did you mean "coin"'),
        (("--source", "coin", "--symbols", "bpe"), "--symbols cannot go with --source"),
        (("--source", "coin", "--context", "512"), "known up to a context of 256"),
        (("--source", "hidden-markov", "--context", "17"), "known up to a context of 16"),
        (("--text", "TEXT", "--symbols", "words"), "Known: bpe, bytes"),
        (("--text", "TEXT", "--vocabulary", "300"), "add --symbols bpe"),
        (("--text", "TEXT", "--model", "RUN", "--minutes", "1"), "--minutes cannot go with --model"),
        (("--text", "TEXT", "--model", "RUN", "--resume", "RUN"), "--resume cannot go with --model"),
        (("--text", "TEXT", "--minutes", "inf"), "--minutes is inf; expected a finite number"),
        (("--text", "TEXT", "--minutes", "nan"), "--minutes"),
        (("--text", "TEXT", "--trust"), "without --model leave it out"),
        (("--text", "TEXT", "--model", "NOWHERE"), "is no model: expected the folder of a run"),
        (("--text", "TEXT", "--resume", "NOWHERE"), "There is no run folder"),
        (("--model", "RUN"), "Which logs, or which text?"),
        ((), "Which logs, or which text?"),
        (("RUN", "--text", "TEXT"), "RUN_OR_LOG cannot go with --text"),
        (("--source", "coin", "--tag", "eval/loss"), "--tag cannot go with --source"),
        (("--resume", "RUN", "--for-good", "3"), "--for-good cannot go with --resume"),
        (("RUN", "--minutes", "1"), "--minutes cannot go with logs, for it is about --text"),
    ],
)
def test_a_wrong_call_is_answered_in_a_sentence(hrl, text, tmp_path, arguments, sentence):
    places = {"TEXT": text, "RUN": tmp_path, "NOWHERE": tmp_path / "nowhere"}
    outcome = hrl("kinematics", *(places.get(argument, argument) for argument in arguments), "--run-dir", tmp_path)
    assert outcome.code == 2
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err


def test_a_context_longer_than_the_models_is_refused(hrl, text, trained):
    outcome = hrl("kinematics", "--text", text, "--model", trained, "--context", 64)
    assert outcome.code == 2
    assert "A context of 64 is longer than the 8 of" in outcome.err


def test_a_folder_that_cannot_be_is_refused_before_any_training(hrl, text, tmp_path):
    (tmp_path / "file").touch()
    outcome = hrl(
        "kinematics", "--text", text, *SMALL, "--run-dir", tmp_path / "runs", "--out", tmp_path / "file" / "out"
    )
    assert outcome.code == 1
    assert "Choose another with --out" in outcome.err
    assert not (tmp_path / "runs").exists()


def test_the_command_to_measure_again_can_be_pasted_where_names_have_spaces(hrl, text, tmp_path):
    spaced = tmp_path / "a chain.txt"
    spaced.write_bytes(text.read_bytes())
    outcome = hrl("kinematics", "--text", spaced, *SMALL, "--run-dir", tmp_path / "my runs")
    (line,) = (line for line in outcome.out.splitlines() if line.startswith("Measure it again with: "))
    (run,) = tmp_path.glob("my runs/a-chain/transformer/0-*")
    assert shlex.split(line)[-4:] == ["--text", str(spaced), "--model", str(run)]
