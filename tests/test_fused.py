"""One kernel a weight computes what Keras's optimizer computes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp import fused
from tfapp.optimizers import clip_whole_gradients

KINDS = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "adamw, some weights left out": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "clipped, scheduled": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), beta_1=0.8, epsilon=1e-3, global_clipnorm=0.1
    ),
    "sgd with momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "sgd, nesterov, decayed, clipped, scheduled": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5),
        momentum=0.9,
        nesterov=True,
        weight_decay=0.1,
        global_clipnorm=0.1,
    ),
    "averaged": lambda: keras.optimizers.AdamW(0.01, use_ema=True, ema_momentum=0.5),
}


def stepped(optimizer: keras.optimizers.Optimizer, one_kernel: bool, jit: bool = False) -> list[np.ndarray]:
    """Weights and the optimizer's variables after five steps of a model with an embedding, some tokens twice in a batch."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.layers.Embedding(31, 3, input_length=4), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    ids = np.random.default_rng(0).integers(0, 8, (20, 4))
    model.build((None, 4))
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=jit)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(model.trainable_variables)
    if one_kernel:
        fused.install(model)
    clip_whole_gradients(model)
    model.fit(ids, ids[:, 0] % 2, batch_size=4, epochs=1, shuffle=False, verbose=0)
    return [*model.get_weights(), *(variable.numpy() for variable in optimizer.variables)]


@pytest.mark.moderate
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("jit", "large"), [(False, 2**20), (False, 1), (True, 2**20)], ids=["plain", "large", "XLA"])
def test_weights_and_slots_are_those_of_keras(
    kind: str, jit: bool, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "LARGE", large)
    ours, theirs = stepped(KINDS[kind](), True, jit), stepped(KINDS[kind](), False)
    assert all(np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(ours, theirs, strict=True))


def test_what_the_kernel_does_not_compute_is_left_to_keras() -> None:
    class Own(keras.optimizers.Adam):
        pass

    left = [keras.optimizers.Adam(amsgrad=True), keras.optimizers.SGD(), Own(), keras.optimizers.legacy.Adam()]
    left.append(keras.optimizers.RMSprop(0.1, momentum=0.9))
    assert not any(map(fused.possible, left)) and fused.possible(keras.optimizers.Adam(jit_compile=False))
    assert fused.possible(keras.optimizers.SGD(0.1, momentum=0.9, jit_compile=False))


def test_half_precision_s_inner_optimizer_is_fused() -> None:
    inner = keras.optimizers.Adam(jit_compile=False)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(keras.mixed_precision.LossScaleOptimizer(inner), "mse")
    fused.install(model)
    assert "update_step" in vars(inner)


def test_rows_without_a_gradient_move_as_well() -> None:
    dense = fused._summed([tf.IndexedSlices(tf.ones([2, 2]), tf.constant([1, 1]), tf.constant([3, 2]))], by_rows=True)[
        0
    ]
    assert dense.numpy().tolist() == [[0, 0], [2, 2], [0, 0]]


def test_under_xla_the_sum_of_a_row_stands_in_one_of_its_places() -> None:
    values, indices = tf.constant([[1.0], [2.0], [4.0], [8.0]]), tf.constant([5, 0, 5, 5])

    @tf.function(jit_compile=True)
    def summed():
        return fused._summed([tf.IndexedSlices(values, indices, tf.constant([7, 1]))], by_rows=True)[0].values

    found = summed().numpy()[:, 0]
    assert found[1] == 2 and sorted(found[[0, 2, 3]]) == [0, 0, 13]


def test_a_large_table_s_step_is_xla_s_unless_the_same_bits_are_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tf.IndexedSlices(tf.ones([2, 2]), tf.constant([1, 1]), tf.constant([3, 2]))
    assert not fused._pays(rows)
    monkeypatch.setattr(fused, "LARGE", 6)
    assert fused._pays(rows)
    monkeypatch.setattr(fused, "is_op_determinism_enabled", lambda: True)
    assert not fused._pays(rows)
