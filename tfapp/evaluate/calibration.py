"""Whether a classifier's confidence can be taken at its word, and the one number that mends it.

C. Guo et al., «On calibration of modern neural networks» (ICML 2017): expected calibration error over 15
equally wide bins of the top probability, and temperature scaling.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from tfapp.evaluate.classification import checked, example_losses

BINS = 15
COOLEST, HOTTEST = 0.05, 20.0


def measure(
    labels: np.ndarray, probabilities: np.ndarray, validation_labels: np.ndarray, validation_probabilities: np.ndarray
) -> dict[str, Any]:
    """The test set's calibration as the model is, and with the temperature that suits the validation set best.

    Args:
      labels, probabilities: of the test set, int [n] and float [n, K].
      validation_labels, validation_probabilities: the same of the validation set; may be empty.

    Returns:
      `temperature`, `before` and `after`: each {ece, nll, bins}; a bin is {low, high, count, confidence, accuracy}.
      Where there is nothing to fit a temperature on, `temperature` and `after` are None and `reason` says why.
    """
    labels, probabilities = checked(labels, probabilities, np.shape(probabilities)[-1])
    before = _describe(labels, probabilities)
    unknown = {"temperature": None, "before": before, "after": None}
    if len(validation_labels) == 0:
        return unknown | {"reason": "no validation examples to fit it on"}
    validation = checked(validation_labels, validation_probabilities, probabilities.shape[1])
    temperature = fit_temperature(*validation)
    if temperature is None:
        outside = f"the one that suits the validation examples best is not within {COOLEST:g}–{HOTTEST:g}"
        return unknown | {"reason": "no mistake on the validation examples" if _flawless(*validation) else outside}
    after = _describe(labels, scaled(probabilities, temperature))
    return {"temperature": temperature, "before": before, "after": after}


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """The temperature in 0.05–20 that gives the lowest log loss; above 1 the model was too sure of itself.

    None where the best lies outside: a model without a mistake is the better the surer it is made, to no end, and one
    that does worse than a guess the better the less sure.
    """
    if _flawless(labels, probabilities):
        return None
    logits, rows = _logits(probabilities), np.arange(len(labels))
    low, high = np.log(COOLEST), np.log(HOTTEST)

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean())

    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    # An end of the range is where the search was stopped, and no finding.
    return float(np.exp(found.x)) if low + 0.01 < found.x < high - 0.01 else None


def scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The probabilities at a temperature, float64 [n, K]. The order of the classes stays."""
    return np.exp(log_softmax(_logits(probabilities) / temperature, axis=1))


def expected_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """How far confidence and accuracy lie apart on average, 0–1."""
    bins = _bins(labels, probabilities)
    return sum(b["count"] * abs(b["confidence"] - b["accuracy"]) for b in bins if b["count"]) / len(labels)


def _flawless(labels: np.ndarray, probabilities: np.ndarray) -> bool:
    return bool((probabilities.argmax(axis=1) == labels).all())


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.clip(probabilities, np.finfo(np.float32).tiny, 1).astype(np.float64))


def _describe(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    return {
        "ece": expected_error(labels, probabilities),
        "nll": float(example_losses(labels, probabilities)[0].mean()),
        "bins": _bins(labels, probabilities),
    }


def _bins(labels: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Confidence in (low, high], with how often it was right."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, BINS + 1)
    number = (np.searchsorted(edges, confidence, side="left") - 1).clip(0, BINS - 1)
    count, confident, correct = (np.bincount(number, w, BINS) for w in (None, confidence, right))
    return [
        {
            "low": float(edges[i]),
            "high": float(edges[i + 1]),
            "count": int(count[i]),
            "confidence": float(confident[i] / count[i]) if count[i] else None,
            "accuracy": float(correct[i] / count[i]) if count[i] else None,
        }
        for i in range(BINS)
    ]
