"""Poisson sampling: every example enters each step by a coin of its own, as the accountant assumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf


@dataclass(frozen=True)
class Poisson:
    """Which examples a step sees: each with probability q, independently of all others and of all other steps.

    The gaps between chosen examples are geometric, so a step costs as much as what it chooses. The draws are a function
    of a secret key and the step alone. tf.raw_ops.RandomIndexShuffle would not do: it uses 24 bits of its key, and keyed by
    the step it chooses each row with several times the variance of a coin.

    Attributes:
      examples: how many there are, n. q: in (0, 1]. key: 64 secret bits.
      rows: the most that a step can take; more than these are left out, which `accounting.capacity` makes unlikely.
    """

    examples: int
    q: float
    rows: int
    key: int

    def __call__(self, step: Any) -> tuple[Any, Any]:
        """(indices int64 [rows], how many of them are chosen int64 scalar): rising; those after the chosen mean nothing."""
        if self.q >= 1:
            everything = tf.range(self.rows, dtype=tf.int64) % self.examples
            return everything, tf.constant(min(self.examples, self.rows), tf.int64)
        uniform = tf.raw_ops.StatelessRandomUniformV2(
            shape=[self.rows],
            key=tf.constant([self.key], tf.uint64),
            counter=tf.stack([tf.constant(0, tf.uint64), tf.cast(step, tf.uint64)]),
            alg=1,
            dtype=tf.float64,
        )
        gaps = tf.floor(tf.math.log1p(-uniform) / tf.math.log1p(tf.constant(-self.q, tf.float64)))
        # A gap beyond the end is as good as one just beyond it, and sums of such can not overflow.
        gaps = tf.cast(tf.minimum(gaps, float(self.examples)), tf.int64) + 1
        places = tf.cumsum(gaps) - 1
        return tf.minimum(places, self.examples - 1), tf.reduce_sum(tf.cast(places < self.examples, tf.int64))
