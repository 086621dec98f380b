"""What holds of a weight holds after every step, of its moving average too, whatever the optimizer did."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp import hold


def fitted(optimizer: keras.optimizers.Optimizer, jit: bool = False) -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, use_bias=False, name="kernel")])
    kernel = model.layers[0].kernel
    kernel.assign(kernel * [[0.0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 1]])
    model.compile(optimizer, "mse", steps_per_execution=3, jit_compile=jit)
    optimizer.build(model.trainable_variables)
    hold.after_each_step(model, [(kernel, hold.zeros)])
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    model.fit(x, x[:, :3], batch_size=4, epochs=2, verbose=0)
    return model


@pytest.mark.moderate
@pytest.mark.parametrize("jit", [False, True])
def test_zeros_stay_and_the_rest_moves(jit: bool) -> None:
    model = fitted(keras.optimizers.Adam(0.1), jit)
    assert np.array_equal(model.layers[0].kernel.numpy() == 0, np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]))


@pytest.mark.moderate
def test_the_moving_average_obeys_the_same_law() -> None:
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_momentum=0.5)
    model = fitted(optimizer)
    (average,) = hold.averages(optimizer, model.layers[0].kernel)
    assert np.array_equal(average.numpy() == 0, model.layers[0].kernel.numpy() == 0)
    assert (average.numpy() == 0).sum() == 5


def test_an_optimizer_without_averages_has_none() -> None:
    assert hold.averages(keras.optimizers.SGD(), tf.Variable(1.0)) == []


@pytest.mark.moderate
def test_a_scaled_loss_changes_nothing_of_it() -> None:
    optimizer = keras.mixed_precision.LossScaleOptimizer(keras.optimizers.Adam(0.1))
    assert (fitted(optimizer).layers[0].kernel.numpy() == 0).sum() == 5
