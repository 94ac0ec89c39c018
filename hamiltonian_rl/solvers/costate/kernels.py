"""What the compiled solver does at one step, as expressions: the problem's own, its derivatives, Riccati's.

Notation, of one step: ``s`` state, ``a`` action, ``l`` costate λ of the next state, by the adjoint recursion along
the feedback, ``λ = ∂H/∂s + Kᵀ ∂H/∂a``, which is Eq. 14 where Eq. 15 holds,
``P`` and ``p`` curvature and slope of the next step's quadratic model of V around the path (the slope beyond
λ), ``d`` feedforward and ``K`` feedback of the step ``a + α d + K (s' - s)``. Symmetric matrices are kept as
their lower triangle, row by row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate.augmented import Augmented
from hamiltonian_rl.solvers.costate.step_rules import BarrierRule, BoxRule
from hamiltonian_rl.tracing.expressions import Expression, Graph, gradient, substitute
from hamiltonian_rl.tracing.trace import UntracedOperation, trace
from hamiltonian_rl.tracing.vector_code import Library, Signature

Array = np.ndarray[Any, np.dtype[np.object_]]

BACKWARD = ("s", "a", "step", "l", "P", "p", "shift", "sums", "barrier", "below", "above", "weights", "penalty")
FORWARD = ("s", "step", "path", "a", "d", "K", "size", "sums", "barrier", "below", "above", "weights", "penalty")


def compile_kernels(problem: ControlProblem) -> Library:
    """Return the functions of `lanes` for a problem: backward and forward, on bounds and with a barrier; terminal.

    Raises:
        UntracedOperation: The problem's functions perform an operation that has no expression.
    """
    functions: dict[str, Signature] = {"terminal": _terminal(Augmented(problem))}
    for name, rule in (("box", BoxRule), ("barrier", BarrierRule)):
        functions[f"{name}_backward"] = _backward(Augmented(problem), rule)
        functions[f"{name}_forward"] = _forward(Augmented(problem), rule)
    return Library(functions)


def inputs(graph: Graph, block: str, count: int) -> Array:
    """Return the entries of an input block."""
    return np.array([graph.input(block, i) for i in range(count)], dtype=object)


def full(triangle: Array, size: int) -> Array:
    """Return the symmetric matrix of a lower triangle."""
    matrix = np.empty((size, size), dtype=object)
    rows, columns = np.tril_indices(size)
    matrix[rows, columns] = matrix[columns, rows] = triangle
    return matrix


def triangle(matrix: Array) -> list[Expression]:
    """Return the lower triangle of a symmetric matrix."""
    return list(matrix[np.tril_indices(len(matrix))])


def _symmetric(*factors: tuple[Array, Array]) -> Array:
    """Return ``Σ left @ right``, a sum known to be symmetric: only its lower triangle is computed."""
    size = len(factors[0][0])
    lower = [sum(left[i] @ right[:, j] for left, right in factors) for i in range(size) for j in range(i + 1)]
    return full(np.array(lower, dtype=object), size)


def _traced_step(augmented: Augmented, graph: Graph) -> tuple[Array, Expression]:
    """Return the next state and the (augmented) reward of a step, as expressions of its inputs."""
    n, m, count = augmented.sizes
    next_state, reward = trace(
        augmented.step,
        graph,
        [("s", n), ("a", m), ("step", None), ("weights", count), ("penalty", None)],
        augmented.problem.parameter_tensors(),
    )
    if next_state.shape != (n,) or reward.shape != ():
        raise UntracedOperation("The dynamics or the reward of a single state is not that of a batch.")
    return next_state, reward.item()


def _hessian(value: Expression, variables: list[Expression]) -> Array:
    slopes = gradient(value, variables)
    size = len(variables)
    return full(np.array([x for i in range(size) for x in gradient(slopes[i], variables[: i + 1])], dtype=object), size)


def _backward(augmented: Augmented, rule: Any) -> Signature:
    """One step of the backward pass: λ, the quadratic model of V, and the step to take (Eq. 14-15, Riccati)."""
    graph = Graph()
    n, m, _ = augmented.sizes
    discount = float(augmented.problem.discount)
    next_state, reward = _traced_step(augmented, graph)
    s, a, costate, p = (inputs(graph, block, size) for block, size in (("s", n), ("a", m), ("l", n), ("p", n)))
    P = full(inputs(graph, "P", n * (n + 1) // 2), n)
    variables = [*s, *a]

    jacobian = np.array([gradient(x, variables) for x in next_state], dtype=object)
    slope = np.array(gradient(reward, variables), dtype=object) + (jacobian.T @ costate) * discount
    # The curvature is that of the Hamiltonian at V's own slope, λ + p, not at λ: differential dynamic programming.
    curvature = _hessian(reward + (next_state * (costate + p)).sum() * discount, variables)
    curvature = curvature + _symmetric((jacobian.T, (P * discount) @ jacobian))
    ahead = (jacobian.T @ p) * discount
    Q_ss, Q_as, Q_aa = curvature[:n, :n], curvature[n:, :n], curvature[n:, n:]

    step = rule(graph, augmented.problem)
    here, Q_aa = step.model(a, slope[n:], Q_aa)
    Q_a = here + ahead[n:]
    d, K, solved = step.solve(a, slope[n:], Q_a, Q_as, Q_aa)
    # Along the feedback the recursion is as stable as the path is; open, rounding would grow as the dynamics do.
    new_costate = slope[:n] + K.T @ here
    bend = Q_aa @ d
    new_P = Q_ss + _symmetric((K.T, Q_aa @ K + Q_as), (Q_as.T, K))
    new_p = ahead[:n] + K.T @ (ahead[n:] + bend) + Q_as.T @ d
    first, second, residual, sound = inputs(graph, "sums", 4)
    sums = [
        first * discount + (d * Q_a).sum(),
        second * discount + (d * bend).sum() * 0.5,
        residual.apply("maximum", step.residual(a, slope[n:])),
        sound.apply("and", solved).where(1.0, 0.0),
    ]
    outputs = [
        list(new_costate),
        triangle(new_P),
        list(new_p),
        list(d),
        list(K.ravel()),
        triangle(step.judged(a, slope[n:], Q_aa)),
        sums,
    ]
    return BACKWARD, outputs


def _forward(augmented: Augmented, rule: Any) -> Signature:
    """One step of a trial path: ``a + α d + K (s - path)`` within its bounds, the next state, the return so far."""
    graph = Graph()
    n, m, _ = augmented.sizes
    s, path, a, d = (inputs(graph, block, size) for block, size in (("s", n), ("path", n), ("a", m), ("d", m)))
    K = inputs(graph, "K", m * n).reshape(m, n)
    step = rule(graph, augmented.problem)
    action, below, above = step.move(a, d * graph.input("size", 0) + K @ (s - path))
    next_state, reward = _traced_step(augmented, graph)
    *arrived, reward = substitute([*next_state, reward], {("a", i): x for i, x in enumerate(action)})
    total, weight = inputs(graph, "sums", 2)
    sums = [total + weight * (reward + step.reward(action)), weight * float(augmented.problem.discount)]
    return FORWARD, [list(action), arrived, list(below), list(above), [reward], sums]


def _terminal(augmented: Augmented) -> Signature:
    """The terminal reward, its gradient and its curvature: λ_N and P_N (Eq. 13)."""
    graph = Graph()
    n, _, count = augmented.end_sizes
    blocks = [("s", n), ("weights", count), ("penalty", None)]
    (reward,) = trace(augmented.end, graph, blocks, augmented.problem.parameter_tensors())
    s = list(inputs(graph, "s", n))
    value = reward.item()
    return ("s", "weights", "penalty"), [[value], gradient(value, s), triangle(_hessian(value, s))]
