"""How far a regression model's values lie from the truth, on examples it has never seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from tfapp.deferred import hidden
from tfapp.errors import Failed, Missing
from tfapp.evaluate.bootstrap import Score, absent, affordable, means, score

with hidden("pandas"):  # scikit-learn would import it, and do nothing with it: 0.2 s, 75 MB.
    from sklearn import metrics

MOST_POINTS = 2000
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def measure(targets: np.ndarray, predictions: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Errors in the target's own unit, R², and what is left unexplained (residual = prediction − target).

    Args:
      targets: float [n].
      predictions: float [n] or [n, 1].
      seed: of the resampling and of the points chosen for plots.

    Returns:
      `n`, `scores` (mae, rmse, r2, median_absolute_error), `residuals`: {quantiles, points, histogram},
      `baseline` (the mean absolute error of always answering the median).

    Raises:
      Missing: there is no example. Failed: a value is NaN or infinite. ValueError: the shapes differ.
    """
    targets, predictions = _checked(targets, predictions)
    rng = np.random.default_rng(seed)
    residuals = predictions - targets
    return {
        "n": len(targets),
        "scores": _scores(targets, predictions, rng),
        "residuals": {
            "quantiles": {f"p{q * 100:g}": float(np.quantile(residuals, q)) for q in QUANTILES},
            "points": _points(predictions, residuals, rng),
            "histogram": _histogram(residuals),
        },
        "baseline": {"mae": float(np.abs(targets - np.median(targets)).mean())},
    }


def _checked(targets: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    targets, predictions = np.asarray(targets, np.float64), np.asarray(predictions, np.float64)
    if len(targets) == 0:
        raise Missing("no example to evaluate on: the part is empty\ngive it a share, as in config.split.test=0.1")
    if targets.ndim != 1 or predictions.shape not in (targets.shape, (len(targets), 1)):
        raise ValueError(f"targets {targets.shape} want as many predictions, not {predictions.shape}")
    predictions = predictions.reshape(len(targets))
    for what, values in {"the target is": targets, "the model answers": predictions}.items():
        bad = ~np.isfinite(values)
        if bad.any():
            first = f"(the first: number {bad.argmax()})"
            raise Failed(f"{what} NaN or infinity for {bad.sum()} of {len(bad)} examples {first}")
    return targets, predictions


def _scores(targets: np.ndarray, predictions: np.ndarray, rng: np.random.Generator) -> dict[str, Score]:
    error = np.abs(predictions - targets)
    # Centring keeps the difference of squares below exact for targets far from zero.
    centred = targets - targets.mean()
    columns = np.stack([error, error**2, centred, centred**2], axis=1)
    mae, mse, mean, square = means(columns, affordable(len(targets), 4) or 100, rng).T
    variance = square - mean**2
    scores = {
        "mae": score(metrics.mean_absolute_error(targets, predictions), mae),
        "rmse": score(metrics.root_mean_squared_error(targets, predictions), np.sqrt(mse)),
        "r2": absent("all targets are equal"),
        "median_absolute_error": _median(np.sort(error)),
    }
    # Below that, the variance of targets that differ has no float64 to hold it.
    if columns[:, 3].mean() > np.finfo(np.float64).tiny:
        enough = variance > 1e-12 * columns[:, 3].mean()
        scores["r2"] = score(metrics.r2_score(targets, predictions), 1 - mse[enough] / variance[enough])
    return scores


def _median(ordered: np.ndarray) -> Score:
    """The median with the interval that endless resampling would give it: a pair of its order statistics."""
    ranks = stats.binom.ppf([0.025, 0.975], len(ordered), 0.5).astype(int).clip(0, len(ordered) - 1)
    return score(float(np.median(ordered)), ordered[ranks])


def _points(predictions: np.ndarray, residuals: np.ndarray, rng: np.random.Generator) -> list[list[float]]:
    """[prediction, residual] of at most MOST_POINTS examples, drawn at random."""
    keep = np.sort(rng.permutation(len(predictions))[:MOST_POINTS])
    return [[float(f"{p:.5g}"), float(f"{r:.5g}")] for p, r in zip(predictions[keep], residuals[keep], strict=True)]


def _histogram(residuals: np.ndarray) -> dict[str, list]:
    """Counts between edges over the central 99.8 %; what lies further out counts in the outermost bins."""
    low, high = np.quantile(residuals, [0.001, 0.999])
    inside = residuals.clip(low, high)
    bins = int(np.clip(np.sqrt(len(residuals)), 1, 40))
    counts, edges = np.histogram(inside, bins=bins)
    return {"counts": counts.tolist(), "edges": edges.tolist()}
