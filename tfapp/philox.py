"""Philox 4x32-10 (Salmon et al. 2011) in elementwise operations, for dropout in a step that XLA compiles for a CPU.

What XLA makes of TensorFlow's kernel computes each block of the counter four times over, a number at a time, and takes longer than
the products of an attention that it is for. This draws the same bits, several blocks at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import tensorflow as tf

_ROUNDS = 10
_MULTIPLIERS, _WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
_LOW = 2**32 - 1


@tf.autograph.experimental.do_not_convert
def at_least(bound: int, key: int, first: Any, high: Any, blocks: Any) -> tf.Tensor:
    """Which of the numbers that TensorFlow's kernel draws, taken as int16, are `bound` or more: bool [8 · blocks].

    Args:
      key: 64 bits. first, high: the low half of the first block's counter and the high half of all, int64 scalars of 0 or more.
      blocks: how many, of eight numbers each, int64 scalar.
    """
    low = tf.cast(first + tf.range(blocks), tf.uint64)
    limit, keys = tf.constant(bound + 2**15, tf.uint64), tf.constant(key, tf.uint64)

    def apart(compute: Callable[[], tf.Tensor], shape: Any, dtype: Any) -> tf.Tensor:
        # XLA would repeat the arithmetic wherever one of the eight is looked at, but not out of a branch. It is always taken.
        return tf.cond(high >= 0, compute, lambda: tf.zeros(shape, dtype))

    eights = apart(lambda: _eights(limit, keys, low, tf.cast(high, tf.uint64)), [blocks], tf.uint64)
    return apart(lambda: tf.reshape(tf.bitcast(eights, tf.uint8), [-1]) != 0, [blocks * 8], tf.bool)


# Traced once, since its operations are as many as those of all else in a small model.
@tf.function(input_signature=[tf.TensorSpec(shape, tf.uint64) for shape in ([], [], [None], [])], autograph=False)
def _eights(bound: tf.Tensor, key: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    """Of the counters `high` and `low` [n]: eight bytes a block, 1 where a number, moved up to be without a sign, is `bound` or more."""
    shift = tf.bitwise.right_shift
    a, b, c, d = low & _LOW, shift(low, 32), high & _LOW, shift(high, 32)
    one, other = key & _LOW, shift(key, 32)
    for _ in range(_ROUNDS):
        p, q = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = shift(q, 32) ^ b ^ one, q & _LOW, shift(p, 32) ^ d ^ other, p & _LOW
        one, other = one + _WEYL[0] & _LOW, other + _WEYL[1] & _LOW
    halves = [shift(word, 16 * place) & 0xFFFF for word in (a, b, c, d) for place in (0, 1)]
    # A number that is large enough carries into the 17th bit.
    found = [shift((half ^ 2**15) + 2**16 - bound, 16) for half in halves]
    return reduce(tf.bitwise.bitwise_or, [one * 2 ** (8 * place) for place, one in enumerate(found)])
