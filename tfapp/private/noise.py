"""Gaussian noise as a function of a secret key and the step.

Box and Muller (1958) on the Philox counter generator (Salmon et al. 2011): key = 64 secret bits, high half of the counter =
the step. The same step draws the same noise wherever it is computed, and no two steps share any. It is no cryptographic
generator, and its values are float32: an adversary who sees bits of single steps could in principle use that (Mironov 2012).
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

# Of tensors that begin on a boundary of 64 bytes, TensorFlow takes parts without copying them: float32 in one line of those.
LINE = 16


def gaussian(key: int, step: Any, size: int, deviation: float | tf.Tensor = 1.0) -> tf.Tensor:
    """float32 [size], normal, independent, of mean 0.

    Args:
      key: in [0, 2^64). step: int64 scalar (tensor or not). size: at most 2^33. deviation: the standard one; a scalar.
    """
    half = LINE * -(-size // (2 * LINE))
    # Integers, not floats: a uniform float32 of TensorFlow has 23 bits, and ends the normal distribution at 5.6 deviations.
    bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[2, half],
        key=tf.constant([key], tf.uint64),
        counter=tf.stack([tf.constant(0, tf.uint64), tf.cast(step, tf.uint64)]),
        alg=1,
        dtype=tf.int32,
    )
    first, second = tf.unstack(tf.cast(bits, tf.float32))
    # In (0, 1]: as float32 the largest integers round up to 1, whose radius is 0.
    unit = tf.abs(first) * 2.0**-31 + 2.0**-32
    radius = tf.sqrt(tf.math.log(unit) * (-2.0 * tf.square(tf.cast(deviation, tf.float32))))
    angle = second * (2.0 * math.pi * 2.0**-32)
    return tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=0)[:size]


def like(key: int, step: Any, shapes: list[tf.TensorShape], deviation: float | tf.Tensor = 1.0) -> list[tf.Tensor]:
    """Normal noise of several shapes and one standard deviation, from one draw."""
    sizes = [shape.num_elements() for shape in shapes]
    lines = [-(-size // LINE) for size in sizes]
    drawn = tf.split(tf.reshape(gaussian(key, step, LINE * sum(lines), deviation), [-1, LINE]), lines)
    return [
        tf.reshape(tf.reshape(part, [-1])[:size], shape) for part, size, shape in zip(drawn, sizes, shapes, strict=True)
    ]
