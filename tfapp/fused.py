"""Adam's step in one kernel a weight, with the numbers that all weights share computed once.

Keras composes it of a dozen operations a weight, each a pass over memory, and of more where the gradient is that of an
embedding. TensorFlow has a kernel (ApplyAdam) of the same formula and the same slots: the weights, and what a checkpoint
holds, are those of Keras's optimizer to rounding. An embedding's gradient is summed into a dense one, since Adam moves
every row at every step, those without a gradient too.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import tensorflow as tf
import tf_keras as keras

# Their subclasses may compute something else.
ADAMS = (keras.optimizers.Adam, keras.optimizers.AdamW)


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
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[number].handle,
            v=self._velocities[number].handle,
            grad=gradient,
            **numbers,
        )

    optimizer._distributed_apply_gradients_fn = apply_all
    optimizer.update_step = MethodType(update_step, optimizer)
    optimizer._deduplicate_sparse_grad = _dense
    # Done by update_step: that of one weight has nothing to do with the others.
    optimizer._apply_weight_decay = lambda variables: None


def possible(optimizer: Any) -> bool:
    """Whether this optimizer's step is what the kernel computes."""
    return type(optimizer) in ADAMS and not optimizer.amsgrad and not optimizer.jit_compile


def _shared(optimizer: Any) -> dict[str, Any]:
    step = tf.cast(optimizer.iterations + 1, tf.float32)
    beta1, beta2 = tf.constant(optimizer.beta_1, tf.float32), tf.constant(optimizer.beta_2, tf.float32)
    power1, power2 = tf.pow(beta1, step), tf.pow(beta2, step)
    epsilon, rate = tf.constant(optimizer.epsilon, tf.float32), tf.cast(optimizer.learning_rate, tf.float32)
    return {
        "beta1_power": power1,
        "beta2_power": power2,
        "lr": rate,
        "beta1": beta1,
        "beta2": beta2,
        "epsilon": epsilon * tf.sqrt(1 - power2) if getattr(optimizer, "adaptive_epsilon", False) else epsilon,
        **({} if optimizer.weight_decay is None else {"decay": rate * optimizer.weight_decay}),
    }


def _dense(gradients: Any) -> list[Any]:
    return [tf.convert_to_tensor(one) if isinstance(one, tf.IndexedSlices) else one for one in gradients]
