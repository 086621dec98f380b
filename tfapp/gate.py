"""A score that a run must reach, for scripts that act on the exit code."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from tfapp.errors import GateFailed, Usage, nearest

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
      Usage: it is not a metric, a comparison and a number.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", text)
    try:
        return Gate(match[1], match[2], float(match[3]))  # type: ignore[index]
    except (TypeError, ValueError):
        raise Usage(f"cannot read the gate {text!r}\ngates are as 'accuracy>=0.98' or 'log_loss<0.1'") from None


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
