"""Synchronised BatchNormalization does on one device what the fused kernel does."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp import batch_statistics


@pytest.mark.parametrize("shape", [(5, 5, 3), (7,)], ids=["images", "rows"])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_outputs_gradients_and_moving_statistics_are_those_of_one_device(
    shape: tuple[int, ...], precision: str
) -> None:
    layer = keras.layers.BatchNormalization(momentum=0.5, dtype=keras.mixed_precision.Policy(precision))
    inner = keras.Sequential([keras.Input(shape), layer])
    model = keras.Sequential([keras.Input(shape), inner])  # One inside another is found too.
    random = np.random.default_rng(0)
    batch, towards = (tf.constant(random.normal(3, 2, (8, *shape)), layer.compute_dtype) for _ in range(2))
    layer.set_weights([random.random(shape[-1]) + 0.5 for _ in range(4)])
    start = model.get_weights()

    def trained() -> list[np.ndarray]:
        model.set_weights(start)

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                tape.watch(batch)
                outputs = model(batch, training=True)
                loss = tf.reduce_sum(tf.cast(outputs * towards, tf.float32) ** 2)
            return outputs, tape.gradient(loss, [batch, *model.trainable_variables])

        outputs, gradients = step()
        assert outputs.dtype == gradients[0].dtype == batch.dtype
        found = [outputs, *gradients, model(batch), *model.get_weights()]
        return [tf.cast(one, tf.float32).numpy() for one in found]

    plain = trained()
    batch_statistics.share(model, 1)
    close = 1e-4 if precision == "float32" else 2e-2
    for one, other in zip(plain, trained(), strict=True):
        np.testing.assert_allclose(one, other, rtol=close, atol=close * np.abs(one).max())


def test_other_layers_are_left_alone() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.LayerNormalization(), keras.layers.Dense(2)])
    before = model(tf.ones([2, 3]), training=True).numpy()
    batch_statistics.share(model, 2)
    assert np.array_equal(model(tf.ones([2, 3]), training=True), before)
