"""BatchNormalization that sees the global batch, so that the number of replicas changes nothing."""

from __future__ import annotations

from types import MethodType
from typing import Any

import tensorflow as tf
import tf_keras as keras


def share(model: keras.Model, replicas: int) -> None:
    """Make every BatchNormalization of the model use the statistics of all replicas' rows together."""
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization):
            fused = bool(layer.fused)
            # The fused kernel knows only its own replica's rows.
            layer.fused, layer.synchronized = False, True
            _sum_at_once(layer, replicas)
            if fused:
                _correct_as_fused(layer, replicas)


def _sum_at_once(layer: Any, replicas: int) -> None:
    """One collective for the sums of the rows and of their squares, and none for their number, which all replicas know.

    Keras takes three, and as many for the gradients of the sums. All replicas have as many rows.
    """
    plain = layer._sync_calculate_mean_and_var

    def statistics(self, x, reduction_axes, keep_dims, mask=None):
        context = tf.distribute.get_replica_context()
        if context is None or mask is not None:
            return plain(x, reduction_axes, keep_dims, mask=mask)
        y = tf.cast(x, tf.float32)  # Sums of 16-bit numbers would lose most of them.
        sums = [tf.reduce_sum(part, reduction_axes, keepdims=keep_dims) for part in (y, tf.square(y))]
        total, squares = tf.unstack(context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stack(sums)))
        count = tf.cast(tf.reduce_prod(tf.gather(tf.shape(y), reduction_axes)) * replicas, tf.float32)
        mean = total / count
        # Rounding could leave less than nothing.
        variance = tf.maximum(squares / count - tf.square(mean), 0.0)
        return tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)

    layer._sync_calculate_mean_and_var = MethodType(statistics, layer)


def _correct_as_fused(layer: Any, replicas: int) -> None:
    """Keep the moving variance unbiased (n / (n - 1)), as the fused kernel of one device does."""
    plain_statistics, plain_update = layer._calculate_mean_and_var, layer._assign_moving_average
    seen: dict[str, Any] = {}

    def statistics(self, inputs, reduction_axes, keep_dims, mask=None):
        sizes = tf.gather(tf.shape(inputs), reduction_axes)
        seen["n"] = tf.cast(tf.reduce_prod(sizes) * replicas, tf.float32)
        return plain_statistics(inputs, reduction_axes, keep_dims, mask)

    def update(self, variable, value, momentum, inputs_size):
        if variable is self.moving_variance:
            value *= tf.cast(seen["n"] / tf.maximum(seen["n"] - 1.0, 1.0), value.dtype)
        return plain_update(variable, value, momentum, inputs_size)

    layer._calculate_mean_and_var = MethodType(statistics, layer)
    layer._assign_moving_average = MethodType(update, layer)
