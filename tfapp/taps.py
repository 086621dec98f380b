"""What layers inside a model give, listened to while the model is called and without changing it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import tf_keras as keras

from tfapp.errors import Refused, nearest


class Taps:
    """Listens to some layers of a model, in nested models too, until it is lifted.

    The outputs are tensors of the function that is being traced, so they are told to whoever asks in the same one, after
    the model was called there. Replicas are traced in turns by threads of their own: each hears its own layers.

    Args:
      layers: of the model to be called, by the name under which each is asked for.
    """

    def __init__(self, layers: dict[str, keras.layers.Layer]):
        self._heard = threading.local()
        self._plain: list[tuple[keras.layers.Layer, Any]] = []
        for name, layer in layers.items():
            self._plain.append((layer, vars(layer).get("call")))
            layer.call = self._listening(layer.call, name)

    def heard(self, name: str) -> Any:
        """What the layer gave when it was called last."""
        return getattr(self._heard, name)

    def lift(self) -> None:
        """Make the layers as they were."""
        for layer, own in reversed(self._plain):
            # Keras's layers of plain operations and recomputed blocks have a call of their own.
            del layer.call
            if own is not None:
                layer.call = own

    def _listening(self, plain: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            outputs = plain(*args, **kwargs)
            setattr(self._heard, name, outputs)
            return outputs

        return call


def find(model: keras.Model, name: str, setting: str) -> keras.layers.Layer:
    """The layer of a model, or of the models in it, by its name.

    Raises:
      Refused: there is none, or several, with `setting` (as «distill.hints») as the one that asks for it; or it lies in a
        recomputed block, whose inside the gradient does not see; or it gives no single tensor.
    """
    layers = [one for one in _inside(model) if not isinstance(one, keras.layers.InputLayer)]
    found = [layer for layer in layers if layer.name == name]
    if len(found) != 1:
        what = "several layers" if found else "no layer"
        raise Refused(f"{setting}: {what} {name!r} in {model.name}\n{nearest(name, {one.name for one in layers})}")
    for block in layers:
        recomputed = hasattr(vars(block).get("call"), "recomputes")
        if recomputed and any(one is found[0] for one in block._flatten_layers(include_self=False)):
            raise Refused(
                f"{setting}: {name!r} lies in the recomputed block {block.name!r}, which keeps nothing of its inside\n"
                f"take {block.name!r} itself, or leave recompute out"
            )
    if not isinstance(getattr(found[0], "output_shape", None), tuple):
        raise Refused(f"{setting}: {name!r}, a {type(found[0]).__name__}, does not give one tensor\ntake another layer")
    return found[0]


def _inside(model: keras.Model) -> Iterable[keras.layers.Layer]:
    return model._flatten_layers(include_self=False)
