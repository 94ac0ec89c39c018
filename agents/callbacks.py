"""Callbacks as Stable-Baselines3 spells them, without importing it.

An SB3 callback, a list of callbacks and a plain function all go into `Callbacks`, which the learning
loop calls. `Callback` is the base of this toolkit's own; it has the same verbs, so that SB3's agents can
run it too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hamiltonian_rl.errors import UsageError


class Callback:
    """A callback with SB3's verbs; override what is needed. `on_step` returns False to stop.

    SB3's own models take it too: in a list or a `CallbackList` they call the verbs; alone they take it for a function.
    """

    agent: Any = None

    def init_callback(self, model: Any) -> None:
        """Take the agent, before the first call of all others."""
        self.agent = model

    def on_training_start(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        """Training starts."""

    def on_rollout_start(self) -> None:
        """A step of every environment is about to be taken; the agent's state is whole."""

    def update_locals(self, locals_: dict[str, Any]) -> None:
        """Take the loop's variables: new_obs, actions, rewards, dones, infos."""

    def on_step(self) -> bool:
        """Return whether to go on; called after each step of every environment."""
        return True

    def on_rollout_end(self) -> None:
        """The step is done."""

    def on_training_end(self) -> None:
        """Training ended."""

    def __call__(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> bool:
        """Do as `on_step`, after the first call has introduced the agent: what SB3 calls where it sees a function."""
        if self.agent is not locals_["self"]:
            self.init_callback(locals_["self"])
            self.on_training_start(locals_, globals_)
        self.update_locals(locals_)
        return self.on_step()


class FunctionCallback(Callback):
    """Calls a function ``(locals, globals) -> bool`` at each step; None counts as True."""

    def __init__(self, function: Callable[[dict[str, Any], dict[str, Any]], bool | None]) -> None:
        self.function = function
        self.locals: dict[str, Any] = {}

    def on_training_start(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        """Keep what `learn` was called with, "self" among it."""
        self.locals = locals_

    def update_locals(self, locals_: dict[str, Any]) -> None:
        """Keep the loop's variables for the function."""
        self.locals.update(locals_)

    def on_step(self) -> bool:
        """Ask the function."""
        answer = self.function(self.locals, globals())
        return answer is None or bool(answer)


class Callbacks:
    """Several callbacks, called as one by the learning loop."""

    def __init__(self, members: list[Any]) -> None:
        self.members = members

    def start(self, agent: Any, locals_: dict[str, Any], native_model: Any = None) -> None:
        """Introduce the agent and say that training starts.

        Callbacks that SB3 users bring along meet ``native_model``, the SB3 model itself, where there is one.
        """
        for member in self.members:
            ours = isinstance(member, Callback)
            member.init_callback(agent if ours or native_model is None else native_model)
        for member in self.members:
            member.on_training_start(locals_, globals())

    def rollout_start(self) -> None:
        """Say that a step is about to be taken."""
        for member in self.members:
            member.on_rollout_start()

    def step(self, locals_: dict[str, Any]) -> bool:
        """Hand over the loop's variables; return whether every callback wants to go on."""
        go_on = True
        for member in self.members:
            member.update_locals(locals_)
            go_on = bool(member.on_step()) and go_on
        return go_on

    def rollout_end(self) -> None:
        """Say that the step is done."""
        for member in self.members:
            member.on_rollout_end()

    def end(self) -> None:
        """Say that training ended."""
        for member in self.members:
            member.on_training_end()


def as_callbacks(callback: Any, progress_bar: bool = False) -> Callbacks:
    """Return what the loop calls, from None, an SB3 callback, a function, or a list of these."""
    members = [] if callback is None else list(callback) if isinstance(callback, list | tuple) else [callback]
    result: list[Any] = []
    for member in members:
        if hasattr(member, "init_callback") and hasattr(member, "on_step"):
            result.append(member)
        elif callable(member):
            result.append(FunctionCallback(member))
        else:
            raise UsageError(
                f"{member!r} is no callback; expected a Stable-Baselines3 callback, a function "
                "(locals, globals) -> bool, or a list of these."
            )
    if progress_bar:
        from hamiltonian_rl.agents.progress import ProgressBar

        result.append(ProgressBar())
    return Callbacks(result)
