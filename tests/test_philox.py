"""Dropout under XLA decides by the very bits of TensorFlow's own generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfapp import philox
from tfapp.stateless import StatelessGenerator, rows_from

KEYS = [0, 1, (2**31 - 1 << 32) + (300 << 8) + 7, 2**63 - 1]
COUNTERS = [(0, 0), (2**32 - 3, 10**6), (2**40, 2**33 + 5)]


def kernel(key: int, counter: tuple[int, int], blocks: int) -> np.ndarray:
    """The kernel's numbers: int16 [8 · blocks]."""
    draw = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[blocks * 4],
        key=tf.constant([key], tf.uint64),
        counter=tf.constant(counter, tf.uint64),
        alg=1,
        dtype=tf.int32,
    )
    return draw.numpy().view(np.int16)


@pytest.mark.moderate
@pytest.mark.parametrize("key", KEYS)
def test_the_bits_are_those_of_the_kernel_with_xla_and_without(key: int) -> None:
    bounds = (-(2**15), -26214, 0, 2**15 - 1)

    def found(low: Any, high: Any) -> list[tf.Tensor]:
        return [philox.at_least(bound, key, low, high, tf.constant(6, tf.int64)) for bound in bounds]

    for jit in (True, False):
        compiled = tf.function(found, jit_compile=jit)
        for counter in COUNTERS:
            expected = kernel(key, counter, 6)
            for bound, one in zip(bounds, compiled(*map(np.int64, counter)), strict=True):
                assert np.array_equal(one, expected >= bound)


@pytest.mark.moderate
@pytest.mark.parametrize("shape", [(8,), (6, 1), (4, 3, 5), (4, 2, 8)])
def test_a_dropout_drops_with_xla_what_it_drops_without(shape: tuple[int, ...]) -> None:
    generator = StatelessGenerator(5, 2, tf.Variable(7, dtype=tf.int64))

    def dropped(inputs: Any, first: Any) -> list[tf.Tensor]:
        with rows_from(first):
            return [generator.dropout(inputs, rate) for rate in (0.1, 0.5)]

    for first in (None, tf.constant(40, tf.int64)):
        ones = tf.ones(shape)
        plain, compiled = (tf.function(dropped, jit_compile=jit)(ones, first) for jit in (False, True))
        assert all(np.array_equal(a, b) for a, b in zip(plain, compiled, strict=True))
