import json

import numpy as np
import pytest

from tfapp.evaluate import compare


def sure(guesses):
    return np.eye(2)[guesses] * 0.8 + 0.1


def test_only_the_examples_they_disagree_on_decide():
    labels = np.zeros(100, int)
    a = np.r_[np.ones(10, int), np.zeros(90, int)]
    b = np.r_[np.zeros(10, int), np.ones(2, int), np.zeros(88, int)]
    measured = compare.paired(labels, sure(a), sure(b))
    assert (measured["only_a"], measured["only_b"]) == (2, 10)
    assert measured["accuracy"]["difference"]["value"] == pytest.approx(0.08)
    assert measured["accuracy"]["difference"]["low"] > 0
    # Two-sided binomial test by hand: 2 × (C(12,0) + C(12,1) + C(12,2)) / 2¹².
    assert measured["p_value"] == pytest.approx(2 * (1 + 12 + 66) / 4096)
    json.dumps(measured, allow_nan=False)


def test_a_model_does_not_differ_from_itself():
    labels = np.tile([0, 1], 20)
    measured = compare.paired(labels, sure(labels), sure(labels))
    assert measured["p_value"] == 1
    assert measured["accuracy"]["difference"]["value"] == 0
    assert measured["accuracy"]["difference"]["low"] is None


def test_exchanging_the_models_turns_the_sign():
    rng = np.random.default_rng(0)
    labels, a, b = rng.integers(2, size=(3, 200))
    one, other = compare.paired(labels, sure(a), sure(b)), compare.paired(labels, sure(b), sure(a))
    assert one["accuracy"]["difference"]["value"] == -other["accuracy"]["difference"]["value"]
    assert one["p_value"] == pytest.approx(other["p_value"])


def test_regression_errors_are_compared_example_by_example():
    targets = np.arange(50.0)
    measured = compare.paired_errors(targets, targets + 2, (targets + np.tile([1, 0.5], 25))[:, None])
    assert measured["mae"]["a"] == 2 and measured["mae"]["b"] == 0.75
    assert measured["mae"]["difference"]["high"] < -1
