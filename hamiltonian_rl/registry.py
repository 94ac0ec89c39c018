"""Which environments have a control problem, and the registration of our own with Gymnasium.

Ids are text until somebody asks for one, so that `import hamiltonian_rl` stays light.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

OWN = "hrl/"


class Registered(NamedTuple):
    """A problem's class, after how many steps its environment ends, and what the class is given.

    The class itself, or where it is, "module:name".
    """

    entry_point: str | type
    steps: int | None
    parameters: Mapping[str, Any] = MappingProxyType({})


PROBLEMS = {
    "Acrobot-v1": Registered("hamiltonian_rl.envs.classic_control:Acrobot", 500),
    "CartPole-v1": Registered("hamiltonian_rl.envs.classic_control:CartPole", 500),
    "MountainCar-v0": Registered("hamiltonian_rl.envs.classic_control:MountainCar", 200),
    "MountainCarContinuous-v0": Registered("hamiltonian_rl.envs.classic_control:ContinuousMountainCar", 999),
    "Pendulum-v1": Registered("hamiltonian_rl.envs.classic_control:Pendulum", 200),
    "hrl/BoundedDoubleIntegrator-v0": Registered(
        "hamiltonian_rl.envs.double_integrator:DoubleIntegrator", 50, MappingProxyType({"action_bound": 5.0})
    ),
    "hrl/BrockMirman-v0": Registered("hamiltonian_rl.envs.economics:BrockMirman", 100),
    "hrl/BrysonDenham-v0": Registered("hamiltonian_rl.envs.double_integrator:BrysonDenham", 50),
    "hrl/CakeEating-v0": Registered("hamiltonian_rl.envs.economics:CakeEating", 10),
    "hrl/CartPoleSwingUp-v0": Registered("hamiltonian_rl.envs.mechanics:CartPoleSwingUp", 200),
    "hrl/DoubleIntegrator-v0": Registered("hamiltonian_rl.envs.double_integrator:DoubleIntegrator", 50),
    "hrl/Estimation-v0": Registered("hamiltonian_rl.envs.estimation:Estimation", 50),
    "hrl/LinearQuadratic-v0": Registered("hamiltonian_rl.envs.linear_quadratic:LinearQuadratic", 100),
    "hrl/Quadrotor-v0": Registered("hamiltonian_rl.envs.mechanics:Quadrotor", 100),
    "hrl/SequentialDesign-v0": Registered("hamiltonian_rl.envs.sequential_design:SequentialDesign", 3),
    "hrl/SmoothMountainCar-v0": Registered("hamiltonian_rl.envs.mechanics:SmoothMountainCar", 150),
    "hrl/VanDerPol-v0": Registered("hamiltonian_rl.envs.van_der_pol:VanDerPol", 100),
    "hrl/Zermelo-v0": Registered("hamiltonian_rl.envs.zermelo:Zermelo", 50),
}


def register_envs() -> None:
    """Register our environments with Gymnasium; a second call changes nothing."""
    import gymnasium

    for env_id, entry in PROBLEMS.items():
        if env_id.startswith(OWN) and env_id not in gymnasium.registry:
            gymnasium.register(
                env_id,
                entry_point="hamiltonian_rl.envs.control_env:ControlEnv",
                vector_entry_point="hamiltonian_rl.envs.control_vector_env:ControlVectorEnv",
                max_episode_steps=entry.steps,
                kwargs={"problem": env_id},
            )


def register_once_gymnasium_is_there() -> None:
    """Register our environments now, or as soon as anybody imports Gymnasium, which takes longer than `hrl --help`."""
    if "gymnasium" in sys.modules:
        register_envs()
    else:
        sys.meta_path.insert(0, _WhenGymnasiumIsImported())


class _WhenGymnasiumIsImported(importlib.abc.MetaPathFinder):
    """Stands aside at the first import of Gymnasium, and has our environments registered after it."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != "gymnasium":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                register_envs()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
