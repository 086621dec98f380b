"""A trial's values as a point in the unit cube, for algorithms that think in numbers."""

from __future__ import annotations

from typing import Any

import keras_tuner
import numpy as np

# Keras Tuner's own mapping takes numbers below 1.
MOST = float(np.nextafter(1.0, 0.0))


def varying(space: Any) -> list[Any]:
    """The settings of a space that can take more than one value, in its order."""
    return [hp for hp in space.space if not isinstance(hp, keras_tuner.engine.hyperparameters.Fixed)]


def to_values(space: Any, point: np.ndarray) -> dict[str, Any]:
    """Values of the settings that count at this point; float64 [settings] in [0, 1]."""
    found = keras_tuner.HyperParameters()
    for hp, share in zip(varying(space), point, strict=True):
        found.merge([hp])
        if found.is_active(hp):
            found.values[hp.name] = hp.prob_to_value(min(float(share), MOST))
    return found.values


def to_point(space: Any, values: dict[str, Any]) -> np.ndarray:
    """The middle of what maps to these values; 0.5 where a setting does not count."""
    return np.array([hp.value_to_prob(values[hp.name]) if hp.name in values else 0.5 for hp in varying(space)])
