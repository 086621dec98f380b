"""What a model's answer to a row tells of whether it was trained on it: the higher, the likelier a member."""

from __future__ import annotations

import numpy as np

TINY = float(np.finfo(np.float32).tiny)
# The share of a text's tokens, the least likely ones, that Min-K% looks at.
UNLIKELY = 0.2


def of_probabilities(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Of a classifier's answers: threshold attacks, as collected by Song and Mittal (2021, arXiv:2003.10595).

    Args:
      labels: int [n]. probabilities: float [n, K], rows sum to 1.

    Returns:
      float64 [n] by name: `loss` (minus the log loss; Yeom et al. 2018, arXiv:1709.01604), `confidence` (the largest
      probability), `entropy` (minus it), `modified_entropy` (minus it; it knows the label).
    """
    p = probabilities.astype(np.float64)
    right, wrong = _right(labels, p), _wrong(labels, p)
    logs = np.log(np.maximum(p, TINY))
    others = p * np.log(np.maximum(1 - p, TINY))
    others[np.arange(len(labels)), labels] = 0
    return {
        "loss": np.log(np.maximum(right, TINY)),
        "confidence": p.max(axis=1),
        "entropy": (p * logs).sum(axis=1),
        "modified_entropy": wrong * np.log(np.maximum(right, TINY)) + others.sum(axis=1),
    }


def log_odds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """log p / (1 - p) of the right class, float64 [n]: about normal over trainings (Carlini et al. 2022)."""
    p = probabilities.astype(np.float64)
    # 1 - p would be 0 where float32 has rounded p to 1; the other classes know better.
    return np.log(np.maximum(_right(labels, p), TINY)) - np.log(np.maximum(_wrong(labels, p), TINY))


def of_losses(losses: np.ndarray) -> dict[str, np.ndarray]:
    """Of a language model's loss of each token, float [n, length].

    Returns:
      float64 [n] by name: `loss` (minus its mean), `min_k` (minus the mean of the highest fifth; Min-K%, Shi et al.
      2024, arXiv:2310.16789).
    """
    losses = losses.astype(np.float64)
    highest = max(1, round(UNLIKELY * losses.shape[1]))
    return {"loss": -losses.mean(axis=1), "min_k": -np.sort(losses, axis=1)[:, -highest:].mean(axis=1)}


def _right(labels: np.ndarray, p: np.ndarray) -> np.ndarray:
    return p[np.arange(len(labels)), labels]


def _wrong(labels: np.ndarray, p: np.ndarray) -> np.ndarray:
    others = p.copy()
    others[np.arange(len(labels)), labels] = 0
    return others.sum(axis=1)
