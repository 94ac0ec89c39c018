"""Options, groups, parameters and saved states that are wrong: a sentence that names them, and nothing has changed."""

from __future__ import annotations

import copy
import inspect
import math

import pytest
import torch
from torch import Tensor, nn

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.optim import FisherRoot, LeastAction, ModelFisher
from hamiltonian_rl.optim.options import DEFAULTS, Options
from hamiltonian_rl.principles.lagrangian import Fisher, matrix_power
from hamiltonian_rl.principles.lagrangian.structured import FisherBlock

NO_LENGTHS = ("0.1", None, -1.0, math.nan, math.inf, -math.inf, True, 1j, [0.1], torch.ones(2))
NO_COUNTS = (0, -1, 1.5, 2.0, "3", None, True, math.nan)
WRONG = [
    *[
        (name, value)
        for name in ("length", "eps", "weight_decay")
        for value in NO_LENGTHS
        if (name, value) != ("eps", None)
    ],
    *[("mass", value) for value in (*NO_LENGTHS, 0.0)],
    *[("refresh", value) for value in NO_COUNTS],
    *[
        ("betas", value)
        for value in (0.9, ("a", "b"), (0.9,), (0.9, 0.9, 0.9), None, (0.9, 1.0), (-0.1, 0.9), (math.nan, 0), "ab")
    ],
    *[("betas", (True, 0.9)), ("structure", None), ("structure", 3), ("structure", "diagnal"), ("fisher", 3)],
    *[(name, value) for name in ("bias_correction", "corrected", "maximize", "foreach") for value in ("yes", 1, None)],
]


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.ones(2))


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [(kind, *pair) for kind in (LeastAction, FisherRoot) for pair in WRONG if kind is LeastAction or pair[0] != "mass"],
    ids=str,
)
def test_a_wrong_option_is_named_with_what_was_got(kind, name, value):
    own = {"length": "dt" if kind is LeastAction else "lr"}.get(name, name)
    with pytest.raises(UsageError) as caught:
        kind([parameter()], **{own: value})
    said = str(caught.value)
    assert kind.__name__ in said
    assert own in said
    assert str(value) in said
    assert "expected" in said or "Did you mean" in said
    assert "\n" not in said


@pytest.mark.parametrize(("name", "value"), [pair for pair in WRONG if pair[0] != "fisher"], ids=str)
def test_so_it_is_in_a_group_of_its_own(name, value):
    own = "lr" if name == "length" else name
    with pytest.raises(UsageError, match=own):
        LeastAction([{"params": [parameter()], own: value}])


@pytest.mark.parametrize(
    ("group", "says"),
    [
        ({"dt": 0.3}, 'Did you mean "lr"'),
        ({"beta": (0.9, 0.9)}, 'Did you mean "betas"'),
        ({"weigth_decay": 0.1}, 'Did you mean "weight_decay"'),
    ],
)
def test_an_option_of_a_group_that_would_be_passed_over_is_refused(group, says):
    with pytest.raises(UsageError, match=says):
        LeastAction([{"params": [parameter()], **group}])


def test_notes_of_ones_own_may_stand_in_a_group():
    optimizer = LeastAction([{"params": [parameter()], "name": "head", "lr_scale": 0.5}])
    assert optimizer.param_groups[0]["lr_scale"] == 0.5


def test_an_option_that_is_none_is_named():
    with pytest.raises(UsageError, match=r'no option "refersh"\. Did you mean "refresh"'):
        FisherRoot([parameter()], refersh=3)


def test_what_numpy_and_torch_call_a_number_is_one():
    import numpy as np

    for length in (np.float32(0.5), np.int64(1), torch.tensor(0.5), 1):
        optimizer = LeastAction([parameter()], length, np.float64(2.0), refresh=np.int64(2), betas=[0.9, 0.9])
        optimizer.param_groups[0]["params"][0].grad = torch.ones(2)
        optimizer.step()


@pytest.mark.parametrize(
    ("params", "says"),
    [
        (lambda: [], "empty"),
        (lambda: iter(()), "empty"),
        (lambda: [{"params": []}], "empty"),
        (lambda: nn.Identity().parameters(), "empty"),
        (lambda: None, "NoneType"),
        (lambda: 3, "int"),
        (lambda: "weights", "str"),
        (parameter, "Parameter"),
        (lambda: [3.0], "float"),
        (lambda: ["w"], "str"),
        (lambda: [{"lr": 0.1}], 'without "params"'),
        (lambda: [parameter(), {"params": [parameter()]}], "dict"),
        (lambda: [nn.Parameter(torch.ones(2, dtype=torch.complex64))], "complex64"),
        (lambda: [torch.ones(2, dtype=torch.int64)], "int64"),
        (lambda: [parameter() * 2.0], "non-leaf"),
        (lambda: [{"params": {parameter()}}], "params"),
        (lambda: [{"params": [one]} for one in [parameter()] * 2], "more than one parameter group"),
    ],
)
@pytest.mark.parametrize("kind", [LeastAction, FisherRoot])
def test_parameters_that_cannot_be_moved_are_refused(kind, params, says):
    with pytest.raises(UsageError, match=says):
        kind(params())


@pytest.mark.parametrize("structure", ["dense", "block", "kronecker", "diagonal"])
def test_sparse_gradients_are_refused_in_every_structure_and_nothing_moves(structure):
    param = nn.Parameter(torch.ones(2, 2))
    optimizer = LeastAction([param], structure=structure)
    param.grad = torch.eye(2).to_sparse()
    with pytest.raises(UsageError, match="sparse"):
        optimizer.step()
    assert torch.equal(param, torch.ones(2, 2))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": nn.Identity()}, "model is Identity"),
        ({"model": 3}, "model is int"),
        *[({"likelihood": value}, "likelihood is") for value in (3, None, ("categorical",))],
        ({"likelihood": "categoric"}, 'Did you mean "categorical"'),
        *[({name: value}, f"{name} is") for name in ("samples", "every") for value in NO_COUNTS],
        *[({"batch": value}, "batch is") for value in NO_COUNTS if value is not None],
        *[({"seed": value}, "seed is") for value in ("0", 1.5, None, True, -1, 2**64)],
    ],
    ids=str,
)
def test_a_wrong_option_of_a_model_fisher_is_named(options, says):
    with pytest.raises(UsageError, match=says):
        ModelFisher(**({"model": nn.Linear(2, 2)} | options))


@pytest.mark.parametrize("damping", ["0.1", None, -1.0, math.nan, math.inf, True])
def test_a_wrong_damping_of_a_matrix_power_is_named(damping):
    block = FisherBlock(torch.arange(2), (torch.eye(2, dtype=torch.float64),))
    for call in (
        lambda: matrix_power(torch.eye(2), -0.5, damping),
        lambda: Fisher((block,), 2).times(torch.ones(2, dtype=torch.float64), -0.5, damping),
    ):
        with pytest.raises(UsageError, match="damping = "):
            call()


def stepped(
    kind: type, structure: str = "kronecker", width: int = 3, **options
) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(width, 2)
    optimizer = kind(
        model.parameters(), **({"structure": structure} if kind in (LeastAction, FisherRoot) else {}), **options
    )
    model(torch.ones(4, width)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def altered(state: dict, **changes) -> dict:
    state = copy.deepcopy(state)
    state["param_groups"][0].update(changes)
    return state


def lacking(state: dict, name: str) -> dict:
    state = copy.deepcopy(state)
    del state["param_groups"][0][name]
    return state


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (lambda own: None, "NoneType"),
        (lambda own: {}, "expected what state_dict"),
        (lambda own: stepped(torch.optim.Adam)[1].state_dict(), "another optimizer's"),
        (lambda own: stepped(torch.optim.SGD)[1].state_dict(), "another optimizer's"),
        (lambda own: stepped(FisherRoot)[1].state_dict(), 'lacks "mass"'),
        (lambda own: stepped(LeastAction, "block")[1].state_dict(), 'structure "block", the optimizer of "kronecker"'),
        (lambda own: stepped(LeastAction, width=5)[1].state_dict(), "another model"),
        (lambda own: LeastAction([parameter()]).state_dict(), "groups of 1 parameters, the optimizer of 2"),
        (lambda own: altered(own, betas=0.9), "betas is 0.9"),
        (lambda own: altered(own, refresh=0), "refresh is 0"),
        (lambda own: altered(own, lr="fast"), "'fast'"),
        (lambda own: lacking(own, "eps"), 'lacks "eps"'),
    ],
)
def test_a_state_that_is_not_this_optimizers_is_refused_and_nothing_has_changed(state, says):
    _, optimizer = stepped(LeastAction)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(UsageError, match=says):
        optimizer.load_state_dict(state(before))
    assert same(optimizer.state_dict(), before)


@pytest.mark.parametrize("structure", ["dense", "block", "diagonal"])
def test_a_state_of_other_shapes_is_refused_in_every_structure(structure):
    _, optimizer = stepped(FisherRoot, structure)
    with pytest.raises(UsageError, match="another model"):
        optimizer.load_state_dict(stepped(FisherRoot, structure, width=5)[1].state_dict())


def test_a_least_action_state_is_not_one_of_fisher_root():
    with pytest.raises(UsageError, match='has "mass"'):
        stepped(FisherRoot)[1].load_state_dict(stepped(LeastAction)[1].state_dict())


def same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one == other


def test_draws_saved_on_another_kind_of_device_begin_anew_with_a_warning_and_training_goes_on():
    """A CUDA generator's state is 16 bytes, a CPU's some thousand: what one saved the other cannot take."""
    model = nn.Linear(3, 2)
    optimizer = LeastAction(model.parameters(), fisher=ModelFisher(model))
    state = optimizer.state_dict()
    state["fisher"] = {"steps": 7, "generator": torch.zeros(16, dtype=torch.uint8)}
    with pytest.warns(UserWarning, match="another kind of device"):
        optimizer.load_state_dict(state)
    assert optimizer.fisher.steps == 7
    nn.functional.cross_entropy(model(torch.ones(4, 3)), torch.zeros(4, dtype=torch.long)).backward()
    optimizer.step()


@pytest.mark.parametrize("state", [None, {}, {"steps": 1}])
def test_a_state_of_a_model_fisher_that_lacks_something_is_refused(state):
    with pytest.raises(UsageError, match="state of the ModelFisher lacks"):
        ModelFisher(nn.Linear(3, 2)).load_state_dict(state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_fisher_follows_its_model_to_another_device():
    model = nn.Linear(3, 2)
    optimizer = LeastAction(model.parameters(), fisher=ModelFisher(model))
    state = optimizer.state_dict()
    model.cuda()
    with pytest.warns(UserWarning, match="another kind of device"):
        optimizer.load_state_dict(state)
    assert optimizer.fisher.generator.device.type == "cuda"
    nn.functional.cross_entropy(model(torch.ones(4, 3).cuda()), torch.zeros(4, dtype=torch.long).cuda()).backward()
    optimizer.step()


def test_the_options_are_listed_once_and_each_is_documented_in_both_classes():
    assert set(DEFAULTS) == set(Options.__annotations__)
    for kind in (LeastAction, FisherRoot):
        text = inspect.getdoc(kind)
        assert all(f"\n    {name}: " in text for name in DEFAULTS)
