"""Clipped sums are those of a loop over the examples in float64, whatever the layers, and no example exceeds its bound."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.private.clipping.loop import Gate, Places, difference, layers, losses, naive, normal, sequence, tokens
from tfapp.private.clipping import calls, clipped

pytestmark = pytest.mark.moderate

CASES = {
    "dense": lambda: (sequence(layers.Dense(7, "relu"), layers.Dense(3), shape=(5,)), normal(4, 5)),
    "dense at few places": lambda: (sequence(layers.Dense(70), layers.Dense(3), shape=(3, 50)), normal(4, 3, 50)),
    "dense at many places": lambda: (sequence(layers.Dense(3, "tanh"), shape=(5, 4, 3)), normal(4, 5, 4, 3)),
    "dense without bias, of an open length": lambda: (
        sequence(layers.Dense(3, "tanh", use_bias=False), shape=(None, 3)),
        normal(4, 5, 3),
    ),
    "conv2d": lambda: (
        sequence(
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(5, (2, 3), dilation_rate=(1, 2)),
            shape=(9, 10, 2),
        ),
        normal(4, 9, 10, 2),
    ),
    "conv2d of large patches": lambda: (sequence(layers.Conv2D(4, 3), shape=(9, 9, 20)), normal(4, 9, 9, 20)),
    "conv2d at few places": lambda: (sequence(layers.Conv2D(40, 3), shape=(5, 5, 20)), normal(4, 5, 5, 20)),
    "convolutions at few places": lambda: (
        sequence(
            layers.Conv2D(40, 2, dilation_rate=(1, 2)),
            layers.Reshape((12, 40)),
            layers.Conv1D(20, 3, padding="causal", dilation_rate=2),
            layers.Conv1D(20, 3, strides=3, padding="same"),
            shape=(3, 3, 4, 20),
        ),
        normal(4, 3, 3, 4, 20),
    ),
    "conv2d of whole blocks": lambda: (
        sequence(
            layers.Conv2D(12, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2D(5, 4, strides=2),
            shape=(14, 15, 9),
        ),
        normal(4, 14, 15, 9),
    ),
    "conv2d of an open size": lambda: (
        sequence(layers.Conv2D(5, 4, strides=2), layers.GlobalAveragePooling2D(), shape=(None, None, 9)),
        normal(4, 9, 8, 9),
    ),
    "conv2d in groups": lambda: (sequence(layers.Conv2D(6, 3, groups=2), shape=(5, 5, 4)), normal(4, 5, 5, 4)),
    "conv2d of 5 axes": lambda: (sequence(layers.Conv2D(3, 2), shape=(3, 5, 5, 2)), normal(4, 3, 5, 5, 2)),
    "conv1d": lambda: (
        sequence(
            layers.Conv1D(4, 3, padding="causal", dilation_rate=2),
            layers.Conv1D(4, 3, strides=2, padding="same"),
            shape=(9, 3),
        ),
        normal(4, 9, 3),
    ),
    "depthwise": lambda: (
        sequence(
            layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2),
            layers.DepthwiseConv2D(2, dilation_rate=2, activation="relu"),
            shape=(9, 9, 3),
        ),
        normal(4, 9, 9, 3),
    ),
    "depthwise1d": lambda: (
        sequence(layers.DepthwiseConv1D(3, strides=2, padding="same", depth_multiplier=2), shape=(9, 3)),
        normal(4, 9, 3),
    ),
    "embedding of repeated tokens": lambda: (
        sequence(layers.Embedding(5, 30), layers.Dense(2), shape=(6,), dtype="int32"),
        tokens(5, 4, 6),
    ),
    "embedding of long texts, given as floats": lambda: (
        sequence(layers.Embedding(5, 3), layers.Dense(2), shape=(9,)),
        tf.cast(tokens(5, 4, 9), tf.float32),
    ),
    "layer normalization": lambda: (
        sequence(layers.LayerNormalization(), layers.LayerNormalization(axis=(1, 2)), layers.Dense(2), shape=(3, 5)),
        normal(4, 3, 5),
    ),
    "group normalization": lambda: (
        sequence(layers.Conv2D(6, 3), layers.GroupNormalization(3), layers.Conv2D(2, 2), shape=(6, 6, 2)),
        normal(4, 6, 6, 2),
    ),
    "einsum": lambda: (
        sequence(
            layers.EinsumDense("...x,xy->...y", (4, 7), bias_axes="y", activation="tanh"),
            layers.EinsumDense("abc,cbd->adb", (2, 4), bias_axes="d"),
            shape=(4, 5),
        ),
        normal(4, 4, 5),
    ),
    "attention": lambda: (_attention(), normal(4, 5, 6)),
    "a layer called three times": lambda: (_three_times(), normal(4, 5)),
    "a kernel used by two layers": lambda: (_shared_kernel(), normal(4, 5)),
    "a nested model with frozen layers": lambda: (_nested(), normal(4, 5)),
    "several inputs and outputs, one out of the loss": lambda: (_several(), [normal(4, 5), tokens(9, 4, 3)]),
    "separable, without a rule": lambda: (sequence(layers.SeparableConv2D(3, 3), shape=(6, 6, 3)), normal(4, 6, 6, 3)),
    "time distributed, and an activation with weights": lambda: (
        sequence(layers.TimeDistributed(layers.Dense(4)), layers.Dense(2, layers.PReLU()), shape=(5, 2)),
        normal(4, 5, 2),
    ),
    "a layer of one's own": lambda: (sequence(Gate(), layers.Dense(2), shape=(3, 4)), normal(4, 3, 4)),
    "places looked up once for all": lambda: (
        sequence(Places(), layers.Dense(2), shape=(6,), dtype="int32"),
        tokens(9, 4, 6),
    ),
}


def _attention() -> keras.Model:
    inputs = keras.Input((5, 6))
    mixed = layers.MultiHeadAttention(2, 3)(inputs, inputs, use_causal_mask=True)
    return keras.Model(inputs, layers.Dense(3)(inputs + mixed))


def _three_times() -> keras.Model:
    inputs, dense = keras.Input((5,)), layers.Dense(5, "tanh")
    return keras.Model(inputs, dense(dense(dense(inputs))))


def _shared_kernel() -> keras.Model:
    inputs, one, other = keras.Input((5,)), layers.Dense(5, "tanh"), layers.Dense(5)
    model = keras.Model(inputs, other(one(inputs)))
    other.kernel = one.kernel
    other._trainable_weights = [one.kernel, other.bias]
    return model


def _nested() -> keras.Model:
    inputs = keras.Input((5,))
    inner = sequence(layers.Dense(4, "relu"), layers.Dense(6, "tanh", trainable=False), layers.Dense(3), shape=(5,))
    return keras.Model(inputs, layers.Dense(2)(inner(inputs)))


def _several() -> keras.Model:
    rows, words = keras.Input((5,)), keras.Input((3,), dtype="int32")
    found = layers.Flatten()(layers.Embedding(9, 2)(words))
    both = layers.Concatenate()([layers.Dense(4)(rows), found])
    return keras.Model([rows, words], [layers.Dense(2)(both), layers.Dense(3)(found)])


def _everything() -> tuple[keras.Model, list[tf.Tensor]]:
    pictures, words = keras.Input((8, 8, 2)), keras.Input((6,), dtype="int32")
    x = layers.Conv2D(6, 3, activation="relu")(pictures)
    x = layers.GroupNormalization(3)(layers.DepthwiseConv2D(2)(x))
    y = layers.LayerNormalization()(layers.Embedding(9, 8)(words))
    y = layers.Conv1D(8, 2, padding="causal", activation="tanh")(y + layers.MultiHeadAttention(2, 4)(y, y))
    y = layers.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d")(y)
    both = layers.Concatenate()([layers.Flatten()(x), layers.Flatten()(y), layers.Flatten()(Gate()(y))])
    dense = layers.Dense(6, "relu")
    both = dense(dense(layers.Dense(6)(layers.Dropout(0.5)(both))))
    return keras.Model([pictures, words], layers.Dense(3)(both)), [normal(4, 8, 8, 2), tokens(9, 4, 6)]


CASES["all layers in one model"] = _everything


@pytest.mark.parametrize("name", CASES)
def test_the_clipped_sum_is_that_of_a_loop(name: str) -> None:
    _check(*CASES[name]())


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_clipped_sum_is_that_of_a_loop_under_xla(name: str) -> None:
    _check(*CASES[name](), jit=True)


@pytest.mark.slow
@pytest.mark.parametrize("layer", [layers.LSTM, layers.GRU])
def test_recurrent_layers_go_without_a_rule(layer) -> None:
    _check(
        sequence(layers.Bidirectional(layer(3, return_sequences=True)), layers.Dense(2), shape=(3, 2)), normal(3, 3, 2)
    )


def _check(model: keras.Model, x, jit: bool = False) -> None:
    _, norms = naive(model, x, 1.0)
    clip_norm = float(np.median(norms))
    expected, _ = naive(model, x, clip_norm)

    @tf.function(jit_compile=jit)
    def sums(x, clip_norm):
        found = clipped(model, x, losses, clip_norm, training=False)
        return found.gradients, found.norms, found.outputs

    gradients, found, outputs = sums(x, tf.constant(clip_norm))
    assert difference(gradients, expected) < 1e-5
    np.testing.assert_allclose(found, norms, rtol=1e-5)
    for given, plain in zip(tf.nest.flatten(outputs), tf.nest.flatten(model(x)), strict=True):
        np.testing.assert_allclose(given, plain, rtol=1e-3, atol=1e-5)


def _dropping() -> keras.Model:
    dense = layers.Dense(6, "relu")
    return sequence(dense, layers.Dropout(0.5), dense, dense, layers.Dropout(0.3), layers.Dense(3), shape=(6,))


def test_no_example_exceeds_the_bound_with_dropout_and_a_layer_called_several_times() -> None:
    model = _dropping()

    @tf.function
    def one(x):
        sums = clipped(model, x, lambda outputs: 100 * losses(outputs), 0.5)
        return sums.gradients, sums.norms[0]

    for row in normal(20, 1, 6):
        gradients, before = one(row)
        norm = np.sqrt(sum(np.square(np.asarray(g, float)).sum() for g in gradients))
        assert norm == pytest.approx(min(0.5, float(before)), rel=1e-6)


def test_sums_are_scaled_and_norms_are_not() -> None:
    model, x = _everything()
    whole, half = (clipped(model, x, losses, 0.3, training=False, scale=scale) for scale in (1.0, 0.5))
    assert difference([2 * one for one in half.gradients], [np.asarray(one, float) for one in whole.gradients]) < 1e-6
    np.testing.assert_array_equal(half.norms, whole.norms)


def test_an_example_of_weight_0_adds_nothing() -> None:
    model, x = _dropping(), normal(4, 6)
    two = clipped(model, x, lambda outputs: losses(outputs, weights=[1.0, 1.0, 0.0, 0.0]), 0.1, training=False)
    expected, norms = naive(model, x[:2], 0.1)
    assert difference(two.gradients, expected) < 1e-5
    np.testing.assert_allclose(two.norms, [*norms, 0, 0], rtol=1e-5)


def test_a_variable_that_the_loss_does_not_touch_gets_zeros() -> None:
    model, x = _several(), [normal(4, 5), tokens(9, 4, 3)]
    sums = clipped(model, x, lambda outputs: losses(outputs[1]), 0.1, training=False)
    sizes = {
        v.name.partition("/")[0]: float(tf.norm(g))
        for v, g in zip(model.trainable_variables, sums.gradients, strict=True)
    }
    assert sorted(size > 0 for size in sizes.values()) == [False, False, True, True]
    assert [g.shape for g in sums.gradients] == [v.shape for v in model.trainable_variables]


def test_parts_in_a_loop_sum_up_to_the_whole() -> None:
    model, x = _everything()
    whole = clipped(model, x, losses, 0.3, training=False)
    halves = [tf.concat([one, one], 0) for one in x]

    @tf.function
    def twice():
        zeros = [tf.zeros(v.shape) for v in model.trainable_variables]

        def add(part, sums):
            rows = [tf.reshape(one, [2, 4, *one.shape[1:]])[part] for one in halves]
            found = clipped(model, rows, losses, 0.3, training=False).gradients
            return part + 1, [a + b for a, b in zip(sums, found, strict=True)]

        return tf.while_loop(lambda part, _: part < 2, add, (0, zeros), parallel_iterations=1)[1]

    assert difference(twice(), [2 * np.asarray(g, float) for g in whole.gradients]) < 1e-5


def test_norms_and_sums_are_float32_under_bfloat16_and_hold_the_bound() -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model, x = _everything()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    expected, norms = naive(model, x, 1e9)
    whole = clipped(model, x, losses, 1e9, training=False)
    assert {one.dtype for one in [*whole.gradients, whole.norms]} == {tf.float32}
    assert difference(whole.gradients, expected) < 0.05
    np.testing.assert_allclose(whole.norms, norms, rtol=0.05)
    for at in range(4):
        sums = clipped(model, [one[at : at + 1] for one in x], losses, 0.3)
        assert np.sqrt(sum(np.square(np.asarray(g, float)).sum() for g in sums.gradients)) <= 0.3 * (1 + 1e-6)


def test_layers_are_themselves_again_also_after_a_failure() -> None:
    model, x = _everything()
    before = [dict(vars(layer)) for layer in calls.inside(model)]

    def fail(outputs):
        raise ZeroDivisionError

    clipped(model, x, losses, 1.0)
    with pytest.raises(ZeroDivisionError):
        clipped(model, x, fail, 1.0)
    with pytest.raises(Exception, match="incompatible|Dimension|shape"):
        clipped(model, [x[0][:, :-1], x[1]], losses, 1.0)
    for layer, own in zip(calls.inside(model), before, strict=True):
        now = vars(layer)
        assert {"call", "activation", "gamma", "scale"} & set(now) == {"call", "activation", "gamma", "scale"} & set(
            own
        )
        assert all(now[name] is own[name] for name in ("call", "activation", "gamma", "scale") if name in own)


# The CPU can be parted only before TensorFlow starts, so this is a process of its own.
TWO_REPLICAS = """
from tfapp.runtime import import_tensorflow
import_tensorflow()
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import tf_keras as keras
from tests.private.clipping.loop import difference, losses, naive
from tests.private.clipping.test_sums import _everything
from tfapp.private.clipping import clipped, examine
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model, x = _everything()
    assert len(examine(model).slow) == 1
halves = [[one[:2] for one in x], [one[2:] for one in x]]
rows = strategy.experimental_distribute_values_from_function(lambda context: halves[context.replica_id_in_sync_group])

@tf.function
def both(rows):
    return strategy.run(lambda rows: clipped(model, rows, losses, 0.3, training=False).gradients, [rows])

for found, half in zip(zip(*(strategy.experimental_local_results(one) for one in both(rows))), halves):
    assert difference(found, naive(model, half, 0.3)[0]) < 1e-5
"""


@pytest.mark.e2e
def test_each_of_two_replicas_sums_its_own_rows() -> None:
    done = subprocess.run([sys.executable, "-c", TWO_REPLICAS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
