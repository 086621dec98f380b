"""What a replica keeps of a metric is added up when it is read, and Keras's own way comes back afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp import job, late_metrics


@pytest.mark.moderate
def test_a_fit_and_an_evaluation_say_what_keras_says_and_nothing_stays_on_the_model() -> None:
    rows, labels = np.arange(24, dtype=np.float32).reshape(12, 2) / 24, np.arange(12, dtype=np.float32)[:, None]
    found = []
    for late in (False, True):
        keras.utils.set_random_seed(0)
        with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
            model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
            model.compile("sgd", "mse", weighted_metrics=["mae"], steps_per_execution=2)
        if late:
            late_metrics.install(model)
        history = model.fit(rows, labels, batch_size=3, epochs=2, validation_data=(rows, labels), verbose=0).history
        found.append({**history, "evaluated": model.evaluate(rows, labels, verbose=0)})
    assert found[0] == found[1]
    job.forget_training(model)
    assert not {"get_metrics_result", "make_train_function", "make_test_function"} & set(vars(model))
