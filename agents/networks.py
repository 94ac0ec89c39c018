"""The Q network: a multilayer perceptron as straight-line code over one flat parameter vector.

Notation: ``x`` inputs ``(B, I)``, ``h`` hidden activations, ``W, b`` a layer's weight ``(O, I)`` and
bias ``(O,)``, ``g, c`` gain and offset of LayerNorm, ``d`` the slope of the loss with respect to the
array at hand.

Why by hand: at the sizes of control tasks (batch 64, two layers of 64) autograd spends five times
longer on bookkeeping than on arithmetic. The forward and backward passes below use only operations
that NumPy arrays and torch tensors share, so that the same lines run on a CPU (NumPy, no overhead) and
on a GPU (torch). `PerceptronSpec.as_torch` gives the same function as a `torch.nn.Module`; the tests
hold values and gradients against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

Array = Any  # numpy.ndarray or torch.Tensor
NORM_EPS = 1e-5


@dataclass(frozen=True)
class PerceptronSpec:
    """Shape of a perceptron with ReLU, optional LayerNorm, and an optional dueling head.

    A dueling head (Wang et al. 2016) predicts a state value and advantages, and returns
    ``Q = V + A - mean(A)``; as the last layer is linear, it is one layer with ``1 + n_outputs`` rows.

    Example:
        >>> spec = PerceptronSpec(4, (64, 64), 2)
        >>> params = spec.initial(np.random.default_rng(0))
        >>> Perceptron(spec, params)(np.zeros((3, 4), np.float32)).shape
        (3, 2)
    """

    n_inputs: int
    hidden: tuple[int, ...]
    n_outputs: int
    layer_norm: bool = False
    dueling: bool = False

    def shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Return names and shapes of the arrays in the flat vector, in order."""
        shapes: list[tuple[str, tuple[int, ...]]] = []
        width = self.n_inputs
        for index, size in enumerate(self.hidden):
            shapes += [(f"weight{index}", (size, width)), (f"bias{index}", (size,))]
            if self.layer_norm:
                shapes += [(f"gain{index}", (size,)), (f"offset{index}", (size,))]
            width = size
        rows = self.n_outputs + self.dueling
        return [*shapes, ("weight_out", (rows, width)), ("bias_out", (rows,))]

    @property
    def n_params(self) -> int:
        """Length P of the flat parameter vector."""
        return sum(math.prod(shape) for _, shape in self.shapes())

    def initial(self, generator: np.random.Generator) -> np.ndarray:
        """Draw parameters as torch.nn.Linear does: uniform within ``±1/√fan_in``; gains are one."""
        parts, fan_in = [], 1
        for name, shape in self.shapes():
            if name.startswith("weight"):
                fan_in = shape[1]
            if name.startswith(("gain", "offset")):
                parts.append(np.full(shape, float(name.startswith("gain"))))
            else:
                bound = fan_in**-0.5
                parts.append(generator.uniform(-bound, bound, shape))
        return np.concatenate([part.ravel() for part in parts]).astype(np.float32)

    def split(self, flat: Array) -> dict[str, Array]:
        """Return views of the flat vector, one a name in `shapes`."""
        views, start = {}, 0
        for name, shape in self.shapes():
            stop = start + math.prod(shape)
            views[name] = flat[start:stop].reshape(shape)
            start = stop
        return views

    def as_torch(self, flat: Array) -> nn.Module:
        """Return the same function as a torch module whose parameters share memory with ``flat``."""
        import torch
        from torch import nn

        views = {name: torch.as_tensor(view) for name, view in self.split(flat).items()}

        def linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
            layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
            layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
            return layer

        layers: list[nn.Module] = []
        for index, size in enumerate(self.hidden):
            layers.append(linear(views[f"weight{index}"], views[f"bias{index}"]))
            if self.layer_norm:
                norm = nn.LayerNorm(size, eps=NORM_EPS, device="meta")
                norm.weight = nn.Parameter(views[f"gain{index}"])
                norm.bias = nn.Parameter(views[f"offset{index}"])
                layers.append(norm)
            layers.append(nn.ReLU())
        layers.append(linear(views["weight_out"], views["bias_out"]))
        if self.dueling:
            layers.append(_duel_module())
        return nn.Sequential(*layers)


def _duel_module() -> nn.Module:
    from torch import nn

    class Duel(nn.Module):
        """Q = V + A - mean(A)."""

        def forward(self, head: Any) -> Any:
            return _duel(head)

    return Duel()


def _duel(head: Array) -> Array:
    advantages = head[..., 1:]
    return head[..., :1] + advantages - advantages.mean(axis=-1, keepdims=True)


class Perceptron:
    """A perceptron bound to one flat parameter vector: call it for values, `gradient` for slopes."""

    def __init__(self, spec: PerceptronSpec, params: Array) -> None:
        self.spec = spec
        self.params = params
        self._arrays = spec.split(params)

    def __call__(self, x: Array) -> Array:
        """Return Q values, shape ``(..., n_outputs)``, for inputs of shape ``(..., n_inputs)``."""
        return self._forward(x, None)

    def forward(self, x: Array) -> tuple[Array, list[tuple[Array, ...]]]:
        """Return Q values and the tape of intermediate arrays that `gradient` reads."""
        tape: list[tuple[Array, ...]] = []
        return self._forward(x, tape), tape

    def _forward(self, x: Array, tape: list[tuple[Array, ...]] | None) -> Array:
        arrays, h = self._arrays, x.reshape(-1, self.spec.n_inputs)  # one large product, not many
        for index in range(len(self.spec.hidden)):
            z = h @ arrays[f"weight{index}"].T
            z += arrays[f"bias{index}"]
            normed = inverse = None
            if self.spec.layer_norm:
                z -= z.mean(axis=-1, keepdims=True)
                inverse = ((z * z).mean(axis=-1, keepdims=True) + NORM_EPS) ** -0.5
                normed = z * inverse
                z = normed * arrays[f"gain{index}"] + arrays[f"offset{index}"]
            active = z > 0
            if tape is not None:
                tape.append((h, active, normed, inverse))
            h = z * active
        head = h @ arrays["weight_out"].T
        head += arrays["bias_out"]
        if tape is not None:
            tape.append((h,))
        q = _duel(head) if self.spec.dueling else head
        return q.reshape(*x.shape[:-1], self.spec.n_outputs)

    def gradient(self, tape: list[tuple[Array, ...]], slope: Array, out: dict[str, Array]) -> None:
        """Write the gradient of the loss with respect to every array into ``out``.

        Args:
            tape: What `forward` returned for a batch of shape ``(B, n_inputs)``.
            slope: ``∂loss/∂Q``, shape ``(B, n_outputs)``.
            out: Views of a flat gradient vector, from `PerceptronSpec.split`.
        """
        arrays = self._arrays
        (h,) = tape[-1]
        weight = arrays["weight_out"]
        if self.spec.dueling:
            # Transpose of V + A - mean(A): V collects all slopes, each A its own minus their mean.
            total = slope.sum(axis=-1, keepdims=True)
            centered = slope - total / self.spec.n_outputs
            _write_linear(out["weight_out"][:1], out["bias_out"][:1], total, h)
            _write_linear(out["weight_out"][1:], out["bias_out"][1:], centered, h)
            d = total @ weight[:1] + centered @ weight[1:]
        else:
            _write_linear(out["weight_out"], out["bias_out"], slope, h)
            d = slope @ weight
        for index in range(len(self.spec.hidden) - 1, -1, -1):
            h, active, normed, inverse = tape[index]
            d = d * active
            if normed is not None:
                out[f"gain{index}"][...] = (d * normed).sum(axis=0)
                out[f"offset{index}"][...] = d.sum(axis=0)
                d = d * arrays[f"gain{index}"]
                along = (d * normed).mean(axis=-1, keepdims=True)
                d = inverse * (d - d.mean(axis=-1, keepdims=True) - normed * along)
            _write_linear(out[f"weight{index}"], out[f"bias{index}"], d, h)
            if index:
                d = d @ arrays[f"weight{index}"]

    def input_slope(self, tape: list[tuple[Array, ...]], slope: Array) -> Array:
        """Return ``∂(slope · Q)/∂x``, shape ``(B, n_inputs)``; without LayerNorm.

        Args:
            tape: What `forward` returned.
            slope: Shape ``(B, n_outputs)``.
        """
        d = self._head_slope(slope) @ self._arrays["weight_out"]
        for index in range(len(self.spec.hidden) - 1, -1, -1):
            d = (d * tape[index][1]) @ self._arrays[f"weight{index}"]
        return d

    def input_slope_gradient(
        self, tape: list[tuple[Array, ...]], slope: Array, direction: Array, out: dict[str, Array]
    ) -> None:
        """Write the gradient of ``Σ_b direction_b · input_slope_b`` with respect to every array into ``out``.

        Between its kinks the network is linear in x, so that this is the gradient of the network without biases at the
        input ``direction``, with the units of ``tape`` active.

        Args:
            tape: What `forward` returned.
            slope: As for `input_slope`.
            direction: Shape ``(B, n_inputs)``.
            out: As for `gradient`.
        """
        tangent, h = [], direction
        for index in range(len(self.spec.hidden)):
            active = tape[index][1]
            tangent.append((h, active, None, None))
            h = (h @ self._arrays[f"weight{index}"].T) * active
        self.gradient([*tangent, (h,)], slope, out)
        for name, array in out.items():
            if name.startswith("bias"):
                array[...] = 0.0

    def _head_slope(self, slope: Array) -> Array:
        """Return the slope with respect to the last layer's rows: of a dueling head V first, then each A."""
        if not self.spec.dueling:
            return slope
        total = slope.sum(axis=-1, keepdims=True)
        return np.concatenate([total, slope - total / self.spec.n_outputs], axis=-1)


def _write_linear(weight: Array, bias: Array, slope: Array, inputs: Array) -> None:
    """Write the gradient of a linear layer into the views of its weight and bias."""
    weight[...] = slope.T @ inputs
    bias[...] = slope.sum(axis=0)
