"""Whether one model is better than another, or was only luckier: both judged on the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from tfapp.evaluate.bootstrap import affordable, means, score
from tfapp.evaluate.classification import checked, example_losses


def paired(labels: np.ndarray, a: np.ndarray, b: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """How classifier b differs from classifier a on the same test set.

    The p-value is McNemar's (1947) in its exact form: how likely so lopsided a share of the examples that only one of
    them gets right would be, were both equally good.

    Args:
      labels: int [n].
      a, b: float [n, K], the probabilities of each.
      seed: of the resampling.

    Returns:
      `n`, `accuracy` and `log_loss`: {a, b, difference (b − a) as a score}; `only_a`, `only_b`: how many examples only
      that one gets right; `p_value`.
    """
    labels, a = checked(labels, a, np.shape(a)[-1])
    labels, b = checked(labels, b, a.shape[1])
    right_a, right_b = a.argmax(1) == labels, b.argmax(1) == labels
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return {
        "n": len(labels),
        "accuracy": _difference(right_a.astype(float), right_b.astype(float), seed),
        "log_loss": _difference(example_losses(labels, a)[0], example_losses(labels, b)[0], seed),
        "only_a": only_a,
        "only_b": only_b,
        "p_value": float(stats.binomtest(only_b, only_a + only_b).pvalue) if only_a + only_b else 1.0,
    }


def paired_errors(targets: np.ndarray, a: np.ndarray, b: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """How the absolute errors of regression model b differ from those of a: `n`, `mae` {a, b, difference (b − a)}."""
    targets, a, b = (np.asarray(values, np.float64).reshape(len(targets)) for values in (targets, a, b))
    return {"n": len(targets), "mae": _difference(np.abs(a - targets), np.abs(b - targets), seed)}


def paired_losses(a: np.ndarray, b: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """How the losses of model b differ from those of a, float [n] each: `n`, `log_loss` {a, b, difference (b − a)}."""
    return {"n": len(a), "log_loss": _difference(a.astype(np.float64), b.astype(np.float64), seed)}


def in_words(names: Sequence[str], what: str, found: dict[str, Any]) -> str:
    """A difference of the second of two named models to the first, as a person reads it."""
    change = found["difference"]
    span = "" if change["low"] is None else f" (95 % interval {change['low']:+.4f} to {change['high']:+.4f})"
    return f"{names[1]} against {names[0]}: {what} {change['value']:+.4f}{span}"


def _difference(a: np.ndarray, b: np.ndarray, seed: int) -> dict[str, Any]:
    change = b - a
    replicates = means(change[:, None], affordable(len(change), 1) or 100, np.random.default_rng(seed))
    return {"a": float(a.mean()), "b": float(b.mean()), "difference": score(float(change.mean()), replicates)}
