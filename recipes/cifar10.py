"""Photographs of CIFAR-10: 60,000 colour 32×32 images in ten classes, by a ResNet-20 or a small CNN.

Run:    tfapp train cifar10
        tfapp train cifar10 config.model=cnn fit.epochs=20
Cost:   ResNet-20: two to four minutes an epoch on two cores, hours for all 100; an accelerator is better
Score:  0.91 test accuracy is published for ResNet-20 (He et al. 2016, arXiv:1512.03385, table 6: 8.75 % error)
Data:   tf_keras.datasets.cifar10 (A. Krizhevsky 2009), downloaded once, or a folder with IDX files of
        [n, 32, 32, 3]: train-images-idx4-ubyte[.gz], train-labels-idx1-ubyte[.gz] and the same with t10k
"""

from __future__ import annotations

from typing import Literal

import tensorflow as tf
import tf_keras as keras
from pydantic import Field

from tfapp.data import arrays, downloads, idx
from tfapp.recipe import Settings, Split, Training, scaled

defaults = {"fit": {"epochs": 100, "batch_size": 128, "patience": 20, "schedule": "cosine"}}

THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Config(Settings):
    folder: str | None = Field(None, description="folder of IDX files; nothing: Keras downloads CIFAR-10")
    model: Literal["resnet20", "cnn"] = Field("resnet20", description="the network")
    filters: int = Field(16, ge=1, description="filters of the first convolution; cnn has twice as many")
    learning_rate: float = Field(0.1, gt=0, description="peak learning rate of SGD with momentum 0.9")
    weight_decay: float = Field(1e-4, ge=0, description="decay of the kernels a step, per unit of learning rate")
    flip: bool = Field(True, description="mirror half of the training images")
    shift: int = Field(4, ge=0, description="largest random shift of training images, in pixels")
    split: Split = Split(validation=0.1, test=0.1)


def data(config):
    if config.folder:
        return idx.folder(config.folder, config.split, classes=THINGS, target="thing")
    (images, labels), test = downloads.keras_dataset("cifar10")
    return arrays.split(images, labels, config.split, THINGS, "image", "thing", test=test)


def augment(config):
    if not (config.flip or config.shift):
        return None

    def changed(image, seed):
        if config.flip:
            image = tf.image.stateless_random_flip_left_right(image, seed)
        if config.shift:
            by = [config.shift, config.shift]
            # Another seed: the shift must not follow the flip.
            image = tf.image.stateless_random_crop(tf.pad(image, [by, by, [0, 0]]), tf.shape(image), seed + [0, 1])
        return image

    return changed


def preprocess(config, data):
    shape = data.train.features.shape[1:]
    return keras.Sequential([keras.Input(shape, dtype="uint8"), keras.layers.Rescaling(1 / 127.5, offset=-1)])


def model(config, inputs, data):
    return {"resnet20": resnet20, "cnn": cnn}[config.model](config, inputs, data.outputs)


def resnet20(config, inputs, outputs):
    """6n + 2 layers with n = 3, shortcuts padded with zeros where the paper pads them (its option A)."""
    x = convolution(config, inputs, config.filters)
    for filters, stride in ((config.filters, 1), (2 * config.filters, 2), (4 * config.filters, 2)):
        for block in range(3):
            x = residual(config, x, filters, stride if block == 0 else 1)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, dense(config, outputs)(x))


def residual(config, x, filters, stride):
    inside = convolution(config, x, filters, stride)
    inside = convolution(config, inside, filters, activation=False)
    if stride > 1:
        more = filters - x.shape[-1]
        x = keras.layers.AveragePooling2D(1, stride)(x)
        # Padding works on axes 1 and 2: the channels are moved there and back.
        x = keras.layers.Permute((1, 3, 2))(x)
        x = keras.layers.ZeroPadding2D(((0, 0), (more // 2, more - more // 2)))(x)
        x = keras.layers.Permute((1, 3, 2))(x)
    return keras.layers.ReLU()(keras.layers.Add()([x, inside]))


def cnn(config, inputs, outputs):
    x = inputs
    for filters in (2 * config.filters, 4 * config.filters, 8 * config.filters):
        x = convolution(config, convolution(config, x, filters), filters)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Dropout(0.4)(keras.layers.Flatten()(x))
    return keras.Model(inputs, dense(config, outputs)(x))


def convolution(config, x, filters, stride=1, activation=True):
    x = keras.layers.Conv2D(
        filters,
        3,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        kernel_regularizer=decay(config),
    )(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    return keras.layers.ReLU()(x) if activation else x


def dense(config, outputs):
    return keras.layers.Dense(outputs, kernel_initializer="he_normal", kernel_regularizer=decay(config))


def decay(config):
    # The gradient of l·w² is 2·l·w.
    return keras.regularizers.L2(config.weight_decay / 2)


def narrowed(config, width):
    return config.model_copy(update={"filters": scaled(config.filters, width)})


def training(config, data):
    return Training(
        optimizer=keras.optimizers.SGD(config.learning_rate, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
