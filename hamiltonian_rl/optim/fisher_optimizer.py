"""What the optimizers share: a gradient, averaged, turned into the eigenbasis of the Fisher information, and a gain.

The step is ``U gain(φ) Uᵀ m̂`` with ``F = U diag(φ) Uᵀ``; `hamiltonian_rl.optim.gains` is what they differ in.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from hamiltonian_rl.errors import UsageError, first_line
from hamiltonian_rl.optim.dense import block_step, look_at_block
from hamiltonian_rl.optim.diagonal import Diagonals, diagonal_step
from hamiltonian_rl.optim.kronecker import look_at_matrix, matrix_step, moments_of_gradient, moments_of_rows
from hamiltonian_rl.optim.model_fisher import Look, ModelFisher, Rows
from hamiltonian_rl.optim.options import Options, Params, check_keys, check_options, check_tensors, completed, listed
from hamiltonian_rl.optim.running import weight_of_new
from hamiltonian_rl.optim.saved_state import check_saved


class GradientWarning(UserWarning):
    """A gradient was not finite: the step was skipped, and nothing has changed.

    Example:
        >>> from hamiltonian_rl.optim import FisherRoot
        >>> optimizer = FisherRoot([torch.nn.Parameter(torch.zeros(1))])
        >>> optimizer.param_groups[0]["params"][0].grad = torch.tensor([torch.nan])
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     _ = optimizer.step()
        >>> caught[0].category.__name__, optimizer.skipped
        ('GradientWarning', 1)
    """


class FisherOptimizer(torch.optim.Optimizer):
    """Base of `FisherRoot` and `LeastAction`: everything but the length of the step.

    The Fisher information is that of one observation under the model's own predictions where a `ModelFisher` is given.
    Without one it is the running second moment of the mini-batch's gradients, as in Adam, Shampoo and SOAP: smaller by
    the size of the batch near the maximum, larger far from it. With one, parameters that are not of a linear layer
    (``kronecker``) have that second moment times the size of the batch.

    A step whose gradients are not all finite is skipped with a `GradientWarning`: parameters and state stay as they
    are, and ``skipped`` counts it.

    Example:
        >>> from hamiltonian_rl.optim import FisherRoot, LeastAction
        >>> [issubclass(kind, FisherOptimizer) for kind in (FisherRoot, LeastAction)]
        [True, True]
    """

    length_name: ClassVar[str] = "lr"  # what the class calls a group's ``lr``

    def __init__(self, params: Params, step: dict[str, Any], fisher: ModelFisher | None, options: Options) -> None:
        owner = type(self).__name__
        if fisher is not None and not isinstance(fisher, ModelFisher):
            raise UsageError(
                f"{owner}: fisher is {fisher!r}; expected a ModelFisher, or None for the batches' gradients."
            )
        self.fisher, self.skipped = fisher, 0
        self._units: dict[int, list[list[Tensor]]] = {}
        defaults = step | completed(options, owner)
        if defaults["eps"] is None:
            defaults["eps"] = 1e-8 if fisher is None and defaults["structure"] == "diagonal" else 1e-2
        check_options(defaults, owner, self.length_name)
        super().__init__(listed(params), defaults)

    def __getstate__(self) -> dict[str, Any]:
        """Refuse to pickle a watched model's hooks: state_dict() is for that."""
        if self.fisher is not None:
            raise UsageError(
                "An optimizer with a ModelFisher cannot be pickled or copied: it watches a model. "
                "Save its state_dict(), make it anew and load that."
            )
        state: dict[str, Any] = super().__getstate__()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a state, of pickle or of `load_state_dict`."""
        super().__setstate__(state)
        self._units = {}
        self.fisher, self.skipped = getattr(self, "fisher", None), getattr(self, "skipped", 0)

    def length_and_newton(self, group: dict[str, Any]) -> tuple[float, float]:
        """Return ``α`` and ``κ`` of `hamiltonian_rl.optim.gains.step_gain`.

        Example:
            >>> from hamiltonian_rl.optim import LeastAction
            >>> optimizer = LeastAction([torch.nn.Parameter(torch.zeros(1))], dt=0.5)
            >>> optimizer.length_and_newton({"lr": 3.0, "mass": 9.0})  # α = dt/√m, κ = α/2
            (1.0, 0.5)
        """
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its options are checked.

        Raises:
            UsageError: An option is out of its range, or the parameters are not the watched model's.

        Example:
            >>> from hamiltonian_rl.optim import LeastAction
            >>> optimizer = LeastAction([torch.nn.Parameter(torch.zeros(1))], dt=0.5)
            >>> optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(2))], "lr": 0.1, "mass": 2.0})
            >>> [group["lr"] for group in optimizer.param_groups]
            [0.5, 0.1]
        """
        owner = type(self).__name__
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise UsageError(
                f'{owner}: a group is {type(param_group).__name__} without "params"; expected {{"params": ...}}.'
            )
        group = {**self.defaults, **param_group}
        if not isinstance(group["params"], Tensor | set):  # torch refuses sets itself: they have no order
            group["params"] = listed(group["params"])
        check_tensors(group["params"], owner)
        check_keys(param_group, self.defaults, owner)
        check_options(group, owner, self.length_name)
        try:
            super().add_param_group(group)
        except (TypeError, ValueError) as error:  # twice the same, or no leaf of the graph
            raise UsageError(f"{owner}: params cannot be used: {first_line(error)}") from error
        self._units = {}
        if self.fisher is not None:
            self._watch(self.param_groups[-1], self.fisher)

    def _watch(self, group: dict[str, Any], fisher: ModelFisher) -> None:
        fisher.by_rows |= group["structure"] == "kronecker"
        fisher.by_gradients |= group["structure"] != "kronecker"
        known = set(fisher.model.parameters())
        if group["structure"] != "kronecker" and not known.issuperset(group["params"]):
            raise UsageError(
                f'structure="{group["structure"]}" with a ModelFisher: a parameter is not of its model. '
                "Give it the model that holds them all, or fisher=None."
            )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on, the draws of the `ModelFisher` among it.

        Example:
            >>> from hamiltonian_rl.optim import FisherRoot, ModelFisher
            >>> model = torch.nn.Linear(2, 2)
            >>> sorted(FisherRoot(model.parameters(), fisher=ModelFisher(model)).state_dict())
            ['fisher', 'param_groups', 'state']
        """
        state = super().state_dict()
        return state if self.fisher is None else state | {"fisher": self.fisher.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the state was saved, exactly.

        Raises:
            UsageError: It is another optimizer's, or of another structure, of other parameters, or one of both has a
                `ModelFisher` and the other has none; nothing has changed then.

        Example:
            >>> from hamiltonian_rl.optim import FisherRoot
            >>> param = torch.nn.Parameter(torch.zeros(1))
            >>> optimizer = FisherRoot([param], lr=0.5)
            >>> optimizer.load_state_dict(FisherRoot([param], lr=0.25).state_dict())
            >>> optimizer.param_groups[0]["lr"]
            0.25
        """
        units = [
            [[p] for p in g["params"]] if g["structure"] == "diagonal" else self._units_of(g) for g in self.param_groups
        ]
        check_saved(state_dict, self.param_groups, units, type(self).__name__, self.length_name)
        if ("fisher" in state_dict) != (self.fisher is not None):
            there = "with" if "fisher" in state_dict else "without"
            raise UsageError(f"The state was saved {there} a ModelFisher. Make the optimizer {there} one.")
        if self.fisher is not None:
            self.fisher.load_state_dict(state_dict["fisher"])
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step.

        Args:
            closure: Computes the loss and its gradients anew, and returns the loss.

        Returns:
            The closure's loss, or None.

        Raises:
            UsageError: A gradient is sparse, or the `ModelFisher` has seen no forward pass yet.

        Example:
            >>> from hamiltonian_rl.optim import FisherRoot
            >>> theta = torch.nn.Parameter(torch.tensor([3.0]))
            >>> optimizer = FisherRoot([theta], lr=0.5, structure="dense", betas=(0.0, 0.9), eps=0.0)
            >>> (2.0 * theta.square()).sum().backward()
            >>> optimizer.step()  # F = g² of the first batch, so that it moves by α
            >>> theta.item()
            2.5
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not self._gradients_are_finite():
            self.skipped += 1
            if self.fisher is not None:
                self.fisher.drop()
            message = f"A gradient is not finite; step skipped, {self.skipped} so far. Parameters are as before."
            warnings.warn(message, GradientWarning, stacklevel=2)
            return loss
        look = None if self.fisher is None else self.fisher.take()
        for group in self.param_groups:
            if group["structure"] == "diagonal":
                self._diagonal(group, look)
            else:
                self._turned(group, look)
        return loss

    def _gradients_are_finite(self) -> bool:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        for gradient in gradients:
            if gradient.layout != torch.strided:
                raise UsageError(
                    f"A gradient of shape {tuple(gradient.shape)} is sparse; expected dense ones (sparse=False of an "
                    "embedding)."
                )
        sums = [gradient.sum() for gradient in gradients]  # not finite where a gradient is not, or is very large
        if all(bool(torch.stack(some).isfinite().all()) for some in _by_device(sums)):
            return True
        return all(bool(gradient.isfinite().all()) for gradient in gradients)

    def _diagonal(self, group: dict[str, Any], look: Look | None) -> None:
        length, newton = self.length_and_newton(group)
        beta1, _ = group["betas"]
        lists: dict[tuple[int, int], Diagonals] = {}
        news: dict[tuple[int, int], list[Tensor]] = {}
        for param in (p for p in group["params"] if p.grad is not None):
            state = self.state[param]
            if not state:
                state["step"] = state["looks"] = 0
                state["fisher"] = torch.zeros_like(param, memory_format=torch.preserve_format)
                if beta1:
                    state["momentum"] = torch.zeros_like(param, memory_format=torch.preserve_format)
            state["step"] += 1
            rows = None if look is None else look.gradients.get(param)
            state["looks"] += self.fisher is None or rows is not None
            self._demand_a_look(state["looks"])
            key = (state["step"], state["looks"])
            some = lists.setdefault(key, Diagonals([], [], [], []))
            some.params.append(param)
            some.gradients.append(-param.grad if group["maximize"] else param.grad)
            some.fisher.append(state["fisher"])
            if beta1:
                some.momentum.append(state["momentum"])
            if rows is not None:
                news.setdefault(key, []).append(rows.square().sum(0))
        for key, some in lists.items():
            for part, new in _parts(some, news.get(key, []), group["foreach"]):
                _decay(part.params, length * group["weight_decay"])
                diagonal_step(
                    part,
                    new_fisher=None if self.fisher is None else new,
                    length=length,
                    newton=newton,
                    betas=group["betas"],
                    eps=group["eps"],
                    corrections=_corrections(group, *key),
                )

    def _turned(self, group: dict[str, Any], look: Look | None) -> None:
        """Step the structures that have an eigenbasis, unit by unit; a unit's state is its first parameter's."""
        length, newton = self.length_and_newton(group)
        for unit in self._units_of(group):
            missing = [p for p in unit if p.grad is None]
            if len(missing) == len(unit):
                continue
            if missing:
                raise UsageError(
                    f"A parameter of shape {tuple(missing[0].shape)} has no gradient, others of its block have one; "
                    "freeze it before the optimizer is made (requires_grad=False), or give it a group of its own."
                )
            by_matrix = group["structure"] == "kronecker"
            gradient = _matrix(unit) if by_matrix else torch.cat([p.grad.reshape(-1) for p in unit])  # type: ignore[union-attr]
            gradient = -gradient if group["maximize"] else gradient
            state = self.state[unit[0]]
            state["step"] = state.get("step", 0) + 1
            (self._look_at_matrix if by_matrix else self._look_at_block)(group, state, unit, gradient, look)
            self._demand_a_look(state.get("looks", 0))
            averaged = self._momentum(group, state, gradient)
            change = (matrix_step if by_matrix else block_step)(state, averaged, length, newton, group["eps"])
            _decay(unit, length * group["weight_decay"])
            _subtract(unit, change)

    def _look_at_matrix(
        self, group: dict[str, Any], state: dict[str, Any], unit: list[Tensor], gradient: Tensor, look: Look | None
    ) -> None:
        rows = None if look is None else look.rows.get(unit[0])
        if rows is not None:
            state["by_rows"] = True
            moments = moments_of_rows(Rows(rows.inputs[:, : gradient.shape[1]], rows.gradients))
        elif state.get("by_rows", False) or (look is None and self.fisher is not None):
            return  # gradients count with the size of the batch, which only a look tells
        else:
            moments = moments_of_gradient(gradient, 1 if look is None else look.observations)
        look_at_matrix(state, moments, group["betas"][1], group["refresh"], group["corrected"])

    def _look_at_block(
        self, group: dict[str, Any], state: dict[str, Any], unit: list[Tensor], gradient: Tensor, look: Look | None
    ) -> None:
        if self.fisher is None:
            rows = gradient[None]
        elif look is None:
            return
        else:
            rows = torch.cat([look.gradients[p].flatten(1) for p in unit], 1)
        look_at_block(state, rows, group["betas"][1], group["refresh"])

    def _momentum(self, group: dict[str, Any], state: dict[str, Any], gradient: Tensor) -> Tensor:
        beta1 = group["betas"][0]
        if not beta1:
            return gradient
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        weight = weight_of_new(beta1, state["step"]) if group["bias_correction"] else 1.0 - beta1
        averaged: Tensor = state["momentum"].lerp_(gradient, weight)
        return averaged

    def _units_of(self, group: dict[str, Any]) -> list[list[Tensor]]:
        """Return the parameters that share a Fisher matrix: all, or a layer's weight and bias, or one."""
        params = [p for p in group["params"] if p.requires_grad]
        if group["structure"] == "dense":
            return [params] if params else []
        key = id(group)
        if sum(map(len, self._units.get(key, []))) != len(params):
            layers = {} if self.fisher is None else self.fisher.layers
            here = set(params)
            biases = {weight: layers[weight].bias for weight in params if weight in layers}
            joined = {weight: bias for weight, bias in biases.items() if bias is not None and bias in here}
            taken = set(joined.values())
            self._units[key] = [[p, joined[p]] if p in joined else [p] for p in params if p not in taken]
        return self._units[key]

    def _demand_a_look(self, looks: int) -> None:
        if looks == 0 and self.fisher is None:
            raise UsageError(
                "The first gradients are so large that their squares overflow, so that there is no Fisher information. "
                "Scale the loss, or take double precision."
            )
        if looks == 0:
            raise UsageError(
                "The ModelFisher has not seen its model in training mode since it was made, so that there is no Fisher "
                "information. Make it before the first forward pass, of the very model that is trained."
            )


def _corrections(group: dict[str, Any], step: int, looks: int) -> tuple[float, float]:
    beta1, beta2 = group["betas"]
    return (1 - beta1**step, 1 - beta2**looks) if group["bias_correction"] else (1.0, 1.0)


def _parts(lists: Diagonals, new: list[Tensor], foreach: bool) -> list[tuple[Diagonals, list[Tensor]]]:
    """Return all at once, or one by one: slower, with scratch memory for one parameter only."""
    if foreach:
        return [(lists, new)]
    ones = itertools.zip_longest(*([[entry] for entry in entries] for entries in lists), fillvalue=[])
    return [(Diagonals(*one), [new[place]] if new else []) for place, one in enumerate(ones)]


def _decay(params: list[Tensor], rate: float) -> None:
    """Shrink parameters, apart from the gradient (Loshchilov and Hutter, 2019)."""
    if rate:
        torch._foreach_mul_(params, 1 - rate)


def _matrix(unit: list[Tensor]) -> Tensor:
    """Return a unit's gradient as a matrix: rows are outputs, a bias is the last column, a vector is one column."""
    gradients = [param.grad for param in unit if param.grad is not None]
    columns = [gradient.reshape(len(gradient) if gradient.ndim else 1, -1) for gradient in gradients]
    return columns[0] if len(columns) == 1 else torch.cat(columns, 1)


def _subtract(unit: list[Tensor], change: Tensor) -> None:
    columns = change.ndim == 2
    sizes = [param[0].numel() if columns and param.ndim > 1 else 1 if columns else param.numel() for param in unit]
    parts = torch.split(change, sizes, 1 if columns else 0)
    for param, part in zip(unit, parts, strict=True):
        param.sub_(part.reshape(param.shape))


def _by_device(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    found: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        found.setdefault(tensor.device, []).append(tensor)
    return list(found.values())
