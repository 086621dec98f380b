"""Weights are given to clusters once, at their epoch, and a kernel of zeros waits until it has learned."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfapp.callbacks.cluster import Cluster
from tfapp.sharing import Shared


def model_of(kernel: np.ndarray) -> tuple[keras.Model, Shared]:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.1, use_ema=True))
    model.optimizer.build(model.trainable_variables)
    weight = model.layers[0].kernel
    weight.assign(kernel)
    return model, Shared(weight)


def test_nothing_happens_before_its_epoch_and_once_from_then_on() -> None:
    model, shared = model_of(np.random.default_rng(0).normal(size=(4, 6)))
    callback = Cluster([shared], 5, first=2, seed=0)
    callback.set_model(model)
    callback.on_epoch_begin(1)
    assert not bool(shared.on.numpy()) and len(np.unique(shared.weight)) == 24
    callback.on_epoch_begin(2)
    centred = shared.weight.numpy()
    assert bool(shared.on.numpy()) and len(np.unique(centred)) == 5
    (average,) = model.optimizer._model_variables_moving_average
    assert np.array_equal(average, centred)
    clusters = shared.cluster.numpy()
    shared.weight.assign(tf.random.normal([4, 6]))
    callback.on_epoch_begin(3)
    assert np.array_equal(shared.cluster, clusters) and len(np.unique(shared.weight)) == 24


def test_a_kernel_of_zeros_waits() -> None:
    model, shared = model_of(np.zeros((4, 6)))
    callback = Cluster([shared], 5, first=0, seed=0)
    callback.set_model(model)
    callback.on_epoch_begin(0)
    assert not bool(shared.on.numpy())
