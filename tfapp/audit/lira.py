"""The likelihood-ratio attack: whether a row's log odds look like those of models that were trained on it, or not.

N. Carlini and others, «Membership inference attacks from first principles» (2022, arXiv:2112.03570), in its online form:
every row is in half of the shadows.
"""

from __future__ import annotations

import numpy as np

# Fewer shadows than this tell too little of a row's own spread: then it is that of all rows (section VI-C).
ENOUGH = 64
# Two shadows with a row and two without: else there is no spread to tell.
LEAST = 4


def likelihood_ratio(target: np.ndarray, shadows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """log p(target | trained on it) - log p(target | not), of normal distributions, float64 [n].

    Args:
      target: what the audited model says of each row, float [n]. shadows: what each shadow says, float [N, n].
      inside: whether a shadow was trained on a row, bool [N, n]; each row in at least two and out of two.
    """
    shadows = shadows.astype(np.float64)
    return _log_density(target, shadows, inside) - _log_density(target, shadows, ~inside)


def _log_density(target: np.ndarray, values: np.ndarray, which: np.ndarray) -> np.ndarray:
    count = which.sum(axis=0)
    mean = np.where(which, values, 0).sum(axis=0) / count
    squares = np.where(which, (values - mean) ** 2, 0).sum(axis=0)
    if len(values) >= ENOUGH:
        variance = squares / (count - 1)
    else:
        variance = np.full(len(target), squares.sum() / (count - 1).sum())
    variance = np.maximum(variance, 1e-12)
    return -((target - mean) ** 2) / (2 * variance) - np.log(variance) / 2
