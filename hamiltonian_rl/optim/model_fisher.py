"""Where the Fisher information of a model comes from: its own predictions, seen in the forward pass.

Notation: ``N`` observations, ``a`` inputs of a linear layer (with a one behind them where it has a bias), ``g``
gradients at its outputs, ``S`` directions (`hamiltonian_rl.optim.likelihoods`).

For a linear layer the gradient of an observation is ``g aᵀ``, so that ``F = E[aaᵀ ⊗ ggᵀ]``, which Kronecker's
structure takes for ``E[aaᵀ] ⊗ E[ggᵀ]``. Both are read from the layers' inputs and from a backward pass that stops at
their outputs: no gradient of a weight is computed for it.

Reference:
    Martens and Grosse (2015), "Optimizing neural networks with Kronecker-factored approximate curvature".
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils.hooks import RemovableHandle

from hamiltonian_rl.errors import UsageError, did_you_mean, first_line
from hamiltonian_rl.optim.likelihoods import SCORES, Scores, directions
from hamiltonian_rl.optim.options import is_whole


class Rows(NamedTuple):
    """A linear layer's inputs ``(R, in [+ 1])`` and its gradients ``(S·R, out)``, divided by ``√N``.

    Example:
        >>> rows = Rows(inputs=torch.tensor([[2.0, 1.0]]), gradients=torch.tensor([[3.0]]))
        >>> rows.gradients.mT @ rows.inputs  # a layer's gradient, the bias last
        tensor([[6., 3.]])
    """

    inputs: Tensor
    gradients: Tensor


class Look(NamedTuple):
    """One look at the model: rows by weight, gradients ``(S·N, *shape)`` by parameter, and ``N``.

    Example:
        >>> Look(rows={}, gradients={}, observations=32).observations
        32
    """

    rows: dict[Tensor, Rows]
    gradients: dict[Tensor, Tensor]
    observations: int


class ModelFisher:
    """Watches a model in training and tells an optimizer its Fisher information.

    Every k-th step, the first forward pass in training mode is followed by a backward pass from labels that the model
    itself drew. The loop of training stays as it is. Outputs are one tensor whose last axis belongs to one observation,
    the loss is to be the mean over observations of minus the log-likelihood (so ``nn.CrossEntropyLoss()``; for
    ``"gaussian"`` half the squared error, summed over outputs).

    Args:
        model: The model whose parameters are optimized.
        likelihood: See `hamiltonian_rl.optim.likelihoods.directions`.
        samples: Labels drawn an observation, or ``"exact"``: a backward pass an output, and no noise.
        every: Steps between two looks.
        batch: Observations looked at, the first of the batch; None for all. Saves time where only gradients of
            single observations (dense, block, diagonal) are asked for.
        seed: Of the draws.

    Raises:
        UsageError: An option is of another type or out of its range, or processes are joined by torch.distributed.

    Example:
        >>> from hamiltonian_rl.optim import LeastAction
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(256, 3)
        >>> y = (x @ torch.tensor([1.0, -2.0, 0.5]) > 0).long()
        >>> model = nn.Linear(3, 2)
        >>> optimizer = LeastAction(model.parameters(), dt=1.0, fisher=ModelFisher(model, "categorical"))
        >>> for _ in range(30):
        ...     optimizer.zero_grad()
        ...     loss = nn.functional.cross_entropy(model(x), y)
        ...     loss.backward()
        ...     _ = optimizer.step()
        >>> bool(loss < 0.1)
        True
    """

    _inside: ClassVar[bool] = False  # any one looks: its own passes through the model are nothing to look at

    def __init__(
        self,
        model: nn.Module,
        likelihood: str | Scores = "categorical",
        *,
        samples: int | str = 1,
        every: int = 1,
        batch: int | None = None,
        seed: int = 0,
    ) -> None:
        _check(model, likelihood, samples, {"every": every, "batch": 1 if batch is None else batch}, seed)
        self.model, self.likelihood = model, likelihood
        self.samples, self.every, self.batch = samples, every, batch
        self.generator = _seeded(seed, self._device())
        self.steps, self.looking = 0, False
        self.by_rows, self.by_gradients = False, False
        self.layers = {layer.weight: layer for layer in model.modules() if isinstance(layer, nn.Linear)}
        self._seen: dict[Tensor, list[tuple[Tensor, Tensor]]] = {}
        self._look: Look | None = None
        handles = [layer.register_forward_hook(_weakly(self._after_layer)) for layer in self.layers.values()]
        handles.append(model.register_forward_pre_hook(_weakly(self._before_model)))
        handles.append(model.register_forward_hook(_weakly(self._after_model), with_kwargs=True))
        self._finalizer = weakref.finalize(self, _remove, handles)

    def take(self) -> Look | None:
        """Return the look of this step, once; None when there was none. Counts the step.

        Example:
            >>> model = nn.Linear(3, 2)
            >>> watcher = ModelFisher(model)
            >>> watcher.by_rows = True  # as an optimizer with structure="kronecker" sets it
            >>> _ = model(torch.ones(8, 3))
            >>> watcher.take().observations, watcher.take(), watcher.steps
            (8, None, 2)
        """
        look, self._look = self._look, None
        self.steps += 1
        return look

    def drop(self) -> None:
        """Forget the look of this step: its gradients were not finite.

        Example:
            >>> model = nn.Linear(3, 2)
            >>> watcher = ModelFisher(model)
            >>> watcher.by_rows = True  # as an optimizer with structure="kronecker" sets it
            >>> _ = model(torch.ones(8, 3))
            >>> watcher.drop()
            >>> watcher.take() is None
            True
        """
        self._look = None

    def close(self) -> None:
        """Stop watching; so it is too when nothing refers to it any more.

        Example:
            >>> model = nn.Linear(3, 2)
            >>> watcher = ModelFisher(model)
            >>> before = len(model._forward_hooks)
            >>> watcher.close()
            >>> before, len(model._forward_hooks)
            (2, 0)
        """
        self._finalizer()

    def state_dict(self) -> dict[str, Any]:
        """Return what the next draws depend on.

        Example:
            >>> sorted(ModelFisher(nn.Linear(3, 2)).state_dict())
            ['generator', 'steps']
        """
        return {"steps": self.steps, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as if nothing had been between, on the device where the model's parameters are now.

        Draws of one kind of device cannot be gone on with on another: there they begin anew, with a warning.

        Raises:
            UsageError: It is no state of a `ModelFisher`.

        Example:
            >>> one, other = ModelFisher(nn.Linear(3, 2), seed=1), ModelFisher(nn.Linear(3, 2), seed=2)
            >>> other.load_state_dict(one.state_dict())
            >>> torch.rand(2, generator=one.generator).equal(torch.rand(2, generator=other.generator))
            True
        """
        if not isinstance(state, Mapping) or not {"steps", "generator"} <= state.keys():
            raise UsageError(
                'The state of the ModelFisher lacks "steps" or "generator"; expected what state_dict() returned.'
            )
        generator = _seeded(int(state["steps"]), self._device())
        try:
            generator.set_state(state["generator"].cpu())
        except RuntimeError:  # a CPU's generator has a state of another size than a GPU's
            message = "The draws of the ModelFisher were saved on another kind of device; they begin anew here."
            warnings.warn(message, UserWarning, stacklevel=2)
        self.steps, self._look, self.generator = int(state["steps"]), None, generator

    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _before_model(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        if ModelFisher._inside:
            return
        due = self.steps % self.every == 0 and self._look is None
        self.looking = due and model.training and torch.is_grad_enabled()
        self._seen = {}

    def _after_layer(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if self.looking and not ModelFisher._inside and self.by_rows and output.requires_grad:
            weight = layer.weight
            assert isinstance(weight, Tensor)
            self._seen.setdefault(weight, []).append((args[0].detach(), output))

    def _after_model(self, model: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        if not self.looking or ModelFisher._inside:
            return
        self.looking, ModelFisher._inside = False, True
        try:
            self._look = self._looked(args, keywords, output)
        finally:
            self._seen, ModelFisher._inside = {}, False

    def _looked(self, args: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Look | None:
        """Draw labels, pull their scores back, and return what they say; None where there are no labels to draw."""
        if not isinstance(output, Tensor):
            raise UsageError(f"The model returns {type(output).__name__}; ModelFisher expects one tensor of outputs.")
        if not output.numel() or not bool(output.detach().isfinite().all()):
            return None
        outputs = output if output.ndim > 1 else output[..., None]
        with torch.autocast(output.device.type, enabled=False):
            if self.generator.device.type != output.device.type:  # the model was moved since
                self.generator = _seeded(self.generator.initial_seed(), output.device)
            found = outputs.detach().to(torch.promote_types(outputs.dtype, torch.float32))
            pulled = directions(self.likelihood, found, self.samples, self.generator)
            pulled = pulled / (found.numel() / found.shape[-1]) ** 0.5
            rows = self._rows(outputs, pulled) if self.by_rows else {}
            gradients = self._gradients(args, keywords, pulled) if self.by_gradients else {}
        return Look(rows, gradients, found.numel() // found.shape[-1])

    def _rows(self, outputs: Tensor, pulled: Tensor) -> dict[Tensor, Rows]:
        """Return each layer's inputs and gradients, by its weight."""
        seen = [(weight, *pair) for weight, pairs in self._seen.items() for pair in pairs]
        layer_outputs = [output for _, _, output in seen]
        if not layer_outputs:
            return {}
        scale = outputs[..., 0].numel() ** 0.5  # half precision holds scores, not scores by √N
        passes = [
            torch.autograd.grad(
                outputs, layer_outputs, (scale * s).to(outputs.dtype), retain_graph=True, allow_unused=True
            )
            for s in pulled
        ]
        found: dict[Tensor, list[Rows]] = {}
        for place, (weight, inputs, _) in enumerate(seen):
            if passes[0][place] is None:
                continue
            flat = inputs.reshape(-1, inputs.shape[-1]).to(weight.dtype)
            if self.layers[weight].bias is not None:
                flat = torch.cat([flat, flat.new_ones(len(flat), 1)], 1)
            pulls = torch.cat([one[place].reshape(-1, weight.shape[0]) for one in passes]).to(weight.dtype) / scale
            found.setdefault(weight, []).append(Rows(flat, pulls))
        return {weight: rows[0] if len(rows) == 1 else _joined(rows, len(pulled)) for weight, rows in found.items()}

    def _gradients(self, args: tuple[Any, ...], keywords: dict[str, Any], pulled: Tensor) -> dict[Tensor, Tensor]:
        """Return the gradients of single observations, by parameter."""
        others = [*map(repr, keywords), *(type(arg).__name__ for arg in args if not isinstance(arg, Tensor))]
        if others:
            raise UsageError(
                f"The model is called with {', '.join(others)}, which cannot be split into observations: expected "
                'tensors by position alone. Use structure="kronecker", or fisher=None.'
            )
        params = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        detached = {name: p.detach() for name, p in params.items()}
        some = slice(None if self.batch is None else self.batch)
        count = pulled.shape[1]
        few = [arg[some] for arg in args]

        def pull(values: dict[str, Tensor], scores: Tensor, *inputs: Tensor) -> Tensor:
            output = functional_call(self.model, values, tuple(one[None] for one in inputs))
            pulled_back: Tensor = (output.reshape(scores.shape) * scores.to(output.dtype)).sum()
            return pulled_back

        each = vmap(grad(pull), in_dims=(None, 0, *(0 for _ in few)), randomness="different")
        try:
            passes = [each(detached, s[some], *few) for s in pulled]
        except RuntimeError as error:
            raise UsageError(
                f"Gradients of single observations cannot be had of this model: {first_line(error)} "
                'Use structure="kronecker", or fisher=None.'
            ) from error
        scale = (count / len(pulled[0][some])) ** 0.5
        return {p: torch.cat([one[name] for one in passes]) * scale for name, p in params.items()}


def _check(model: nn.Module, likelihood: str | Scores, samples: int | str, counts: dict[str, int], seed: int) -> None:
    """Say what is wrong with the options."""
    if not isinstance(model, nn.Module) or next(model.parameters(), None) is None:
        raise UsageError(f"model is {type(model).__name__}; expected a torch module with parameters.")
    if not isinstance(likelihood, str) and not callable(likelihood):
        raise UsageError(
            f"likelihood is {likelihood!r}; expected one of {', '.join(SCORES)}, or a function of outputs and "
            "generator that draws scores."
        )
    if isinstance(likelihood, str) and likelihood not in SCORES:
        raise UsageError(f'There is no likelihood "{likelihood}". {did_you_mean(likelihood, SCORES)}')
    if samples != "exact" and not is_whole(samples):
        raise UsageError(f'samples is {samples!r}; expected a positive number of draws or "exact".')
    for name, number in counts.items():
        if not is_whole(number):
            raise UsageError(f"{name} is {number!r}; expected a whole number of at least 1.")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise UsageError(f"seed is {seed!r}; expected a whole number from 0 to 2**64 - 1.")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        raise UsageError(
            "A ModelFisher looks at its own process' data, so that the processes' parameters would part. "
            "Use fisher=None with torch.distributed."
        )


def _joined(rows: list[Rows], samples: int) -> Rows:
    """Return the rows of a layer that was used several times, gradients ordered as inputs are."""
    parts = [row.gradients.reshape(samples, -1, row.gradients.shape[-1]) for row in rows]
    return Rows(torch.cat([row.inputs for row in rows]), torch.cat(parts, 1).flatten(0, 1))


def _seeded(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device=device).manual_seed(seed)


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


def _weakly(method: Callable[..., None]) -> Callable[..., None]:
    """Return a hook that does not keep its watcher alive."""
    reference = weakref.WeakMethod(method)

    def hook(*args: Any) -> None:
        alive = reference()
        if alive is not None:
            alive(*args)

    return hook
