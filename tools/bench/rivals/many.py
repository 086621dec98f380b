"""A recipe of as many examples as one likes: ten numbers and a class that their sum decides, made in memory.

Run:    tfapp train tools/bench/rivals/many.py n=1000000
"""

from __future__ import annotations

import numpy as np
import tf_keras as keras
from pydantic import Field

from tfapp.data import arrays
from tfapp.recipe import Settings, Split, Training


class Config(Settings):
    n: int = Field(1000, ge=100, description="examples that are trained on; a tenth more, at most 10,000, validate")


def data(config):
    other = min(config.n // 10, 10_000)
    n = config.n + 2 * other
    features = np.random.default_rng(0).standard_normal((n, 10), dtype=np.float32)
    labels = (features.sum(axis=1) > 0).astype(np.int64)
    return arrays.split(
        features, labels, Split(validation=other / n, test=other / n), classes=["below", "above"], kind="array"
    )


def model(config, inputs, data):
    x = inputs
    for _ in range(2):
        x = keras.layers.Dense(64, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(data.outputs)(x))


def training(config, data):
    return Training(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
