"""Handwritten digits of scikit-learn: 1,797 real 8×8 images in ten classes, no download.

Run:    tfapp train digits
Cost:   under a minute on two cores
Score:  at least 0.98 test accuracy
Data:   scikit-learn's load_digits (UCI Optical Recognition of Handwritten Digits, E. Alpaydin and
        C. Kaynak, 1998)
"""

from __future__ import annotations

import tf_keras as keras
from pydantic import Field

from tfapp.data import arrays, downloads
from tfapp.recipe import Settings, Split, Training, scaled

defaults = {"fit": {"epochs": 60, "batch_size": 64, "patience": 12, "schedule": "cosine"}}


class Config(Settings):
    filters: int = Field(32, ge=1, description="filters of the first convolution; the second has twice as many")
    units: int = Field(128, ge=1, description="units of the last hidden layer")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of the last hidden units dropped in training")
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate of Adam")
    split: Split = Split(validation=0.1, test=0.2)


def data(config):
    rows = downloads.of_scikit_learn("digits.csv.gz")
    images, labels = rows[:, :-1].reshape(-1, 8, 8, 1).astype("float32"), rows[:, -1].astype(int)
    return arrays.split(images, labels, config.split, classes="0123456789", kind="image", pixel_max=16)


def preprocess(config, data):
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 16)])


def model(config, inputs, data):
    x = keras.layers.Conv2D(config.filters, 3, padding="same", activation="relu")(inputs)
    x = keras.layers.Conv2D(2 * config.filters, 3, padding="same", activation="relu")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(config.units, activation="relu")(x)
    x = keras.layers.Dropout(config.dropout)(x)
    return keras.Model(inputs, keras.layers.Dense(data.outputs)(x))


def narrowed(config, width):
    return config.model_copy(update={"filters": scaled(config.filters, width), "units": scaled(config.units, width)})


def training(config, data):
    return Training(
        optimizer=keras.optimizers.Adam(config.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )


def space(hp, config):
    return config.model_copy(
        update={
            "filters": hp.Int("filters", 8, 64, step=8),
            "units": hp.Int("units", 32, 256, step=32),
            "dropout": hp.Float("dropout", 0.0, 0.6),
            "learning_rate": hp.Float("learning_rate", 3e-4, 1e-2, sampling="log"),
        }
    )
