"""How sure a score is: the spread it would have over other test sets of the same size.

B. Efron, «Bootstrap methods: another look at the jackknife» (1979); percentile intervals at 95 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Score = dict[str, Any]


def score(value: float, replicates: np.ndarray) -> Score:
    """A value with the 2.5 % and 97.5 % quantiles of its replicates (any shape; NaN ones do not count)."""
    finite = replicates[np.isfinite(replicates)]
    if not finite.size or np.ptp(finite) <= 1e-12 * max(1.0, abs(value)):
        return {"value": float(value), "low": None, "high": None, "reason": "resampling the test set never changes it"}
    low, high = np.quantile(finite, [0.025, 0.975])
    return {"value": float(value), "low": float(min(low, value)), "high": float(max(high, value))}


def absent(reason: str) -> Score:
    """A score that cannot be had, and why."""
    return {"value": None, "low": None, "high": None, "reason": reason}


def affordable(n: int, columns: int) -> int:
    """How many replicates of `columns` sums over n examples fit a few seconds: 100–1000, or 0 when 100 do not.

    Drawing the examples costs about as much as ten sums over them.
    """
    cost = n * (columns + 10)
    return 0 if cost > 2.5e7 else int(np.clip(4e8 // cost, 100, 1000))


def resamples(n: int, replicates: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each example is drawn when n are drawn with replacement: float32 [n, ≤ 16], until all are given."""
    for start in range(0, replicates, 16):
        columns = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(min(16, replicates - start))]
        yield np.stack(columns, axis=1).astype(np.float32)


def means(values: np.ndarray, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """The mean of each column of float64 [n, m] over resampled examples: float64 [replicates, m]."""
    n = len(values)
    return np.concatenate([(values.T @ drawn).T / n for drawn in resamples(n, replicates, rng)])
