"""Your own images, one folder a class or a CSV of path,label, by a small CNN or a network of tf_keras.applications.

Run:    tfapp train image_folder config.folder=path/to/images
        tfapp train image_folder config.csv=images.csv config.size=160
        tfapp train image_folder config.folder=… config.backbone=MobileNetV2 config.weights=imagenet config.freeze=true
Cost:   three minutes on two cores for 2,000 images with the small CNN
Score:  at least 0.95 test accuracy on 2,062 photographs of hand signs for the ten digits
Data:   JPEG, PNG, GIF or BMP files of any size and orientation: cat/1.jpg, dog/2.jpg, …; folders train/ and test/
        (and validation/) of class folders, or a column `split` in the CSV, are respected; `tfapp data shard` makes
        a folder that is read much faster, where images do not fit in memory
"""

from __future__ import annotations

import math
from typing import Literal

import tensorflow as tf
import tf_keras as keras
from pydantic import Field, model_validator

from tfapp.data import downloads, images
from tfapp.errors import Missing, Refused
from tfapp.recipe import Settings, Split, Training, scaled

# Without the warm-up the first steps at the full rate leave the dense layer half dead.
defaults = {"fit": {"epochs": 20, "batch_size": 32, "patience": 8, "schedule": {"kind": "cosine", "warmup": 1}}}

SMALL = ("small_cnn", "resnet20")


class Augment(Settings):
    """How far training images are changed at random. 0 and false leave them as they are."""

    flip: bool = Field(False, description="mirror half of the images; not for signs, letters or left hands")
    shift: float = Field(0.08, ge=0, lt=1, description="largest shift, as a share of height and width")
    rotation: float = Field(10, ge=0, le=180, description="largest rotation, in degrees")
    zoom: float = Field(0.1, ge=0, lt=1, description="largest change of scale, as a share")
    brightness: float = Field(0.1, ge=0, le=1, description="largest change of brightness, as a share of white")


class Config(Settings):
    folder: str | None = Field(None, description="folder with one sub-folder a class, or of tfapp data shard")
    csv: str | None = Field(None, description="CSV of path,label, the paths relative to it")
    size: int = Field(96, ge=32, description="height and width to which images are brought, in pixels")
    resize: Literal["pad", "crop", "stretch"] = Field("pad", description="how images that are not square get there")
    backbone: Literal[
        "small_cnn", "resnet20", "MobileNetV2", "EfficientNetB0", "EfficientNetV2B0", "ResNet50", "ResNet50V2"
    ] = Field("small_cnn", description="the network: two small ones from scratch, or one of tf_keras.applications")
    weights: Literal["none", "imagenet"] = Field("none", description="where a large network starts from")
    freeze: bool = Field(False, description="train the last layer only; wants weights=imagenet")
    filters: int = Field(16, ge=1, description="filters of the first convolution of a small network")
    units: int = Field(128, ge=1, description="units of the last hidden layer of small_cnn")
    dropout: float = Field(0.4, ge=0, lt=1, description="share of the last hidden units dropped in training")
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate of Adam; 1e-4 suits imagenet weights")
    augment: Augment = Augment()
    split: Split = Split(validation=0.1, test=0.1)

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if self.folder and self.csv:
            raise ValueError("give folder or csv, not both")
        if self.backbone in SMALL and self.weights == "imagenet":
            raise ValueError(f"{self.backbone} has no imagenet weights: take another backbone, or weights=none")
        if self.freeze and self.weights == "none":
            raise ValueError("freeze=true would freeze random weights: add weights=imagenet")
        return self


def data(config):
    how = {"size": config.size, "resize": config.resize}
    if config.folder:
        return images.from_folder(config.folder, config.split, **how)
    if config.csv:
        return images.from_csv(config.csv, config.split, **how)
    raise Missing(
        "image_folder has no images to train on\n"
        "give a folder with one sub-folder a class: tfapp train image_folder config.folder=path/to/images\n"
        "or a CSV of path,label:                    tfapp train image_folder config.csv=images.csv"
    )


def augment(config):
    strength = config.augment
    if not any(strength.model_dump().values()):
        return None

    def changed(image, seed):
        random = tf.random.stateless_uniform([6], seed, -1, 1)
        pixels, image = image, tf.cast(image, tf.float32)
        if strength.shift or strength.rotation or strength.zoom:
            angle, scale = math.radians(strength.rotation) * random[0], 1 + strength.zoom * random[1]
            image = images.moved(image, strength.shift * random[2:4], angle, scale)
        if strength.flip:
            image = tf.where(random[4] > 0, tf.reverse(image, [1]), image)
        if strength.brightness:
            image += 255 * strength.brightness * random[5]
        return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), pixels.dtype)

    return changed


def preprocess(config, data):
    return keras.Sequential([keras.Input((config.size, config.size, 3), dtype="uint8"), *scaling(config.backbone)])


def scaling(backbone):
    """Layers from 0..255 to the values that the network was, or would be, trained with."""
    if backbone in ("EfficientNetB0", "EfficientNetV2B0"):  # they scale inside
        return [keras.layers.Rescaling(1.0)]
    if backbone == "ResNet50":  # blue, green, red, each less its mean over ImageNet
        swap = keras.layers.Conv2D(
            3,
            1,
            trainable=False,
            kernel_initializer=keras.initializers.Constant([[[[0, 0, 1], [0, 1, 0], [1, 0, 0]]]]),
            bias_initializer=keras.initializers.Constant([-103.939, -116.779, -123.68]),
        )
        return [keras.layers.Rescaling(1.0), swap]
    return [keras.layers.Rescaling(1 / 127.5, offset=-1)]


def model(config, inputs, data):
    networks = {"small_cnn": small_cnn, "resnet20": resnet20}
    x = networks.get(config.backbone, application)(config, inputs)
    x = keras.layers.Dropout(config.dropout)(x)
    return keras.Model(inputs, keras.layers.Dense(data.outputs)(x))


def small_cnn(config, inputs):
    x = inputs
    for power in range(4):
        x = convolution(x, config.filters * 2**power)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    return keras.layers.Dense(config.units, activation="relu")(x)


def resnet20(config, inputs):
    """He et al. 2016 (arXiv:1512.03385) for larger images: the first layer and a pooling halve them twice."""
    x = keras.layers.MaxPooling2D()(convolution(inputs, config.filters, stride=2))
    for power in range(3):
        filters = config.filters * 2**power
        for block in range(3):
            stride = 2 if power and block == 0 else 1
            inside = convolution(convolution(x, filters, stride), filters, activation=False)
            if stride > 1:
                x = convolution(x, filters, stride, size=1, activation=False)
            x = keras.layers.ReLU()(keras.layers.Add()([x, inside]))
    return keras.layers.GlobalAveragePooling2D()(x)


def convolution(x, filters, stride=1, size=3, activation=True):
    x = keras.layers.Conv2D(filters, size, stride, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    # 0.9, as the default 0.99 lags behind in runs of a thousand steps.
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    return keras.layers.ReLU()(x) if activation else x


def application(config, inputs):
    """Built on `inputs` itself, so that its layers are the model's own and can be pruned or quantized."""
    build = getattr(keras.applications, config.backbone)
    weights = None if config.weights == "none" else config.weights
    network = downloads.application_weights(
        lambda: build(include_top=False, weights=weights, input_tensor=inputs, pooling="avg"), config.backbone
    )
    if config.freeze:
        for layer in network.layers:
            layer.trainable = False
    return network.output


def narrowed(config, width):
    if config.backbone not in SMALL:
        raise Refused(f"{config.backbone} comes in one width\ntake config.backbone=small_cnn or resnet20")
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
            "filters": hp.Choice("filters", [8, 16, 32]),
            "dropout": hp.Float("dropout", 0.1, 0.6),
            "learning_rate": hp.Float("learning_rate", 3e-4, 5e-3, sampling="log"),
        }
    )
