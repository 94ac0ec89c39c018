"""Any torch module as a classifier or a regressor: its weights, flattened, are the parameters.

Reference:
    Pascanu and Bengio (2014), "Revisiting natural gradient for deep networks", section 4, for their
    Fisher informations.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch.func import functional_call, vmap

from hamiltonian_rl.errors import UsageError, first_line
from hamiltonian_rl.problems.estimation.checks import checked_sigma, class_targets, observed, refuse_scale
from hamiltonian_rl.problems.estimation.gaussian_points import gaussian_log_density, gaussian_outcomes
from hamiltonian_rl.problems.estimation.observations import Observations
from hamiltonian_rl.problems.estimation.task import EstimationTask, Layer, Outcomes


class _ModuleTask(EstimationTask):
    """A task whose parameters are those of a module that require gradients, one behind the other.

    The module is copied, in double precision and in evaluation mode (no dropout; batch normalisation as it stands), for
    the likelihood must be a function. `load` brings parameters back into a module.
    """

    module: torch.nn.Module
    shapes: dict[str, torch.Size]

    def _take_module(self, module: torch.nn.Module, extra: tuple[str, ...] = ()) -> None:
        self.module = copy.deepcopy(module).double().eval()
        trained = {name: weight for name, weight in self.module.named_parameters() if weight.requires_grad}
        if not trained:
            raise UsageError(f"{type(module).__name__} has no parameters that require gradients; nothing to estimate.")
        self.shapes = {name: weight.shape for name, weight in trained.items()}
        self.start = self.flatten(self.module)
        ends = torch.tensor([weight.numel() for weight in trained.values()]).cumsum(0).tolist()
        self.groups = tuple(slice(first, end) for first, end in zip([0, *ends], ends, strict=False))
        self.names = tuple(
            f"{name}[{','.join(map(str, place))}]" for name, shape in self.shapes.items() for place in _places(shape)
        )
        if extra:
            self.names += extra
            self.start = torch.cat([self.start, torch.ones(len(extra), dtype=torch.float64)])
            self.groups += (slice(ends[-1], ends[-1] + len(extra)),)

    def flatten(self, module: torch.nn.Module) -> torch.Tensor:
        """Return a module's parameters as one vector of float64, shape ``(P,)``.

        Example:
            >>> net = torch.nn.Linear(2, 1)
            >>> task = ModuleRegressor(net, targets=[0.0, 1.0], inputs=[[0.0, 1.0], [1.0, 0.0]])
            >>> task.flatten(net).equal(task.start), task.start.shape
            (True, torch.Size([3]))
        """
        found = dict(module.named_parameters())
        return torch.cat([found[name].detach().reshape(-1).to(torch.float64) for name in self.shapes])

    def load(self, params: torch.Tensor, module: torch.nn.Module) -> None:
        """Write the parameters into a module of the same architecture, in its own precision.

        Example:
            >>> net = torch.nn.Linear(1, 1)
            >>> task = ModuleRegressor(net, targets=[0.0, 1.0], inputs=[0.0, 1.0])
            >>> task.load(torch.tensor([2.0, -1.0]), net)
            >>> net.weight.item(), net.bias.item()
            (2.0, -1.0)
        """
        found = dict(module.named_parameters())
        with torch.no_grad():
            for name, values in self._unflatten(params).items():
                found[name].copy_(values)

    def outputs(self, params: torch.Tensor, data: Observations | None = None) -> torch.Tensor:
        """Return what the module gives for the inputs, shape ``(N, ...)``; of one vector of parameters ``(P,)``.

        Example:
            >>> task = ModuleRegressor(torch.nn.Linear(1, 1), targets=[0.0, 1.0], inputs=[0.0, 1.0])
            >>> task.outputs(torch.tensor([2.0, -1.0], dtype=torch.float64)).detach()[:, 0]  # 2 x - 1
            tensor([-1.,  1.], dtype=torch.float64)
        """
        data = self.data if data is None else data
        outputs: torch.Tensor = functional_call(self.module, self._unflatten(params), (data.inputs,))
        return outputs

    def layers(self, params: torch.Tensor, data: Observations | None = None) -> tuple[Layer, ...]:
        """Return the Linear layers that take one vector an observation, the bias as the weight of a one.

        Example:
            >>> task = ModuleRegressor(torch.nn.Linear(1, 1), targets=[0.0, 4.0], inputs=[0.0, 1.0], sigma=2.0)
            >>> (layer,) = task.layers(torch.tensor([2.0, -1.0], dtype=torch.float64))
            >>> layer.slopes[:, 0], layer.inputs  # (y - output)/σ²; x, and a one for the bias
            (tensor([0.2500, 0.7500], dtype=torch.float64), tensor([[0., 1.],
                    [1., 1.]], dtype=torch.float64))
        """
        linear = {name: part for name, part in self.module.named_modules() if isinstance(part, torch.nn.Linear)}
        taken: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

        def keep(name: str) -> Callable[..., None]:
            return lambda part, inputs, output: taken.__setitem__(name, (inputs[0], output))

        hooks = [part.register_forward_hook(keep(name)) for name, part in linear.items()]
        try:
            total = self._of_one(params.detach().requires_grad_(), self.data if data is None else data).sum()
        finally:
            for hook in hooks:
                hook.remove()
        indices = {name: self._index(name) for name in taken}
        kept = {name: pair for name, pair in taken.items() if indices[name] is not None and pair[0].ndim == 2}
        slopes = torch.autograd.grad(total, [output for _, output in kept.values()]) if kept else ()
        layers = []
        for (name, (inputs, _)), slope in zip(kept.items(), slopes, strict=True):
            index, x = indices[name], inputs.detach()
            assert index is not None
            if index.shape[1] > x.shape[1]:
                x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
            layers.append(Layer(index, x, slope))
        return tuple(layers)

    def _index(self, name: str) -> torch.Tensor | None:
        """Return where a Linear layer's weights lie, its bias as the last column; None where they are not trained."""
        places = dict(zip(self.shapes, self.groups, strict=False))
        weight, bias = (f"{name}.{kind}" if name else kind for kind in ("weight", "bias"))
        if weight not in places:
            return None
        index = torch.arange(places[weight].start, places[weight].stop).reshape(self.shapes[weight])
        if bias not in places:
            return index
        return torch.cat([index, torch.arange(places[bias].start, places[bias].stop)[:, None]], 1)

    def _log_likelihood(self, params: torch.Tensor, data: Observations) -> torch.Tensor:
        batched = self._of_one
        for _ in params.shape[:-1]:
            batched = vmap(batched, in_dims=(0, None))
        return batched(params, data)

    def _of_one(self, params: torch.Tensor, data: Observations) -> torch.Tensor:
        """Return the log-likelihood of each observation, of one vector of parameters ``(P,)``."""
        raise NotImplementedError

    def _unflatten(self, params: torch.Tensor) -> dict[str, torch.Tensor]:
        shapes = self.shapes.items()
        return {name: params[group].reshape(shape) for (name, shape), group in zip(shapes, self.groups, strict=False)}

    def _try(self, expected: str) -> torch.Tensor:
        """Return the module's outputs for the first two observations, or say why there are none."""
        if self.data.inputs is None:
            raise UsageError(f"{type(self).__name__} has no inputs; expected those of the module.")
        try:
            outputs = self.outputs(self.start, self.data[:2])
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise UsageError(
                f"{type(self.module).__name__} does not take inputs of shape {tuple(self.data.inputs.shape)} and "
                f"{self.data.inputs.dtype}: {first_line(error)} Expected a module from them to {expected}."
            ) from error
        if not isinstance(outputs, torch.Tensor) or len(outputs) != len(self.data[:2]):
            raise UsageError(f"{type(self.module).__name__} does not return one output an input; expected {expected}.")
        return outputs


class ModuleClassifier(_ModuleTask):
    """``y`` is class ``c`` with probability ``softmax(module(x))_c``.

    Args:
        module: Its outputs are logits, shape ``(N, classes)``.
        targets: Classes 0, 1, ..., each there, shape ``(N,)``.
        inputs: What the module takes.

    Raises:
        UsageError: A target is no class, or the module does not take the inputs or return logits.

    Example:
        >>> task = ModuleClassifier(torch.nn.Linear(2, 3), targets=[0, 1, 2], inputs=[[0, 1], [1, 0], [1, 1]])
        >>> task.n_params, task.names[0]
        (9, 'weight[0,0]')
        >>> torch.linalg.matrix_rank(task.fisher(task.start)).item()  # one vector may be added to all classes
        6
    """

    def __init__(self, module: torch.nn.Module, targets: Any, inputs: Any = None) -> None:
        self.data = observed(targets, inputs)
        classes, n_classes = class_targets(self.data)
        self.data = self.data.with_targets(classes)
        self._take_module(module)
        logits = self._try("logits of shape (N, classes)")
        if logits.ndim != 2 or logits.shape[1] < n_classes:
            raise UsageError(
                f"{type(module).__name__} returns {tuple(logits.shape[1:])} numbers an input; expected logits of shape "
                f"(N, {n_classes}), one a class."
            )

    def log_probabilities(self, params: torch.Tensor, data: Observations | None = None) -> torch.Tensor:
        """Return ``log p(c | x_n)``, shape ``(N, C)``.

        Example:
            >>> task = ModuleClassifier(torch.nn.Linear(1, 2), targets=[0, 1], inputs=[0.0, 1.0])
            >>> task.log_probabilities(torch.zeros(4, dtype=torch.float64)).exp().detach()
            tensor([[0.5000, 0.5000],
                    [0.5000, 0.5000]], dtype=torch.float64)
        """
        return torch.log_softmax(self.outputs(params, data), -1)

    def _of_one(self, params: torch.Tensor, data: Observations) -> torch.Tensor:
        return self.log_probabilities(params, data).gather(-1, data.targets[:, None]).squeeze(-1)

    def _sample(self, params: torch.Tensor, generator: torch.Generator | None, data: Observations) -> Observations:
        shares = self.log_probabilities(params, data).exp()
        return data.with_targets(torch.multinomial(shares, 1, generator=generator)[:, 0])

    def _outcomes(self, params: torch.Tensor, data: Observations) -> Outcomes:
        shares = self.log_probabilities(params, data).exp()
        return [(data.with_targets(torch.full((len(data),), c)), shares[:, c]) for c in range(shares.shape[1])]


class ModuleRegressor(_ModuleTask):
    """``y ~ N(module(x), σ² I)``, with ``σ`` known or the last parameter.

    Args:
        module: Its outputs have shape ``(N,)``, ``(N, 1)`` or that of the targets, ``(N, d)``.
        targets: Shape ``(N,)`` or ``(N, d)``.
        inputs: What the module takes.
        sigma: ``σ``; None to estimate it.

    Raises:
        UsageError: The module does not take the inputs, its outputs are not of the targets' shape, or sigma is no
            positive number.

    Example:
        >>> net = torch.nn.Linear(1, 1, bias=False)
        >>> task = ModuleRegressor(net, targets=[1.0, 2.0], inputs=[1.0, 3.0], sigma=0.5)
        >>> round(task.fisher(task.start).item(), 9)  # E[x²]/σ², as of a linear regression
        20.0
    """

    def __init__(self, module: torch.nn.Module, targets: Any, inputs: Any = None, sigma: float | None = 1.0) -> None:
        self.sigma = checked_sigma(sigma, estimated=True)
        self.data = targets if isinstance(targets, Observations) else Observations.of(targets, inputs)
        self.data = self.data.with_targets(self.data.targets.to(torch.float64))
        refuse_scale(self.data)
        self._take_module(module, ("sigma",) if sigma is None else ())
        if self.data.targets.ndim > 2:
            raise UsageError(f"The targets have shape {tuple(self.data.targets.shape)}; expected (N,) or (N, d).")
        outputs, wanted = self._try("one output a target"), self.data[:2].targets.shape
        if outputs.shape != wanted and outputs.shape != (*wanted, 1):
            raise UsageError(
                f"{type(module).__name__} returns {tuple(outputs.shape[1:])} numbers an input, and the targets have "
                f"{tuple(wanted[1:])}; expected the same."
            )

    def means(self, params: torch.Tensor, data: Observations | None = None) -> torch.Tensor:
        """Return the module's outputs, of the shape of the targets.

        Example:
            >>> task = ModuleRegressor(torch.nn.Linear(1, 1), targets=[0.0, 1.0], inputs=[0.0, 1.0])
            >>> task.means(torch.tensor([2.0, -1.0], dtype=torch.float64)).detach()
            tensor([-1.,  1.], dtype=torch.float64)
        """
        outputs = self.outputs(params, data)
        return outputs.squeeze(-1) if outputs.ndim > self.data.targets.ndim else outputs

    def noise(self, params: torch.Tensor) -> torch.Tensor:
        """Return ``σ``, a number.

        Example:
            >>> task = ModuleRegressor(torch.nn.Linear(1, 1), targets=[0.0, 1.0], inputs=[0.0, 1.0], sigma=None)
            >>> task.noise(torch.tensor([2.0, -1.0, 0.5])), task.names[-1]
            (tensor(0.5000), 'sigma')
        """
        return params[-1] if self.sigma is None else params.new_tensor(self.sigma)

    def _of_one(self, params: torch.Tensor, data: Observations) -> torch.Tensor:
        densities = gaussian_log_density(data.targets, self.means(params, data), self.noise(params))
        return densities if densities.ndim == 1 else densities.sum(-1)

    def _sample(self, params: torch.Tensor, generator: torch.Generator | None, data: Observations) -> Observations:
        means = self.means(params, data)
        noise = torch.randn(means.shape, generator=generator, dtype=torch.float64)
        return data.with_targets(means + self.noise(params) * noise)

    def _outcomes(self, params: torch.Tensor, data: Observations) -> Outcomes:
        return gaussian_outcomes(data, self.means(params, data), self.noise(params))


def _places(shape: torch.Size) -> list[list[int]]:
    """Return the indices of a tensor's elements in order."""
    return torch.ones(shape).nonzero().tolist() if shape else [[]]
