"""What a score achieves, and what it is not said to achieve where rows are too few."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from tfapp.audit import lira, membership, rates, signals

pytestmark = pytest.mark.moderate


def test_rates_are_those_of_scikit_learn_and_lie_in_their_intervals() -> None:
    random = np.random.default_rng(0)
    members, others = random.normal(1, 1, 2000), random.normal(0, 1, 2000)
    found = rates.measure(members, others)
    truth = np.r_[np.ones(2000), np.zeros(2000)]
    assert found["auc"]["value"] == pytest.approx(metrics.roc_auc_score(truth, np.r_[members, others]))
    # Two normals a standard deviation apart: AUC Φ(1/√2), advantage 2 Φ(1/2) - 1.
    for score, known in ((found["auc"], 0.7602), (found["advantage"], 0.3829)):
        assert score["low"] <= score["value"] <= score["high"] and abs(score["value"] - known) < 0.03
    few = found["tpr"]["0.01"]
    assert few["low"] < few["value"] < few["high"] and few["false"] <= 20
    assert found["tpr"]["0.001"]["false"] <= 2
    assert len(found["curve"]["fpr"]) <= rates.CURVE_POINTS and found["curve"]["tpr"][-1] == 1


def test_too_few_others_have_no_rate_at_a_thousandth_and_say_how_many_it_takes() -> None:
    found = rates.measure(np.arange(50.0), np.arange(50.0))
    assert found["tpr"]["0.001"]["value"] is None and "1,000 rows" in found["tpr"]["0.001"]["reason"]
    assert found["auc"]["value"] == 0.5 and found["advantage"]["value"] == 0


def test_classes_with_few_rows_are_counted_and_no_more() -> None:
    labels = np.array(([0] * 20 + [1] * 3) * 2)
    rows = rates.by_class(labels, np.ones(23), np.zeros(23), ["many", "few"])
    assert rows[0]["auc"]["value"] == 1 and (rows[0]["members"], rows[0]["others"]) == (20, 20)
    assert rows[1] == {"class": "few", "members": 3, "others": 3}


def test_a_logistic_attack_on_noise_finds_nothing_and_on_a_leak_finds_it() -> None:
    random = np.random.default_rng(0)
    noise = random.normal(size=(400, 8))
    scores = membership.logistic(noise, 200)
    assert abs(rates.measure(scores[:200], scores[200:])["auc"]["value"] - 0.5) < 0.08
    noise[:200, 3] += 3
    scores = membership.logistic(noise, 200)
    assert rates.measure(scores[:200], scores[200:])["auc"]["value"] > 0.95


def test_signals_are_higher_for_what_the_model_is_sure_of_and_finite_where_it_is_certain() -> None:
    probabilities = np.array([[1, 0, 0], [0.8, 0.1, 0.1], [0.4, 0.3, 0.3]], np.float32)
    for values in signals.of_probabilities(np.zeros(3, int), probabilities).values():
        assert np.isfinite(values).all() and (np.diff(values) < 0).all()
    odds = signals.log_odds(np.zeros(3, int), probabilities)
    assert np.isfinite(odds).all() and odds[1] == pytest.approx(np.log(0.8 / 0.2), abs=1e-5)
    wrong = signals.of_probabilities(np.full(3, 2), probabilities)
    assert wrong["modified_entropy"][0] < wrong["modified_entropy"][2]
    # p = (0.8, 0.1, 0.1), label 0: -(0.2 ln 0.8 + 2 · 0.1 ln 0.9).
    own = signals.of_probabilities(np.zeros(3, int), probabilities)["modified_entropy"][1]
    assert own == pytest.approx(0.2 * np.log(0.8) + 0.2 * np.log(0.9), abs=1e-6)


@pytest.mark.parametrize("count", [8, 64])
def test_the_likelihood_ratio_is_that_of_the_normals_which_the_shadows_show(count: int) -> None:
    random, n = np.random.default_rng(0), 600
    hard = random.normal(0, 5, n)
    inside = np.stack([random.permutation(np.arange(count) % 2 == 0) for _ in range(n)], axis=1)
    shadows = hard + 2 * inside + random.normal(size=(count, n))
    target = hard + 2 * (np.arange(n) < n // 2) + random.normal(size=n)
    score = lira.likelihood_ratio(target, shadows, inside)
    # A row's own difficulty, which drowns the plain score, is taken out: Φ(√2) is .92 where means are known.
    plain = rates.measure(target[: n // 2], target[n // 2 :])["auc"]["value"]
    assert rates.measure(score[: n // 2], score[n // 2 :])["auc"]["value"] > 0.85 > 0.7 > plain
