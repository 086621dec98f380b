"""Smoothed cross-entropy is Keras's own on one-hot targets."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given
from hypothesis import strategies as st

from tfapp.losses import SmoothedCrossentropy


@given(st.integers(2, 12), st.floats(0, 0.99), st.integers(1, 9), st.integers(0, 99), st.booleans())
def test_it_is_keras_s_categorical_loss_on_one_hot_targets(classes, smoothing, n, seed, column) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(0, 5, (n, classes)).astype(np.float32)
    labels = random.integers(0, classes, n)
    given_labels = labels[:, None] if column else labels
    weights = random.random(n).astype(np.float32)
    whole = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    expected = whole(np.eye(classes, dtype=np.float32)[labels], logits, weights)
    assert float(SmoothedCrossentropy(classes, smoothing)(given_labels, logits, weights)) == pytest.approx(
        float(expected), rel=1e-5
    )


def test_without_smoothing_it_is_the_sparse_loss() -> None:
    logits, labels = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32), np.arange(8) % 3
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert float(SmoothedCrossentropy(3, 0)(labels, logits)) == pytest.approx(float(plain(labels, logits)), rel=1e-6)


def test_it_survives_its_config_and_half_precision() -> None:
    loss = SmoothedCrossentropy(3, 0.1)
    again = SmoothedCrossentropy.from_config(loss.get_config())
    assert (again.classes, again.smoothing) == (3, 0.1)
    assert np.isfinite(float(again([0, 2], tf.zeros([2, 3], tf.float16))))
