"""One of several classes an example: probabilities, accuracy and its kin, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tfapp.audit import signals as told
from tfapp.data.examples import Data, Examples, Features
from tfapp.deferred import deferred
from tfapp.outputs import predict
from tfapp.report.mistakes import worst_of
from tfapp.tasks import column

with deferred():  # What measures is not waited for before training.
    from tfapp.evaluate import calibration, classification, compare

ANSWER = "a logit a class"
LAST = "keras.layers.Dense(data.outputs)"
MAIN, LOST = "accuracy", "points of accuracy"


def shape(data: Data) -> tuple[int, ...]:
    return (data.outputs,)


def finish(outputs: Any) -> Any:
    """Softmax in float32: in 16 bits it loses what mixed precision is meant to keep."""
    import tf_keras as keras

    return keras.layers.Softmax(dtype="float32", name="probabilities")(outputs)


def measure(call: Any, data: Data, part: Examples) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    outputs = predict(call, part)
    found: dict[str, Any] = {"evaluation": classification.measure(part.labels, outputs, data.classes)}
    if len(data.validation) and part is data.test:
        known = predict(call, data.validation)
        found["calibration"] = calibration.measure(part.labels, outputs, data.validation.labels, known)
    found["mistakes"] = worst_of(part, outputs, data.classes, data.kind)
    return found, {"labels": part.labels, "outputs": outputs}


def score(call: Any, examples: Examples, classes: Sequence[str]) -> dict[str, Any]:
    return judged(examples.labels, answers(call, examples), classes)


def answers(call: Any, examples: Examples) -> np.ndarray:
    """Probabilities float32 [n, classes]."""
    return predict(call, examples)


def judged(labels: np.ndarray, answers: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    return classification.measure(labels, answers, classes)


def change(labels: np.ndarray, parent: np.ndarray, answers: np.ndarray) -> dict[str, Any]:
    """The difference in accuracy, and what McNemar's test says of it."""
    found = compare.paired(labels, parent, answers)
    return {**found["accuracy"]["difference"], "p_value": found["p_value"]}


def lost(labels: np.ndarray, parent: np.ndarray, answers: np.ndarray) -> float:
    """Percentage points of accuracy."""
    right = [float((given.argmax(axis=1) == labels).mean()) for given in (parent, answers)]
    return 100 * (right[0] - right[1])


def agreement(parent: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """The share of examples that both put into the same class, and how far their probabilities are apart on average."""
    return {
        "share": float((parent.argmax(axis=1) == answers.argmax(axis=1)).mean()),
        "mean_difference": float(np.abs(parent - answers).mean()),
    }


def signals(labels: np.ndarray, answers: np.ndarray) -> dict[str, np.ndarray]:
    return told.of_probabilities(labels, answers)


def evidence(labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """The log odds of the right class and of the likeliest one, whether they are the same, and the signals."""
    likeliest = answers.argmax(axis=1)
    own = [told.log_odds(labels, answers), told.log_odds(likeliest, answers), (likeliest == labels).astype(float)]
    return np.stack([*own, *signals(labels, answers).values()], axis=1)


def falsified(examples: Examples, rows: np.ndarray, outputs: int, random: np.random.Generator) -> Examples:
    """Each of the rows in one of the wrong classes."""
    labels = examples.labels.copy()
    labels[rows] = (labels[rows] + random.integers(1, outputs, len(rows))) % outputs
    return replace(examples, labels=labels)


def rows(
    call: Any, features: Features, names: Sequence[str], facts: Mapping[str, Any], _: Any = None
) -> list[dict[str, Any]]:
    """Name, the likeliest class, and the probability of each."""
    outputs = predict(call, Examples(features, np.zeros(len(names), np.int64)))
    classes = facts["classes"]
    return [
        {
            "name": name,
            column(facts["target"]): classes[int(output.argmax())],
            **{f"p({label})": round(float(p), 6) for label, p in zip(classes, output, strict=True)},
        }
        for name, output in zip(names, outputs, strict=True)
    ]


def paired(names: Sequence[str], a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> dict[str, Any]:
    found = compare.paired(a["labels"], a["outputs"], b["outputs"])
    words = f"{compare.in_words(names, 'accuracy', found['accuracy'])}, McNemar p = {found['p_value']:.3g}"
    return {"runs": list(names), **found, "words": words}
