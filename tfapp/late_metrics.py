"""Metrics that are summed over the replicas when they are read, not at each step."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import tensorflow as tf
import tf_keras as keras


def install(model: keras.Model) -> None:
    """Let each replica of a compiled model keep its own sums, which are added up once for each return to Python.

    Keras adds them up, and then the results, after each step: with loss and accuracy that is more collectives than the
    gradients need. The numbers are the same, and the same on all workers.
    """

    def get_metrics_result(self: keras.Model) -> dict[str, Any]:
        if tf.distribute.in_cross_replica_context():
            return type(self).get_metrics_result(self)
        return {"nothing yet": tf.zeros([])}  # Keras's loop over steps must carry something.

    model.get_metrics_result = MethodType(get_metrics_result, model)
    model.distribute_reduction_method = "first"
    for kind in ("train", "test"):
        setattr(model, f"make_{kind}_function", MethodType(_maker(kind), model))


def _maker(kind: str) -> Callable[..., Any]:
    """Makes Keras's function of many steps, and has it return what the metrics are after them."""

    def make(self: keras.Model, force: bool = False) -> Any:
        made = f"{kind}_function"
        if getattr(self, made) is None or force:
            setattr(self, made, after(self, getattr(type(self), f"make_{kind}_function")(self, force)))
        return getattr(self, made)

    return make


def after(model: keras.Model, steps: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    """What runs a model's steps, and then returns what its metrics are over all replicas."""
    results = tf.function(model.get_metrics_result)

    def run(iterator: Any) -> dict[str, Any]:
        steps(iterator)
        return results()

    return run
