"""Losses that tf_keras lacks."""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras


class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of class numbers against logits with label smoothing, which the sparse loss of tf_keras lacks.

    Szegedy et al. 2016, arXiv:1512.00567. As in Keras, `loss` and `val_loss` both are the smoothed one; the
    evaluation's log loss is plain.

    Args:
      classes: number of classes K; logits are float [n, K] or [n, length, K], labels int [n] or [n, length].
      smoothing: share of the target spread evenly over all classes, in [0, 1).
    """

    def __init__(self, classes: int, smoothing: float):
        super().__init__(name="smoothed_crossentropy")
        self.classes = classes
        self.smoothing = smoothing

    def call(self, labels, logits):
        targets = tf.one_hot(
            tf.cast(tf.reshape(labels, tf.shape(logits)[:-1]), tf.int32), self.classes, dtype=logits.dtype
        )
        return keras.losses.categorical_crossentropy(targets, logits, from_logits=True, label_smoothing=self.smoothing)

    def get_config(self):
        return {"classes": self.classes, "smoothing": self.smoothing}
