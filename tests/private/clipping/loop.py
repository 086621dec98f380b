"""What clipping is held to: each example's gradient alone, one after another, summed in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

layers = keras.layers


class Places(layers.Layer):
    """Tokens and their places; the places are looked up once for the whole batch."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = layers.Embedding(9, 4), layers.Embedding(6, 4)

    def call(self, inputs):
        return self.tokens(inputs) + self.places(tf.range(tf.shape(inputs)[1]))


class Gate(layers.Layer):
    """Weights of its own and a layer inside, in words that autograph has to translate."""

    def build(self, shape):
        self.scale, self.dense = self.add_weight("scale", (shape[-1],)), layers.Dense(3)

    def call(self, inputs):
        if tf.reduce_sum(self.scale) > 1e9:
            inputs *= 2
        return self.dense(inputs * (1 + self.scale))


def sequence(*parts: layers.Layer, shape: tuple[int, ...], dtype: str | None = None) -> keras.Model:
    return keras.Sequential([keras.Input(shape, dtype=dtype), *parts])


def normal(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(1).normal(size=shape), tf.float32)


def tokens(below: int, *shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(1).integers(0, below, shape), tf.int32)


def losses(outputs: Any, examples: Any = slice(None), weights: Any = 1.0) -> tf.Tensor:
    """float32 [b]: something bent in all outputs, another for each example."""
    total = 0.0
    for output in tf.nest.flatten(outputs):
        whole = np.random.default_rng(0).normal(size=(64, *output.shape[1:])).astype("float32")
        mine = tf.constant(whole)[: tf.shape(output)[0]] if examples == slice(None) else tf.constant(whole[examples])
        bent = tf.sin(tf.cast(output, tf.float32)) * mine
        total += tf.reduce_sum(tf.reshape(bent, [tf.shape(bent)[0], -1]), 1)
    return total * weights


def naive(model: keras.Model, x: Any, clip_norm: float) -> tuple[list[np.ndarray], np.ndarray]:
    """(Σ min(1, C / ‖g‖) · g, ‖g‖ of each example)."""
    variables = model.trainable_variables

    @tf.function
    def of(row, weights):
        with tf.GradientTape() as tape:
            outputs = model(row)
            bent = [
                tf.reduce_sum(tf.sin(tf.cast(output, tf.float32)) * weight)
                for output, weight in zip(tf.nest.flatten(outputs), weights, strict=True)
            ]
            loss = tf.add_n(bent)
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(one) for one in gradients]

    shapes = [output.shape[1:] for output in tf.nest.flatten(model(x))]
    directions = [np.random.default_rng(0).normal(size=(64, *shape)).astype("float32") for shape in shapes]
    sums, norms = [np.zeros(variable.shape) for variable in variables], []
    for at in range(tf.nest.flatten(x)[0].shape[0]):
        row = tf.nest.map_structure(lambda values, at=at: values[at : at + 1], x)
        found = of(row, [tf.constant(one[at]) for one in directions])
        gradients = [np.asarray(tf.cast(one, tf.float32), float) for one in found]
        norms.append(np.sqrt(sum(np.square(one).sum() for one in gradients)))
        for total, gradient in zip(sums, gradients, strict=True):
            total += gradient * min(1, clip_norm / norms[-1])
    return sums, np.array(norms)


def difference(found: list[tf.Tensor], expected: list[np.ndarray]) -> float:
    """‖found - expected‖ / ‖expected‖, over all variables together."""
    apart = sum(np.square(np.asarray(a, float) - b).sum() for a, b in zip(found, expected, strict=True))
    return float(np.sqrt(apart / sum(np.square(b).sum() for b in expected)))
