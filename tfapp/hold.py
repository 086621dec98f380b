"""What must stay true of some weights while they train, as that they are zero: put right after every step.

The optimizer moves the weights where it likes; then each is projected to what holds of it, on every replica alike
and inside the compiled step, so that neither `steps_per_execution` nor the number of workers can come between.
Layers are not wrapped: this works for every layer, and the trained model is a plain one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

# (the step just taken, from 1; the weight before it; the weight after it) -> the map that puts right the weight, and
# its moving average where there is one.
Law = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Callable[[tf.Tensor], tf.Tensor]]


def after_each_step(model: keras.Model, laws: Sequence[tuple[Any, Law]]) -> None:
    """Let the laws hold of a compiled model's weights, each a (variable, law).

    A law is called in the replica's context, must give the same on every replica, and uses nothing random.
    """
    optimizer = model.optimizer
    plain = optimizer.apply_gradients

    def apply_gradients(gradients: Any, *args: Any, **settings: Any) -> Any:
        before = [tf.identity(weight) for weight, _ in laws]
        iterations = plain(gradients, *args, **settings)
        step = tf.identity(optimizer.iterations)
        targets, values = [], []
        for (weight, law), old in zip(laws, before, strict=True):
            put_right = law(step, old, tf.identity(weight))
            for variable in (weight, *averages(optimizer, weight)):
                targets.append(variable)
                values.append(put_right(tf.identity(variable)))

        def assign(strategy: tf.distribute.Strategy, values: list[Any]) -> None:
            for variable, value in zip(targets, values, strict=True):
                strategy.extended.update(variable, lambda part, new: part.assign(new), args=(value,))

        tf.__internal__.distribute.interim.maybe_merge_call(assign, tf.distribute.get_strategy(), values)
        return iterations

    optimizer.apply_gradients = apply_gradients


def averages(optimizer: Any, weight: Any) -> list[Any]:
    """The moving average that an optimizer keeps of a weight, where it keeps one."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not getattr(optimizer, "use_ema", False):
        return []
    return [optimizer._model_variables_moving_average[optimizer._index_dict[optimizer._var_key(weight)]]]


def zeros(step: tf.Tensor, before: tf.Tensor, now: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
    """The law by which a weight that is zero stays zero."""
    keep = tf.cast(before != 0, now.dtype)
    return lambda weight: weight * keep
