"""The step of Adam, and of SGD with momentum, in one kernel a weight, with the numbers that all weights share computed once.

Keras composes Adam's of a dozen operations a weight, each a pass over memory, and of more where the gradient is that of an
embedding. TensorFlow has kernels (ApplyAdam, ApplyKerasMomentum) of the same formulas and the same slots: the weights, and
what a checkpoint holds, are those of Keras's optimizer to rounding. An embedding's gradient is summed into a dense one, since
both move every row at every step, those without a gradient too. SGD without momentum does not, and is one operation already.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import tensorflow as tf
import tf_keras as keras

# Their subclasses may compute something else.
ADAMS = (keras.optimizers.Adam, keras.optimizers.AdamW)
SGD = keras.optimizers.SGD


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
        if type(self) in ADAMS:
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
    optimizer._deduplicate_sparse_grad = _dense
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


def _dense(gradients: Any) -> list[Any]:
    return [tf.convert_to_tensor(one) if isinstance(one, tf.IndexedSlices) else one for one in gradients]
