"""Recomputed blocks give the gradients that they gave, dropout included, and leave no trace in what is saved."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp import recompute, stateless
from tfapp.errors import Refused


def deep(blocks=3, width=4, around=lambda block: block):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, width))
    x = tf.cumsum(inputs, axis=1)  # A layer of Keras's that has a call of its own.
    for _ in range(blocks):
        x = around(
            keras.Sequential(
                [
                    keras.Input((5, width)),
                    keras.layers.LayerNormalization(),
                    keras.layers.Dense(width, activation="tanh"),
                    keras.layers.Dropout(0.5),
                ]
            )
        )(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def gradients(model, x, first=None):
    """The loss and its gradients, taken where neither Keras nor the rows that a batch begins with are around any more."""
    stateless.install(model, 7, tf.Variable(3, dtype=tf.int64))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            with stateless.rows_from(first):
                loss = tf.reduce_sum(model(x, training=True) ** 2)
        return loss, tape.gradient(loss, model.trainable_variables)

    return step()


@pytest.fixture(scope="module")
def batch():
    return np.random.default_rng(0).normal(size=(6, 5, 4)).astype("float32")


@pytest.mark.moderate
@pytest.mark.parametrize("first", [None, 6])
def test_gradients_are_those_of_the_plain_model_with_the_same_dropout(batch, first):
    loss, grads = gradients(deep(around=recompute.around), batch, first)
    expected_loss, expected = gradients(deep(), batch, first)
    assert float(loss) == float(expected_loss)
    for one, other in zip(grads, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.moderate
def test_outside_of_training_and_in_a_file_the_model_is_plain(batch, tmp_path):
    model = deep(around=recompute.around)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again(batch, training=False), model(batch, training=False))
    recompute.forget(model)
    np.testing.assert_array_equal(again(batch, training=False), model(batch, training=False))
    tf.saved_model.save(model, str(tmp_path / "saved"))
    served = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    np.testing.assert_allclose(next(iter(served(tf.constant(batch)).values())), again(batch), rtol=1e-5, atol=1e-6)


def test_a_block_is_computed_twice_only_for_its_gradient(batch):
    calls = []
    block = keras.Sequential([keras.Input((5, 4)), keras.layers.Dense(4)])
    plain, block.call = block.call, lambda *given: calls.append(1) or plain(*given)
    model = recompute.around(block)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(tf.constant(batch), training=True))
    assert len(calls) == 1
    tape.gradient(loss, model.trainable_variables)
    assert len(calls) == 2


@pytest.mark.parametrize("layer", [keras.layers.BatchNormalization(), keras.layers.Dense(4, activity_regularizer="l2")])
def test_a_block_that_would_count_a_batch_twice_is_refused(layer):
    with pytest.raises(Refused, match="take it out of the block"):
        recompute.around(keras.Sequential([keras.Input((5, 4)), layer]))
