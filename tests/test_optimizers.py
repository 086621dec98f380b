"""Schedules against their closed forms; a changed optimizer is the old one but for what was changed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given
from hypothesis import strategies as st

from tfapp import plan
from tfapp.errors import Refused
from tfapp.optimizers import Schedule, changed, planned

CLOSED = {
    "constant": lambda done, final: 1,
    "cosine": lambda done, final: final + (1 - final) * (1 + math.cos(math.pi * done)) / 2,
    "linear": lambda done, final: 1 + (final - 1) * done,
    "exponential": lambda done, final: final**done,
}


@given(
    st.sampled_from(sorted(CLOSED)),
    st.floats(1e-6, 10),
    st.floats(0.001, 1),
    st.integers(0, 30),
    st.integers(1, 200),
    st.integers(0, 250),
)
def test_a_schedule_is_its_closed_form(kind, peak, final, warmup, total, step) -> None:
    found = float(Schedule(kind, peak, final, warmup, total)(step))
    done = min(max((step - warmup) / max(1, total - warmup), 0), 1)
    rise = min(1, (step + 1) / (warmup + 1))
    assert found == pytest.approx(peak * CLOSED[kind](done, final) * rise, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("kind", sorted(CLOSED))
def test_a_schedule_rises_evenly_to_the_peak_and_ends_at_its_share(kind: str) -> None:
    schedule = Schedule(kind, 2.0, 0.1, 10, 110)
    rates = [float(schedule(step)) for step in range(111)]
    assert np.allclose(np.diff(rates[:11]), 2 / 11, atol=1e-6) and rates[0] > 0
    assert rates[10] == pytest.approx(2.0) == max(rates)
    assert rates[110] == pytest.approx(2.0 if kind == "constant" else 0.2, rel=1e-5)
    assert all(a >= b - 1e-6 for a, b in zip(rates[10:], rates[11:], strict=False))
    assert float(schedule(10**6)) == pytest.approx(rates[110])


def test_a_schedule_survives_its_config_and_works_in_a_function() -> None:
    schedule = Schedule("cosine", 0.1, 0.01, 5, 50)
    again = Schedule.from_config(schedule.get_config())
    assert float(tf.function(again)(tf.constant(20, tf.int64))) == pytest.approx(float(schedule(20)))


def fit(**settings) -> plan.Fit:
    return plan.Fit.model_validate(settings)


def test_the_plan_lays_a_schedule_over_the_recipe_s_rate_with_the_warm_up_in_epochs() -> None:
    asked = fit(schedule={"kind": "linear", "warmup": 1.5, "final": 0.2})
    optimizer = planned(keras.optimizers.Adam(0.3), asked, steps_per_epoch=10, total_steps=100)
    rates = optimizer._learning_rate
    assert isinstance(rates, Schedule) and (rates.warmup, rates.total, rates.final) == (15, 100, 0.2)
    assert rates.peak == pytest.approx(0.3)


@pytest.mark.parametrize("kind", ["constant", "plateau"])
def test_without_a_schedule_the_optimizer_is_the_recipe_s_own(kind: str) -> None:
    own = keras.optimizers.Adam(0.3)
    assert planned(own, fit(schedule={"kind": kind}), 10, 100) is own


def test_a_warm_up_alone_is_a_schedule_too() -> None:
    optimizer = planned(keras.optimizers.SGD(0.3), fit(schedule={"warmup": 1}), 10, 100)
    assert float(optimizer.learning_rate) == pytest.approx(0.3 / 11)


def test_a_recipe_s_own_schedule_is_kept_and_a_second_refused() -> None:
    own = keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 50))
    with pytest.raises(Refused, match="brings a learning-rate schedule of its own\nleave fit.schedule out"):
        planned(own, fit(schedule={"kind": "cosine"}), 10, 100)
    clipped = planned(own, fit(clip_norm=1), 10, 100)
    assert clipped._learning_rate is own._learning_rate


def moved(optimizer, gradient: list[float]) -> np.ndarray:
    """What one step with this gradient takes off two weights."""
    weights = [tf.Variable([0.0]), tf.Variable([0.0])]
    optimizer.build(weights)
    optimizer.apply_gradients([(tf.constant([float(g)]), w) for g, w in zip(gradient, weights, strict=True)])
    return -np.concatenate([w.numpy() for w in weights])


def test_gradients_are_clipped_by_their_norm_over_all_weights_or_each_value() -> None:
    assert moved(planned(keras.optimizers.SGD(1.0), fit(clip_norm=1), 1, 1), [3, 4]) == pytest.approx([0.6, 0.8])
    assert moved(planned(keras.optimizers.SGD(1.0), fit(clip_norm=10), 1, 1), [3, 4]) == pytest.approx([3, 4])
    assert moved(planned(keras.optimizers.SGD(1.0), fit(clip_value=2), 1, 1), [3, -4]) == pytest.approx([2, -2])


def test_the_plan_s_clipping_takes_the_place_of_the_recipe_s() -> None:
    for own in ({"clipnorm": 0.1}, {"clipvalue": 0.1}, {"global_clipnorm": 0.1}):
        optimizer = planned(keras.optimizers.SGD(1.0, **own), fit(clip_norm=1), 1, 1)
        assert moved(optimizer, [3, 4]) == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize(
    "own",
    [
        keras.optimizers.Adam(0.1, beta_1=0.8, amsgrad=True),
        keras.optimizers.AdamW(0.1, weight_decay=0.02),
        keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        keras.optimizers.RMSprop(0.1, rho=0.8, centered=True),
        keras.optimizers.Lion(0.1, beta_2=0.9),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_a_changed_copy_keeps_every_other_setting_and_the_original(own) -> None:
    before = own.get_config()
    copy = changed(own, use_ema=True, ema_momentum=0.5)
    assert type(copy) is type(own) and own.get_config() == before and not own.use_ema
    assert {**copy.get_config(), "use_ema": False, "ema_momentum": before["ema_momentum"]} == before


def test_a_changed_copy_keeps_what_is_left_out_of_weight_decay() -> None:
    own = keras.optimizers.AdamW(0.0, weight_decay=0.5)
    bias = tf.Variable([1.0], name="bias")
    own.exclude_from_weight_decay(var_list=[bias], var_names=["norm"])
    copy = changed(own, global_clipnorm=1.0)
    kernel, norm = tf.Variable([1.0], name="kernel"), tf.Variable([1.0], name="norm")
    copy.build([bias, kernel, norm])
    assert [copy._use_weight_decay(v) for v in (bias, kernel, norm)] == [False, True, False]


def test_an_optimizer_of_the_old_kind_is_refused_with_those_that_do() -> None:
    with pytest.raises(Refused, match="has no use_ema\nuse one of tf_keras.optimizers"):
        changed(keras.optimizers.legacy.Adam(), use_ema=True)
