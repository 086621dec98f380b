from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfapp.tune import noise
from tfapp.tune.noise import Scored
from tfapp.tune.objective import Objective

ACCURACY = Objective("val_accuracy", True)


def test_the_largest_of_n_normal_draws_is_as_large_as_tables_say() -> None:
    assert [round(noise.largest_of(n), 3) for n in (1, 2, 5, 20)] == [0, 0.564, 1.163, 1.867]


@pytest.mark.moderate
def test_equal_trials_lead_by_luck_alone() -> None:
    random = np.random.default_rng(0)
    leads, lucks, overlooked = [], [], 0
    for _ in range(20):
        truth = (random.random((20, 200)) < 0.9).astype(float)
        truth = truth[np.argsort(-truth.mean(1))]
        scores = truth.mean(1)
        trials = [Scored([scores[index]], truth[index]) for index in (0, 1, 10)]
        found = noise.lead(ACCURACY, scores.tolist(), *trials)
        leads.append(found["over_median"]["value"])
        lucks.append(found["over_median"]["luck"])
        overlooked += "more than luck" in found["words"]
    # The best of twenty equal ones leads their median by about what is said of luck.
    assert np.mean(lucks) == pytest.approx(np.mean(leads), rel=0.15)
    assert overlooked == 0


def test_a_real_lead_is_told_as_one() -> None:
    best, worse = Scored([1.0], np.ones(200)), Scored([0.8], (np.arange(200) % 5 > 0).astype(float))
    found = noise.lead(ACCURACY, [1.0, 0.8], best, worse, worse)
    assert found["over_second"]["low"] > 0 and "more than luck" in found["words"]


def test_runs_with_several_seeds_tell_by_their_spread() -> None:
    best, worse = Scored([0.1, 0.11, 0.09]), Scored([0.2, 0.22, 0.21])
    found = noise.lead(Objective("val_loss", False), [0.1, 0.2], best, worse, worse)
    assert found["over_second"]["value"] == pytest.approx(0.11) and found["over_second"]["from"] == "3 runs each"
    assert found["over_second"]["low"] > 0


def test_without_anything_to_tell_by_it_says_so() -> None:
    found = noise.lead(ACCURACY, [0.9, 0.8], Scored([0.9]), Scored([0.8]), Scored([0.8]))
    assert found["over_second"]["low"] is None and "--repeat" in found["over_second"]["from"]


def test_examples_are_compared_only_where_they_are_the_same(tmp_path: Path) -> None:
    labels, outputs = np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    for name, held in (("a", labels), ("b", labels), ("c", 1 - labels)):
        np.savez(tmp_path / f"{name}.npz", labels=held, outputs=outputs)
    files = [tmp_path / f"{name}.npz" for name in ("a", "b", "c", "none")]
    same, again, other, missing = noise.examples(ACCURACY, files)
    assert same.tolist() == again.tolist() == [1, 1, 0] and other is None and missing is None
    assert noise.examples(Objective("val_loss", False), files)[0] == pytest.approx(-np.log([0.9, 0.8, 0.3]))
