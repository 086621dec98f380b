"""What a smaller model must still be: «size<=200kB,accuracy>=-0.01» as values that can be held to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tfapp.errors import Usage, nearest
from tfapp.gate import COMPARISONS, METRICS

# What is measured beside the scores, with the units that a bound may have.
COSTS: dict[str, dict[str, float]] = {
    "size": {"": 1, "B": 1, "kB": 1e3, "MB": 1e6, "KiB": 2**10, "MiB": 2**20},
    "gzip": {"": 1, "B": 1, "kB": 1e3, "MB": 1e6, "KiB": 2**10, "MiB": 2**20},
    "latency": {"": 1, "ms": 1, "us": 1e-3, "µs": 1e-3, "s": 1e3},
}


# Scores that are errors; no other can be more than 1.
ERRORS = {"log_loss", "brier", "mae", "rmse", "median_absolute_error"}


class Target(NamedTuple):
    """size <= 200 kB; accuracy >= -0.01, a change; gzip <= 0.1x, times the parent's.

    Attributes:
      metric: size or gzip (bytes), latency (milliseconds for one example), or a score.
      against: what the bound is: "value"; "change", the value less the parent's; "times", the value over the parent's.
    """

    metric: str
    comparison: str
    bound: float
    against: str
    text: str

    def __str__(self) -> str:
        return self.text

    def held(self, measured: Mapping[str, float], parent: Mapping[str, float]) -> bool:
        """Whether what was measured meets the bound."""
        value = measured[self.metric]
        if self.against == "change":
            value -= parent[self.metric]
        elif self.against == "times":
            value /= parent[self.metric]
        # 0.95 - 0.96 is a little less than -0.01.
        slack = 1e-9 if self.comparison == ">=" else -1e-9 if self.comparison == "<=" else 0
        return COMPARISONS[self.comparison](value + slack, self.bound)


def parse(text: str) -> tuple[Target, ...]:
    """Targets with commas between them, each a metric, a comparison and a bound.

    A bound of a score with a sign (-0.01, +0.02) is a change from the parent; one that ends in x is times the parent's.

    Raises:
      Usage: what cannot be read, an unknown metric or unit, the same side of one metric twice.
    """
    targets = tuple(_target(part.strip()) for part in text.split(",") if part.strip())
    for number, one in enumerate(targets):
        if any(one.metric == other.metric and one.comparison[0] == other.comparison[0] for other in targets[:number]):
            raise Usage(f"two bounds of one kind for {one.metric} in {text!r}\ngive one")
    return targets


def _target(text: str) -> Target:
    match = re.fullmatch(r"(\w+)\s*(>=|<=|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([a-zA-Zµ]*)", text)
    if not match:
        raise Usage(f"cannot read the target {text!r}\ntargets are as 'size<=200kB,accuracy>=-0.01' or 'gzip<=0.1x'")
    metric, comparison, number, unit = match.groups()
    if metric not in COSTS and metric not in METRICS:
        raise Usage(f"no {metric!r} to aim at in {text!r}\n{nearest(metric, [*COSTS, *METRICS])}")
    if unit == "x":
        return Target(metric, comparison, float(number), "times", text)
    units = COSTS.get(metric, {"": 1})
    if unit not in units:
        raise Usage(
            f"{unit!r} in {text!r} is no unit of {metric}\nuse {', '.join(filter(None, units)) or 'a plain number'}, or x"
        )
    if metric in COSTS:
        if comparison.startswith(">"):
            raise Usage(f"{text!r} asks for more {metric}, not less\nwrite {metric}<={number}{unit}")
        if float(number) <= 0:
            raise Usage(f"{text!r}: no model has so little {metric}")
        return Target(metric, comparison, float(number) * units[unit], "value", text)
    against = "change" if number[0] in "+-" else "value"
    if against == "value" and comparison.startswith(">") and float(number) > 1 and metric not in ERRORS:
        raise Usage(
            f"{text!r}: no model has so much {metric}\nit is at most 1; a change is written with a sign, as +0.01"
        )
    return Target(metric, comparison, float(number), against, text)


def missed(targets: Sequence[Target], measured: Mapping[str, float], parent: Mapping[str, float]) -> list[Target]:
    """The targets that are not met.

    Raises:
      Usage: the model has no such score.
    """
    for target in targets:
        if target.metric not in measured:
            scores = [name for name in measured if name not in COSTS]
            raise Usage(f"this model has no {target.metric} to aim at ({target})\n{nearest(target.metric, scores)}")
    return [target for target in targets if not target.held(measured, parent)]
