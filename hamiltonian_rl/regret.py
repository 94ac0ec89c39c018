"""What a trained model's greedy episodes lack of the computed optimum, start state by start state."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hamiltonian_rl.agents.evaluation import Episodes, mean_and_error
from hamiltonian_rl.envs.optimum import OptimalReturns, Optimum, optimum_of
from hamiltonian_rl.errors import RunStorageError
from hamiltonian_rl.files import write_text
from hamiltonian_rl.inspection import OpenedModel

WORST = 5  # start states that are printed
PASSED = 1e-3  # relative to the optimum: environments may count in single precision
PASSED_WHY = "a better path exists there, or the problem is not that of the environment"


@dataclasses.dataclass(frozen=True, eq=False)
class Regrets:
    """Returns of greedy episodes beside the optimum from their own start states.

    Attributes:
        states: Start states, shape ``(n, state size)``; of a table one column, their numbers.
        state_names: Of their coordinates.
        returns: Shape ``(n,)``.
        optimum: From the same states.
        by_chance: Whether episodes from one state may differ, as those of a table; one of them can then earn more than
            the optimum, which is a mean.

    Example:
        >>> optimum = OptimalReturns(np.array([2.0, 4.0]), np.zeros(2), "exact")
        >>> regrets = Regrets(np.array([[0], [1]]), ("state",), np.array([1.0, 1.0]), optimum)
        >>> regrets.mean, regrets.share
        (2.0, 0.6666666666666666)
        >>> regrets.worst(1)
        [{'Start state': '1', 'Episodes': '1', 'Return': '1.0000', 'Optimum': '4.0000', 'Regret': '3.0000'}]
    """

    states: np.ndarray
    state_names: tuple[str, ...]
    returns: np.ndarray
    optimum: OptimalReturns
    by_chance: bool = False

    @property
    def regret(self) -> np.ndarray:
        """Optimum less return, shape ``(n,)``."""
        return np.asarray(self.optimum.value - self.returns)

    @property
    def mean(self) -> float:
        """Mean regret."""
        return float(self.regret.mean())

    @property
    def half_width(self) -> float:
        """Half the width of a 95 % interval of the mean regret, by Student's t; NaN of a single episode."""
        from scipy.stats import t

        count = len(self.returns)
        return float(t.ppf(0.975, count - 1)) * mean_and_error(self.regret)[1] if count > 1 else math.nan

    @property
    def share(self) -> float:
        """Mean regret as a share of the size of the mean optimum; NaN where that is zero."""
        size = abs(float(self.optimum.value.mean()))
        return self.mean / size if size > 0 else math.nan

    @property
    def passed(self) -> int:
        """Episodes that earned more than the optimum, by more than rounding; none where chance may do that."""
        more = self.regret < -PASSED * (1.0 + np.abs(self.optimum.value))
        return 0 if self.by_chance else int(more.sum())

    def rows(self) -> dict[str, str]:
        """Return what there is to say in general, as rows of a table."""
        show, bound = self._shown, self.optimum.certificate == "lower bound"
        passed = f"{self.passed} of {len(self.returns)} episodes: {PASSED_WHY}"
        interval = f" ± {show(self.half_width)} (95 % interval)" if len(self.returns) > 1 else ""
        share = f", {100.0 * self.share:.2f} % of the optimum" if math.isfinite(self.share) else ""
        return {
            "Optimum, same start states": show(self.optimum.value.mean()),
            "Regret, at least" if bound else "Regret": f"{show(self.mean)}{interval}{share}",
            "Certified": certified(self.optimum),
            **({"Earned more than that": passed} if self.passed else {}),
        }

    def worst(self, count: int = WORST) -> list[dict[str, str]]:
        """Return a row for each of the start states that lose most, with the means of the episodes that began there."""
        states, first, group = np.unique(self.states, axis=0, return_index=True, return_inverse=True)
        episodes = np.bincount(group.ravel())
        returns = np.bincount(group.ravel(), self.returns) / episodes
        optimum = self.optimum.value[first]
        return [
            {
                "Start state": ", ".join(f"{value:.3g}" for value in states[index]),
                "Episodes": str(episodes[index]),
                "Return": self._shown(returns[index]),
                "Optimum": self._shown(optimum[index]),
                "Regret": self._shown(optimum[index] - returns[index]),
            }
            for index in np.argsort(returns - optimum, kind="stable")[:count]
        ]

    def _shown(self, value: float) -> str:
        """Return a number with two decimals where returns are large, else four."""
        return f"{value:.{2 if np.abs(self.optimum.value).max() >= 10 else 4}f}"

    def keep(self, folder: Path, about: dict[str, Any], title: str) -> None:
        """Write ``regret.csv``, ``regret.json`` and ``regret.png`` into a folder.

        Args:
            folder: Made where it is not there.
            about: What the JSON file says besides.
            title: Of the picture.

        Raises:
            RunStorageError: Something cannot be written.
        """
        from hamiltonian_rl.tracking.pictures import regret_picture, save_picture  # matplotlib takes a second to load

        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunStorageError(f"Cannot make the folder {folder}: {error.strerror or error}.") from error
        columns = [*self.state_names, "return", "optimum", "error", "regret"]
        table = np.column_stack([self.states, self.returns, self.optimum.value, self.optimum.error, self.regret])
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([columns, *table.tolist()])
        write_text(folder / "regret.csv", text.getvalue())
        summary = {
            **about,
            "episodes": len(self.returns),
            "certificate": self.optimum.certificate,
            "mean_return": float(self.returns.mean()),
            "mean_optimum": float(self.optimum.value.mean()),
            "mean_regret": self.mean,
            "regret_half_width_95": _or_none(self.half_width),
            "regret_share": _or_none(self.share),
            "starts": [dict(zip(columns, map(_or_none, row), strict=True)) for row in table.tolist()],
        }
        write_text(folder / "regret.json", json.dumps(summary, indent=2) + "\n")
        plane = (self.states, (self.state_names[0], self.state_names[1])) if self.states.shape[1] == 2 else None
        picture = regret_picture(self.returns, self.optimum.value, self.optimum.error, plane, title)
        save_picture(picture, folder / "regret.png")


def certified(optimum: OptimalReturns) -> str:
    """Say how the optimum is certified.

    Example:
        >>> certified(OptimalReturns(np.zeros(1), np.array([0.25]), "lower bound"))
        'lower bound: returns of real paths. The optimum is at most 0.25 above (worst start), by an estimate'
    """
    error = optimum.error
    if optimum.certificate == "exact":
        return "exact: no policy earns more"
    if optimum.certificate != "lower bound":
        return f"{optimum.certificate}, at the worst start state"
    if not np.isfinite(error).all():
        return "lower bound: returns of real paths. Nothing tells how far above them the optimum may be"
    return (
        f"lower bound: returns of real paths. The optimum is at most {error.max():.3g} above (worst start), by an "
        "estimate"
    )


def optimum_for(model: OpenedModel, announce: Callable[[str], None]) -> Optimum:
    """Return the optimum of the environment that a model is measured in.

    Raises:
        UsageError: There is none; the message says how to register a problem.
    """
    return optimum_of(model.env_id, model.env_settings, announce=announce)


def regrets_of(optimum: Optimum, episodes: Episodes) -> Regrets:
    """Return what episodes lack of the optimum from their start states."""
    states = optimum.states(episodes.starts).reshape(len(episodes.starts), -1)
    found = optimum.returns(episodes.starts)
    return Regrets(states, optimum.state_names, episodes.returns, found, by_chance=optimum.tabulated)


def folder_beside(model: Path) -> Path:
    """Return where a model's regrets are kept unless somebody says: in its run's folder, or beside its file.

    Example:
        >>> folder_beside(Path("models/sac.zip")).as_posix()
        'models/sac-regret'
    """
    return model / "regret" if model.is_dir() else model.with_name(f"{model.stem}-regret")


def _or_none(value: float) -> float | None:
    """Return a number, for JSON knows no NaN."""
    return value if math.isfinite(value) else None
