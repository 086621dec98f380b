"""What a recipe's `data(config)` returns: examples that can be fetched by number, in three parts.

The input pipeline decides by arithmetic which examples a step sees, so a source must be able to give any
example by its index. Nothing here imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfapp.data import memory
from tfapp.data.lines import Lines
from tfapp.errors import Missing

Features = np.ndarray | Mapping[str, np.ndarray]
Kind = Literal["image", "table", "text", "array", "tokens"]
Task = Literal["classification", "regression", "language"]


@dataclass(frozen=True)
class Examples:
    """Examples with their labels, indexed along the first axis.

    Attributes:
      features: one array of shape [n, ...], or one such array a named input.
      labels: int64 class numbers of shape [n], float32 targets of shape [n], or int32 tokens of shape [n, length].
      names: what to call each example in messages and files («adult.csv:17», «0/IMG_1118.JPG»); object
        array of str, shape [n], or Lines; None: its number.
      weights: float32 weight of each example in the loss and in metrics, shape [n]; None: all 1.
      load: turns the features of *one* example into the tensor that the model takes, inside tf.data
        (reading and decoding an image file, say); None: the features are that already.
    """

    features: Features
    labels: np.ndarray
    names: np.ndarray | Lines | None = None
    weights: np.ndarray | None = None
    load: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        for part in [*self._columns(), self.names, self.weights]:
            if part is not None and len(part) != len(self.labels):
                raise ValueError(f"{len(part)} features, names or weights for {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def _columns(self) -> list[np.ndarray]:
        return list(self.features.values()) if isinstance(self.features, Mapping) else [self.features]

    def name(self, index: int) -> str:
        """What to call example `index` when talking to a person."""
        return str(index if self.names is None else self.names[index])

    def take(self, indices: np.ndarray) -> Examples:
        """The examples at `indices` (integers, any order), in that order; these themselves where that is all of them."""
        if len(indices) == len(self) and np.array_equal(indices, np.arange(len(self))):
            return self
        features = (
            {key: memory.taken(column, indices) for key, column in self.features.items()}
            if isinstance(self.features, Mapping)
            else memory.taken(self.features, indices)
        )
        return replace(
            self,
            features=features,
            labels=memory.taken(self.labels, indices),
            names=None if self.names is None else self.names[indices],
            weights=None if self.weights is None else self.weights[indices],
        )


@dataclass(frozen=True)
class Dropped:
    """An example that was left out, and why. Every one ends in the run's `dropped.csv`."""

    name: str
    reason: str


@dataclass(frozen=True)
class Data:
    """Everything a run knows of its data.

    Attributes:
      train, validation, test: disjoint parts; validation and test may be empty.
      task: classification (labels are numbers of `classes`), regression, or language (a number of `classes`, which are
        the vocabulary, at every position).
      kind: how new files are read by `predict` and how mistakes are shown in the report.
      classes: the class names in the order of their numbers; empty for regression.
      target: what is predicted, as a person would call it («income-per-year»).
      reader: JSON-able facts that reading new files the same way needs (sizes, columns, types).
      dropped: what was left out, with reasons.
      notes: lines worth showing before training (inferred column types, say).
    """

    train: Examples
    validation: Examples
    test: Examples
    task: Task
    kind: Kind
    classes: tuple[str, ...] = ()
    target: str = "label"
    reader: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.train) == 0:
            raise Missing("the training part is empty: no example is left to train on")
        if self.task == "classification" and len(self.classes) < 2:
            raise Missing(
                f"only one class, {self.classes[0]!r}, in the data: classification needs two"
                if self.classes
                else "no class in the data: classification needs two"
            )

    @property
    def outputs(self) -> int:
        """Units of the model's last layer: one a class or token, or one for regression."""
        return len(self.classes) or 1


def existing(path: str | Path, what: str) -> Path:
    """The path, or a Missing error that says what was looked for and where."""
    found = Path(path).expanduser()
    if not found.exists():
        raise Missing(f"{what} not found: {path}\nlooked for {found.resolve()}")
    return found
