"""One training run, from a configuration to a result, with everything kept on the way.

`hrl train` is a thin shell around `resolve` and `TrainingRun`; later experiments use the same two.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

from hamiltonian_rl.agents import agent_class, make_agent
from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.agents.callbacks import Callback
from hamiltonian_rl.agents.evaluation import Evaluator, mean_and_error
from hamiltonian_rl.agents.progress import ProgressBar, episodes_shown
from hamiltonian_rl.console import handling_stops
from hamiltonian_rl.envs.making import close_env, env_spec, is_restorable, make_training_env
from hamiltonian_rl.envs.optimum import optimum_of
from hamiltonian_rl.errors import (
    HamiltonianRLError,
    RunStorageError,
    TrainingError,
    UsageError,
    first_line,
)
from hamiltonian_rl.principles.kinematics.learning_time import times_to_threshold
from hamiltonian_rl.run_config import RunConfig, Say, check_config, check_same_config, past_of_run
from hamiltonian_rl.tracking.checkpoint import Tree, read_checkpoint
from hamiltonian_rl.tracking.logger import Logger
from hamiltonian_rl.tracking.run_folder import RunFolder

SECONDS_BETWEEN_CHECKPOINTS = 30.0
# Saving takes at most this share of the time, however large the memory of the agent.
SHARE_FOR_CHECKPOINTS = 0.05
# Start states of evaluations come from seeds far from any training seed.
EVALUATION_SEED, FINAL_SEED = 1_000_000, 2_000_000


class Stopped(Exception):
    """Raised inside the loop, where the agent's state is whole, to leave it."""


class TrainingRun(Callback):
    """A run in its folder: trains, evaluates, keeps checkpoints, and ends with a result.

    Args:
        config: What to run.
        folder: Where.
        checkpoint: Tree of a checkpoint to go on from.
        say: Is told what a person should know.
        progress: Shows the progress; None for none.
        checkpoint_every: Seconds between checkpoints. Saving never changes what is learnt.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        *,
        checkpoint: Tree = None,
        say: Say = lambda sentence: None,
        progress: ProgressBar | None = None,
        checkpoint_every: float = SECONDS_BETWEEN_CHECKPOINTS,
    ) -> None:
        self._checkpoint_every = checkpoint_every
        self.config, self.folder, self.say, self.progress = config, folder, say, progress
        if progress is not None:
            progress.total = config.steps
        native = agent_class(config.agent).native_vector_envs
        self.resume = (
            "exact"
            if is_restorable(config.env, config.n_envs, config.env_settings, native=native)
            else ("the environment's state cannot be saved: a resumed run starts with a new episode")
        )
        env = make_training_env(config.env, config.n_envs, config.env_settings, native=native)
        self.evaluations: list[dict[str, float]] = []
        self.seconds = 0.0
        if checkpoint is None:
            begun = time.process_time()
            self.agent = made_agent(config, env)
            if self.agent.learns_from == "model":  # tables' planners plan while they are made; others only load code
                self.seconds = time.process_time() - begun
        else:
            where = f"The checkpoint of {folder.path}"
            past = past_of_run(checkpoint, where)
            self.agent = Agent.from_tree(checkpoint, env, config.device, where=where)
            self.evaluations, self.seconds = past.evaluations, past.seconds
            if not self.agent.resumed_exactly:
                self.resume = (
                    f"the environment's state could not be put back at step {past.num_timesteps}: a new episode"
                )
        self._resumed_at = None if checkpoint is None else self.agent.num_timesteps
        self._evaluator = Evaluator(config.env, config.env_settings)
        self._optimum = (
            optimum_of(config.env, config.env_settings, announce=say, heartbeat=self._check_stop)
            if config.optimality
            else None
        )
        self._stop_reason: str | None = None
        self._saved_at = time.monotonic()
        self._seconds_to_save = 0.0
        self._clock = 0.0

    def execute(self) -> dict[str, Any]:
        """Train to the end of the budget and return the result, which is also in ``result.json``.

        Raises:
            HamiltonianRLError: The run failed; what it had learnt is kept in its folder.
        """
        try:
            with threadpoolctl.threadpool_limits(self.config.threads), handling_stops(self._stop):
                self._open_log()
                status, error = self._outcome(self._train)
                # After a failure inside the agent its state is not whole: the last checkpoint is the sound one.
                if not isinstance(error, RunStorageError | TrainingError):
                    _, error = self._outcome(self._save, error)
                result = self._result("failed" if error else status, error)
                if result["status"] == "finished":
                    status, error = self._outcome(lambda: result.update(self._final_evaluation()))
                    result["status"] = status
                    if error is not None:
                        result["error"] = str(error)
                _, error = self._outcome(lambda: self.folder.write_result(result), error)
        finally:
            self.close()
        if error is not None:
            kept = self.folder.checkpoints()
            what = f"The last checkpoint is {kept[-1]}" if kept else "There is no checkpoint of it"
            kind = TrainingError if isinstance(error, UsageError) else type(error)  # the call was right: the run failed
            raise kind(f"{error}\nThe run ended at step {self.agent.num_timesteps:,}. {what}.") from error
        return result

    def _outcome(
        self, action: Callable[[], None], error: HamiltonianRLError | None = None
    ) -> tuple[str, HamiltonianRLError | None]:
        """Do something that may be stopped or fail; return how it went, and the first error."""
        try:
            action()
        except Stopped:
            return "stopped", error
        except HamiltonianRLError as caught:
            return "failed", error or caught
        except Exception as caught:  # from inside an agent or a library: the run is kept all the same
            described = TrainingError(
                f"{self.config.agent} failed at step {self.agent.num_timesteps:,} with {type(caught).__name__}: "
                f"{first_line(caught)} Check its settings."
            )
            described.__cause__ = caught
            return "failed", error or described
        return "finished", error

    def _open_log(self) -> None:
        from hamiltonian_rl.tracking.tensorboard import TensorBoardSink

        # What was logged at the checkpoint's own step came before it; what came after is void.
        self._sink = TensorBoardSink(self.folder.path, None if self._resumed_at is None else self._resumed_at + 1)
        if self._resumed_at is None:
            self._sink.write_hparams(_flat(dataclasses.asdict(self.config)))
        self.agent.set_logger(Logger(self._sink))

    @property
    def starts(self) -> np.ndarray:
        """First observations of the last greedy episodes, shape ``(n, ...)``."""
        return self._evaluator.starts

    def close(self) -> None:
        """Close what is open: the progress, the log, the environments."""
        if self.progress:
            self.progress.close()
        self.agent.logger.close()
        self._evaluator.close()
        close_env(self.agent.env)

    def _train(self) -> None:
        self._learn()
        self._evaluate_if_due()

    def _learn(self) -> None:
        left = self.config.steps - self.agent.num_timesteps
        if left > 0:
            callbacks = [self, self.progress] if self.progress else [self]
            self._clock = time.process_time()
            self.agent.learn(left, callback=callbacks, reset_num_timesteps=self._resumed_at is None)
            self._stop_clock()

    # Called by the loop

    def on_rollout_start(self) -> None:
        """Evaluate, save or stop, where one of these is due; the agent's state is whole here."""
        if self._stop_reason is not None:
            self._stop_clock()
            raise Stopped
        since = time.monotonic() - self._saved_at
        affordable = since >= self._seconds_to_save / SHARE_FOR_CHECKPOINTS
        evaluating = self.agent.num_timesteps >= self._next_evaluation()
        due = affordable and (evaluating or since >= self._checkpoint_every)
        if due or evaluating:
            self._stop_clock()
            self._evaluate_if_due()
            if due:
                self._save()
            self._clock = time.process_time()

    def _stop_clock(self) -> None:
        """Add the CPU seconds of training since the last start of the clock."""
        now = time.process_time()
        self.seconds += now - self._clock
        self._clock = now

    def _next_evaluation(self) -> int:
        return (int(self.evaluations[-1]["step"]) // self.config.eval_every + 1 if self.evaluations else 1) * (
            self.config.eval_every
        )

    def _evaluate_if_due(self) -> None:
        step = self.agent.num_timesteps
        if step < self._next_evaluation():
            return
        config = self.config
        seed = EVALUATION_SEED + 1000 * config.seed
        if self._optimum is None or self._optimum.tabulated:
            seed += len(self.evaluations)  # otherwise the same start states again: each of them is solved once
        returns = self._evaluator.returns(
            self.agent, episodes=config.eval_episodes, seed=seed, before_step=self._check_stop
        )
        mean, truth = float(returns.mean()), self._truth(returns)
        self.evaluations.append({"step": step, "seconds": self.seconds, "mean_reward": mean, **truth})
        tags = {f"optimality/{name}": value for name, value in truth.items()}
        self._sink.write({"eval/mean_reward": mean, "eval/std_reward": float(returns.std()), **tags}, step)
        if self.progress:
            self.progress.note = f"greedy {returns.mean():.1f}"

    def _truth(self, returns: np.ndarray) -> dict[str, float]:
        """Return the optimum from the start states of the last evaluation, and what its returns lack of it."""
        if self._optimum is None:
            return {}
        optimal = float(self._optimum.returns(self._evaluator.starts).value.mean())
        return {"return_optimal": optimal, "regret": optimal - float(returns.mean())}

    def _save(self) -> None:
        start = time.monotonic()
        self._sink.flush()
        run = {"config": dataclasses.asdict(self.config), "evaluations": self.evaluations, "seconds": self.seconds}
        self.folder.write_checkpoint(self.agent.num_timesteps, {**self.agent.to_tree(), "run": run})
        self._saved_at = time.monotonic()
        self._seconds_to_save = self._saved_at - start

    def _stop(self, number: int) -> None:
        """Let Ctrl-C and SIGTERM stop the run at the next whole state; a second one at once."""
        if self._stop_reason is not None:
            raise KeyboardInterrupt
        self._stop_reason = signal.Signals(number).name
        self.say(f"{self._stop_reason}: saving a checkpoint. Once more to stop at once, without saving.")

    # The result

    def _result(self, status: str, error: Exception | None) -> dict[str, Any]:
        config = self.config
        threshold = env_spec(config.env).reward_threshold
        result: dict[str, Any] = {
            "status": status,
            "env": config.env,
            "agent": config.agent,
            "seed": config.seed,
            "steps": self.agent.num_timesteps,
            "training_cpu_seconds": self.seconds,
            "reward_threshold": threshold,
            **times_to_threshold(self.evaluations, threshold),
            "evaluations": self.evaluations,
            "parameters_sha256": parameters_digest(self.agent),
            "resume": self.resume,
        }
        if status == "failed":
            result["error"] = str(error)
        return result

    def _final_evaluation(self) -> dict[str, Any]:
        seed = FINAL_SEED + 1000 * self.config.seed
        episodes, optimum = self.config.final_episodes, self._optimum
        with contextlib.nullcontext() if self.progress is None else episodes_shown(episodes) as show:

            def before_step(finished: int) -> None:
                self._check_stop()
                if show is not None:
                    show(finished)

            returns = self._evaluator.returns(self.agent, episodes=episodes, seed=seed, before_step=before_step)
        mean, standard_error = mean_and_error(returns)
        return {
            "mean_reward": mean,
            "mean_reward_standard_error": standard_error,
            "episodes": len(returns),
            "episodes_cut": self._evaluator.n_cut,
            **self._truth(returns),
            **({} if optimum is None else {"certificate": optimum.returns(self._evaluator.starts).certificate}),
        }

    def _check_stop(self, finished: int = 0) -> None:
        if self._stop_reason is not None:
            raise Stopped


def parameters_digest(agent: Agent) -> str:
    """Return a SHA-256 of all learnt parameters: equal digests mean equal agents, to the last bit."""
    digest = hashlib.sha256()
    for array in agent.parameter_arrays():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def start_run(config: RunConfig, root: Path, names: tuple[str, str] | None = None, **arguments: Any) -> TrainingRun:
    """Make the folder of a new run and the run in it.

    Args:
        config: What to run.
        root: Where runs are kept.
        names: Of the two folders below it, where they are not to be those of the environment and the agent.
        arguments: For `TrainingRun`.
    """
    folder = RunFolder.create(root, *(names or (config.env, config.agent)), config.seed)
    try:
        folder.write_config(dataclasses.asdict(config))
        folder.write_provenance()
        return TrainingRun(config, folder, **arguments)
    except BaseException:
        folder.remove(root)  # nothing has run: leave no empty run behind
        raise


def made_agent(config: RunConfig, env: Any) -> Agent:
    """Make a new agent; what a library raises on odd settings or spaces is a wrong call, told in a sentence.

    Raises:
        UsageError: The agent does not suit the environment, or a setting does not suit it.
    """
    try:
        return make_agent(config.agent, env, seed=config.seed, device=config.device, **config.settings)
    except HamiltonianRLError:
        raise
    except Exception as error:
        raise UsageError(
            f"{config.agent} cannot be made for {config.env} with {config.settings}: "
            f"{type(error).__name__}: {first_line(error)} Check the settings, and whether it suits the spaces."
        ) from error


def resume_run(path: Path, *, steps: int | None = None, **arguments: Any) -> TrainingRun:
    """Go on with an interrupted run, or with one of its checkpoints.

    Args:
        path: The run's folder, or a checkpoint file in it.
        steps: A larger budget than the run began with.
        arguments: For `TrainingRun`.

    Raises:
        UsageError: There is no run, or it has reached its budget.
        CheckpointError: Its checkpoint is damaged; the message offers the one before.
    """
    if not path.exists():
        raise UsageError(f"There is no run {path}. Runs look like runs/CartPole-v1/dqn/0-...")
    folder = RunFolder.open(path if path.is_dir() else path.parent.parent)
    file, tree = folder.read_latest_checkpoint() if path.is_dir() else (path, read_checkpoint(path))
    past = past_of_run(tree, str(file))
    config = check_config(folder.read_config())
    check_same_config(config, past, where=str(folder.path))
    if steps is not None:
        config = dataclasses.replace(config, steps=steps)
    result = folder.read_result() or {}
    # A run that was cut off in its final evaluation has no steps left, and yet something to do.
    evaluated = result.get("status") == "finished" and result.get("steps") == past.num_timesteps
    if past.num_timesteps >= config.steps and (evaluated or past.config.steps > config.steps):
        raise UsageError(
            f"{folder.path} has reached its {config.steps} steps. To train on, give a larger --steps; "
            f"to see what it learnt: hrl evaluate {folder.path}"
        )
    run = TrainingRun(config, folder, checkpoint=tree, **arguments)
    folder.write_config(dataclasses.asdict(config))
    return run


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the agent and of the environment by names of their own, and the rest as it is."""
    flat = dict(config)
    for group in ("settings", "env_settings"):
        flat |= {f"{group}/{name}": value for name, value in flat.pop(group).items()}
    return flat
