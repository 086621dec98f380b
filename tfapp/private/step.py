"""The private training step: each example's gradient clipped, their sum noised once, divided by the planned batch.

DP-SGD (Abadi et al. 2016, arXiv:1607.00133), with adaptive clipping (Andrew et al. 2019, arXiv:1905.03871). The noise is
drawn by the first replica alone and so is on the *sum* over all replicas once, however many there are, in however many
parts the batch is taken, and however many steps are run between two returns to Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MethodType
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfapp import stateless
from tfapp.private import clipping, noise
from tfapp.private.clipping import standing

# Rows of filling are cut off in portions of these: TensorFlow's kernels like round sizes.
PORTION = 16


@dataclass(frozen=True)
class Adaptive:
    """A clipping norm that follows a quantile of the gradients' norms.

    Attributes:
      start: the norm to begin with. quantile: the share of gradients that are to stay unclipped. rate: how fast it follows.
      noise: standard deviation of the noise on the number of gradients that stay unclipped.
    """

    start: float
    quantile: float
    rate: float
    noise: float


class Clip(tf.Module):
    """The clipping norm where it moves: saved with the optimizer, equal on all replicas."""

    def __init__(self, start: float):
        super().__init__()
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.norm = tf.Variable(start, trainable=False, dtype=tf.float32, aggregation=first, name="clip_norm")


@dataclass(frozen=True)
class Step:
    """What the private step is made of.

    Attributes:
      noise_multiplier: σ of the noise on the sum of clipped gradients, in units of the clipping norm.
      clip_norm: the L2 norm that each example's gradient is clipped to.
      batch_size: what the sum is divided by: the planned global batch, never the rows that were drawn.
      steps: how many may be taken; the one after them fails.
      noise_key, count_key: 64 secret bits each.
      microbatch: rows of a replica that are taken at once; None: all.
      fixed: shapes may not depend on how many rows a batch has (XLA, TPU).
      scores: compute the metrics of the examples trained on; they are no part of what is private.
    """

    noise_multiplier: float
    clip_norm: float | Adaptive
    batch_size: int
    steps: int
    noise_key: int
    count_key: int
    microbatch: int | None = None
    fixed: bool = False
    scores: bool = True

    def install(self, model: keras.Model) -> None:
        """Let a compiled model train by this step; called in the strategy's scope."""
        if isinstance(self.clip_norm, Adaptive):
            model.optimizer.private_clip = Clip(self.clip_norm.start)

        def train_step(model: keras.Model, data: Any) -> Any:
            return self._take(model, data)

        model.train_step = MethodType(train_step, model)

    def _take(self, model: keras.Model, data: Any) -> Any:
        variables, taken = model.trainable_variables, tf.identity(model.optimizer.iterations)
        within = tf.debugging.assert_less(taken, tf.constant(self.steps, taken.dtype), "the privacy budget is spent")
        with tf.control_dependencies([within] if within is not None else []):
            taken = tf.identity(taken)
        norm = model.optimizer.private_clip.norm if isinstance(self.clip_norm, Adaptive) else self.clip_norm
        norm = tf.convert_to_tensor(norm, tf.float32)
        (x, y, weights), sums, norms, outputs = self._clipped(model, data, norm)
        noised = self._noised(sums, norm, taken)
        penalties = _penalties(model, variables)
        gradients = [
            tf.cast(total if penalty is None else total + penalty, variable.dtype)
            for total, penalty, variable in zip(noised, penalties, variables, strict=True)
        ]
        model.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        if isinstance(self.clip_norm, Adaptive):
            self._follow(self.clip_norm, model.optimizer.private_clip.norm, norm, norms, weights["metrics"], taken)
        return model.compute_metrics(x, y, outputs, weights) if self.scores else model.get_metrics_result()

    def _noised(self, sums: list[tf.Tensor], norm: tf.Tensor, step: tf.Tensor) -> list[tf.Tensor]:
        """This replica's sums; the first one's with the noise of all."""
        if not self.noise_multiplier:
            return sums

        def noised() -> list[tf.Tensor]:
            shapes = [total.shape for total in sums]
            deviation = self.noise_multiplier / self.batch_size * norm
            drawn = noise.like(self.noise_key, step, shapes, deviation)
            return [total + one for total, one in zip(sums, drawn, strict=True)]

        return _on_the_first(noised, lambda: sums)

    def _clipped(self, model: keras.Model, data: Any, norm: tf.Tensor) -> tuple[Any, list[tf.Tensor], tf.Tensor, Any]:
        """(the rows that count, the sums of their clipped gradients by the planned batch, their norms, the model's outputs)."""
        held = tf.shape(data[2]["metrics"])[0]
        first = data[2]["row"][0] if "row" in data[2] else stateless.first_row(held)
        # What lies behind the last row that weighs anything is filling.
        places = tf.range(1, held + 1)
        last = tf.reduce_max(tf.cast(data[2]["metrics"] > 0, tf.int32) * places)
        if self.microbatch is None:
            if not self.fixed:
                rows = tf.minimum(held, PORTION * tf.maximum(1, -(-last // PORTION)))
                data = tf.nest.map_structure(lambda column: column[:rows], data)
            with stateless.rows_from(first):
                sums = self._part(model, data, norm)
            return data, sums.gradients, sums.norms, sums.outputs
        return self._in_parts(model, data, norm, first, held if self.fixed else last)

    def _in_parts(self, model: keras.Model, data: Any, norm: tf.Tensor, first: Any, rows: Any) -> Any:
        """The same sums of parts of `microbatch` rows, one after another."""
        size = self.microbatch or 1
        held = data[2]["metrics"].shape[0]
        most = -(-held // size)
        parts = most if self.fixed else tf.maximum(1, -(-rows // size))
        # The last part is filled up with a row that then weighs nothing.
        filled = tf.minimum(tf.range(most * size), held - 1)
        x, y, weights = tf.nest.map_structure(lambda column: tf.gather(column, filled), data)
        real = tf.cast(tf.range(most * size) < held, tf.float32)
        weights = {**weights, "metrics": weights["metrics"] * real, "loss": weights["loss"] * real}
        data = x, y, weights

        def add_part(number: Any, sums: list[Any], norms: Any, outputs: Any) -> Any:
            part = tf.nest.map_structure(lambda column: column[number * size : (number + 1) * size], data)
            part = tf.nest.map_structure(lambda column: tf.ensure_shape(column, [size, *column.shape[1:]]), part)
            with stateless.rows_from(first + tf.cast(number * size, tf.int64)):
                here = self._part(model, part, norm)
            added = [total + one for total, one in zip(sums, here.gradients, strict=True)]
            return number + 1, added, norms.write(number, here.norms), outputs.write(number, here.outputs)

        zeros = [tf.zeros(variable.shape, tf.float32) for variable in model.trainable_variables]
        arrays = [tf.TensorArray(tf.float32, parts) for _ in range(2)]
        _, sums, norms, outputs = tf.while_loop(
            lambda number, *_: number < parts, add_part, (tf.constant(0), zeros, *arrays), parallel_iterations=1
        )
        taken = tf.nest.map_structure(lambda column: column[: parts * size], data)
        return taken, sums, norms.concat(), outputs.concat()

    def _part(self, model: keras.Model, data: Any, norm: tf.Tensor) -> clipping.Sums:
        x, y, weights = data
        # Each example's own weight: those that fill up, or that an audit leaves out, have 0.
        own = weights["metrics"]
        real, rows = tf.reduce_sum(own), tf.cast(tf.shape(own)[0], tf.float32)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        reported = model.compiled_loss._total_loss_mean
        count = reported.update_state

        def losses(outputs: Any) -> tf.Tensor:
            # Keras reports its mean over all rows; here it is the mean over the real ones, which is to weigh as many.
            with standing.in_for(reported, update_state=lambda mean, sample_weight: count(mean, sample_weight=real)):
                mean = model.compute_loss(x, y, outputs, {**weights, "loss": own * tf.math.divide_no_nan(rows, real)})
            return tf.reshape(tf.cast(mean, tf.float32) * real * replicas, [1])

        return clipping.clipped(model, x, losses, norm, scale=1 / self.batch_size)

    def _follow(
        self, rule: Adaptive, norm: tf.Variable, now: tf.Tensor, norms: tf.Tensor, own: tf.Tensor, step: tf.Tensor
    ) -> None:
        """Move the clipping norm towards the quantile: C ← C · exp(-rate · (noisy share below C - quantile))."""
        # Counted around a half, one example changes the sum by no more than a half.
        below = tf.where(own > 0, tf.cast(norms <= now, tf.float32) - 0.5, tf.zeros_like(norms))
        count = _on_the_first(
            lambda: tf.reduce_sum(below) + noise.gaussian(self.count_key, step, 1, rule.noise)[0],
            lambda: tf.reduce_sum(below),
        )
        context = tf.distribute.get_replica_context()
        share = context.all_reduce(tf.distribute.ReduceOp.SUM, count) / self.batch_size + 0.5
        norm.assign(now * tf.exp(-rule.rate * (share - rule.quantile)))


def _on_the_first(there: Any, elsewhere: Any) -> Any:
    """What the first replica computes, and what the others do."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return there()
    return tf.cond(tf.equal(context.replica_id_in_sync_group, 0), there, elsewhere)


def _penalties(model: keras.Model, variables: list[Any]) -> list[Any]:
    """The gradients of the penalties on weights, this replica's share: there is no example in them, so nothing to clip."""
    with tf.GradientTape() as tape:
        losses = model.losses
        total = tf.add_n([tf.cast(loss, tf.float32) for loss in losses]) if losses else None
    if total is None:
        return [None] * len(variables)
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    gradients = tape.gradient(total, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [tf.cast(tf.convert_to_tensor(one), tf.float32) / replicas for one in gradients]
