"""Gradient checkpointing: a block's activations are computed again for its gradient instead of being kept.

T. Chen et al., «Training deep nets with sublinear memory cost» (2016, arXiv:1604.06174). For deep models whose
activations do not fit in memory; it costs about one more forward pass.
"""

from __future__ import annotations

from contextlib import nullcontext
from itertools import count
from typing import Any

import tensorflow as tf
import tf_keras as keras
from tf_keras.src.engine.base_layer_utils import call_context

from tfapp import stateless
from tfapp.errors import Refused


def around(block: keras.Model) -> keras.Model:
    """The same block, which now keeps only its input while it trains.

    Wrap each of several blocks in a row: memory is then that of the blocks' inputs and of one block. Gradients are
    those of the block as it was, dropout included. Outside of training nothing changes; the trained model is plain.

    Args:
      block: a Sequential or functional model with one input and one output, both tensors.

    Raises:
      Refused: the block has layers that change when they are called (BatchNormalization), or that add a loss.
    """
    for layer in block._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization) or getattr(layer, "activity_regularizer", None):
            raise Refused(
                f"recompute around {layer.name}, a {type(layer).__name__}, which would count each batch twice\n"
                "take it out of the block, or leave recompute out"
            )
    plain = block.call

    def call(inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if not training:
            return plain(inputs, training, mask)
        first = stateless.current_first()
        before, passes = stateless.drawn(block), count()

        # The second time it is the tape that calls, with neither Keras nor the accumulation around it.
        def forward(x: Any) -> Any:
            building = not tf.executing_eagerly()
            same_draws = stateless.again(before) if next(passes) else nullcontext()
            with same_draws, stateless.rows_from(first), call_context().enter(block, x, building, {"training": True}):
                return plain(x, True, mask)

        outputs = tf.recompute_grad(forward)(inputs)
        outputs.set_shape([inputs.shape[0], *block.output_shape[1:]])
        return outputs

    call.recomputes = True  # type: ignore[attr-defined]
    block.call = call
    return block


def forget(model: keras.Model) -> None:
    """Make the blocks of a trained model plain again."""
    for layer in model._flatten_layers():
        # Keras's layers of plain operations have a call of their own too.
        if hasattr(vars(layer).get("call"), "recomputes"):
            del layer.call
