"""Functions with known minima, to see whether a search finds them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
ALPHA = np.array([1.0, 1.2, 3.0, 3.2])

BRANIN = ["x=float:-5..10", "y=float:0..15"]
HARTMANN6 = [f"x{i}=float:0..1" for i in range(6)]
# Two models with settings of their own: the better one has its minimum, 0, at depth 7, rate 1e-3.
CONDITIONAL = [
    "model=choice:linear,deep",
    "slope=float:-1..1@model=linear",
    "depth=int:1..12@model=deep",
    "rate=log:1e-5..1e-1@model=deep",
]


def branin(values: Mapping[str, Any]) -> float:
    """Minimum 0.397887 (S. Surjanovic, D. Bingham: Virtual Library of Simulation Experiments)."""
    x, y = values["x"], values["y"]
    return (
        (y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6) ** 2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10
    )


def hartmann6(values: Mapping[str, Any]) -> float:
    """Minimum -3.32237 (the same library)."""
    x = np.array([values[f"x{i}"] for i in range(6)])
    return float(-(ALPHA @ np.exp(-(A * (x - P) ** 2).sum(1))))


def conditional(values: Mapping[str, Any]) -> float:
    """Minimum 0; of the linear model 0.5."""
    if values["model"] == "linear":
        return 0.5 + values["slope"] ** 2
    return ((values["depth"] - 7) / 6) ** 2 + (math.log10(values["rate"]) + 3) ** 2 / 4
