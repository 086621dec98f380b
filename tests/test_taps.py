"""Layers are listened to wherever they are in a model, by whoever calls it, and are themselves again afterwards."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp import recompute, taps
from tfapp.errors import Refused


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="deep"), keras.layers.ReLU(name="relu")])
    inputs = keras.Input((4,), name="inputs")
    x = tf.cumsum(inputs, axis=1, name="sums")
    return keras.Model(inputs, keras.layers.Dense(2, name="last")(inner(x)), name="student")


def test_a_layer_of_a_nested_model_and_one_of_plain_operations_are_heard_and_made_as_they_were(model) -> None:
    plain = next(layer for layer in model.layers if "cumsum" in layer.name.lower())
    own = vars(plain).get("call")
    listening = taps.Taps({"a": taps.find(model, "deep", "x"), "b": plain})
    rows = np.arange(8, dtype="float32").reshape(2, 4)

    @tf.function
    def step(x):
        model(x)
        return listening.heard("a"), listening.heard("b")

    deep, sums = step(rows)
    np.testing.assert_allclose(sums, np.cumsum(rows, axis=1))
    np.testing.assert_allclose(deep, np.cumsum(rows, axis=1) @ model.get_layer(index=2).layers[0].kernel, rtol=1e-5)
    before = listening.heard("b")
    listening.lift()
    assert vars(plain).get("call") is own and "call" not in vars(taps.find(model, "deep", "x"))
    model(rows + 1)
    assert listening.heard("b") is before


def test_threads_hear_their_own_calls(model) -> None:
    listening = taps.Taps({"last": taps.find(model, "last", "x")})
    mine = model(tf.ones([1, 4]))
    other = threading.Thread(target=lambda: model(tf.zeros([5, 4])))
    other.start()
    other.join()
    assert listening.heard("last") is mine


def test_what_cannot_be_listened_to_is_refused_with_the_nearest_name(model) -> None:
    with pytest.raises(Refused, match="distill.hints: no layer 'dep' in student\ndid you mean 'deep'"):
        taps.find(model, "dep", "distill.hints")
    with pytest.raises(Refused, match="no layer 'inputs'"):
        taps.find(model, "inputs", "distill.hints")
    inputs = keras.Input((3,))
    twice = [keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="same")]) for _ in range(2)]
    with pytest.raises(Refused, match="several layers 'same'"):
        taps.find(keras.Model(inputs, twice[1](twice[0](inputs))), "same", "distill.hints")
    sequence = keras.Input((3, 2))
    states = keras.layers.LSTM(2, return_state=True, name="states")(sequence)
    with pytest.raises(Refused, match="'states', a LSTM, does not give one tensor"):
        taps.find(keras.Model(sequence, states[0]), "states", "distill.hints")


def test_the_inside_of_a_recomputed_block_is_refused_and_the_block_itself_is_not() -> None:
    block = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="inside")], name="block")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, recompute.around(block)(inputs))
    with pytest.raises(Refused, match="lies in the recomputed block 'block'(.|\n)*take 'block' itself"):
        taps.find(model, "inside", "distill.hints")
    recomputed = block.call
    listening = taps.Taps({"block": taps.find(model, "block", "distill.hints")})
    listening.lift()
    assert block.call is recomputed
