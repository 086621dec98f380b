"""BatchNormalization that sees the global batch, so that the number of replicas changes nothing."""

from __future__ import annotations

from types import MethodType
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfapp.runtime import on_cpus


def share(model: keras.Model, replicas: int) -> None:
    """Make every BatchNormalization of the model use the statistics of all replicas' rows together."""
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization):
            if layer.fused and layer._data_format.endswith("C"):
                _share_by_kernels(layer, replicas)
                continue
            fused = bool(layer.fused)
            # The fused kernel knows only its own replica's rows.
            layer.fused, layer.synchronized = False, True
            _sum_at_once(layer, replicas)
            if fused:
                _correct_as_fused(layer, replicas)


def _share_by_kernels(layer: Any, replicas: int) -> None:
    """Normalise by the fused kernels, with the global batch's statistics in the place of given ones.

    Composed of TensorFlow's operations, as Keras does it, a layer and what follows take three times as long on a CPU: each
    operation goes through all activations, and none is oneDNN's.
    """
    plain = layer._fused_batch_norm

    def shared(self, inputs, mask, training):
        context = tf.distribute.get_replica_context()
        if context is None or not tf.get_static_value(training):
            return plain(inputs, mask, training)
        gamma = tf.ones(self._param_shape) if self.gamma is None else tf.convert_to_tensor(self.gamma)
        beta = tf.zeros(self._param_shape) if self.beta is None else tf.convert_to_tensor(self.beta)
        count = tf.cast(tf.size(inputs) // inputs.shape[-1] * replicas, tf.float32)
        output, mean, variance = _normalised(
            inputs, gamma, beta, count, context, epsilon=self.epsilon, data_format=self._data_format
        )
        # Unbiased, as that of the kernel on one device.
        variance *= count / tf.maximum(count - 1.0, 1.0)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            self._assign_moving_average(moving, value, self.momentum, None)
        return output

    layer._fused_batch_norm = MethodType(shared, layer)


def _normalised(x: Any, gamma: Any, beta: Any, count: Any, context: Any, **kernel: Any) -> Any:
    """Batch normalisation over all replicas (Ioffe & Szegedy 2015), one collective each way.

    Args:
      x: this replica's activations, channels last. gamma, beta: float32 [channels].
      count: float32, rows times places of all replicas.
      context: of this replica.
      kernel: epsilon and data_format.

    Returns:
      (outputs, mean and variance over all replicas; no gradient goes through these two).
    """

    def summed(*parts: Any) -> Any:
        return tf.unstack(context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stack(parts)))

    @tf.custom_gradient
    def normalise(x: Any, gamma: Any, beta: Any) -> Any:
        total, squares = summed(*_sums(tf.cast(x, tf.float32)))  # Sums of 16-bit numbers would lose most of them.
        mean = total / count
        # Rounding could leave less than nothing.
        variance = tf.maximum(squares / count - tf.square(mean), 0.0)
        output, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=gamma, offset=beta, mean=mean, variance=variance, is_training=False, **kernel
        )

        def gradient(upstream: Any, *_: Any) -> Any:
            # As if mean and variance were given; then what moves through them.
            given, of_gamma, of_beta, *_ = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=upstream,
                x=x,
                scale=gamma,
                reserve_space_1=mean,
                reserve_space_2=variance,
                reserve_space_3=tf.zeros([0]),
                is_training=False,
                **kernel,
            )
            all_gamma, all_beta = summed(of_gamma, of_beta)
            slope = -gamma * tf.math.rsqrt(variance + kernel["epsilon"]) / count
            moved, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x,
                scale=slope * all_gamma,
                offset=slope * all_beta,
                mean=mean,
                variance=variance,
                is_training=False,
                **kernel,
            )
            return given + moved, of_gamma, of_beta

        return (output, mean, variance), gradient

    return normalise(x, gamma, beta)


def _sums(x: Any) -> tuple[Any, Any]:
    """The sums of each channel, the last axis, and of its squares: float32 [channels] each."""
    channels = x.shape[-1]
    if not on_cpus():
        rows = tf.reshape(x, [-1, channels])
        return tf.reduce_sum(rows, 0), tf.reduce_sum(tf.square(rows), 0)
    # By operations that are sums of products: half of reduce_sum's time on a CPU, and nothing of the activations' size is written.
    places = tf.reshape(x, [tf.shape(x)[0], 1, -1, channels])
    squares = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
        input=places, filter_sizes=[1, 1, channels, 1], out_backprop=places, strides=[1, 1, 1, 1], padding="VALID"
    )
    rows = tf.reshape(x, [-1, channels])
    return tf.reshape(tf.matmul(tf.ones([1, tf.shape(rows)[0]]), rows), [-1]), tf.reshape(squares, [-1])


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
