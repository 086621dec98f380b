"""Lower bounds on ε: hand-computed cases, and mechanisms of a known ε, which they must hardly ever exceed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tfapp.audit import bound


def accuracy(epsilon: float) -> float:
    return math.exp(epsilon) / (1 + math.exp(epsilon))


@pytest.mark.parametrize("guesses", [5, 20, 200])
def test_all_guesses_right_without_delta_is_the_power_of_one_guess(guesses: int) -> None:
    epsilon = bound.from_guesses(guesses, guesses, guesses, 0.0)
    assert accuracy(epsilon) ** guesses == pytest.approx(0.05, abs=1e-6)


def test_as_few_right_as_by_tossing_a_coin_say_nothing() -> None:
    assert bound.from_guesses(100, 100, 50, 0.0) == 0 == bound.from_guesses(4, 4, 4, 0.0)


def test_delta_adds_what_the_theorem_says() -> None:
    # Two guesses, both right, at ε = 0: W is 0, 1, 2 with 1/4, 1/2, 1/4. P[W ≥ 2] = 1/4;
    # max over i of P[2 > W ≥ 2 - i] / i = max(1/2, 3/4 / 2) = 1/2; with ten canaries 2 · 10 · δ · 1/2.
    assert bound.p_value(10, 2, 2, 0.0, 0.01) == pytest.approx(0.25 + 2 * 10 * 0.01 * 0.5)
    without, with_ = (bound.from_guesses(500, 500, 480, delta) for delta in (0.0, 1e-4))
    assert 0 < with_ < without


def test_abstaining_makes_fewer_right_guesses_worth_more() -> None:
    assert bound.from_guesses(100, 20, 20, 0.0) > bound.from_guesses(100, 100, 60, 0.0)


@pytest.mark.moderate
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_randomised_response_is_hardly_ever_bounded_above_its_own_epsilon(epsilon: float) -> None:
    random, m, tries = np.random.default_rng(0), 200, 150
    too_high, found = [0, 0], []
    for _ in range(tries):
        included = random.random(m) < 0.5
        said = np.where(random.random(m) < accuracy(epsilon), included, ~included)
        scores = said + random.random(m) / 2
        lower = bound.from_canaries({"score": scores, "noise": random.random(m)}, included, 0.0)["epsilon"]
        rates = bound.from_rates(scores[included], scores[~included], 0.0)["epsilon"]
        found.append(lower)
        too_high = [too_high[0] + (lower > epsilon), too_high[1] + (rates > epsilon)]
    # 5 % of 150 are 7.5; 14 or more of a fair 5 % come once in a hundred times.
    assert max(too_high) < 14
    assert np.mean(found) >= epsilon / 2


def test_rates_bound_by_who_is_sure_to_be_out_as_well() -> None:
    members, others = np.full(400, 1.0), np.r_[np.zeros(200), np.ones(200)]
    found = bound.from_rates(members, others, 1e-5)
    # Half of the others score below every member: guessing these as out is never wrong.
    assert found["epsilon"] > 2 and found["tpr"] == 1
