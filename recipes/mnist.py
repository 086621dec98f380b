"""Handwritten digits of MNIST: 70,000 grey 28×28 images in ten classes, by a small CNN.

Run:    tfapp train mnist
        tfapp train mnist config.folder=path/to/idx-files
Cost:   a minute an epoch on two cores (60,000 images); a few seconds with 8,000
Score:  at least 0.99 test accuracy; trained on 8,000 images at least 0.98 test accuracy
Data:   tf_keras.datasets.mnist (Y. LeCun, C. Cortes, C. Burges; CC BY-SA 3.0), downloaded once, or a folder with
        train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz] and the same with t10k, or one of the pairs
"""

from __future__ import annotations

import tf_keras as keras
from pydantic import Field

from tfapp.data import arrays, downloads, idx
from tfapp.recipe import Settings, Split, Training, scaled

defaults = {"fit": {"epochs": 10, "batch_size": 64, "patience": 4, "schedule": "cosine"}}


class Config(Settings):
    folder: str | None = Field(None, description="folder of IDX files; nothing: Keras downloads MNIST")
    filters: int = Field(32, ge=1, description="filters of the first convolution; the second has twice as many")
    units: int = Field(128, ge=1, description="units of the last hidden layer")
    dropout: float = Field(0.4, ge=0, lt=1, description="share of the last hidden units dropped in training")
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate of Adam")
    split: Split = Split(validation=0.1, test=0.1)


def data(config):
    if config.folder:
        return idx.folder(config.folder, config.split, classes="0123456789", target="digit")
    (images, labels), test = downloads.keras_dataset("mnist")
    return arrays.split(images, labels, config.split, "0123456789", "image", "digit", test=test)


def preprocess(config, data):
    return keras.Sequential(
        [keras.Input(data.train.features.shape[1:], dtype="uint8"), keras.layers.Rescaling(1 / 255)]
    )


def model(config, inputs, data):
    x = inputs
    for filters in (config.filters, 2 * config.filters):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        # 0.9, as the default 0.99 lags behind in runs of a thousand steps.
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x)
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
            "dropout": hp.Float("dropout", 0.0, 0.6),
            "learning_rate": hp.Float("learning_rate", 3e-4, 1e-2, sampling="log"),
        }
    )
