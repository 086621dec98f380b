"""The two models that private steps are timed on, as a recipe: an MLP, and the small CNN that others publish.

Run:    tools/bench/private cost
Data:   noise; what is learned does not matter
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import tf_keras as keras
from pydantic import Field

from tfapp.data import arrays
from tfapp.recipe import Settings, Split, Training


class Config(Settings):
    kind: Literal["mlp", "cnn"] = Field("mlp", description="which of the two")
    n: int = Field(62_000, ge=1, description="examples, of which 60,000 are trained on")
    split: Split = Split(validation=1 / 62, test=1 / 62)


def data(config):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (config.n, 28, 28, 1), dtype=np.uint8)
    return arrays.split(images, random.integers(0, 10, config.n), config.split, "0123456789", "image", "digit")


def preprocess(config, data):
    return keras.Sequential([keras.Input((28, 28, 1), dtype="uint8"), keras.layers.Rescaling(1 / 255)])


def model(config, inputs, data):
    layers = keras.layers
    mlp = [layers.Flatten(), layers.Dense(256, activation="relu"), layers.Dense(128, activation="relu")]
    cnn = [
        layers.Conv2D(16, 8, strides=2, padding="same", activation="relu"),
        layers.MaxPooling2D(2, 1),
        layers.Conv2D(32, 4, strides=2, activation="relu"),
        layers.MaxPooling2D(2, 1),
        layers.Flatten(),
        layers.Dense(32, activation="relu"),
    ]
    x = inputs
    for layer in [*(mlp if config.kind == "mlp" else cnn), layers.Dense(10)]:
        x = layer(x)
    return keras.Model(inputs, x)


def training(config, data):
    return Training(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
