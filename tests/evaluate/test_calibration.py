import json

import numpy as np
import pytest
from scipy.special import softmax

from tfapp.evaluate import calibration


def drawn(n, temperature, classes=4, seed=0):
    """Labels drawn from true probabilities, and the answers of a model with logits `temperature` times as large."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, classes))
    labels = np.array([rng.choice(classes, p=p) for p in softmax(logits, axis=1)])
    return labels, softmax(logits * temperature, axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_spoiled_the_logits_is_found_again(temperature):
    assert calibration.fit_temperature(*drawn(4000, temperature)) == pytest.approx(temperature, rel=0.08)


def test_an_overconfident_model_is_mended():
    measured = calibration.measure(*drawn(3000, 4.0, seed=1), *drawn(3000, 4.0, seed=2))
    assert measured["before"]["ece"] > 0.1
    assert measured["after"]["ece"] < 0.03
    assert measured["after"]["nll"] < measured["before"]["nll"]
    json.dumps(measured, allow_nan=False)


def test_the_calibration_error_of_a_small_case_is_as_by_hand():
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.3, 0.7], [0.3, 0.7]])
    measured = calibration.measure(np.array([0, 1, 1, 1]), probabilities, [], [])
    assert measured["before"]["ece"] == pytest.approx((2 * abs(0.95 - 0.5) + 2 * abs(0.7 - 1)) / 4)


def test_every_example_is_in_one_bin():
    labels, probabilities = drawn(500, 1.0)
    bins = calibration.measure(labels, probabilities, labels, probabilities)["before"]["bins"]
    assert len(bins) == 15 and sum(b["count"] for b in bins) == 500
    for b in bins:
        assert b["count"] == 0 or b["low"] - 1e-9 <= b["confidence"] <= b["high"] + 1e-9


def test_without_validation_examples_only_the_state_before_is_known():
    measured = calibration.measure(*drawn(50, 1.0), np.zeros(0, int), np.zeros((0, 4)))
    assert measured["temperature"] is None and measured["after"] is None
    assert "validation" in measured["reason"]


def test_a_validation_part_without_a_mistake_tells_no_temperature():
    labels, probabilities = drawn(300, 1.0)
    flawless = probabilities.argmax(axis=1)
    for sharper in (probabilities, np.eye(4)[flawless]):
        measured = calibration.measure(labels, probabilities, flawless, sharper)
        assert (measured["temperature"], measured["after"]) == (None, None)
        assert measured["reason"] == "no mistake on the validation examples"
    # One mistake is enough: the surer the model, the dearer that one becomes.
    flawless[0] = (flawless[0] + 1) % 4
    assert 0.05 < calibration.fit_temperature(flawless, probabilities) < 1


def test_a_temperature_at_an_end_of_the_range_is_no_finding():
    labels, probabilities = drawn(300, 1.0)
    wrong = probabilities.argmin(axis=1)
    measured = calibration.measure(labels, probabilities, wrong, probabilities)
    assert measured["temperature"] is None and "not within 0.05–20" in measured["reason"]
    almost = np.array([0] * 200 + [1]), np.array([[0.51, 0.49]] * 200 + [[0.500001, 0.499999]])
    assert calibration.fit_temperature(*almost) is None


def test_scaling_keeps_the_order_of_classes_and_bears_certainty():
    probabilities = np.array([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]], np.float32)
    scaled = calibration.scaled(probabilities, 2.0)
    assert np.isfinite(scaled).all() and scaled.sum(axis=1) == pytest.approx([1, 1])
    assert (scaled.argsort(axis=1)[1] == probabilities.argsort(axis=1)[1]).all()
