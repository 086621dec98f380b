"""Layers of which each device of a row holds a part: the same answers, weights' names and places as Keras's own.

By columns: a part of the outputs each, for which no sum is needed. By rows: a part of the inputs each, and one sum. Two dense
layers, the first by columns and the second by rows, need one sum in all; so does attention with a part of the heads each.

Each is made of the layer that it stands for, and makes one like that with `whole`. Its initial weights are zeros:
`mesh.weights` gives them their values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfapp.mesh import exchange


class ColumnDense(keras.layers.Dense):
    """A part of a Dense layer's units.

    Args:
      gathers: give the outputs of all parts; else the own ones, for a RowDense that takes them as they are.
    """

    def __init__(self, whole: keras.layers.Dense, gathers: bool):
        config = _zeros(whole)
        super().__init__(**{**config, "units": config["units"] // exchange.parts()})
        self.whole, self._gathers = _again(whole), gathers

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        y = super().call(exchange.shared(inputs))
        return exchange.gathered(y) if self._gathers else y


class RowDense(keras.layers.Dense):
    """A part of a Dense layer's inputs.

    Args:
      slices: take the own part of whole inputs; else they are the own part, from a ColumnDense.
    """

    def __init__(self, whole: keras.layers.Dense, slices: bool):
        # What comes after the sum is not the product's: the bias would be added once for each part.
        super().__init__(**{**_zeros(whole), "use_bias": False, "activation": None})
        self.whole, self._slices = _again(whole), slices
        self._biased, self._last = whole.use_bias, whole.activation

    def build(self, input_shape: Any) -> None:
        shape = list(input_shape)
        super().build([*shape[:-1], shape[-1] // exchange.parts()] if self._slices else shape)
        self.input_spec = None
        if self._biased:
            self.bias = self.add_weight("bias", [self.units], initializer="zeros")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        y = exchange.summed(super().call(exchange.own(inputs) if self._slices else inputs))
        return self._last(y + self.bias if self._biased else y)


class ColumnEmbedding(keras.layers.Embedding):
    """A part of each vector of an Embedding."""

    def __init__(self, whole: keras.layers.Embedding):
        config = _zeros(whole)
        super().__init__(**{**config, "output_dim": config["output_dim"] // exchange.parts()})
        self.whole = _again(whole)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return exchange.gathered(super().call(inputs))


class HeadsAttention(keras.layers.MultiHeadAttention):
    """A part of the heads of a MultiHeadAttention."""

    def __init__(self, whole: keras.layers.MultiHeadAttention):
        config = _zeros(whole)
        for name in ("query_shape", "key_shape", "value_shape"):
            del config[name]
        super().__init__(**{**config, "num_heads": config["num_heads"] // exchange.parts()})
        self.whole = _again(whole)

    def _build_attention(self, rank: int) -> None:
        super()._build_attention(rank)
        self._dropout_layer = _HeadsDropout(self._dropout, dtype=self._dtype_policy)

    def _make_output_dense(self, *args: Any, **settings: Any) -> Any:
        return _SummedDense.from_config(super()._make_output_dense(*args, **settings).get_config())

    def call(
        self, query: Any, value: Any, key: Any = None, return_attention_scores: bool = False, **settings: Any
    ) -> Any:
        same = {id(one): exchange.shared(one) for one in (query, value, key) if one is not None}
        query, value, key = (None if one is None else same[id(one)] for one in (query, value, key))
        outputs, scores = super().call(query, value, key, return_attention_scores=True, **settings)
        return (outputs, exchange.gathered(scores, axis=1)) if return_attention_scores else outputs


class _SummedDense(keras.layers.EinsumDense):
    """The last product of attention, summed over the heads of all parts before its bias."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        y = exchange.summed(tf.einsum(self.equation, inputs, self.kernel))
        return y if self.bias is None else y + self.bias


class _HeadsDropout(keras.layers.Dropout):
    """Drops of its heads' scores what one device, which has all heads, would drop of them."""

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        if not training or not self.rate:
            return inputs
        sizes = tf.shape(inputs)
        of_all = tf.concat([sizes[:1], sizes[1:2] * exchange.parts(), sizes[2:]], 0)
        keep, scale = self._random_generator.kept(of_all, self.rate)
        return tf.where(exchange.own(keep, axis=1), inputs * tf.cast(scale, inputs.dtype), tf.zeros_like(inputs))


def _again(whole: keras.layers.Layer) -> Callable[[], keras.layers.Layer]:
    # Not the layer itself, of which Keras would take the weights for this one's.
    return partial(type(whole).from_config, whole.get_config())


def _zeros(whole: keras.layers.Layer) -> dict[str, Any]:
    """A layer's config, with the cheapest initial values."""
    config = whole.get_config()
    return {name: "zeros" if name.endswith("_initializer") else value for name, value in config.items()}


# How each is parted, in the words of a layout.
WAYS = {ColumnDense: "columns", RowDense: "rows", ColumnEmbedding: "columns", HeadsAttention: "heads"}
