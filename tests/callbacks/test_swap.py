"""Weights and their moving average change places around validation and lose nothing."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp.callbacks.swap import SwapAverage


def averaging() -> SwapAverage:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1), keras.layers.BatchNormalization()])
    model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5), "mse")
    model.optimizer.build(model.trainable_variables)
    for _ in range(3):
        model.train_on_batch(tf.constant([[1.0], [2.0]]), tf.constant([[3.0], [5.0]]))
    swap = SwapAverage()
    swap.set_model(model)
    return swap


def held(swap: SwapAverage) -> tuple[list[np.ndarray], list[np.ndarray]]:
    model = swap.model
    return [w.numpy() for w in model.trainable_variables], [
        a.numpy() for a in model.optimizer._model_variables_moving_average
    ]


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.moderate
def test_validation_and_the_epoch_s_end_see_the_average_and_training_the_raw_weights() -> None:
    swap = averaging()
    raw, average = held(swap)
    assert not same(raw, average)
    swap.on_epoch_begin(0)
    assert same(held(swap)[0], raw)
    swap.on_test_begin()
    assert same(held(swap)[0], average) and same(held(swap)[1], raw)
    swap.on_epoch_end(0)
    assert same(held(swap)[0], average)
    swap.on_epoch_begin(1)
    assert same(held(swap)[0], raw) and same(held(swap)[1], average)


@pytest.mark.moderate
def test_a_checkpoint_taken_between_knows_which_is_which() -> None:
    swap = averaging()
    raw, _ = held(swap)
    swap.on_test_begin()
    again = SwapAverage()
    again.set_model(swap.model)
    again.restore(swap.state())
    again.on_epoch_begin(1)
    assert same(held(swap)[0], raw)
