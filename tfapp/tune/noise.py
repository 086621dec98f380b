"""How much of a winner's lead is luck: of the validation examples, of seeds, and of having been picked from many."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import integrate, stats

from tfapp.tune.objective import Objective

REPLICATES = 1000


@dataclass(frozen=True)
class Scored:
    """What is known of a trial's score.

    Attributes:
      runs: of each fold or seed, in the same order for every trial.
      examples: float [n], what each validation example adds to it; None where that is not known. Used where there is
        a single run.
    """

    runs: Sequence[float]
    examples: np.ndarray | None = None


def lead(
    objective: Objective, values: Sequence[float], winner: Scored, second: Scored, middle: Scored
) -> dict[str, Any]:
    """What the winner's lead over the second, and over the median trial, may owe to luck.

    Args:
      values: of all scored trials. middle: the trial whose score is the median, or next to it.

    Returns:
      over_second {value, low, high, from}, over_median {value, luck}: all so that more is better for the winner; low
      and high are the ends of a 95 % interval and None where nothing tells; luck is what the best of as many equal
      trials would lead their median by, on average; words: the same as a person reads it.
    """
    sign = 1.0 if objective.more else -1.0
    low, high, _, source = _difference(sign, winner, second)
    spread = _difference(sign, winner, middle)[2]
    over_second = {
        "value": float(sign * (np.mean(winner.runs) - np.mean(second.runs))),
        "low": low,
        "high": high,
        "from": source,
    }
    over_median = {
        "value": float(sign * (np.mean(winner.runs) - np.median(values))),
        # A difference of two trials has √2 times the spread of one.
        "luck": None if spread is None else spread / math.sqrt(2) * largest_of(len(values)),
    }
    found = {"objective": objective.name, "trials": len(values), "over_second": over_second, "over_median": over_median}
    return {**found, "words": _words(found)}


def _difference(sign: float, a: Scored, b: Scored) -> tuple[float | None, float | None, float | None, str]:
    """(low, high) of a 95 % interval for how much better a is than b, the standard error, and what tells it."""
    if len(a.runs) > 1:
        change = sign * (np.asarray(a.runs) - np.asarray(b.runs))
        spread = float(change.std(ddof=1)) / math.sqrt(len(change))
        reach = float(stats.t.ppf(0.975, len(change) - 1)) * spread
        return float(change.mean() - reach), float(change.mean() + reach), spread, f"{len(change)} runs each"
    if a.examples is None or b.examples is None or not len(a.examples):
        return None, None, None, "nothing: use --repeat or --folds to learn it"
    change = sign * (a.examples - b.examples)
    means = change[np.random.default_rng(0).integers(len(change), size=(REPLICATES, len(change)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high), float(means.std()), f"the same {len(change):,} validation examples"


def largest_of(n: int) -> float:
    """The mean of the largest of n draws from a standard normal distribution."""
    if n < 2:
        return 0.0
    value, _ = integrate.quad(lambda x: x * n * stats.norm.pdf(x) * stats.norm.cdf(x) ** (n - 1), -10, 10)
    return float(value)


def examples(objective: Objective, files: Sequence[Path]) -> list[np.ndarray | None]:
    """What each validation example adds to the score of each run, float [n], from their validation.npz.

    None where the objective is no mean over examples, or where they were not validated on the examples of the first.
    """
    held = [_held(path) for path in files]
    first = held[0]
    found: list[np.ndarray | None] = []
    for one in held:
        same = one is not None and first is not None and np.array_equal(one["labels"], first["labels"])
        added = _each(objective.name, one["labels"], one["outputs"]) if one is not None and same else None
        found.append(added if added is not None and np.isfinite(added).all() else None)
    return found


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


def _words(found: Mapping[str, Any]) -> str:
    second, median, name = found["over_second"], found["over_median"], found["objective"]
    text = f"the winner leads the second best by {second['value']:.4g} in {name}"
    if second["low"] is not None:
        sure = "more than luck" if second["low"] > 0 else "which may be luck alone"
        text += f" (95 % interval {second['low']:.4g} to {second['high']:.4g}, by {second['from']}), {sure}"
    if median["luck"] is not None:
        text += (
            f"; it leads the median trial by {median['value']:.4g}, and the best of {found['trials']} trials that are all "
            f"equally good would lead by about {median['luck']:.4g}"
        )
    return text
