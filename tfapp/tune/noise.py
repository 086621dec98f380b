"""How much of a winner's lead is luck: of the validation examples, of seeds, and of having been picked from many."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import integrate, stats

from tfapp.tune.objective import Objective

REPLICATES = 1000


def lead(
    objective: Objective,
    values: Sequence[float],
    winner: Sequence[float],
    second: Sequence[float],
    paired: tuple[np.ndarray, np.ndarray] | None,
) -> dict[str, Any]:
    """What the winner's lead over the second, and over the median trial, may owe to luck.

    Args:
      values: of all scored trials. winner, second: of their runs (folds, seeds), in the same order.
      paired: float [n] each, what every validation example adds to the score of the winner and of the second; None
        where that is not known. Used where trials have a single run.

    Returns:
      over_second {value, low, high, from}, over_median {value, luck}: all so that more is better for the winner; low
      and high are the ends of a 95 % interval and None where nothing tells; luck is what the best of as many equal
      trials would lead their median by, on average; words: the same as a person reads it.
    """
    sign = 1.0 if objective.more else -1.0
    differences = sign * (np.asarray(winner) - np.asarray(second))
    low = high = spread = None
    if len(differences) > 1:
        source = f"{len(differences)} runs each"
        spread = float(differences.std(ddof=1)) / math.sqrt(len(differences))
        reach = float(stats.t.ppf(0.975, len(differences) - 1)) * spread
        low, high = differences.mean() - reach, differences.mean() + reach
    elif paired is not None and len(paired[0]):
        source = f"the same {len(paired[0]):,} validation examples"
        change = sign * (paired[0] - paired[1])
        drawn = np.random.default_rng(0).integers(len(change), size=(REPLICATES, len(change)))
        means = change[drawn].mean(1)
        spread = float(means.std())
        low, high = np.quantile(means, [0.025, 0.975])
    else:
        source = "nothing: use --repeat or --folds to learn it"
    over_second = {"value": float(differences.mean()), "low": _number(low), "high": _number(high), "from": source}
    over_median = {
        "value": float(sign * (np.mean(winner) - np.median(values))),
        # A difference of two trials has √2 times the spread of one.
        "luck": None if spread is None else spread / math.sqrt(2) * largest_of(len(values)),
    }
    found = {"objective": objective.name, "trials": len(values), "over_second": over_second, "over_median": over_median}
    return {**found, "words": _words(found)}


def largest_of(n: int) -> float:
    """The mean of the largest of n draws from a standard normal distribution."""
    if n < 2:
        return 0.0
    value, _ = integrate.quad(lambda x: x * n * stats.norm.pdf(x) * stats.norm.cdf(x) ** (n - 1), -10, 10)
    return float(value)


def examples(objective: Objective, a: Path, b: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """What each validation example adds to the scores of two runs, from their validation.npz.

    None where the objective is no mean over examples, or they were not validated on the same ones.
    """
    one, other = _held(a), _held(b)
    if one is None or other is None or not np.array_equal(one["labels"], other["labels"]):
        return None
    first, second = (_each(objective.name, held["labels"], held["outputs"]) for held in (one, other))
    if first is None or second is None or not (np.isfinite(first).all() and np.isfinite(second).all()):
        return None
    return first, second


def _each(name: str, labels: np.ndarray, outputs: np.ndarray) -> np.ndarray | None:
    classes = np.issubdtype(labels.dtype, np.integer)
    if name == "val_accuracy" and classes:
        return (outputs.argmax(1) == labels).astype(float)
    if name == "val_loss" and classes:
        return -np.log(np.clip(outputs[np.arange(len(labels)), labels].astype(float), 1e-12, 1))
    errors = None if classes else outputs.reshape(len(labels)).astype(float) - labels
    if errors is not None and name == "val_loss":
        return errors**2
    if errors is not None and name == "val_mae":
        return np.abs(errors)
    return None


def _held(path: Path) -> Mapping[str, np.ndarray] | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {"labels": file["labels"], "outputs": file["outputs"]}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _words(found: Mapping[str, Any]) -> str:
    second, median, name = found["over_second"], found["over_median"], found["objective"]
    text = f"the winner leads the second best by {second['value']:.4g} in {name}"
    if second["low"] is not None:
        sure = "more than luck" if second["low"] > 0 else "which may be luck alone"
        text += f" (95 % interval {second['low']:.4g} to {second['high']:.4g}, by {second['from']}), {sure}"
    if median["luck"] is not None:
        text += (
            f"; it leads the median trial by {median['value']:.4g}, of which about "
            f"{min(median['luck'], max(median['value'], 0)):.4g} is what the best of {found['trials']} equal ones would"
        )
    return text
