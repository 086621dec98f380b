"""Private training's arithmetic, beside dp-accounting's own and the numbers that are published."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import dp_accounting as dp
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.stats import binom

from tfapp.errors import Refused, Usage
from tfapp.private import accounting
from tfapp.private.accounting import Mechanism

# 60,000 examples, batches of 256, σ 1.1, 15 epochs, δ 1e-5: the case of tensorflow-privacy's MNIST tutorial.
PUBLISHED = Mechanism("poisson", 60_000, 256, 1.1, 3_515)
SMALL = Mechanism("poisson", 1_000, 50, 4.0, 60)


@pytest.mark.moderate
def test_the_published_case_comes_out() -> None:
    assert accounting.epsilon(PUBLISHED, 1e-5) == pytest.approx(1.134, abs=5e-4)
    told = dict(accounting.readings(PUBLISHED, 1e-5))
    assert [round(value, 3) for value in told.values()] == [1.281, 2.435, 13.615, 20.562, 21.901]


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_epsilon_is_that_of_dp_accounting(accountant) -> None:
    step = dp.PoissonSampledDpEvent(0.05, dp.GaussianDpEvent(4.0))
    own = (PLDAccountant if accountant == "pld" else RdpAccountant)().compose(dp.SelfComposedDpEvent(step, 60))
    deltas = [1e-4, 1e-5, 1e-7]
    told = accounting.epsilons(SMALL, deltas, accountant)
    assert told == pytest.approx([own.get_epsilon(delta) for delta in deltas], abs=1e-6)


def test_a_shuffled_run_is_a_gaussian_for_each_epoch_begun() -> None:
    shuffled = replace(SMALL, sampling="shuffle", steps=41)
    assert shuffled.epochs == 3
    own = PLDAccountant().compose(dp.SelfComposedDpEvent(dp.GaussianDpEvent(4.0), 3))
    assert accounting.epsilon(shuffled, 1e-5) == pytest.approx(own.get_epsilon(1e-5), abs=1e-6)


def test_replacing_an_example_counts_twice_of_a_shuffled_run() -> None:
    told = dict(accounting.readings(replace(SMALL, sampling="shuffle"), 1e-5))
    halved = replace(SMALL, sampling="shuffle", noise_multiplier=2.0)
    assert told["PLD, each example once an epoch, replace one"] == accounting.epsilon(halved, 1e-5)


@pytest.mark.moderate
@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_several_trainings_are_composed(accountant) -> None:
    other = Mechanism("shuffle", 500, 50, 8.0, 20)
    events = [
        dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(0.05, dp.GaussianDpEvent(4.0)), 60),
        dp.SelfComposedDpEvent(dp.GaussianDpEvent(8.0), 2),
    ]
    own = (PLDAccountant if accountant == "pld" else RdpAccountant)().compose(dp.ComposedDpEvent(events))
    both = accounting.epsilon([SMALL, other], 1e-5, accountant)
    assert both == pytest.approx(own.get_epsilon(1e-5), abs=1e-6)
    assert accounting.epsilon([SMALL, SMALL], 1e-5) == accounting.epsilon(replace(SMALL, steps=120), 1e-5)


def test_no_step_spends_nothing_and_no_noise_everything() -> None:
    assert accounting.epsilon(replace(SMALL, steps=0), 1e-5) == 0
    assert accounting.epsilon([], 1e-5) == 0
    assert accounting.epsilon(replace(SMALL, noise_multiplier=0), 1e-5) == math.inf


def test_every_example_in_every_step_is_a_plain_gaussian() -> None:
    whole = Mechanism("poisson", 100, 100, 5.0, 4)
    assert accounting.epsilon(whole, 1e-5) == accounting.epsilon(replace(whole, sampling="shuffle"), 1e-5)


@pytest.mark.moderate
@pytest.mark.parametrize(("sampling", "accountant"), [("poisson", "pld"), ("poisson", "rdp"), ("shuffle", "pld")])
@pytest.mark.parametrize("epsilon", [0.2, 3.0, 12.0])
def test_the_noise_found_is_the_least(sampling, accountant, epsilon) -> None:
    asked = replace(SMALL, sampling=sampling)
    noise = accounting.noise_for(asked, epsilon, 1e-4, accountant)
    assert accounting.epsilon(replace(asked, noise_multiplier=noise), 1e-4, accountant) <= epsilon
    assert accounting.epsilon(replace(asked, noise_multiplier=noise * 0.998), 1e-4, accountant) > epsilon


@pytest.mark.moderate
@settings(max_examples=8)
@given(some.floats(0.05, 100), some.integers(1, 500), some.sampled_from([1, 8, 64, 500]))
def test_whatever_is_asked_for_is_kept(epsilon, steps, batch_size) -> None:
    asked = Mechanism("poisson", 500, batch_size, 0.0, steps)
    noise = accounting.noise_for(asked, epsilon, 1e-3, "rdp")
    assert accounting.epsilon(replace(asked, noise_multiplier=noise), 1e-3, "rdp") <= epsilon


def test_a_budget_that_no_noise_reaches_is_refused() -> None:
    with pytest.raises(Refused, match="no noise reaches ε 0.0001 .*\n.*private.epsilon"):
        accounting.noise_for(Mechanism("poisson", 1000, 1000, 0.0, 10**12), 1e-4, 1e-5)


@pytest.mark.parametrize(
    ("epsilon", "delta", "error", "words"),
    [
        (0.0, 1e-5, Usage, "private.epsilon=0"),
        (-1.0, 1e-5, Usage, "private.epsilon=-1"),
        (3.0, 0.0, Usage, "leave it out for 0.0001"),
        (3.0, -1e-5, Usage, "private.delta"),
        (3.0, 1e-3, Refused, "1 / 1,000"),
        (3.0, 0.5, Refused, "1 / 1,000"),
    ],
)
def test_a_budget_that_says_nothing_is_refused(epsilon, delta, error, words) -> None:
    with pytest.raises(error, match=words):
        accounting.noise_for(SMALL, epsilon, delta)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(Refused, match="batch of 65 .* 64 training examples"):
        Mechanism("poisson", 64, 65, 1.0, 1)
    with pytest.raises(Usage, match="batch size 0"):
        Mechanism("poisson", 64, 0, 1.0, 1)
    with pytest.raises(Usage, match="nan"):
        Mechanism("poisson", 64, 1, math.nan, 1)


@given(some.integers(1, 10**9))
def test_the_default_delta_is_the_largest_power_of_ten_below_one_in_n(n) -> None:
    delta = accounting.default_delta(n)
    assert delta * n < 1 <= delta * 10 * n * (1 + 1e-12)


@given(some.integers(1, 5_000), some.floats(0.001, 1), some.integers(1, 10_000), some.floats(1e-12, 1e-2))
def test_a_capacity_is_the_least_that_keeps_overflow_rare(examples, share, steps, at_most) -> None:
    batch_size = max(1, int(examples * share))
    found = accounting.capacity(examples, batch_size, steps, at_most)
    assert 1 <= found <= examples
    assert accounting.overflow(examples, batch_size, steps, found) <= at_most
    assert found == 1 or accounting.overflow(examples, batch_size, steps, found - 1) > at_most


def test_overflow_is_counted_with_the_neighbours_example_and_a_full_batch() -> None:
    assert accounting.overflow(1_000, 50, 60, 80) == pytest.approx(60 * (1 - binom.cdf(79, 1_001, 0.05)), rel=1e-6)
    assert accounting.overflow(1_000, 50, 60, 1_000) == 0
    assert accounting.overflow(1_000, 50, 60, 1) == 1


@given(some.floats(0.3, 5), some.floats(3, 100))
def test_gradient_and_count_together_cost_what_one_sum_does(noise, of_count) -> None:
    of_gradient = accounting.divided(noise, of_count)
    assert of_gradient >= noise
    assert 1 / of_gradient**2 + 1 / (2 * of_count) ** 2 == pytest.approx(1 / noise**2)


def test_a_count_that_costs_all_is_refused() -> None:
    with pytest.raises(Refused, match="above 0.5"):
        accounting.divided(1.0, 0.5)
    with pytest.raises(Refused):
        accounting.divided(1.0, 0.0)


@pytest.mark.moderate
def test_the_curve_rises_to_what_was_spent() -> None:
    points = accounting.curve(SMALL, 1e-5)
    steps, spent = zip(*points, strict=True)
    assert steps[-1] == 60 and len(points) == 20
    assert list(spent) == sorted(spent)
    assert accounting.epsilon(SMALL, 1e-5) <= spent[-1] <= 1.01 * accounting.epsilon(SMALL, 1e-5)
    assert accounting.curve(replace(SMALL, steps=0), 1e-5) == []


def test_accounting_imports_neither_tensorflow_nor_dp_accounting() -> None:
    code = "import sys, tfapp.private.accounting; print({'tensorflow', 'dp_accounting', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
