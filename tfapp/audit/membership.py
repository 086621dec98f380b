"""Guessing who was trained on from a model's answers alone: thresholds, and a logistic regression over all they tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tfapp.audit import bound, rates
from tfapp.errors import Refused

FOLDS = 5
# What is shown class by class: the attack that every task has.
MAIN = "loss"


def attacked(scores: Mapping[str, np.ndarray], members: int, delta: float) -> dict[str, Any]:
    """What each attack achieves.

    Args:
      scores: by name, float [2m]; the first `members` are members'. delta: for the bounds on ε.

    Returns:
      by name: `rates.measure`, and `epsilon`: `bound.from_rates`, all of which hold together at 95 %.
    """
    return {
        name: {
            **rates.measure(values[:members], values[members:]),
            "epsilon": bound.from_rates(values[:members], values[members:], delta, len(scores)),
        }
        for name, values in scores.items()
    }


def logistic(evidence: np.ndarray, members: int, seed: int = 0) -> np.ndarray:
    """The score of a logistic regression of membership on evidence, each row's by a fit that has not seen it.

    Args:
      evidence: float [2m, k]; the first `members` rows are members'. seed: of the folds.

    Raises:
      Refused: there are too few rows to fit anything.
    """
    least = min(members, len(evidence) - members)
    if least < 2 * FOLDS:
        raise Refused(
            f"{least} rows of the test part are too few to tell anything by\nat least {2 * FOLDS}: split.test=0.2"
        )
    truth = np.arange(len(evidence)) < members
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return cross_val_predict(model, evidence, truth, cv=folds, method="decision_function")
