"""Synchronised BatchNormalization does on one device what the fused kernel does."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp import batch_statistics


@pytest.mark.parametrize("shape", [(5, 5, 3), (7,)], ids=["images", "rows"])
def test_outputs_and_moving_statistics_are_those_of_one_device(shape: tuple[int, ...]) -> None:
    inner = keras.Sequential([keras.Input(shape), keras.layers.BatchNormalization(momentum=0.5)])
    model = keras.Sequential([keras.Input(shape), inner])  # One inside another is found too.
    batch = np.random.default_rng(0).normal(3, 2, (8, *shape)).astype(np.float32)
    start = model.get_weights()
    plain = [model(batch, training=True).numpy(), *model.get_weights()]
    model.set_weights(start)
    batch_statistics.share(model, 1)
    assert inner.layers[0].synchronized
    shared = [model(batch, training=True).numpy(), *model.get_weights()]
    for one, other in zip(plain, shared, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_other_layers_are_left_alone() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.LayerNormalization(), keras.layers.Dense(2)])
    before = model(tf.ones([2, 3]), training=True).numpy()
    batch_statistics.share(model, 2)
    assert np.array_equal(model(tf.ones([2, 3]), training=True), before)
