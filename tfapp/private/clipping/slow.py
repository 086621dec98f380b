"""The gradients of each example of any layer: its recorded call once more for each row, all rows in one go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfapp.private.clipping import standing
from tfapp.private.clipping.calls import Call, inside
from tfapp.private.clipping.terms import Each


def terms(call: Call, gradients: list[tf.Tensor | None]) -> Iterator[tuple[tf.Variable, Each]]:
    """The terms of the layer's trainable variables and of those inside it.

    Args:
      gradients: of the loss by each of the call's outputs, [b, …]; None where it does not touch one.
    """
    variables = call.layer.trainable_weights
    arguments = tf.nest.flatten((call.args, call.kwargs))
    rows = {str(at): arguments[at] for at, batched in enumerate(call.batched) if batched}
    touched = [at for at, gradient in enumerate(gradients) if gradient is not None]
    reached = [False] * len(variables)

    def of_row(row: tuple[dict[str, tf.Tensor], list[tf.Tensor]]) -> list[tf.Tensor]:
        own, upstream = row
        mine = [own[str(at)][None] if str(at) in own else one for at, one in enumerate(arguments)]
        args, kwargs = tf.nest.pack_sequence_as((call.args, call.kwargs), mine)
        with _unrolled(call.layer), tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            given = [one for one in tf.nest.flatten(call.again(*args, **kwargs)) if one.dtype.is_floating]
            given = [given[at] for at in touched]
        found = tape.gradient(given, variables, [one[None] for one in upstream])
        for at, gradient in enumerate(found):
            reached[at] = gradient is not None
        return [tf.cast(tf.convert_to_tensor(one), tf.float32) for one in found if one is not None]

    values: list[Any] = tf.vectorized_map(of_row, (rows, [gradients[at] for at in touched]))
    for variable, value in zip([v for v, r in zip(variables, reached, strict=True) if r], values, strict=True):
        yield variable, Each(tf.ensure_shape(value, [None, *variable.shape]))


@contextmanager
def _unrolled(layer: keras.layers.Layer) -> Iterator[None]:
    """While this holds, recurrent layers take their steps without a loop, whose gradient cannot be vectorised."""
    with ExitStack() as stack:
        for one in [layer, *inside(layer)]:
            if isinstance(one, keras.layers.RNN):
                stack.enter_context(standing.in_for(one, unroll=True, _could_use_gpu_kernel=False))
        yield
