from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfapp.tune import ensemble


def probabilities(of_right: list[float], labels: np.ndarray) -> np.ndarray:
    right = np.asarray(of_right)
    return np.where(np.eye(2)[labels] == 1, right[:, None], 1 - right[:, None])


def test_models_that_err_on_different_examples_are_taken_together() -> None:
    labels = np.array([0, 1, 0, 1])
    a, b = probabilities([0.9, 0.9, 0.3, 0.9], labels), probabilities([0.3, 0.9, 0.9, 0.9], labels)
    weights, loss = ensemble.select(labels, {"a": a, "b": b, "worse": probabilities([0.2] * 4, labels)})
    assert set(weights) == {"a", "b"} and sum(weights.values()) == pytest.approx(1)
    alone, _ = ensemble.select(labels, {"a": a})
    assert alone == {"a": 1.0}
    assert loss < ensemble.select(labels, {"a": a})[1]


def test_one_that_is_best_alone_stays_alone() -> None:
    targets = np.array([1.0, 2.0, 3.0], np.float32)
    right, off = targets[:, None], targets[:, None] + 5
    assert ensemble.select(targets, {"off": off, "right": right}) == ({"right": 1.0}, 0.0)


@given(st.integers(0, 2**20))
def test_together_they_are_never_worse_than_the_best_of_them(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(2, size=30)
    outputs = {str(number): probabilities(random.uniform(0.05, 0.95, 30).tolist(), labels) for number in range(8)}
    weights, loss = ensemble.select(labels, outputs, most=3)
    assert len(weights) <= 3 and sum(weights.values()) == pytest.approx(1)
    assert loss <= min(ensemble.select(labels, {name: one})[1] for name, one in outputs.items()) + 1e-9
