"""Philox 4x32-10 (Salmon et al. 2011) in elementwise operations, for dropout in a step that XLA compiles for a CPU.

What XLA makes of TensorFlow's kernel computes each block of the counter four times over, a number at a time, and takes longer than
the products of an attention that it is for. This draws the same bits, several blocks at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import tensorflow as tf
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

from tfapp.runtime import on_cpus

_ROUNDS = 10
_MULTIPLIERS, _WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
_LOW = 2**32 - 1


def pays() -> bool:
    """Whether what is being traced is for XLA and a CPU."""
    return not tf.executing_eagerly() and GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()) and on_cpus()


def at_least(bound: int, key: int, first: Any, high: Any, blocks: Any) -> tf.Tensor:
    """Which of the numbers that TensorFlow's kernel draws, taken as int16, are `bound` or more: bool [8 · blocks].

    Args:
      key: 64 bits. first, high: the low half of the first block's counter and the high half of all, int64 scalars of 0 or more.
      blocks: how many, of eight numbers each, int64 scalar.
    """
    shift = tf.bitwise.right_shift

    def drawn() -> tf.Tensor:
        counter = tf.cast(first + tf.range(blocks), tf.uint64)
        halves = [
            shift(word, 16 * place) & 0xFFFF
            for word in _words(key, counter, tf.cast(high, tf.uint64))
            for place in (0, 1)
        ]
        # Moved up to be without a sign, a number that is large enough carries into the 17th bit. A byte for each of the eight.
        found = [shift((half ^ 2**15) + 2**15 - bound, 16) for half in halves]
        return reduce(tf.bitwise.bitwise_or, [one * 2 ** (8 * place) for place, one in enumerate(found)])

    def apart(compute: Callable[[], tf.Tensor], shape: Any, dtype: Any) -> tf.Tensor:
        # XLA would repeat the arithmetic wherever one of the eight is looked at, but not out of a branch. It is always taken.
        return tf.cond(high >= 0, compute, lambda: tf.zeros(shape, dtype))

    eights = apart(drawn, [blocks], tf.uint64)
    return apart(lambda: tf.reshape(tf.bitcast(eights, tf.uint8), [-1]) != 0, [blocks * 8], tf.bool)


def _words(key: int, low: tf.Tensor, high: tf.Tensor) -> list[tf.Tensor]:
    """The four words of 32 bits of each block, as uint64."""
    shift = tf.bitwise.right_shift
    a, b, c, d = low & _LOW, shift(low, 32), high & _LOW, shift(high, 32)
    for number in range(_ROUNDS):
        one, other = ((key >> 32 * half) + number * _WEYL[half] & _LOW for half in (0, 1))
        p, q = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = shift(q, 32) ^ b ^ one, q & _LOW, shift(p, 32) ^ d ^ other, p & _LOW
    return [a, b, c, d]
