"""A score that a run must reach, for scripts that act on the exit code."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from tfapp.errors import GateFailed, Usage, nearest

# All that a report can hold; a test compares. A word that is none is refused before hours of training.
METRICS = (
    *("accuracy", "balanced_accuracy", "top_5_accuracy", "precision_macro", "recall_macro", "f1_macro"),
    *("precision_weighted", "recall_weighted", "f1_weighted", "roc_auc", "pr_auc", "log_loss", "brier"),
    *("mae", "rmse", "median_absolute_error", "r2"),
)
COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


class Gate(NamedTuple):
    """accuracy >= 0.98"""

    metric: str
    comparison: str
    bound: float

    def __str__(self) -> str:
        return f"{self.metric}{self.comparison}{self.bound:g}"


def parse(text: str) -> Gate:
    """«accuracy>=0.98» as a gate.

    Raises:
      Usage: it is not a metric, a comparison and a number, or no report has such a metric.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", text)
    try:
        gate = Gate(match[1], match[2], float(match[3]))  # type: ignore[index]
    except (TypeError, ValueError):
        raise Usage(f"cannot read the gate {text!r}\ngates are as 'accuracy>=0.98' or 'log_loss<0.1'") from None
    if gate.metric not in METRICS:
        raise Usage(f"no score {gate.metric!r} to hold to {gate}\n{nearest(gate.metric, METRICS)}")
    return gate


def check(gates: Sequence[Gate], report: dict[str, Any]) -> None:
    """Hold a report to its gates.

    Raises:
      GateFailed: a score misses its bound. Usage: no such score.
    """
    scores = report.get("evaluation", {}).get("scores", {})
    for gate in gates:
        if gate.metric not in scores:
            raise Usage(f"no score {gate.metric!r} to hold to {gate}\n{nearest(gate.metric, scores)}")
        value = scores[gate.metric]["value"]
        if value is None or not COMPARISONS[gate.comparison](value, gate.bound):
            shown = "not defined" if value is None else f"{value:.4g}"
            raise GateFailed(f"{gate.metric} is {shown}, the gate asks for {gate}")
