"""One number an example: errors, in the unit of the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tfapp.data.examples import Data, Examples, Features
from tfapp.deferred import deferred
from tfapp.outputs import predict
from tfapp.report.mistakes import worst_of
from tfapp.tasks import column

with deferred():  # What measures is not waited for before training.
    from tfapp.evaluate import compare, regression

ANSWER = "one value"
LAST = "keras.layers.Dense(data.outputs)"
MAIN, LOST = "mae", "percent of the mean absolute error"


def shape(data: Data) -> tuple[int, ...]:
    return (1,)


def finish(outputs: Any) -> Any:
    return outputs


def measure(call: Any, data: Data, part: Examples) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    outputs = predict(call, part)
    found = {
        "evaluation": regression.measure(part.labels, outputs[:, 0]),
        "mistakes": worst_of(part, outputs, (), data.kind),
    }
    return found, {"labels": part.labels, "outputs": outputs}


def score(call: Any, examples: Examples, classes: Sequence[str]) -> dict[str, Any]:
    return judged(examples.labels, answers(call, examples), classes)


def answers(call: Any, examples: Examples) -> np.ndarray:
    """Values float32 [n, 1]."""
    return predict(call, examples)


def judged(labels: np.ndarray, answers: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    return regression.measure(labels, answers[:, 0])


def change(labels: np.ndarray, parent: np.ndarray, answers: np.ndarray) -> dict[str, Any]:
    """The difference in mean absolute error."""
    return compare.paired_errors(labels, parent, answers)["mae"]["difference"]


def lost(labels: np.ndarray, parent: np.ndarray, answers: np.ndarray) -> float:
    """Percent by which the mean absolute error has grown."""
    error = [float(np.abs(given[:, 0] - labels).mean()) for given in (parent, answers)]
    return 100 * (error[1] / error[0] - 1) if error[0] else 0.0


def agreement(parent: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """The share of the variance of the parent's values that is kept, and how far the values are apart on average."""
    left, spread = float(((parent - answers) ** 2).mean()), float(parent.var())
    return {
        "share": 1 - left / spread if spread else float(left == 0),
        "mean_difference": float(np.abs(parent - answers).mean()),
    }


def signals(labels: np.ndarray, answers: np.ndarray) -> dict[str, np.ndarray]:
    """Minus the squared error."""
    return {"loss": -((answers[:, 0].astype(np.float64) - labels) ** 2)}


def evidence(labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Minus the logarithm of the error, the error with its sign, and the value."""
    values = answers[:, 0].astype(np.float64)
    error = values - labels
    least = np.finfo(np.float32).eps * (np.abs(labels) + np.finfo(np.float32).tiny)
    return np.stack([-np.log(np.abs(error) + least), error, values], axis=1)


def falsified(examples: Examples, rows: np.ndarray, outputs: int, random: np.random.Generator) -> Examples:
    """Each of the rows with the target of some row."""
    labels = examples.labels.copy()
    labels[rows] = random.choice(examples.labels, len(rows))
    return replace(examples, labels=labels)


def rows(
    call: Any, features: Features, names: Sequence[str], facts: Mapping[str, Any], _: Any = None
) -> list[dict[str, Any]]:
    """Name and value."""
    outputs = predict(call, Examples(features, np.zeros(len(names), np.int64)))
    target = column(facts["target"])
    # By way of text: 0.1, not 0.10000000149.
    return [{"name": name, target: float(str(output[0]))} for name, output in zip(names, outputs, strict=True)]


def paired(names: Sequence[str], a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> dict[str, Any]:
    found = compare.paired_errors(a["labels"], a["outputs"], b["outputs"])
    return {"runs": list(names), **found, "words": compare.in_words(names, "mean absolute error", found["mae"])}
