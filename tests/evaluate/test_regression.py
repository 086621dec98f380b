import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from tfapp.errors import Failed, Missing
from tfapp.evaluate import regression

numbers = st.floats(-1e6, 1e6, allow_nan=False)


def test_the_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    targets = rng.normal(100, 20, size=400)
    predictions = targets + rng.normal(3, 10, size=400)
    scores = {name: s["value"] for name, s in regression.measure(targets, predictions[:, None])["scores"].items()}
    assert scores == pytest.approx(
        {
            "mae": metrics.mean_absolute_error(targets, predictions),
            "rmse": metrics.root_mean_squared_error(targets, predictions),
            "r2": metrics.r2_score(targets, predictions),
            "median_absolute_error": metrics.median_absolute_error(targets, predictions),
        }
    )


@pytest.mark.moderate
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=40))
def test_every_interval_holds_its_value_and_all_is_json(pairs):
    measured = regression.measure(*np.array(pairs).T)
    for score in measured["scores"].values():
        assert score.get("reason") or score["low"] <= score["value"] <= score["high"]
    json.dumps(measured, allow_nan=False)


@pytest.mark.moderate
def test_the_intervals_are_as_wide_as_the_spread_over_fresh_test_sets():
    def fresh(seed):
        rng = np.random.default_rng(seed)
        targets = rng.normal(size=300)
        return regression.measure(targets, targets + rng.normal(size=300))["scores"]

    runs = [fresh(seed) for seed in range(60)]
    for name, score in fresh(999).items():
        spread = np.std([run[name]["value"] for run in runs])
        assert score["high"] - score["low"] == pytest.approx(2 * 1.96 * spread, rel=0.4), name


def test_equal_targets_have_no_r2_and_say_why():
    for targets in (np.ones(2), np.array([0, 1e-157])):
        score = regression.measure(targets, np.arange(2.0))["scores"]["r2"]
        assert score["value"] is None and score["reason"] == "all targets are equal"


def test_residuals_are_prediction_minus_target_and_thinned_for_plots():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=5000)
    residuals = regression.measure(targets, targets + 2)["residuals"]
    assert residuals["quantiles"]["p50"] == pytest.approx(2)
    assert len(residuals["points"]) == 2000
    assert sum(residuals["histogram"]["counts"]) == 5000


def test_nan_and_emptiness_are_errors_a_person_can_act_on():
    with pytest.raises(Failed, match="the model answers NaN or infinity for 1 of 2"):
        regression.measure(np.ones(2), np.array([1, np.inf]))
    with pytest.raises(Failed, match="the target is NaN"):
        regression.measure(np.array([np.nan]), np.ones(1))
    with pytest.raises(Missing):
        regression.measure(np.zeros(0), np.zeros(0))
