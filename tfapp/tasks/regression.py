"""One number an example: errors, in the unit of the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfapp import export
from tfapp.data.examples import Data, Examples, Features
from tfapp.evaluate import regression
from tfapp.evaluate.compare import in_words, paired_errors
from tfapp.report.mistakes import worst_of
from tfapp.tasks import column

ANSWER = "one value"
LAST = "keras.layers.Dense(data.outputs)"


def shape(data: Data) -> tuple[int, ...]:
    return (1,)


def finish(outputs: Any) -> Any:
    return outputs


def measure(call: Any, data: Data, part: Examples) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    outputs = export.predict(call, part)
    found = {
        "evaluation": regression.measure(part.labels, outputs[:, 0]),
        "mistakes": worst_of(part, outputs, (), data.kind),
    }
    return found, {"labels": part.labels, "outputs": outputs}


def score(call: Any, examples: Examples, classes: Sequence[str]) -> dict[str, Any]:
    return regression.measure(examples.labels, export.predict(call, examples)[:, 0])


def rows(
    call: Any, features: Features, names: Sequence[str], facts: Mapping[str, Any], _: Any = None
) -> list[dict[str, Any]]:
    """Name and value."""
    outputs = export.predict(call, Examples(features, np.zeros(len(names), np.int64)))
    target = column(facts["target"])
    # By way of text: 0.1, not 0.10000000149.
    return [{"name": name, target: float(str(output[0]))} for name, output in zip(names, outputs, strict=True)]


def paired(names: Sequence[str], a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> dict[str, Any]:
    found = paired_errors(a["labels"], a["outputs"], b["outputs"])
    return {"runs": list(names), **found, "words": in_words(names, "mean absolute error", found["mae"])}
