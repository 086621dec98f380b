import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from tfapp.errors import Failed, Missing
from tfapp.evaluate import classification


def answers(n, classes, seed=0, skill=1.5, dtype=np.float64):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += skill
    odds = np.exp(logits)
    return labels, (odds / odds.sum(axis=1, keepdims=True)).astype(dtype)


def names(classes):
    return [f"class {i}" for i in range(classes)]


def values(measured):
    return {name: score["value"] for name, score in measured["scores"].items()}


@pytest.mark.moderate
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 3, 12])
def test_the_scores_are_those_of_scikit_learn(classes, dtype):
    labels, probabilities = answers(500, classes, dtype=dtype)
    predicted = probabilities.argmax(axis=1)
    exact = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=float)
    one_hot = np.eye(classes)[labels]
    areas = {"roc_auc": metrics.roc_auc_score, "pr_auc": metrics.average_precision_score}
    binary = classes == 2
    expected = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted),
        "log_loss": metrics.log_loss(labels, exact),
        "brier": metrics.brier_score_loss(labels, probabilities[:, 1] if binary else exact),
    }
    for name, measure in areas.items():
        expected[name] = (
            measure(labels, probabilities[:, 1]) if binary else measure(one_hot, probabilities, average="macro")
        )
    for average in ("macro", "weighted"):
        scores = metrics.precision_recall_fscore_support(labels, predicted, average=average)
        expected |= {f"{name}_{average}": v for name, v in zip(("precision", "recall", "f1"), scores, strict=False)}
    if classes > 10:
        expected["top_5_accuracy"] = metrics.top_k_accuracy_score(labels, probabilities, k=5)
    assert values(classification.measure(labels, probabilities, names(classes))) == pytest.approx(expected, rel=1e-5)


def test_each_class_has_the_numbers_of_scikit_learn():
    labels, probabilities = answers(300, 4)
    rows = classification.measure(labels, probabilities, names(4))["per_class"]
    expected = metrics.precision_recall_fscore_support(labels, probabilities.argmax(axis=1))
    for key, column in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[key] for row in rows] == pytest.approx(list(column))
    aucs = [metrics.roc_auc_score(labels == k, probabilities[:, k]) for k in range(4)]
    assert [row["roc_auc"] for row in rows] == pytest.approx(aucs)


def test_a_small_case_comes_out_as_by_hand():
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    measured = classification.measure(labels, probabilities, ["no", "yes"])
    assert measured["confusion_matrix"] == [[1, 1], [0, 2]]
    assert values(measured)["accuracy"] == 0.75
    assert values(measured)["roc_auc"] == 1.0
    assert values(measured)["brier"] == pytest.approx((0.01 + 0.36 + 0.04 + 0.09) / 4)
    assert values(measured)["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.7]).mean())
    assert measured["baseline"] == {"class": "no", "accuracy": 0.5}


@pytest.mark.moderate
@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 60), classes=st.integers(2, 12), seed=st.integers(0, 10**6), skill=st.floats(-2, 8))
def test_every_interval_holds_its_value_and_all_is_json(n, classes, seed, skill):
    measured = classification.measure(*answers(n, classes, seed, skill), names(classes))
    for score in measured["scores"].values():
        if score["low"] is None:
            assert score["reason"]
        else:
            assert score["low"] <= score["value"] <= score["high"]
    json.dumps(measured, allow_nan=False)


@pytest.mark.moderate
@settings(max_examples=8, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 100))
def test_the_order_of_classes_and_examples_does_not_matter(order, seed):
    labels, probabilities = answers(80, 4, seed)
    renumbered = np.argsort(order)[labels]
    shuffle = np.random.default_rng(seed).permutation(80)
    one = classification.measure(labels, probabilities, names(4))
    other = classification.measure(renumbered[shuffle], probabilities[shuffle][:, order], [names(4)[k] for k in order])
    assert values(one) == pytest.approx(values(other))


def test_the_same_seed_gives_the_same_intervals():
    case = (*answers(200, 3), names(3))
    assert classification.measure(*case, seed=4) == classification.measure(*case, seed=4)


@pytest.mark.moderate
def test_the_intervals_are_as_wide_as_the_spread_over_fresh_test_sets():
    fresh = [values(classification.measure(*answers(300, 3, seed), names(3))) for seed in range(40)]
    scores = classification.measure(*answers(300, 3, 99), names(3))["scores"]
    for name in ("accuracy", "f1_macro", "roc_auc", "pr_auc", "log_loss", "brier"):
        spread = np.std([run[name] for run in fresh])
        assert scores[name]["high"] - scores[name]["low"] == pytest.approx(2 * 1.96 * spread, rel=0.4), name


def test_a_flawless_result_still_admits_doubt():
    labels = np.tile([0, 1], 20)
    scores = classification.measure(labels, np.eye(2)[labels], ["a", "b"])["scores"]
    assert scores["accuracy"]["value"] == 1 and 0.9 < scores["accuracy"]["low"] < 0.95
    assert scores["f1_macro"]["low"] is None and "resampling" in scores["f1_macro"]["reason"]


def test_one_example_is_enough_to_answer():
    measured = classification.measure(np.array([1]), np.array([[0.2, 0.5, 0.3]]), names(3))
    assert values(measured)["accuracy"] == 1
    assert values(measured)["roc_auc"] is None
    assert "class" in measured["scores"]["roc_auc"]["reason"]


def test_a_class_without_examples_is_left_out_of_the_mean_and_named():
    labels, probabilities = answers(200, 3)
    kept = labels != 2
    measured = classification.measure(labels[kept], probabilities[kept], names(3))
    assert "'class 2'" in measured["scores"]["roc_auc"]["reason"]
    assert measured["scores"]["roc_auc"]["value"] is not None
    absent = measured["per_class"][2]
    assert (absent["support"], absent["recall"], absent["roc_auc"]) == (0, None, None)
    assert absent["reason"] == "no example is of class 'class 2'"


def test_a_model_that_always_says_the_same_has_an_area_of_one_half():
    labels = np.tile([0, 1, 1], 30)
    measured = classification.measure(labels, np.tile([0.4, 0.6], (90, 1)), ["a", "b"])
    assert values(measured)["roc_auc"] == 0.5
    assert values(measured)["accuracy"] == measured["baseline"]["accuracy"] == pytest.approx(2 / 3)


@pytest.mark.moderate
@pytest.mark.parametrize("classes", [2, 30])
def test_curves_are_thin_and_keep_their_ends(classes):
    curves = classification.measure(*answers(5000, classes), names(classes))["curves"]
    assert len(curves["roc"]) <= classification.MOST_CURVES + 1
    for curve in curves["roc"]:
        assert len(curve["x"]) == len(curve["y"]) <= 200
        assert (curve["x"][0], curve["y"][0], curve["x"][-1], curve["y"][-1]) == (0, 0, 1, 1)
        assert metrics.auc(curve["x"], curve["y"]) == pytest.approx(curve["area"], abs=0.01)


def test_nan_is_an_error_a_person_can_act_on():
    labels, probabilities = answers(10, 3)
    probabilities[7, 1] = np.nan
    with pytest.raises(Failed, match=r"NaN or infinity for 1 of 10 examples \(the first: number 7\)"):
        classification.measure(labels, probabilities, names(3))


def test_an_empty_part_is_missing_data():
    with pytest.raises(Missing, match="no example"):
        classification.measure(np.zeros(0, int), np.zeros((0, 3)), names(3))


@pytest.mark.parametrize(
    "labels, probabilities, message",
    [
        ([0, 1], [[1, 3], [2, 0]], "apply softmax"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "labels are 0–2"),
        ([0], [[1, 0, 0]], r"want probabilities \[1, 2\]"),
    ],
)
def test_what_cannot_be_right_is_refused(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        classification.measure(np.array(labels), np.array(probabilities), ["a", "b"])
