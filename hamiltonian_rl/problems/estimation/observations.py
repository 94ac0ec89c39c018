"""The data of an estimation task: from arrays, from a CSV file, from scikit-learn's shipped sets."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hamiltonian_rl.errors import UsageError, did_you_mean, first_line


@dataclass(frozen=True, eq=False)
class Observations:
    """N observations: targets ``y``, and inputs ``x`` where the model is conditional on some.

    Made by `of`, `from_csv` or `from_sklearn`, which check what they are given; the constructor does not.

    Attributes:
        targets: Shape ``(N, ...)``.
        inputs: Shape ``(N, ...)``, or None.
        input_names: Of the inputs' columns; empty for none.
        target_name: Of the targets.
        labels: What the targets 0, 1, ... stand for, where they were text.
        source: The file, for messages.
        lines: In which line of it each observation stands.

    Example:
        >>> data = Observations.of([0.0, 1.0, 2.0], inputs=[[1.0], [2.0], [4.0]])
        >>> batch = data[[0, 2]]
        >>> batch.targets, batch.inputs[:, 0]
        (tensor([0., 2.], dtype=torch.float64), tensor([1., 4.], dtype=torch.float64))
    """

    targets: torch.Tensor
    inputs: torch.Tensor | None = None
    input_names: tuple[str, ...] = ()
    target_name: str = "y"
    labels: tuple[str, ...] = ()
    source: str = ""
    lines: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Any) -> Observations:
        """Return some of the observations: a batch, by indices, a mask or a slice."""
        kept = np.arange(len(self))[np.asarray(index) if not isinstance(index, slice) else index]
        at = torch.as_tensor(np.atleast_1d(kept))
        return dataclasses.replace(
            self,
            targets=self.targets[at],
            inputs=None if self.inputs is None else self.inputs[at],
            lines=tuple(self.lines[i] for i in at.tolist()) if self.lines else (),
        )

    def with_targets(self, targets: torch.Tensor) -> Observations:
        """Return the same inputs with other targets.

        Example:
            >>> Observations.of([0.0, 1.0], inputs=[5.0, 6.0]).with_targets(torch.tensor([1.0, 1.0])).inputs[:, 0]
            tensor([5., 6.], dtype=torch.float64)
        """
        return dataclasses.replace(self, targets=targets)

    def place(self, row: int) -> str:
        """Return where an observation comes from, for a message.

        Example:
            >>> Observations.of([0.0, 1.0]).place(1)
            'observation 1'
            >>> Observations.of([0.0, 1.0], source="data.csv", lines=(2, 4)).place(1)
            'line 4 of data.csv'
        """
        return f"line {self.lines[row]} of {self.source}" if self.lines else f"observation {row}"

    @classmethod
    def of(cls, targets: Any, inputs: Any = None, **about: Any) -> Observations:
        """Make observations of arrays, tensors or lists.

        Floats become float64, and so do whole numbers of NumPy and lists; whole numbers of a torch tensor stay, for a
        module that looks them up.

        Args:
            targets: Shape ``(N, ...)``.
            inputs: Shape ``(N, ...)``; one dimension is taken for one column.
            **about: Other attributes.

        Raises:
            UsageError: There are none, not as many of both, or one is not finite.

        Example:
            >>> len(Observations.of([0.0, 1.0], inputs=[[1.0, 2.0], [3.0, 4.0]]))
            2
        """
        y = _tensor(targets, "targets")
        x = None if inputs is None else _tensor(inputs, "inputs")
        if y.ndim == 0 or len(y) == 0:
            raise UsageError("There are no observations: targets is empty. Expected one at least.")
        if x is not None:
            x = x[:, None] if x.ndim == 1 else x
            if len(x) != len(y):
                raise UsageError(f"There are {len(x)} rows of inputs and {len(y)} targets; expected as many of both.")
        made = cls(y, x, **about)
        for name, values in (("target", y), ("input", x)):
            if values is not None and not (good := values.reshape(len(values), -1).isfinite().all(1)).all():
                rows = (~good).nonzero()[:, 0].tolist()
                raise UsageError(
                    f"The {name} of {made.place(rows[0])} is not finite ({len(rows)} of {len(y)} are not). Expected "
                    "numbers: leave such observations out, or fill them in."
                )
        return made

    @classmethod
    def from_sklearn(cls, name: str) -> Observations:
        """Load one of the sets that scikit-learn ships: breast_cancer, diabetes, digits, iris, linnerud, wine.

        Raises:
            UsageError: scikit-learn is not installed, or ships no such set.

        Example:
            >>> Observations.from_sklearn("irsi")
            Traceback (most recent call last):
            hamiltonian_rl.errors.UsageError: scikit-learn ships no data set "irsi". Did you mean "iris"?
        """
        try:
            from sklearn import datasets
        except ImportError as error:
            raise UsageError(
                f'The data set "{name}" comes with scikit-learn, which is not installed: {first_line(error)} Install '
                "it with: pip install scikit-learn"
            ) from error
        shipped = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")
        if name not in shipped:
            raise UsageError(f'scikit-learn ships no data set "{name}". {did_you_mean(name, shipped)}')
        found = getattr(datasets, f"load_{name}")()
        labels = () if name in ("diabetes", "linnerud") else tuple(str(label) for label in found.target_names)
        return cls.of(found.target, found.data, input_names=tuple(map(str, found.feature_names)), labels=labels)

    @classmethod
    def from_csv(cls, path: Path | str, target: str, inputs: tuple[str, ...] | list[str] | None = None) -> Observations:
        """Read a CSV file with a line of names at its top; see `hamiltonian_rl.problems.estimation.csv_file`.

        Args:
            path: The file.
            target: Name of the target's column; text in all of its lines is taken for labels of classes.
            inputs: Names of the columns of the inputs; without it all the others.

        Raises:
            UsageError: The file cannot be read, or a value is missing or no number; with its line.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     file = Path(folder) / "data.csv"
            ...     _ = file.write_text("x,y" + chr(10) + "0.5,1" + chr(10) + "1.5,3")
            ...     data = Observations.from_csv(file, "y")
            >>> data.targets, data.input_names, data.lines
            (tensor([1., 3.], dtype=torch.float64), ('x',), (2, 3))
        """
        from hamiltonian_rl.problems.estimation.csv_file import read_columns

        columns = read_columns(Path(path), target, inputs)
        names = tuple(name for name in columns.numbers if name != target)
        x = np.stack([columns.numbers[name] for name in names], axis=1) if names else None
        about = {"input_names": names, "target_name": target, "labels": columns.labels}
        return cls.of(columns.numbers[target], x, source=str(path), lines=columns.lines, **about)


def _tensor(values: Any, name: str) -> torch.Tensor:
    if isinstance(values, torch.Tensor) and not (values.is_floating_point() or values.dtype == torch.bool):
        return values.detach()
    try:
        if isinstance(values, torch.Tensor):
            return values.detach().to(torch.float64)
        return torch.as_tensor(np.array(values, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise UsageError(f"`{name}` cannot be used: {first_line(error)} Expected an array of numbers.") from error
