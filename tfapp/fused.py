"""The step of Adam, and of SGD with momentum, in one kernel a weight, with the numbers that all weights share computed once.

Keras composes Adam's of a dozen operations a weight, each a pass over memory, and of more where the gradient is that of an
embedding. TensorFlow has kernels (ApplyAdam, ApplyKerasMomentum) of the same formulas and the same slots: the weights, and
what a checkpoint holds, are those of Keras's optimizer to rounding. An embedding's gradient is summed into a dense one, since
both move every row at every step, those without a gradient too. SGD without momentum does not, and is one operation already.

A large embedding on one CPU takes Adam's step in a program of XLA's, without a dense gradient to be filled with 0 and read again.
"""

from __future__ import annotations

import math
from functools import partial
from types import MethodType
from typing import Any

import tensorflow as tf
import tf_keras as keras
from tensorflow.python.framework.config import is_op_determinism_enabled

from tfapp.runtime import in_xla, on_cpus

# Their subclasses may compute something else.
ADAMS = (keras.optimizers.Adam, keras.optimizers.AdamW)
SGD = keras.optimizers.SGD
# Numbers in a table for whose step alone a program of XLA is made, which takes a tenth of a second.
LARGE = 2**20


def install(model: keras.Model) -> None:
    """Let a compiled model's optimizer take its steps so, where that is possible."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not possible(optimizer):
        return
    shared: dict[str, Any] = {}
    apply = optimizer._distributed_apply_gradients_fn

    def apply_all(distribution: Any, gradients: Any, **settings: Any) -> Any:
        # Once a step, and not once a weight: TensorFlow cannot tell that a variable read twice has not changed.
        shared.update(_shared(optimizer))
        try:
            return apply(distribution, gradients, **settings)
        finally:
            shared.clear()

    def update_step(self: Any, gradient: Any, variable: Any) -> None:
        numbers = {name: tf.cast(value, variable.dtype) for name, value in shared.items()}
        decay = numbers.pop("decay", None)
        if decay is not None and self._use_weight_decay(variable):
            variable.assign_sub(variable * decay)
        number = self._index_dict[self._var_key(variable)]
        if isinstance(gradient, tf.IndexedSlices):
            # A few passes over memory of vectors as wide as the processor's; TensorFlow's kernel is compiled for older ones.
            compiled = tf.function(_adam, jit_compile=True, autograph=False)
            compiled(variable, self._momentums[number], self._velocities[number], gradient, **numbers)
        elif type(self) in ADAMS:
            slots = {"m": self._momentums[number].handle, "v": self._velocities[number].handle}
            tf.raw_ops.ResourceApplyAdam(var=variable.handle, grad=gradient, **slots, **numbers)
        else:
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=variable.handle,
                accum=self.momentums[number].handle,
                grad=gradient,
                use_nesterov=self.nesterov,
                **numbers,
            )

    optimizer._distributed_apply_gradients_fn = apply_all
    optimizer.update_step = MethodType(update_step, optimizer)
    optimizer._deduplicate_sparse_grad = partial(_summed, by_rows=type(optimizer) in ADAMS)
    # Done by update_step: that of one weight has nothing to do with the others.
    optimizer._apply_weight_decay = lambda variables: None


def possible(optimizer: Any) -> bool:
    """Whether this optimizer's step is what the kernel computes."""
    if type(optimizer) is SGD:
        return bool(optimizer.momentum) and not optimizer.jit_compile
    return type(optimizer) in ADAMS and not optimizer.amsgrad and not optimizer.jit_compile


def _shared(optimizer: Any) -> dict[str, Any]:
    rate = tf.cast(optimizer.learning_rate, tf.float32)
    if type(optimizer) is SGD:
        numbers = {"lr": rate, "momentum": tf.constant(optimizer.momentum, tf.float32)}
    else:
        numbers = _of_adam(optimizer, rate)
    return numbers if optimizer.weight_decay is None else {**numbers, "decay": rate * optimizer.weight_decay}


def _of_adam(optimizer: Any, rate: Any) -> dict[str, Any]:
    step = tf.cast(optimizer.iterations + 1, tf.float32)
    beta1, beta2 = tf.constant(optimizer.beta_1, tf.float32), tf.constant(optimizer.beta_2, tf.float32)
    power1, power2 = tf.pow(beta1, step), tf.pow(beta2, step)
    epsilon = tf.constant(optimizer.epsilon, tf.float32)
    return {
        "beta1_power": power1,
        "beta2_power": power2,
        "lr": rate,
        "beta1": beta1,
        "beta2": beta2,
        "epsilon": epsilon * tf.sqrt(1 - power2) if getattr(optimizer, "adaptive_epsilon", False) else epsilon,
    }


def _summed(gradients: Any, by_rows: bool) -> list[Any]:
    """The gradients with all that belongs to a row in one place: dense, or by rows where that is asked for and pays."""

    def summed(gradient: Any) -> Any:
        if not isinstance(gradient, tf.IndexedSlices):
            return gradient
        return _by_rows(gradient) if by_rows and _pays(gradient) else tf.convert_to_tensor(gradient)

    return [summed(one) for one in gradients]


def _pays(gradient: tf.IndexedSlices) -> bool:
    """Whether a table takes its step sooner by `_adam`: on one CPU, where most of it has no gradient and XLA is at work or worth it."""
    used, table = gradient.indices.shape[0], tf.get_static_value(gradient.dense_shape)
    if used is None or table is None or used >= table[0] or not on_cpus() or tf.distribute.has_strategy():
        return False
    # XLA does not promise the same bits in every run.
    return in_xla() or math.prod(table) >= LARGE and not is_op_determinism_enabled()


def _by_rows(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """As many rows as there were: in one of the places of an index the sum of them all, in its others 0."""
    n = tf.size(gradient.indices)
    last = tf.math.unsorted_segment_max(tf.range(n), gradient.indices, gradient.dense_shape[0])
    sums = tf.math.unsorted_segment_sum(gradient.values, tf.gather(last, gradient.indices), n)
    return tf.IndexedSlices(sums, gradient.indices, gradient.dense_shape)


def _adam(
    variable: Any,
    m: Any,
    v: Any,
    gradient: tf.IndexedSlices,
    *,
    lr: Any,
    beta1: Any,
    beta2: Any,
    beta1_power: Any,
    beta2_power: Any,
    epsilon: Any,
) -> None:
    """ApplyAdam's step, for every row of the table, with a gradient of `_by_rows`."""
    rows, values = gradient.indices[:, tf.newaxis], gradient.values
    m.assign(tf.tensor_scatter_nd_add(beta1 * m, rows, (1 - beta1) * values))
    v.assign(tf.tensor_scatter_nd_add(beta2 * v, rows, (1 - beta2) * values**2))
    rate = lr * tf.sqrt(1 - beta2_power) / (1 - beta1_power)
    variable.assign_sub(rate * m / (tf.sqrt(v) + epsilon))
