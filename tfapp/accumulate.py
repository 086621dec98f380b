"""One optimizer step from several parts of its batch, for batches whose activations do not fit in memory."""

from __future__ import annotations

from types import MethodType
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfapp import stateless
from tfapp.errors import Refused


def check(model: keras.Model) -> None:
    """Refuse a model for which the parts of a batch are not the batch.

    Raises:
      Refused: a BatchNormalization that trains; it would see the statistics of a part.
    """
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            raise Refused(
                f"fit.accumulate with BatchNormalization ({layer.name}), which needs the whole batch at once\n"
                "leave fit.accumulate out and take a smaller fit.batch_size, or build the model with "
                "keras.layers.GroupNormalization"
            )


def install(model: keras.Model, parts: int) -> None:
    """Let a compiled model take each step in `parts` equal parts of its rows, one after another.

    The gradients are summed over the parts and applied (and summed over the replicas) once, so the step is
    that of the whole batch, dropout included, to float tolerance. Memory for activations is that of one part.

    Args:
      model: compiled, and accepted by `check`.
      parts: at least 1; divides the rows that a replica gets.
    """

    def train_step(self: keras.Model, data: Any) -> Any:
        variables = self.trainable_variables
        portions = tf.nest.map_structure(lambda rows: tf.reshape(rows, [parts, -1, *rows.shape[1:]]), data)
        rows = tf.shape(tf.nest.flatten(portions)[0])[1]
        first = stateless.first_row(rows * parts)
        untouched: set[int] = set()

        def add_part(number: Any, sums: list[Any], outputs: Any) -> Any:
            x, y, weights = tf.nest.map_structure(lambda rows: rows[number], portions)
            here = stateless.rows_from(first + tf.cast(number * rows, tf.int64))
            with here, tf.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self.compute_loss(x, y, y_pred, weights) / parts
            gradients = [gradient for gradient, _ in self.optimizer.compute_gradients(loss, variables, tape)]
            untouched.update(index for index, gradient in enumerate(gradients) if gradient is None)
            added = [s if g is None else s + tf.convert_to_tensor(g) for s, g in zip(sums, gradients, strict=True)]
            return number + 1, added, outputs.write(number, y_pred)

        _, sums, outputs = tf.while_loop(
            lambda number, *_: number < parts,
            add_part,
            (tf.constant(0), [tf.zeros(v.shape, v.dtype) for v in variables], tf.TensorArray(tf.float32, parts)),
            parallel_iterations=1,
        )
        # A variable that the loss does not touch has no gradient, which is not the same as a gradient of zero.
        gradients = [None if index in untouched else total for index, total in enumerate(sums)]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        x, y, weights = data
        return self.compute_metrics(x, y, outputs.concat(), weights)

    model.train_step = MethodType(train_step, model)
