"""Training: it learns what there is to learn, and an interruption changes nothing."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hamiltonian_rl.errors import CheckpointError, TrainingError, UsageError
from hamiltonian_rl.language.measurement import measure_symbols
from hamiltonian_rl.language.runs import open_language_model, resume_language_run, start_language_run
from hamiltonian_rl.language.training import LanguageConfig
from hamiltonian_rl.principles.sources import SOURCES
from hamiltonian_rl.tracking.run_folder import RunFolder


def unheard(text):
    pass


def config_of(text, **others):
    small = {"context": 8, "width": 16, "heads": 2, "layers": 1, "batch": 8, "steps": 24, "warmup": 4}
    return LanguageConfig(text=str(text), **small | others)


def weights_of(run):
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def interrupting(at):
    """What is shown, with Ctrl-C at a step."""

    def show(text):
        if text.startswith(f"step {at} "):
            signal.raise_signal(signal.SIGINT)

    return show


@pytest.fixture(scope="module")
def whole(text, tmp_path_factory):
    run = start_language_run(config_of(text), tmp_path_factory.mktemp("runs"), show=unheard)
    assert run.execute()["status"] == "finished"
    return run


def logged_steps(folder):
    events = EventAccumulator(str(folder.path), size_guidance={"scalars": 0}).Reload().Scalars("eval/loss")
    return [event.step for event in events]


def same(one, other):
    losses = [[(entry["step"], entry["loss"]) for entry in run.evaluations] for run in (one, other)]
    weights = weights_of(one), weights_of(other)
    return losses[0] == losses[1] and all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_run_that_was_stopped_and_resumed_is_the_same_to_the_last_bit(text, whole, tmp_path):
    run = start_language_run(config_of(text), tmp_path, show=interrupting(11))
    assert run.execute()["status"] == "stopped"
    assert run.folder.read_result()["steps"] == 11
    assert not same(run, whole)
    resumed = resume_language_run(run.folder.path, show=interrupting(17))
    assert resumed.execute()["status"] == "stopped"
    last = resume_language_run(run.folder.path)
    assert last.execute()["status"] == "finished"
    assert same(last, whole)
    assert logged_steps(run.folder) == list(range(1, 25))  # each step once


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint_to_the_same_end(text, whole, tmp_path):
    def killed(text):
        if text.startswith("step 15 "):
            raise MemoryError

    run = start_language_run(config_of(text), tmp_path, show=killed, checkpoint_every=0.0)
    with pytest.raises(MemoryError):
        run.execute()
    resumed = resume_language_run(run.folder.path)
    assert resumed.step == 14
    resumed.execute()
    assert same(resumed, whole)
    assert logged_steps(run.folder) == list(range(1, 25))  # what was logged after the checkpoint is void


def test_another_seed_is_another_run(text, whole, tmp_path):
    other = start_language_run(config_of(text, seed=1), tmp_path, show=unheard)
    other.execute()
    assert not same(other, whole)


def test_a_chain_of_order_two_is_learnt_to_its_entropies(text, tmp_path):
    """No model is better than the source's own; a trained one comes close to it, at every context."""
    sized = config_of(text, steps=300, width=32, batch=32, warmup=20, learning_rate=5e-3)
    run = start_language_run(sized, tmp_path, show=unheard)
    run.execute()
    model = open_language_model(run.folder.path)
    held = model.encode(text.read_bytes()[54_000:])
    found = measure_symbols(model, held, len(held), 8, 4096, 0, unheard).paired
    exact = SOURCES["markov"]().expected_velocity(9)[found.contexts]
    assert (found.velocity > exact - 4.0 * found.velocity_error).all()
    np.testing.assert_allclose(found.velocity, exact, atol=0.03)  # three standard errors of 6,000 letters
    assert found.change[0] == pytest.approx(np.diff(exact)[0], abs=0.03)


def test_byte_pairs_are_trained_on_what_is_learnt_and_kept_with_the_run(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("the cat sat on the mat. " * 400 + "zq " * 400)
    run = start_language_run(config_of(path, symbols="bpe", vocabulary=280, steps=2), tmp_path / "runs", show=unheard)
    run.execute()
    model = open_language_model(run.folder.path)
    assert model.encode(b"the cat").tolist() == run.symbols.encode(b"the cat").tolist()
    assert 256 < model.n_symbols <= 280
    assert run.folder.read_config()["vocabulary"] == model.n_symbols


def test_a_budget_in_minutes_becomes_steps_by_timing_one(text, tmp_path):
    run = start_language_run(config_of(text), tmp_path, minutes=0.01, show=unheard)
    assert 3 < run.config.steps < 60_000  # 0.6 s of steps that take from 10 microseconds to 0.2 s
    assert run.folder.read_config()["steps"] == run.config.steps


def test_a_loss_that_is_no_number_ends_the_run_in_a_sentence(text, tmp_path):
    run = start_language_run(config_of(text), tmp_path, show=unheard)
    with torch.no_grad():
        next(run.model.parameters()).fill_(torch.nan)
    with pytest.raises(TrainingError, match=r"The loss is nan at step 0.*Try another --seed"):
        run.execute()
    assert run.folder.read_result()["status"] == "failed"


# What cannot be gone on with


@pytest.fixture
def stopped(text, tmp_path):
    run = start_language_run(config_of(text), tmp_path, show=interrupting(3))
    run.execute()
    return run.folder


def test_another_text_is_refused(stopped, text, tmp_path):
    other = tmp_path / "other.txt"
    other.write_bytes(text.read_bytes()[:-1] + b"c")
    with pytest.raises(UsageError, match="is not the text that"):
        resume_language_run(stopped.path, other)
    moved = tmp_path / "moved.txt"
    moved.write_bytes(text.read_bytes())
    assert resume_language_run(stopped.path, moved).step == 3


def test_an_edited_configuration_is_refused(stopped):
    stopped.write_config({**stopped.read_config(), "width": 32})
    with pytest.raises(UsageError, match="is not what its checkpoint was trained with"):
        resume_language_run(stopped.path)


def test_a_run_that_is_done_is_measured_and_not_gone_on_with(whole):
    with pytest.raises(UsageError, match=r"has taken its 24 steps.*--model"):
        resume_language_run(whole.folder.path)


def test_a_folder_that_is_no_run_of_a_language_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match="There is no run folder"):
        open_language_model(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"has no config\.toml"):
        open_language_model(tmp_path)
    folder = RunFolder.create(tmp_path, "CartPole-v1", "dqn", 0)
    folder.write_config({"env": "CartPole-v1"})
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        open_language_model(folder.path)
    folder.write_checkpoint(10, {"run": {}})
    with pytest.raises(UsageError, match="is no run of a language model"):
        open_language_model(folder.path)


@pytest.mark.parametrize("part", ["step", "seconds", "evaluations", "weights", "moments", "merges", "config"])
def test_a_checkpoint_with_a_strange_part_is_refused(stopped, part):
    file, tree = stopped.read_latest_checkpoint()
    for strange in ("text", None):
        tree["language"][part] = strange
        stopped.write_checkpoint(3, tree)
        with pytest.raises(CheckpointError, match=f"its {part} is not what a run writes"):
            resume_language_run(stopped.path)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        open_language_model(stopped.path)


def test_a_checkpoint_without_the_moments_of_its_optimizer_is_refused(stopped):
    _, tree = stopped.read_latest_checkpoint()
    moments = tree["language"]["moments"]
    for false in ({}, {**moments, "0": {}}, {**moments, "0": {**moments["0"], "exp_avg": np.zeros(3)}}, {"a": {}}):
        stopped.write_checkpoint(3, {"language": {**tree["language"], "moments": false}})
        with pytest.raises(CheckpointError, match="its optimizer's moments are not those of its weights"):
            resume_language_run(stopped.path)


def test_weights_of_another_shape_are_refused(stopped):
    _, tree = stopped.read_latest_checkpoint()
    name, value = next(iter(tree["language"]["weights"].items()))
    for false in ({name: value[:-1]}, {}):
        changed = {**tree["language"], "weights": {**tree["language"]["weights"], **false} if false else {}}
        stopped.write_checkpoint(3, {"language": changed})
        with pytest.raises(CheckpointError, match="its weights are not those of 1 layers of width 16"):
            open_language_model(stopped.path)
