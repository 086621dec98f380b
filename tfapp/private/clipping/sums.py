"""One forward and one backward pass, from which the clipped gradients of all examples are summed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfapp.private.clipping import calls, slow, terms
from tfapp.private.clipping.rules import rule_of


@dataclass(frozen=True)
class Sums:
    """What a call of `clipped` found.

    Attributes:
      gradients: float32, one a trainable variable of the model in its order: Σ_i min(1, C / ‖g_i‖) · g_i over the rows
        of the call; dense also for an Embedding; zeros where the loss does not touch the variable.
      norms: float32 [b]: ‖g_i‖ before clipping, over all trainable variables together.
      outputs: the model's, for the metrics.
    """

    gradients: list[tf.Tensor]
    norms: tf.Tensor
    outputs: Any


def clipped(
    model: keras.Model,
    x: Any,
    losses: Callable[[Any], tf.Tensor],
    clip_norm: float | tf.Tensor,
    training: bool = True,
    scale: float = 1.0,
) -> Sums:
    """The sum over a batch of each example's gradient, scaled down to a norm of at most `clip_norm`.

    Called in a replica, in or out of a tf.function, a tf.while_loop and XLA; it does not speak to other replicas.
    Random layers draw once, so the bound holds with dropout. The model must be one that `examine` accepts.

    Args:
      x: the model's inputs; the first axis of each tensor is the b examples.
      losses: of the model's outputs: float32 [b], each example's own loss with its weight. Where a weight is 0, all of
        the example's parts are exactly 0. The penalties of `model.losses` are not part of it.
      clip_norm: C, positive; a number or a float32 scalar.
      scale: what the sums are multiplied by.
    """
    units = calls.survey(model, x, training)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        with calls.recorded(units, tape) as heard:
            outputs = model(x, training=training)
        loss = tf.reduce_sum(losses(outputs))
    gradients = tape.gradient(loss, [call.outputs for call in heard])
    parts = _joined(heard, gradients)
    if parts:
        norms = tf.sqrt(tf.add_n([part.squared() for part in parts.values()]))
    else:
        norms = tf.zeros([tf.shape(tf.nest.flatten(x)[0])[0]])
    clip_norm = tf.cast(clip_norm, tf.float32)
    factors = scale * clip_norm / tf.maximum(norms, clip_norm)
    sums = []
    for variable in model.trainable_variables:
        part = parts.get(id(variable))
        sums.append(tf.zeros(variable.shape) if part is None else part.weighted(factors))
    return Sums(sums, norms, outputs)


def _joined(heard: list[calls.Call], gradients: list[list[tf.Tensor | None]]) -> dict[int, terms.Term]:
    """For each variable, by its identity, the term of all its uses together."""
    found: dict[int, list[terms.Term]] = {}
    for call, given in zip(heard, gradients, strict=True):
        if all(gradient is None for gradient in given):
            continue
        rule = None if call.unit.why else rule_of(call.layer)
        for variable, term in slow.terms(call, given) if rule is None else rule(call, given[0]):
            found.setdefault(id(variable), []).append(term)
    return {variable: terms.joined(several) for variable, several in found.items()}
