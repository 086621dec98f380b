"""What a random layer draws is a function of seed, layer, step and row, and is distributed as its name says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from scipy import stats

from tfapp import stateless
from tfapp.stateless import StatelessGenerator


def generator(seed: int = 0, layer: int = 0, step: int = 0) -> StatelessGenerator:
    return StatelessGenerator(seed, layer, tf.Variable(step, dtype=tf.int64))


class Replica:
    """A replica's place among the others, as a strategy tells it."""

    def __init__(self, number: int):
        self.replica_id_in_sync_group = number


def drawn(kind: str, **key: int) -> np.ndarray:
    return getattr(generator(**key), kind)([2000, 50]).numpy().ravel()


FITS = {
    "random_uniform": stats.uniform(),
    "random_normal": stats.norm(),
    "truncated_normal": stats.truncnorm(-2, 2),
}


@pytest.mark.parametrize("kind", FITS)
@pytest.mark.parametrize("key", [{}, {"seed": 2**31 - 1, "layer": 200, "step": 10**6}], ids=["first", "far"])
def test_draws_are_distributed_as_their_name_says(kind: str, key: dict[str, int]) -> None:
    values, expected = drawn(kind, **key), FITS[kind]
    assert stats.kstest(values, expected.cdf).pvalue > 1e-3
    n = len(values)
    assert values.mean() == pytest.approx(expected.mean(), abs=4 * expected.std() / n**0.5)
    assert values.var() == pytest.approx(expected.var(), rel=0.03)
    quantiles = [0.001, 0.1, 0.5, 0.9, 0.999]
    assert np.quantile(values, quantiles) == pytest.approx(expected.ppf(quantiles), abs=0.15)
    assert np.all(np.isfinite(values))


@pytest.mark.parametrize("kind", FITS)
def test_neighbouring_rows_and_columns_are_independent(kind: str) -> None:
    values = drawn(kind).reshape(2000, 50)
    for a, b in [(values[1:], values[:-1]), (values[:, 1:], values[:, :-1])]:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.015


def test_bounds_mean_and_deviation_are_those_asked_for() -> None:
    uniform = generator().random_uniform([1000], -3.0, 5.0).numpy()
    assert -3 <= uniform.min() < -2.9 and 4.9 < uniform.max() < 5
    normal = generator().random_normal([4000], 10.0, 0.1).numpy()
    assert normal.mean() == pytest.approx(10, abs=0.01) and normal.std() == pytest.approx(0.1, rel=0.05)
    truncated = generator().truncated_normal([4000], 10.0, 0.1).numpy()
    assert 9.8 <= truncated.min() < 9.82 and 10.18 < truncated.max() <= 10.2001


def test_uniform_draws_are_never_one() -> None:
    # A 1 would be an infinite normal, and drop with a rate of 1 keep something.
    assert max(drawn("uniform", step=step).max() for step in range(10)) < 1


@pytest.mark.parametrize("shape", [(8,), (8, 1), (8, 3), (8, 4), (8, 5, 7), (8, 2, 3, 3)])
@pytest.mark.parametrize("replicas", [2, 4, 8])
def test_a_row_draws_the_same_on_whichever_replica_it_is(
    shape: tuple[int, ...], replicas: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("uniform", *FITS):
        whole = getattr(generator(3, 1, 9), kind)(shape).numpy()
        parts = []
        for number in range(replicas):
            with monkeypatch.context() as patch:
                patch.setattr(tf.distribute, "get_replica_context", lambda number=number: Replica(number))
                parts.append(getattr(generator(3, 1, 9), kind)((8 // replicas, *shape[1:])).numpy())
        # The vectorised logarithm differs from the plain one in the last bit.
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6, atol=1e-6)
        assert kind != "uniform" or np.array_equal(np.concatenate(parts), whole)


def test_a_row_draws_the_same_in_a_larger_batch() -> None:
    assert np.array_equal(generator().uniform([4, 7]), generator().uniform([64, 7])[:4])


def test_every_seed_layer_step_and_row_draws_something_else() -> None:
    found: dict[bytes, Any] = {}
    for seed in (0, 1, 255, 256, 2**31 - 1):
        for layer in (0, 1, 255):
            for step in (0, 1, 2, 2**20):
                for row, values in enumerate(generator(seed, layer, step).uniform([3, 4]).numpy()):
                    found[values.tobytes()] = (seed, layer, step, row)
    assert len(found) == 5 * 3 * 4 * 3


def test_more_than_256_layers_of_a_seed_still_draw_each_their_own() -> None:
    assert not np.array_equal(generator(0, 256).uniform([4]), generator(1, 0).uniform([4]))


@pytest.mark.moderate
def test_the_same_key_draws_the_same_in_a_function_and_outside() -> None:
    g = generator(5, 2, 7)
    inside = tf.function(lambda n: g.random_normal(tf.stack([n, 3])))(tf.constant(4))
    np.testing.assert_allclose(inside, g.random_normal([4, 3]), rtol=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_the_rate_and_keeps_the_mean(rate: float) -> None:
    kept = generator().dropout(tf.ones([1000, 100]), rate).numpy()
    assert np.mean(kept == 0) == pytest.approx(rate, abs=0.006)
    assert kept.mean() == pytest.approx(1, abs=0.05)
    assert np.unique(kept) == pytest.approx([0, 1 / (1 - rate)], rel=1e-4)


def test_neighbours_are_dropped_independently_of_each_other() -> None:
    kept = generator().dropout(tf.ones([2000, 50]), 0.5).numpy()
    for a, b in [(kept[1:], kept[:-1]), (kept[:, 1:], kept[:, :-1]), (kept[:, 8:], kept[:, :-8])]:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.015


def test_dropout_by_a_noise_shape_drops_whole_channels() -> None:
    kept = generator().dropout(tf.ones([4, 5, 5, 64]), 0.5, (None, 1, 1, 64)).numpy()
    assert np.array_equal(kept, np.broadcast_to(kept[:, :1, :1], kept.shape)) and 0 < np.mean(kept == 0) < 1


def test_dropout_in_half_precision_stays_in_it() -> None:
    kept = generator().dropout(tf.ones([100, 100], tf.bfloat16), 0.25)
    assert kept.dtype == tf.bfloat16
    assert float(tf.reduce_mean(tf.cast(kept == 0, tf.float32))) == pytest.approx(0.25, abs=0.02)


def noisy() -> keras.Model:
    inputs = keras.Input((6,))
    x = keras.layers.GaussianNoise(1.0)(inputs)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.GaussianDropout(0.3)(x)
    x = keras.layers.AlphaDropout(0.2)(x)
    return keras.Model(inputs, keras.layers.Dropout(0.5)(x))


def test_every_random_layer_of_keras_draws_by_the_step_and_gets_its_own_generator_back() -> None:
    model, step = noisy(), tf.Variable(0, dtype=tf.int64)
    own = [layer._random_generator for layer in model.layers[1:]]
    restore = stateless.install(model, 3, step)
    first = model(tf.ones([16, 6]), training=True).numpy()
    assert np.array_equal(model(tf.ones([16, 6]), training=True), first)
    step.assign(1)
    assert not np.array_equal(model(tf.ones([16, 6]), training=True), first)
    assert np.array_equal(model(tf.ones([2, 6]), training=False), np.ones([2, 6]))
    assert restore(model) is model
    assert [layer._random_generator for layer in model.layers[1:]] == own
    assert not np.array_equal(model(tf.ones([16, 6]), training=True), model(tf.ones([16, 6]), training=True))


def test_layers_inside_layers_are_found() -> None:
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5)])
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dropout(0.5)(inner(inputs)))
    stateless.install(model, 0, tf.Variable(0, dtype=tf.int64))
    generators = [inner.layers[-1]._random_generator, model.layers[-1]._random_generator]
    assert all(isinstance(g, StatelessGenerator) for g in generators) and generators[0]._key != generators[1]._key


def test_keras_s_layers_that_draw_once_a_batch_get_a_new_seed_each_step() -> None:
    step = tf.Variable(0, dtype=tf.int64)
    g = StatelessGenerator(3, 1, step)
    first = g.make_seed_for_stateless_op().numpy()
    step.assign_add(1)
    assert first.dtype == np.int32 and not np.array_equal(first, g.make_seed_for_stateless_op().numpy())
    image = keras.layers.RandomFlip("horizontal")
    model = keras.Sequential([keras.Input((4, 4, 1)), image])
    step.assign(0)
    stateless.install(model, 3, step)
    batch = tf.reshape(tf.range(16 * 16.0), [16, 4, 4, 1])
    one = model(batch, training=True).numpy()
    assert np.array_equal(model(batch, training=True), one)
    step.assign(1)
    assert not np.array_equal(model(batch, training=True), one)


@pytest.mark.moderate
def test_a_layer_that_draws_several_times_a_step_draws_something_else_each_time_and_the_same_again() -> None:
    lstm = keras.layers.LSTM(32, dropout=0.5, recurrent_dropout=0.5)
    inputs = keras.Input((3, 32))
    model, step = keras.Model(inputs, lstm(inputs)), tf.Variable(0, dtype=tf.int64)
    stateless.install(model, 0, step)

    def masks() -> Any:
        # Traced anew, as in a process that goes on from a checkpoint.
        @tf.function
        def gates() -> Any:
            ones = tf.ones([2, 32])
            return lstm.cell._create_dropout_mask(ones, True, 4) + lstm.cell._create_recurrent_dropout_mask(
                ones, True, 4
            )

        return [mask.numpy() for mask in gates()]

    first = masks()
    assert len({mask.tobytes() for mask in first}) == 8
    assert all(np.array_equal(a, b) for a, b in zip(first, masks(), strict=True))
    step.assign(1)
    assert not np.array_equal(masks()[0], first[0])


def test_random_translations_shift_by_height_and_by_width_on_their_own() -> None:
    layer = keras.layers.RandomTranslation(0.4, 0.4, fill_mode="constant")
    model = keras.Sequential([keras.Input((9, 9, 1)), layer])
    stateless.install(model, 0, tf.Variable(0, dtype=tf.int64))
    dot = np.zeros((64, 9, 9, 1), np.float32)
    dot[:, 4, 4] = 1
    moved = tf.function(lambda batch: model(batch, training=True))(dot).numpy()[..., 0]
    rows = (moved.sum(2) * np.arange(9)).sum(1) / moved.sum((1, 2))
    columns = (moved.sum(1) * np.arange(9)).sum(1) / moved.sum((1, 2))
    assert rows.std() > 0.5 and abs(np.corrcoef(rows, columns)[0, 1]) < 0.5
