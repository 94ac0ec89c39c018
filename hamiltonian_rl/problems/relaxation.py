"""What stands in for a problem whose actions are discrete, or whose reward jumps: the same physics, with slopes."""

from __future__ import annotations

from dataclasses import dataclass

from hamiltonian_rl.problems.control_problem import ControlProblem


@dataclass(frozen=True)
class Relaxation:
    """A problem that costates can solve in place of one that has no slopes.

    Attributes:
        problem: The same states and dynamics, with any action between the discrete ones. Its episodes do not end
            before its horizon.
        minimum_time: Whether the least horizon is wanted after which the episode of the problem itself is over;
            otherwise all of the horizon is.
        end_is_goal: Whether the end of the episode is what is sought; otherwise it is what is to be kept away from
            for all of the horizon (viability).
        window: Steps that are optimised at once to have a first path (`receding_horizon`); 0 for an energy pump.
    """

    problem: ControlProblem
    minimum_time: bool
    end_is_goal: bool = True
    window: int = 0
