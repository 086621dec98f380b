"""GroupNormalization in the place of BatchNormalization, which mixes the examples of a batch."""

from __future__ import annotations

from typing import Any

import tf_keras as keras

from tfapp.errors import Refused

GROUPS = 32


def replaced(model: keras.Model) -> tuple[keras.Model, list[str]]:
    """A model of the same weights whose BatchNormalizations that train are GroupNormalizations (Wu and He 2018, arXiv:1803.08494).

    Where there is nothing but channels (behind a Dense layer) all of them are one group, which is LayerNormalization.
    Scale and offset stay; a frozen BatchNormalization (trainable=False) uses what it learned in public, and stays too.

    Returns:
      (the model, or the same one where there is nothing to replace; the names of the layers).

    Raises:
      Refused: the model is subclassed and cannot be rebuilt.
    """
    names = [layer.name for layer in model._flatten_layers(include_self=False) if _is_one(layer)]
    return (_rebuilt(model), names) if names else (model, names)


def _is_one(layer: Any) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization) and layer.trainable


def _rebuilt(model: keras.Model) -> keras.Model:
    def copy(layer: Any) -> Any:
        if isinstance(layer, keras.Model):
            return _rebuilt(layer)
        return _grouped(layer) if _is_one(layer) else type(layer).from_config(layer.get_config())

    if not isinstance(model, keras.Sequential) and not model._is_graph_network:
        raise Refused(
            f"private.replace_batchnorm=true: {type(model).__name__} is a class of its own, and is not rebuilt here\n"
            "build it with keras.layers.GroupNormalization, or as a functional model"
        )
    copied = keras.models.clone_model(model, clone_function=copy)
    for old, new in zip(model.layers, copied.layers, strict=True):
        if _is_one(old):
            new.set_weights([weight.numpy() for weight in (old.gamma, old.beta) if weight is not None])
        elif not isinstance(old, keras.Model):
            new.set_weights(old.get_weights())
    copied.trainable = model.trainable
    for old, new in zip(model.layers, copied.layers, strict=True):
        new.trainable = old.trainable
    return copied


def _grouped(layer: Any) -> Any:
    shape = layer.input_shape
    axis = layer.axis[0] if not isinstance(layer.axis, int) else layer.axis
    channels = shape[axis]
    same = {
        "name": layer.name,
        "center": layer.center,
        "scale": layer.scale,
        "epsilon": layer.epsilon,
        "dtype": layer.dtype_policy,
    }
    if len(shape) == 2:
        return keras.layers.LayerNormalization(**same)
    groups = next(g for g in range(min(GROUPS, channels), 0, -1) if channels % g == 0)
    return keras.layers.GroupNormalization(groups, axis=axis, **same)
