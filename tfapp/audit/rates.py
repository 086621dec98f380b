"""How well a score tells members from others, and how sure that is: ROC, its area, advantage, rates at few false alarms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import integrate, stats
from sklearn import metrics

from tfapp.evaluate.bootstrap import Score, absent, affordable, resamples, score

# What an attacker who must hardly ever be wrong can do (Carlini et al. 2022, arXiv:2112.03570, section IV).
FEW = (0.001, 0.01)
CURVE_POINTS = 200
# Below so many on either side there is nothing to say of a class.
LEAST = 10


def measure(members: np.ndarray, others: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """What a threshold on a score achieves.

    Args:
      members, others: the score of each, float [m] and [n], finite; the higher, the likelier a member.
      seed: of the resampling.

    Returns:
      `members`, `others` (counts); `auc` and `advantage` (the largest true positive rate minus false positive rate;
      Yeom et al. 2018, arXiv:1709.01604), each a score with a bootstrap interval over members and others;
      `chance`: what the advantage of a score that knows nothing stays under 95 times in 100 (Kolmogorov and Smirnov's
      one-sided test); `tpr`: "0.001" and "0.01" → the true positive rate at no more false positives than that, a score
      with the exact interval of Clopper and Pearson (1934), and `false`, how many false alarms it rests on;
      `curve`: {fpr, tpr}, at most 200 points, closest together at few false positives.
    """
    members, others = np.asarray(members, np.float64), np.asarray(others, np.float64)
    truth = np.r_[np.ones(len(members)), np.zeros(len(others))]
    scores = np.r_[members, others]
    fpr, tpr, _ = metrics.roc_curve(truth, scores)
    replicates = _replicates(members, others, np.random.default_rng(seed))
    auc, advantage = replicates.T
    return {
        "members": len(members),
        "others": len(others),
        "auc": score(metrics.roc_auc_score(truth, scores), auc),
        "advantage": score((tpr - fpr).max(), advantage),
        "chance": float(np.sqrt(-np.log(0.05) / 2 * (1 / len(members) + 1 / len(others)))),
        "tpr": {f"{few:g}": _at(few, fpr, tpr, len(members), len(others)) for few in FEW},
        "curve": _thinned(fpr, tpr),
    }


def by_class(labels: np.ndarray, members: np.ndarray, others: np.ndarray, names: Any) -> list[dict[str, Any]]:
    """`auc`, `advantage` and `tpr` of each class that has enough rows on either side, and how many all have.

    Args:
      labels: int [m + n], of the members and then of the others. members, others: as `measure`.
    """
    rows = []
    for number, name in enumerate(names):
        of_it = [
            scores[part == number] for scores, part in zip((members, others), _parted(labels, members), strict=True)
        ]
        row: dict[str, Any] = {"class": str(name), "members": len(of_it[0]), "others": len(of_it[1])}
        if min(map(len, of_it)) >= LEAST:
            found = measure(*of_it)
            row |= {key: found[key] for key in ("auc", "advantage", "chance", "tpr")}
        rows.append(row)
    return rows


def _parted(labels: np.ndarray, members: np.ndarray) -> Iterator[np.ndarray]:
    yield labels[: len(members)]
    yield labels[len(members) :]


def _at(few: float, fpr: np.ndarray, tpr: np.ndarray, members: int, others: int) -> Score:
    """The true positive rate at a false positive rate of no more than that."""
    allowed = int(few * others + 1e-9)
    if not allowed:
        return absent(
            f"{100 * few:g} % false positives are less than one of {others:,} rows: it takes a test part of "
            f"{round(1 / few):,} rows or more"
        )
    best = int(np.flatnonzero(fpr * others <= allowed + 1e-6).max())
    right = round(tpr[best] * members)
    interval = stats.binomtest(right, members).proportion_ci(method="exact")
    return {
        "value": float(tpr[best]),
        "low": float(interval.low),
        "high": float(interval.high),
        "false": round(fpr[best] * others),
    }


def _replicates(members: np.ndarray, others: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """AUC and advantage of resampled members and others, float64 [replicates, 2]."""
    thresholds = np.unique(np.r_[members, others])
    count = affordable(len(members) + len(others), 6) or 100
    below = [_below(part, thresholds, resamples(len(part), count, random)) for part in (members, others)]
    found = []
    for missed, passed in zip(*below, strict=True):
        # Shares at or above each threshold, from the highest to the lowest, begin at 0 and end at 1.
        tpr, fpr = 1 - missed[::-1], 1 - passed[::-1]
        found.append(np.stack([integrate.trapezoid(tpr, fpr, axis=0), (tpr - fpr).max(axis=0)], axis=1))
    return np.concatenate(found)


def _below(scores: np.ndarray, thresholds: np.ndarray, drawn: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The share of resampled scores below each threshold, and below infinity: float64 [thresholds + 1, ≤ 16]."""
    order = np.argsort(scores)
    places = np.r_[np.searchsorted(scores[order], thresholds), len(scores)]
    for weights in drawn:
        counts = np.cumsum(weights[order], axis=0, dtype=np.float64)
        yield np.concatenate([np.zeros((1, counts.shape[1])), counts])[places] / len(scores)


def _thinned(fpr: np.ndarray, tpr: np.ndarray) -> dict[str, list[float]]:
    keep = np.arange(len(fpr))
    if len(fpr) > CURVE_POINTS:
        least = fpr[fpr > 0].min()
        levels = np.r_[0, np.geomspace(least, 1, CURVE_POINTS - 1)]
        keep = np.unique(np.searchsorted(fpr, levels, side="right") - 1)
    return {"fpr": [float(f"{v:.6g}") for v in fpr[keep]], "tpr": [float(f"{v:.6g}") for v in tpr[keep]]}
