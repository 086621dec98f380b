"""Lower bounds on ε: what no (ε, δ)-private training could have given away, but by rare luck."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
# Shares of the canaries that are guessed, half of them as in and half as out; chosen before anything is seen. The best
# bound of all shares and scores is taken, each at a confidence that makes the best hold at CONFIDENCE (Bonferroni).
SHARES = (0.1, 0.25, 0.5, 1.0)
# A bound is no sharper than a float64 lets a probability be told from 1.
MOST = 60.0


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """How likely so many right guesses are at most, were the training (ε, δ)-private.

    Theorem 5.2 with corollary 5.4 of Steinke, Nasr and Jagielski (2023, arXiv:2305.08846): with W binomial of `guesses`
    tosses that come right with probability e^ε / (1 + e^ε),

        P[right or more] ≤ P[W ≥ right] + 2 · canaries · δ · max over i ≥ 1 of P[right > W ≥ right - i] / i

    Args:
      canaries: each left in or out by a fair coin of its own. guesses: for how many of them a guess was made, the others
      abstained from. right: how many of the guesses are. epsilon: ≥ 0. delta: in [0, 1].
    """
    # Written so that it keeps its digits where e^ε is large.
    luck = stats.binom(guesses, 1 / (1 + math.exp(-epsilon)))
    beta = float(luck.sf(right - 1))
    alpha = 0.0
    if delta and right:
        steps = np.arange(1, right + 1)
        alpha = float((np.cumsum(luck.pmf(right - steps)) / steps).max())
    return min(1.0, beta + 2 * canaries * delta * alpha)


def from_guesses(canaries: int, guesses: int, right: int, delta: float, confidence: float = CONFIDENCE) -> float:
    """The largest ε that so many right guesses refute at this confidence; 0 where they refute none."""
    return _largest(lambda epsilon: p_value(canaries, guesses, right, epsilon, delta) - (1 - confidence))


def from_canaries(scores: Mapping[str, np.ndarray], included: np.ndarray, delta: float) -> dict[str, Any]:
    """What the scores of canaries refute.

    Args:
      scores: by name, float [m], the higher, the likelier that a canary counted; of nothing that knows the coins but the
        training.
      included: bool [m], the coins.
      delta: of the (ε, δ) that is bounded.

    Returns:
      `epsilon`: the lower bound at 95 %; `score`, `guesses`, `right`: what gave it; `tried`: {score, share, guesses, right,
      epsilon} of each score and each of SHARES, `epsilon` being the bound that all of them can give together at 95 %.
    """
    m = len(included)
    each = 1 - (1 - CONFIDENCE) / (len(SHARES) * len(scores))
    tried: list[dict[str, Any]] = []
    for name, values in scores.items():
        # Of equal scores the order is that of the rows, which knows nothing of the coins.
        order = np.argsort(-values, kind="stable")
        for share in SHARES:
            half = max(1, int(share * m / 2))
            right = int(included[order[:half]].sum() + (~included[order[m - half :]]).sum())
            bound = from_guesses(m, 2 * half, right, delta, each)
            tried.append({"score": name, "share": share, "guesses": 2 * half, "right": right, "epsilon": bound})
    best = max(tried, key=lambda one: one["epsilon"])
    return {key: best[key] for key in ("epsilon", "score", "guesses", "right")} | {"tried": tried}


def from_rates(members: np.ndarray, others: np.ndarray, delta: float, tests: int = 1, seed: int = 0) -> dict[str, Any]:
    """What a threshold's rates refute: (ε, δ)-privacy allows a true positive rate of e^ε · false positive rate + δ.

    The threshold is chosen on one half of the rows and its rates are counted on the other, with the intervals of Clopper
    and Pearson (as Jagielski et al. 2020, arXiv:2006.07709). That is a bound as far as what is guessed of one row
    tells nothing of what is guessed of another, and members and others differ in nothing but that they were drawn.

    Args:
      members, others: the score of each, float [m] and [n]. delta: of the (ε, δ). tests: how many such bounds are looked
      at together; all of them hold at 95 %. seed: of the halves.

    Returns:
      `epsilon`: the lower bound; `tpr`, `fpr`: on the half that was counted.
    """
    random = np.random.default_rng(seed)
    halves = [np.array_split(random.permutation(part), 2) for part in (members, others)]
    (chosen, counted), (chosen_out, counted_out) = halves
    if not (len(counted) and len(counted_out)):
        return {"epsilon": 0.0, "tpr": None, "fpr": None}
    alpha = (1 - CONFIDENCE) / tests
    thresholds = np.unique(np.r_[chosen, chosen_out])
    bounds = _of_rates(chosen, chosen_out, thresholds, delta, alpha)
    threshold = thresholds[int(bounds.argmax())]
    bound = float(_of_rates(counted, counted_out, np.array([threshold]), delta, alpha)[0])
    return {
        "epsilon": max(0.0, bound),
        "tpr": float((counted >= threshold).mean()),
        "fpr": float((counted_out >= threshold).mean()),
    }


def _of_rates(
    members: np.ndarray, others: np.ndarray, thresholds: np.ndarray, delta: float, alpha: float
) -> np.ndarray:
    """The bound of each threshold, from either side: guessing who is in, and guessing who is out."""
    m, n = len(members), len(others)
    hits = m - np.searchsorted(np.sort(members), thresholds)
    alarms = n - np.searchsorted(np.sort(others), thresholds)
    # Clopper and Pearson's ends, alpha / 2 for each of the two rates.
    tpr = np.where(hits > 0, stats.beta.ppf(alpha / 2, hits, m - hits + 1), 0.0)
    fpr = np.where(alarms < n, stats.beta.ppf(1 - alpha / 2, alarms + 1, n - alarms), 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        as_in = np.log(np.maximum(tpr - delta, 0) / fpr)
        as_out = np.log(np.maximum(1 - fpr - delta, 0) / (1 - tpr))
    return np.nan_to_num(np.maximum(as_in, as_out), nan=-np.inf, neginf=-np.inf)


def _largest(excess: Callable[[float], float]) -> float:
    """The largest ε at which a p-value, less what it may be, is negative; it grows with ε."""
    if excess(0.0) >= 0:
        return 0.0
    if excess(MOST) < 0:
        return MOST
    # The end at which the p-value is still small enough, rounding aside.
    return max(0.0, float(optimize.brentq(excess, 0.0, MOST, xtol=1e-9)) - 1e-9)
