"""Ends trials that have no hope, by what the others had reached after as many epochs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfapp.errors import Usage
from tfapp.tune.objective import Objective

Rows = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Stopper:
    """The percentile rule; with 50 the median rule of D. Golovin and others, «Google Vizier» (KDD 2017).

    A trial is ended after an epoch when its best value so far is worse than what the best `percentile` percent of the
    others had as their best after as many epochs.

    Attributes:
      percentile: in (0, 100); 50 ends the worse half, 75 the worst quarter.
      grace: epochs before which none is ended, at least 1. fewest: others that must have come so far.
    """

    percentile: float = 50.0
    grace: int = 3
    fewest: int = 5

    @property
    def name(self) -> str:
        return "median" if self.percentile == 50 else f"best {self.percentile:g} %"

    def why(self, objective: Objective, own: Rows, others: Sequence[Rows]) -> str | None:
        """The reason to end a trial now, None to let it go on.

        Args:
          own: the numbers of its epochs so far. others: those of other trials.
        """
        epoch = len(own)
        reached = [_best(objective, rows[:epoch]) for rows in others if len(rows) >= epoch]
        if epoch < self.grace or len(reached) < self.fewest:
            return None
        line = float(np.percentile(reached, 100 - self.percentile if objective.more else self.percentile))
        value = _best(objective, own)
        if not objective.better(line, value):
            return None
        return f"{objective.name} {value:.4g} after epoch {epoch}, worse than the {self.name} of the others, {line:.4g}"


def parse(text: str | None) -> Stopper | None:
    """A stopper from `median` or `percentile:75`; None stays None.

    Raises:
      Usage: neither.
    """
    if text is None or text == "none":
        return None
    if text == "median":
        return Stopper()
    found = re.fullmatch(r"percentile:(\d+(?:\.\d+)?)", text)
    if found is None or not 0 < float(found[1]) < 100:
        raise Usage(f"cannot read --stopper {text}\nas --stopper median, or percentile:75 to end the worst quarter")
    return Stopper(float(found[1]))


def _best(objective: Objective, rows: Rows) -> float:
    return objective.best(row[objective.name] for row in rows)
