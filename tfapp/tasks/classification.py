"""One of several classes an example: probabilities, accuracy and its kin, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from tfapp import export
from tfapp.data.examples import Data, Examples, Features
from tfapp.evaluate import calibration, classification
from tfapp.evaluate.compare import in_words
from tfapp.evaluate.compare import paired as compared
from tfapp.report.mistakes import worst_of
from tfapp.tasks import column

ANSWER = "a logit a class"
LAST = "keras.layers.Dense(data.outputs)"


def shape(data: Data) -> tuple[int, ...]:
    return (data.outputs,)


def finish(outputs: Any) -> Any:
    """Softmax in float32: in 16 bits it loses what mixed precision is meant to keep."""
    return keras.layers.Softmax(dtype="float32", name="probabilities")(outputs)


def measure(call: Any, data: Data, part: Examples) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    outputs = export.predict(call, part)
    found: dict[str, Any] = {"evaluation": classification.measure(part.labels, outputs, data.classes)}
    if len(data.validation) and part is data.test:
        known = export.predict(call, data.validation)
        found["calibration"] = calibration.measure(part.labels, outputs, data.validation.labels, known)
    found["mistakes"] = worst_of(part, outputs, data.classes, data.kind)
    return found, {"labels": part.labels, "outputs": outputs}


def score(call: Any, examples: Examples, classes: Sequence[str]) -> dict[str, Any]:
    return classification.measure(examples.labels, export.predict(call, examples), classes)


def rows(
    call: Any, features: Features, names: Sequence[str], facts: Mapping[str, Any], _: Any = None
) -> list[dict[str, Any]]:
    """Name, the likeliest class, and the probability of each."""
    outputs = export.predict(call, Examples(features, np.zeros(len(names), np.int64)))
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
    found = compared(a["labels"], a["outputs"], b["outputs"])
    words = f"{in_words(names, 'accuracy', found['accuracy'])}, McNemar p = {found['p_value']:.3g}"
    return {"runs": list(names), **found, "words": words}
