"""A model that rounds as 8-bit arithmetic does while it trains: TF-MOT's wrappers around every layer that it knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras import (
    quantize,
    quantize_layer,
    quantize_wrapper,
    quantizers,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import default_8bit_quantize_registry

from tfapp import hold, kernels, sharing
from tfapp.errors import Refused

# Keras copies a model by the names of its layers' classes, when it is taken off a strategy.
for _classes in quantize.quantize_scope().custom_objects:
    keras.utils.get_custom_objects().update(_classes)

# A kernel with fewer zeros than this was not pruned; one with more values than this was not clustered.
ZEROS, VALUES = 0.1, 255
CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def aware(model: keras.Model, layers: Sequence[str] = ("*",), skip: Sequence[str] = ()) -> tuple[keras.Model, str]:
    """A copy of a model, weights and all, whose layers round; and what to say about those that cannot.

    Args:
      model: functional or Sequential, built, float32. layers, skip: patterns of the layers' names.

    Raises:
      Refused: TF-MOT knows none of the layers that have weights, or cannot copy the model.
    """
    if not getattr(model, "_is_graph_network", False):
        raise Refused(
            f"quantize: {type(model).__name__} is a model of its own kind, and TF-MOT quantises functional models\n"
            f"build it as keras.Model(inputs, outputs), or {_AFTER}"
        )
    rounding = {layer.name for layer in model.layers if _chosen(layer, layers, skip) and _known(layer)}
    if not rounding & {kernel.path for kernel in kernels.of(model)}:
        kinds = sorted({type(layer).__name__ for layer in model.layers if layer.weights})
        raise Refused(
            f"quantize: TF-MOT has no 8-bit scheme for any of this model's layers ({', '.join(kinds)})\n{_AFTER}"
        )

    def annotated(layer: keras.layers.Layer) -> keras.layers.Layer:
        return quantize.quantize_annotate_layer(layer) if layer.name in rounding else layer

    try:
        # Wrappers are put around the layers of a copy: those of the model itself must not be called once more.
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        made = quantize.quantize_apply(keras.models.clone_model(copy, clone_function=annotated))
    except Exception as error:  # noqa: BLE001, as TF-MOT raises anything from its depths
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Refused(f"quantize: TF-MOT cannot make a model of this kind round: {reason[:200]}\n{_AFTER}") from error
    return made, _said(model, rounding)


_AFTER = "quantise after training: tfapp export RUN --format tflite --quantize int8"


def is_aware(model: keras.Model) -> bool:
    """Whether any layer of the model is one of TF-MOT's wrappers."""
    return any(isinstance(layer, quantize_wrapper.QuantizeWrapper) for layer in model._flatten_layers())


def follow(model: keras.Model, replicas: int) -> None:
    """Let a compiled model's ranges of activations be those of the global batch, and right from the first step.

    TF-MOT's begin at ±6 and move by a thousandth each step, which a short run never makes up for; and each replica
    would see its own rows alone.
    """
    step = model.optimizer.iterations
    _exchange(model, lambda plain: Ranges(plain, step, replicas))


def forget_ranges(model: keras.Model) -> keras.Model:
    """Give a trained model TF-MOT's own quantizers back, with the ranges that were found."""
    _exchange(model, lambda ranges: ranges.plain)
    return model


def _exchange(model: keras.Model, by: Callable[[Any], Any]) -> None:
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, quantize_layer.QuantizeLayer) and layer.quantizer:
            # One before a concatenation has none: the rounding is done behind it.
            layer.quantizer = by(layer.quantizer)
        if isinstance(layer, quantize_wrapper.QuantizeWrapper):
            layer._output_quantizers = [by(one) for one in layer._output_quantizers]
            for activation in layer._quantize_activations:
                activation.quantizer = by(activation.quantizer)


class Ranges(quantizers.Quantizer):
    """Rounds activations within a moving average of their smallest and largest values.

    The first hundred steps count alike, then the last hundred do (0.99). Outside of training, and for quantizers whose
    range does not follow the data, it is the quantizer that it stands for.
    """

    def __init__(self, plain: Any, step: tf.Variable, replicas: int):
        self.plain, self._step, self._replicas = plain, step, replicas

    def build(self, tensor_shape: Any, name: str, layer: Any) -> Any:
        return self.plain.build(tensor_shape, name, layer)

    def __call__(self, inputs: tf.Tensor, training: Any, weights: Any, **settings: Any) -> tf.Tensor:
        follows = isinstance(self.plain, quantizers.MovingAverageQuantizer | quantizers.AllValuesQuantizer)
        if training is True and follows and not self.plain.per_axis and not self.plain.symmetric:
            # A range holds zero.
            low, high = tf.minimum(tf.reduce_min(inputs), 0.0), tf.maximum(tf.reduce_max(inputs), 0.0)
            if self._replicas > 1:
                every = tf.distribute.get_replica_context().all_gather(tf.stack([low, high])[None], 0)
                low, high = tf.reduce_min(every[:, 0]), tf.reduce_max(every[:, 1])
            decay = 1.0 - tf.maximum(0.01, 1.0 / (tf.cast(self._step, tf.float32) + 1.0))
            for name, value in (("min_var", low), ("max_var", high)):
                tf.__internal__.train.assign_moving_average(weights[name], value, decay, zero_debias=False)
        elif training is True:
            return self.plain(inputs, training, weights, **settings)
        return self.plain(inputs, False, weights, **settings)

    def get_config(self) -> dict[str, Any]:
        return self.plain.get_config()


def preserved(model: keras.Model, preserve: str) -> tuple[list[tuple[Any, hold.Law]], list[str]]:
    """The laws by which a model's kernels keep their zeros or shared values, and what to say; in the strategy's scope.

    Args:
      model: with the weights that it starts from. preserve: auto, none, sparsity, clusters or both.

    Raises:
      Refused: no kernel has what is to be kept.
    """
    laws: list[tuple[Any, hold.Law]] = []
    sparse = clustered = 0
    for kernel in kernels.of(model) if preserve != "none" else ():
        weights = kernel.weight.numpy()
        left = weights[weights != 0]
        if preserve in {"auto", "clusters", "both"} and len(np.unique(left)) <= min(VALUES - 1, left.size // 2):
            shared = sharing.Shared(kernel.weight)
            shared.hold(sharing.as_they_are(weights))
            laws.append((kernel.weight, shared.law))
            clustered += 1
            sparse += np.mean(weights == 0) >= ZEROS
        elif preserve in {"auto", "sparsity", "both"} and np.mean(weights == 0) >= ZEROS:
            laws.append((kernel.weight, hold.zeros))
            sparse += 1
    for wanted, found, what in (("sparsity", sparse, "pruned"), ("clusters", clustered, "clustered")):
        if preserve in {wanted, "both"} and not found:
            raise Refused(
                f"quantize.preserve={preserve}, but no kernel is {what} yet\n"
                f"start from the weights of a run that was: start.run=RUN"
            )
    kept = [f"{count} {what} kernels" for count, what in ((sparse, "pruned"), (clustered, "clustered")) if count]
    return laws, [f"quantize: {' and '.join(kept)} stay so"] if kept else []


def _chosen(layer: keras.layers.Layer, layers: Sequence[str], skip: Sequence[str]) -> bool:
    return kernels.fits(layer.name, layers) and not kernels.fits(layer.name, skip)


def _known(layer: keras.layers.Layer) -> bool:
    """Whether TF-MOT can wrap the layer where it stands."""
    if len(layer._inbound_nodes) != 1 or isinstance(layer, keras.Model | keras.layers.InputLayer):
        return False
    tensors = tf.nest.flatten(layer.input)
    if any(not tensor.dtype.is_floating for tensor in tensors):
        return False
    if isinstance(layer, keras.layers.BatchNormalization):
        before = tf.nest.flatten(layer._inbound_nodes[0].inbound_layers)
        return (
            len(before) == 1
            and type(before[0]) in CONVOLUTIONS
            and len(before[0]._outbound_nodes) == 1
            and before[0].activation is keras.activations.linear
        )
    if isinstance(layer, keras.layers.SeparableConv2D):
        return True
    return default_8bit_quantize_registry.Default8BitQuantizeRegistry().supports(layer)


def _said(model: keras.Model, rounding: set[str]) -> str:
    left = [
        layer for layer in model.layers if layer.name not in rounding and not isinstance(layer, keras.layers.InputLayer)
    ]
    in_float = f"; in float: {_names(left)}" if left else ""
    count = sum(1 for layer in model.layers if layer.name in rounding)
    return f"quantize: {count} of {count + len(left)} layers in 8 bits{in_float}"


def _names(layers: Sequence[keras.layers.Layer]) -> str:
    """A few layers by name, many by their kinds."""
    if len(layers) <= 2:
        return ", ".join(f"{layer.name} ({type(layer).__name__})" for layer in layers)
    kinds = Counter(type(layer).__name__ for layer in layers)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
