"""Gaussian noise as a function of a secret key and the step.

Box and Muller (1958) on the Philox counter generator (Salmon et al. 2011): key = 64 secret bits, high half of the counter =
the step. The same step draws the same noise wherever it is computed, and no two steps share any. It is no cryptographic
generator, and its values are float32: an adversary who sees bits of single steps could in principle use that (Mironov 2012).
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf


def gaussian(key: int, step: Any, size: int) -> tf.Tensor:
    """float32 [size], standard normal and independent.

    Args:
      key: in [0, 2^64). step: int64 scalar (tensor or not). size: at most 2^33.
    """
    half = -(-size // 2)
    # Integers, not floats: a uniform float32 of TensorFlow has 23 bits, and ends the normal distribution at 5.6 deviations.
    bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[2, half],
        key=tf.constant([key], tf.uint64),
        counter=tf.stack([tf.constant(0, tf.uint64), tf.cast(step, tf.uint64)]),
        alg=1,
        dtype=tf.uint32,
    )
    # In (0, 1]: as float32 the largest integers round up to 1, whose radius is 0.
    unit = tf.cast(bits, tf.float32) * 2.0**-32 + 2.0**-33
    radius, angle = tf.sqrt(-2.0 * tf.math.log(unit[0])), (2.0 * math.pi) * unit[1]
    return tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=0)[:size]


def like(key: int, step: Any, shapes: list[tf.TensorShape]) -> list[tf.Tensor]:
    """Standard normal noise of several shapes, from one draw."""
    sizes = [shape.num_elements() for shape in shapes]
    drawn = tf.split(gaussian(key, step, sum(sizes)), sizes)
    return [tf.reshape(part, shape) for part, shape in zip(drawn, shapes, strict=True)]
