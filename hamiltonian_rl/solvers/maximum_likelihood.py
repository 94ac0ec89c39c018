"""Maximum likelihood by Fisher scoring, damped where it overshoots, and Newton's method; a status says how it ended.

Notation: ``g`` mean score, ``F`` Fisher information per observation, ``J`` minus the mean Hessian.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch

from hamiltonian_rl.errors import SolverError, UsageError
from hamiltonian_rl.principles.lagrangian import curvature, inverse_root, outer_information, unexplained
from hamiltonian_rl.problems.estimation import EstimationTask

SLOW = 0.2  # a step that leaves more of the residual than this is tried by Newton's method
SHARES = (1.0, 0.5, 0.25)  # of a step, tried one after the other
ENOUGH = 1e-4  # share of what the slope promises that a step must gain
ATTEMPTS, GROWTH, LEAST_DAMPING = 20, 10.0, 1e-3  # of a step, each damped more than the one before
ROUNDING = 1e-14  # of a log-likelihood, beside its size
RISING = 0.1  # nats an observation that the last of many steps gained: there is no maximum
MANY = 30
UNIDENTIFIED = 1e-6  # share of a parameter in the directions that F does not see
EXACT = 1e-10  # a sandwich's standard error, beside Fisher's, that is rounding
CLOSE = 1e-6  # residual, in standard errors times √N, at which rounding may stop the search


class EstimateStatus(Enum):
    """How maximum likelihood ended; each member is a sentence that says what to do.

    Example:
        >>> EstimateStatus.BOUNDARY.value.partition(",")[0]
        "The maximum lies on the boundary of the parameters' domain"
    """

    CONVERGED = "The score is zero to tolerance or rounding: a maximum of the likelihood, alone nearby."
    SINGULAR = (
        "The score is zero to tolerance, but the Fisher information is singular: other parameters fit as well, and "
        "what is returned is one of them, by a generalized inverse. Leave out collinear inputs, or take a reference "
        "class."
    )
    SADDLE = "The score is zero to tolerance, but the curvature is not that of a maximum. Start elsewhere."
    NO_MAXIMUM = (
        "There is no maximum: the likelihood goes on rising while parameters run to infinity, or sigma to zero. "
        "Estimates and standard errors mean nothing. Take fewer inputs, more data, or a known sigma."
    )
    BOUNDARY = (
        "The maximum lies on the boundary of the parameters' domain, where the score need not be zero; standard errors "
        "do not apply."
    )
    STAGNATED = (
        "No step raises the likelihood any more, and the score is not zero to tolerance. Raise tol, scale the "
        "inputs, or start elsewhere."
    )
    MAX_ITERATIONS = "The iterations were used up before the score was zero to tolerance. Raise max_iterations or tol."


@dataclass(frozen=True, eq=False)
class Estimate:
    """Maximum-likelihood parameters, with what their precision follows from.

    Attributes:
        task: Whose likelihood it is.
        params: ``θ``, shape ``(P,)``.
        log_likelihood: Of all observations together.
        status: How the solver ended.
        iterations: Steps taken.
        residual: ``√(gᵀ F⁻¹ g)``: how far a further step would go, in standard errors over ``√N``.
        rank: Of the Fisher information; below P other parameters fit as well.
        reason: Why there is no maximum, half a sentence, where that is known.

    Example:
        >>> from hamiltonian_rl.problems.estimation import GaussianMean
        >>> estimate = maximum_likelihood(GaussianMean([1.0, 2.0, 3.0, 6.0], sigma=2.0))
        >>> estimate.params.item(), estimate.standard_errors().item()  # the mean, and σ/√N
        (3.0, 1.0)
    """

    task: EstimationTask
    params: torch.Tensor
    log_likelihood: float
    status: EstimateStatus
    iterations: int
    residual: float
    rank: int
    reason: str = ""

    @property
    def converged(self) -> bool:
        """Whether the likelihood has a maximum here, be it one of many.

        Example:
            >>> from hamiltonian_rl.problems.estimation import Gaussian
            >>> maximum_likelihood(Gaussian([1.0, 3.0])).converged, maximum_likelihood(Gaussian([3.0, 3.0])).converged
            (True, False)
        """
        return self.status in (EstimateStatus.CONVERGED, EstimateStatus.SINGULAR)

    def unwrap(self) -> Estimate:
        """Return this estimate.

        Raises:
            SolverError: It did not converge; the message says why and what to change.

        Example:
            >>> from hamiltonian_rl.problems.estimation import Gaussian
            >>> maximum_likelihood(Gaussian([1.0, 3.0])).unwrap().params
            tensor([2., 1.], dtype=torch.float64)
            >>> maximum_likelihood(Gaussian([3.0, 3.0])).unwrap()
            Traceback (most recent call last):
            hamiltonian_rl.errors.SolverError: maximum_likelihood: There is no maximum: the likelihood goes on ...
        """
        if not self.converged:
            raise SolverError(
                f"maximum_likelihood: {self.sentence()} Reached after {self.iterations} steps: residual "
                f"{self.residual:.3g}."
            )
        return self

    def sentence(self) -> str:
        """Return the status in words, with its reason.

        Example:
            >>> from hamiltonian_rl.problems.estimation import Gaussian
            >>> maximum_likelihood(Gaussian([3.0, 3.0])).sentence().rpartition(". ")[2]
            'Here all targets are 3, and sigma runs to zero.'
        """
        return f"{self.status.value} Here {self.reason}." if self.reason else self.status.value

    def covariance(self, kind: str = "fisher") -> torch.Tensor:
        """Return the covariance of the estimates, shape ``(P, P)``.

        Args:
            kind: "fisher": ``F⁻¹/N``, right if the model is true, and then the Cramér-Rao bound (Eq. 22); "sandwich":
                ``J⁻¹ K J⁻¹/N``, right for large N also where it is not; NaN where the fit leaves no residual, so that
                the data do not say how large the noise is.

        Raises:
            UsageError: There is no such kind.

        Reference:
            White (1982), "Maximum likelihood estimation of misspecified models", theorem 3.2.

        Example:
            >>> from hamiltonian_rl.problems.estimation import GaussianMean
            >>> estimate = maximum_likelihood(GaussianMean([1.0, 2.0, 3.0, 6.0], sigma=2.0))
            >>> estimate.covariance(), estimate.covariance("sandwich")  # σ²/N, and the variance of the data over N
            (tensor([[1.]], dtype=torch.float64), tensor([[0.8750]], dtype=torch.float64))
        """
        if kind not in ("fisher", "sandwich"):
            raise UsageError(f'kind = "{kind}"; expected fisher or sandwich.')
        count = len(self.task.data)
        bends = self.task.fisher(self.params) if kind == "fisher" else curvature(self.task, self.params)
        root = inverse_root(bends)
        covariance: torch.Tensor = root @ root.T
        if kind == "sandwich":
            outer = outer_information(self.task, self.params)
            covariance = covariance @ outer @ covariance
            if not unexplained(outer, bends, self.params).any():
                covariance = torch.full_like(covariance, math.nan)
        return covariance / count

    def standard_errors(self, kind: str = "fisher") -> torch.Tensor:
        """Return the square roots of the diagonal of `covariance`, shape ``(P,)``, in units of the parameters.

        NaN where a parameter is not identified, and of the sandwich also where it is rounding: nothing is left there
        that would say how large the noise is.

        Example:
            >>> from hamiltonian_rl.problems.estimation import GaussianMean
            >>> estimate = maximum_likelihood(GaussianMean([1.0, 2.0, 3.0, 6.0], sigma=2.0))
            >>> estimate.standard_errors(), maximum_likelihood(GaussianMean([3.0])).standard_errors("sandwich")
            (tensor([1.], dtype=torch.float64), tensor([nan], dtype=torch.float64))
        """
        errors = self.covariance(kind).diagonal().clamp(min=0.0).sqrt()
        if kind == "sandwich":
            errors = torch.where(errors > EXACT * self.covariance().diagonal().sqrt(), errors, math.nan)
        return torch.where(self.identified(), errors, math.nan)

    def identified(self) -> torch.Tensor:
        """Return which parameters the data determine, shape ``(P,)``: those that a singular F sees wholly.

        Example:
            >>> from hamiltonian_rl.problems.estimation import LinearRegression
            >>> x = [[1.0, 2.0, 0.0], [2.0, 4.0, 1.0], [3.0, 6.0, 5.0], [4.0, 8.0, 2.0]]
            >>> maximum_likelihood(LinearRegression([1.0, 0.0, 2.0, 1.0], x, sigma=1.0)).identified()  # x2 is 2 x1
            tensor([ True, False, False,  True])
        """
        fisher = self.task.fisher(self.params)
        root = inverse_root(fisher)
        # F⁻F projects on what F sees; a parameter wholly within it has a row of the identity.
        lost = torch.eye(len(fisher), dtype=fisher.dtype) - root @ root.T @ fisher
        scales = fisher.diagonal().clamp(min=0.0).sqrt()
        scales = torch.where(scales > 0.0, scales, 1.0)
        unseen: torch.Tensor = (lost * scales[:, None] / scales).norm(dim=1)
        return unseen < UNIDENTIFIED


def maximum_likelihood(
    task: EstimationTask,
    start: torch.Tensor | None = None,
    *,
    tol: float = 1e-10,
    max_iterations: int = 100,
    progress: Callable[[int, float], None] | None = None,
) -> Estimate:
    """Return parameters that maximise the likelihood.

    Steps ``F⁻¹g`` of Fisher scoring (generalized inverse where F is singular), ``J⁻¹g`` of Newton's method where
    scoring is slow and J positive definite; each halved, and then damped, until the likelihood rises by what its slope
    promises.

    Args:
        task: With an exact Fisher information.
        start: Parameters to start from; the task's own unless given.
        tol: Largest ``√(gᵀ F⁻¹ g)``.
        max_iterations: Steps at the most.
        progress: Called with the number of steps and the residual.

    Raises:
        UsageError: ``tol`` or ``max_iterations`` is not positive, the start lies outside the domain, or the task has
            more than 16,384 parameters.

    Example:
        >>> from hamiltonian_rl.problems.estimation import PoissonRegression
        >>> estimate = maximum_likelihood(PoissonRegression([1, 2, 4, 8], [0.0, 1.0, 2.0, 3.0]))
        >>> estimate.status.name, estimate.params.exp()  # the counts double at each step
        ('CONVERGED', tensor([1.0000, 2.0000], dtype=torch.float64))
    """
    if not tol > 0.0 or max_iterations < 1:
        raise UsageError(f"tol = {tol!r} and max_iterations = {max_iterations!r}; expected both positive.")
    search = _Search(task, task.checked(task.start if start is None else start), tol)
    if not math.isfinite(search.value):
        raise UsageError(f"The log-likelihood is {search.value} at the start; expected parameters within their domain.")
    if (edge := task.boundary()) is not None:
        value = task.log_likelihood(edge).sum().item()
        return Estimate(task, edge, value, EstimateStatus.BOUNDARY, 0, math.inf, 0)
    search.reason = task.no_maximum(search.params)
    while not search.done and not search.reason and search.steps < max_iterations:
        search.step()
        if progress is not None:
            progress(search.steps, search.residual)
    status, total = search.status(), search.value * len(task.data)
    return Estimate(task, search.params, total, status, search.steps, search.residual, search.rank, search.reason)


class _Search:
    """Where the search stands: parameters, their likelihood, score and Fisher information."""

    def __init__(self, task: EstimationTask, params: torch.Tensor, tol: float) -> None:
        self.task, self.tol, self.steps = task, tol, 0
        self.slope_of = torch.func.grad(task.mean_log_likelihood)
        self.reason, self.gain, self.before, self.stuck, self.on_boundary = "", 0.0, math.inf, False, False
        self.damping, self.largest = 0.0, torch.zeros_like(params)
        self.value = task.mean_log_likelihood(params).item()
        self._look(params)

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.residual <= self.tol or self.stuck or self.on_boundary

    def _look(self, params: torch.Tensor) -> None:
        self.params, self.slope = params, self.slope_of(params).detach()
        fisher = self.task.fisher(params).detach()
        if not (fisher.isfinite().all() and self.slope.isfinite().all()):
            if self.steps == 0 and self.task.checked(params).equal(self.task.start):
                raise UsageError(
                    "The score or the Fisher information is not finite where the search starts: the numbers are too "
                    "large for their squares. Scale the inputs and targets to about 1."
                )
            self.on_boundary, self.residual, self.rank = True, math.inf, 0
            return
        self.fisher, self.root = fisher, inverse_root(fisher)
        self.largest = torch.maximum(self.largest, fisher.diagonal())
        self.rank = self.root.shape[1]
        self.residual = (self.root.T @ self.slope).norm().item()

    def step(self) -> None:
        """Go one step, or find that none raises the likelihood."""
        self.steps += 1
        slow, self.before = self.residual > SLOW * self.before, self.residual
        for attempt in range(ATTEMPTS):
            newton = self._newton() if slow and attempt == 0 and not self.damping else None
            if self._go(self._scoring() if newton is None else newton):
                self.damping = self.damping / GROWTH if self.damping > LEAST_DAMPING else 0.0
                return
            self.damping = max(GROWTH * self.damping, LEAST_DAMPING)
        self.stuck = True

    def _go(self, direction: torch.Tensor) -> bool:
        """Go along a direction, halved a few times; return whether the likelihood rose by what its slope promises."""
        promised = (self.slope @ direction).item()
        rounding = ROUNDING * (1.0 + abs(self.value))
        for share in SHARES:
            there = self.params + share * direction
            value = self.task.mean_log_likelihood(there).item()
            gained = value - self.value
            if gained >= ENOUGH * share * promised or (promised < 1e3 * rounding and abs(gained) <= rounding):
                last, self.gain, self.value = self.params, gained, value
                self._look(there)
                if promised < rounding and self.residual > 0.5 * self.before:  # what is left is rounding
                    self.stuck = self.residual > self.tol
                    if self.residual > self.before:
                        self._look(last)
                return True
        return False

    def _scoring(self) -> torch.Tensor:
        """Return ``F⁻¹ g``, or ``(F + damping D)⁻¹ g`` with the largest diagonal D so far (Levenberg and Marquardt)."""
        if not self.damping:
            plain: torch.Tensor = self.root @ (self.root.T @ self.slope)
            return plain
        scales = torch.where(self.largest > 0.0, self.largest, 1.0)
        damped: torch.Tensor = torch.linalg.solve(self.fisher + self.damping * torch.diag(scales), self.slope)
        return damped

    def _newton(self) -> torch.Tensor | None:
        """Return ``J⁻¹ g``; None where J is not positive definite."""
        factor, failed = torch.linalg.cholesky_ex(curvature(self.task, self.params))
        step: torch.Tensor = torch.cholesky_solve(self.slope[:, None], factor)[:, 0]
        return None if failed else step

    def status(self) -> EstimateStatus:
        """Return how it ended."""
        self.reason = self.task.no_maximum(self.params)
        if self.reason or (self.steps >= MANY and self.gain > RISING and self.residual > self.tol):
            return EstimateStatus.NO_MAXIMUM
        if self.on_boundary:
            return EstimateStatus.BOUNDARY
        if self.residual > self.tol and not (self.stuck and self.residual <= CLOSE):
            return EstimateStatus.STAGNATED if self.stuck else EstimateStatus.MAX_ITERATIONS
        scales = torch.where(self.largest > 0.0, self.largest, 1.0).sqrt()
        bends = torch.linalg.eigvalsh(curvature(self.task, self.params) / scales[:, None] / scales)
        if bends.min() < -CLOSE:
            return EstimateStatus.SADDLE
        return EstimateStatus.SINGULAR if self.rank < self.task.n_params else EstimateStatus.CONVERGED
