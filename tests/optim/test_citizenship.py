"""What a user of torch.optim may rely on: groups, closures, checkpoints, schedulers, accumulation, AMP."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import Tensor, nn

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.optim import FisherOptimizer, FisherRoot, GradientWarning, LeastAction, ModelFisher

KINDS = [
    (kind, structure, watched)
    for kind in (LeastAction, FisherRoot)
    for structure in ("dense", "block", "kronecker", "diagonal")
    for watched in (False, True)
]
each_kind = pytest.mark.parametrize(("kind", "structure", "watched"), KINDS)


def made(kind, structure: str, watched: bool, seed: int = 0, **options) -> tuple[nn.Module, FisherOptimizer]:
    """A small model and its optimizer."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    fisher = ModelFisher(model, every=2) if watched else None
    return model, kind(model.parameters(), 0.05, structure=structure, fisher=fisher, refresh=3, **options)


def batch(number: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels of a step."""
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
    return x, (x.sum(1) > 0).long()


def step(model: nn.Module, optimizer: FisherOptimizer, number: int) -> float:
    """One step of a plain loop of training."""
    x, y = batch(number)
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def flat(model: nn.Module) -> Tensor:
    """All parameters, detached."""
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


@each_kind
def test_training_lowers_the_loss(kind, structure, watched):
    model, optimizer = made(kind, structure, watched)
    losses = [step(model, optimizer, number) for number in range(60)]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


@each_kind
def test_a_run_resumed_from_a_saved_state_is_the_run_that_went_on(kind, structure, watched):
    model, optimizer = made(kind, structure, watched)
    for number in range(7):
        step(model, optimizer, number)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    other, resumed = made(kind, structure, watched, seed=1)
    step(other, resumed, 99)
    file.seek(0)
    saved = torch.load(file, weights_only=True)  # nothing in it needs pickle
    other.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    for number in range(7, 15):
        step(model, optimizer, number)
        step(other, resumed, number)
    assert torch.equal(flat(model), flat(other))


@each_kind
def test_a_step_with_a_gradient_that_is_not_finite_is_skipped_as_if_it_had_not_been(kind, structure, watched):
    model, optimizer = made(kind, structure, watched)
    twin, undisturbed = made(kind, structure, watched)
    for number in range(6):
        if number == 2:  # of a step with a look
            before = flat(model)
            optimizer.zero_grad()
            x, y = batch(50)
            (nn.functional.cross_entropy(model(x), y) * float("nan")).backward()
            if watched:  # what was drawn for it is drawn once more: the same labels for both
                undisturbed.fisher.generator.set_state(optimizer.fisher.generator.get_state())
            with pytest.warns(GradientWarning, match="not finite"):
                optimizer.step()
            assert torch.equal(flat(model), before)
        step(model, optimizer, number)
        step(twin, undisturbed, number)
    assert torch.equal(flat(model), flat(twin))
    assert optimizer.skipped == 1


def test_large_gradients_whose_sum_overflows_are_not_taken_for_infinite():
    param = nn.Parameter(torch.zeros(4))
    optimizer = FisherRoot([param], 0.1, "diagonal", betas=(0.0, 0.0))
    param.grad = torch.full((4,), 2e38)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
    assert optimizer.skipped == 0


def test_a_look_that_is_not_finite_is_left_out_of_the_fisher_information():
    """Inputs whose squares overflow, behind a tanh that is saturated: all gradients are finite, E[aaᵀ] is not."""
    model, optimizer = made(LeastAction, "kronecker", True)
    step(model, optimizer, 0)
    optimizer.fisher.steps = 2  # a look is due
    optimizer.zero_grad()
    model(torch.full((8, 3), 1e38)).sum().backward()
    optimizer.step()
    assert optimizer.skipped == 0
    assert bool(optimizer.state[model[0].weight]["inputs"].isfinite().all())
    assert optimizer.state[model[0].weight]["looks"] == 1
    assert optimizer.state[model[2].weight]["looks"] == 2


@each_kind
def test_a_closure_is_the_loop_written_inside_out(kind, structure, watched):
    ends = []
    for by_closure in (False, True):
        model, optimizer = made(kind, structure, watched)
        for number in range(4):
            if not by_closure:
                loss = step(model, optimizer, number)
                continue
            x, y = batch(number)

            def closure(model=model, optimizer=optimizer, x=x, y=y):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                return loss

            loss = optimizer.step(closure).item()
        ends.append((loss, flat(model)))
    assert ends[0][0] == ends[1][0]
    assert torch.equal(ends[0][1], ends[1][1])


@pytest.mark.parametrize("structure", ["dense", "block", "kronecker", "diagonal"])
def test_gradients_accumulate_over_micro_batches(structure):
    ends = []
    for parts in (1, 4):
        model, optimizer = made(LeastAction, structure, False)
        model.double()
        for number in range(5):
            x, y = batch(number)
            optimizer.zero_grad()
            for xs, ys in zip(x.double().chunk(parts), y.chunk(parts), strict=True):
                (nn.functional.cross_entropy(model(xs), ys) / parts).backward()
            optimizer.step()
        ends.append(flat(model))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-6, atol=1e-9)


def test_a_watched_model_is_looked_at_once_a_step_whatever_the_number_of_micro_batches():
    model, optimizer = made(FisherRoot, "kronecker", True)
    for _ in range(4):
        optimizer.zero_grad()
        for number in range(3):
            x, y = batch(number)
            nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert optimizer.state[model[0].weight]["looks"] == 2  # of every second step


@each_kind
def test_schedulers_change_the_length_of_the_step(kind, structure, watched):
    model, optimizer = made(kind, structure, watched)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.0)
    step(model, optimizer, 0)
    scheduler.step()
    step(model, optimizer, 1)
    scheduler.step()
    before = flat(model)
    step(model, optimizer, 2)
    assert optimizer.param_groups[0]["lr"] == 0.0
    assert torch.equal(flat(model), before)


@pytest.mark.parametrize("structure", ["dense", "block", "kronecker", "diagonal"])
def test_groups_have_options_of_their_own_and_may_be_added(structure):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = LeastAction(model[0].parameters(), 0.0, structure=structure)
    optimizer.add_param_group({"params": list(model[2].parameters()), "lr": 0.3, "mass": 2.0})
    before = [param.detach().clone() for param in model.parameters()]
    step(model, optimizer, 0)
    changed = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    assert changed == [False, False, True, True]
    assert optimizer.param_groups[1]["mass"] == 2.0


def test_named_parameters_are_taken():
    model = nn.Linear(3, 2)
    optimizer = LeastAction(model.named_parameters(), 0.1)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    step(model, optimizer, 0)


@each_kind
def test_frozen_parameters_and_those_without_gradients_stay(kind, structure, watched):
    model, optimizer = made(kind, structure, watched)
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    step(model, optimizer, 0)
    assert torch.equal(model[0].weight, before)


def test_a_block_with_some_gradients_only_is_refused():
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    optimizer = LeastAction(model.parameters(), structure="dense")
    model[0](torch.ones(1, 2)).sum().backward()
    with pytest.raises(UsageError, match="has no gradient"):
        optimizer.step()


@each_kind
def test_to_climb_is_to_descend_the_negative(kind, structure, watched):
    ends = []
    for maximize in (False, True):
        model, optimizer = made(kind, structure, watched, maximize=maximize)
        for number in range(4):
            x, y = batch(number)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            (-loss if maximize else loss).backward()
            optimizer.step()
        ends.append(flat(model))
    torch.testing.assert_close(ends[0], ends[1], rtol=0.0, atol=0.0)


@each_kind
def test_weight_decay_shrinks_apart_from_the_gradient(kind, structure, watched):
    """One step with decay w is the step without it from the same gradient, of parameters shrunk by α w."""
    results = []
    for decay in (0.0, 0.3):
        model, optimizer = made(kind, structure, watched, weight_decay=decay)
        before = flat(model)
        step(model, optimizer, 0)
        results.append(flat(model))
    torch.testing.assert_close(results[1], results[0] - 0.05 * 0.3 * before, rtol=1e-5, atol=1e-7)


@each_kind
def test_a_gradient_scaler_skips_what_overflows_and_changes_nothing_else(kind, structure, watched):
    model, optimizer = made(kind, structure, watched)
    twin, plain = made(kind, structure, watched)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=10_000)
    for number in range(4):
        x, y = batch(number)
        optimizer.zero_grad()
        scaler.scale(nn.functional.cross_entropy(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()
        step(twin, plain, number)
    assert torch.equal(flat(model), flat(twin))  # a power of two scales without rounding
    before, scale = flat(model), scaler.get_scale()
    optimizer.zero_grad()
    scaler.scale(nn.functional.cross_entropy(model(batch(9)[0]), batch(9)[1]) * 3e38).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(flat(model), before)
    assert scaler.get_scale() == scale / 2
    assert optimizer.skipped == 0


@pytest.mark.parametrize("structure", ["block", "kronecker", "diagonal"])
def test_training_under_autocast_looks_in_half_precision_and_learns(structure):
    model, optimizer = made(LeastAction, structure, True)
    losses = []
    for number in range(60):
        x, y = batch(number)
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
    assert all(param.dtype == torch.float32 for param in model.parameters())


def test_a_dense_and_a_kronecker_group_share_a_watcher():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    groups = [
        {"params": list(model[0].parameters()), "structure": "kronecker"},
        {"params": list(model[2].parameters()), "structure": "dense"},
    ]
    optimizer = LeastAction(groups, 0.1, fisher=ModelFisher(model))
    losses = [step(model, optimizer, number) for number in range(40)]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


def test_pickling_keeps_a_plain_optimizer_and_refuses_a_watched_one():
    _, plain = made(LeastAction, "diagonal", False)
    assert isinstance(pickle.loads(pickle.dumps(plain)), LeastAction)
    _, watched = made(LeastAction, "kronecker", True)
    with pytest.raises(UsageError, match="state_dict"):
        copy.deepcopy(watched)


def test_sparse_gradients_are_refused():
    embedding = nn.Embedding(5, 2, sparse=True)
    optimizer = LeastAction(embedding.parameters())
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(UsageError, match="sparse"):
        optimizer.step()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dt": -1.0}, r"dt \(lr of a group\) is -1.0"),
        ({"dt": float("nan")}, r"dt \(lr of a group\) is nan"),
        ({"mass": 0.0}, "mass is 0.0"),
        ({"structure": "diagnal"}, 'Did you mean "diagonal"'),
        ({"betas": (0.9, 1.0)}, "betas is"),
        ({"eps": -1e-8}, "eps is"),
        ({"weight_decay": -0.1}, "weight_decay is"),
        ({"refresh": 0}, "refresh is 0"),
    ],
)
def test_a_wrong_option_is_named(options, sentence):
    with pytest.raises(UsageError, match=sentence):
        LeastAction([nn.Parameter(torch.zeros(2))], **options)
