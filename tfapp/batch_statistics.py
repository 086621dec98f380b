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
            if fused:
                _correct_as_fused(layer, replicas)


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
