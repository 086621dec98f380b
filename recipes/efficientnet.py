"""Your own images by a network that is as large as you ask for: EfficientNet's blocks, scaled by one number, phi.

Run:    tfapp train efficientnet folder=path/to/images
        tfapp train efficientnet folder=path/to/images phi=2
        tfapp train efficientnet csv=images.csv phi=-1 base=32 stride=1
Cost:   three minutes on two cores for 2,000 images at phi=0, and 1.5 to 2 times as much for each phi more
Score:  at least 0.97 test accuracy on 2,062 photographs of hand signs for the ten digits
Data:   JPEG, PNG, GIF or BMP files of any size and orientation: cat/1.jpg, dog/2.jpg, …; folders train/ and test/
        (and validation/) of class folders, or a column `split` in the CSV, are respected

M. Tan and Q. V. Le, «EfficientNet» (2019, arXiv:1905.11946): a larger network is better when depth, width and resolution grow
together: 1.2^phi times the blocks, 1.1^phi times the filters, images 1.15^phi times as large, and so about 1.9^phi times the
arithmetic. The base network (phi=0) is made for small images: four stages, not seven. The start tells what a phi means.
"""

from __future__ import annotations

import math
from dataclasses import replace

import tensorflow as tf
import tf_keras as keras
from pydantic import Field, model_validator

from tfapp.data import images
from tfapp.errors import Missing
from tfapp.recipe import Settings, Split, Training

defaults = {"fit": {"epochs": 30, "batch_size": 32, "patience": 10, "schedule": {"kind": "cosine", "warmup": 1}}}

# How depth, width and resolution grow with phi: α, β and γ of the paper.
DEPTH, WIDTH, RESOLUTION = 1.2, 1.1, 1.15
# Of each stage at phi=0: blocks, filters, size of the depthwise kernel, stride of the first block, expansion.
STAGES = ((1, 16, 3, 1, 1), (2, 24, 3, 2, 4), (2, 40, 5, 2, 4), (2, 80, 3, 2, 4))
STEM, HEAD = 16, 256


class Config(Settings):
    folder: str | None = Field(None, description="folder with one sub-folder a class")
    csv: str | None = Field(None, description="CSV of path,label, the paths relative to it")
    phi: float = Field(0, ge=-4, le=8, description="how much larger (or, below 0, smaller) than the base network")
    width: float = Field(1, gt=0, le=10, description="factor on the widths alone, beside phi")
    base: int = Field(64, ge=16, description="height and width of the images at phi=0, in pixels")
    stride: int = Field(2, ge=1, le=4, description="stride of the first convolution; 1 suits images of 32 pixels")
    survival: float = Field(
        0.9, gt=0, le=1, description="share of the examples that train the last block; 1 before all"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="share of the last hidden units dropped in training")
    augment: float = Field(
        1,
        ge=0,
        le=3,
        description="strength of random changes; 1: moved by 8%, turned by 10°, scaled and lightened by 10%",
    )
    flip: bool = Field(False, description="mirror half of the training images; not for signs, letters or left hands")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate of Adam")
    split: Split = Split(validation=0.1, test=0.1)

    @model_validator(mode="after")
    def _one_source(self) -> Config:
        if self.folder and self.csv:
            raise ValueError("give folder or csv, not both")
        return self


def resolution(config):
    """Height and width of the images in pixels, a multiple of 8."""
    return max(16, 8 * round(config.base * RESOLUTION**config.phi / 8))


def widened(filters, config):
    """`filters` scaled and rounded to a multiple of 8, never down by more than a tenth."""
    wanted = filters * WIDTH**config.phi * config.width
    near = max(8, 8 * math.floor(wanted / 8 + 0.5))
    return near if near >= 0.9 * wanted else near + 8


def deepened(blocks, config):
    """`blocks` scaled and rounded up."""
    return math.ceil(blocks * DEPTH**config.phi)


def scaled(config):
    """What a phi means, in a line."""
    widths = "-".join(str(widened(stage[1], config)) for stage in STAGES)
    depths = "-".join(str(deepened(stage[0], config)) for stage in STAGES)
    size = resolution(config)
    ends = f"{widened(STEM, config)} before, {widened(HEAD, config)} after"
    return f"phi={config.phi:g}: {size}×{size} pixels, widths {widths} ({ends}), depths {depths}"


def data(config):
    if not config.folder and not config.csv:
        raise Missing(
            "efficientnet has no images to train on\n"
            "give a folder with one sub-folder a class: tfapp train efficientnet folder=path/to/images\n"
            "or a CSV of path,label:                    tfapp train efficientnet csv=images.csv"
        )
    read = images.from_folder if config.folder else images.from_csv
    found = read(config.folder or config.csv, config.split, size=resolution(config))
    return replace(found, notes=(*found.notes, scaled(config)))


def augment(config):
    strength = config.augment
    if not strength and not config.flip:
        return None

    def changed(image, seed):
        random = tf.random.stateless_uniform([6], seed, -1, 1)
        pixels = tf.cast(image, tf.float32)
        shift, angle, scale = 0.08 * random[:2], math.radians(10) * random[2], 0.1 * random[3]
        pixels = images.moved(pixels, strength * shift, strength * angle, tf.exp(strength * scale))
        if config.flip:
            pixels = tf.where(random[4] > 0, tf.reverse(pixels, [1]), pixels)
        pixels += 25.5 * strength * random[5]
        return tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), image.dtype)

    return changed


def preprocess(config, data):
    size = resolution(config)
    return keras.Sequential([keras.Input((size, size, 3), dtype="uint8"), keras.layers.Rescaling(1 / 127.5, offset=-1)])


def model(config, inputs, data):
    x = convolution(inputs, widened(STEM, config), 3, config.stride)
    total = sum(deepened(stage[0], config) for stage in STAGES)
    number = 0
    for blocks, filters, kernel, stride, expansion in STAGES:
        for block in range(deepened(blocks, config)):
            number += 1
            drop = (1 - config.survival) * number / total
            x = mbconv(x, widened(filters, config), kernel, stride if block == 0 else 1, expansion, drop)
    x = convolution(x, widened(HEAD, config), 1)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(config.dropout)(x)
    return keras.Model(inputs, keras.layers.Dense(data.outputs)(x))


def mbconv(x, filters, kernel, stride, expansion, drop):
    """An inverted residual (Sandler et al. 2018, arXiv:1801.04381): wide inside, where each channel is filtered alone."""
    before = x
    if expansion > 1:
        x = convolution(x, expansion * x.shape[-1], 1)
    x = keras.layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False)(x)
    x = keras.layers.Activation("swish")(keras.layers.BatchNormalization(momentum=0.9)(x))
    x = squeeze_excite(x, max(1, before.shape[-1] // 4))
    x = convolution(x, filters, 1, activation=False)
    if stride > 1 or before.shape[-1] != filters:
        return x
    # Stochastic depth (Huang et al. 2016, arXiv:1603.09382): of some examples the whole block is left out.
    return keras.layers.Add()([before, keras.layers.Dropout(drop, noise_shape=(None, 1, 1, 1))(x)])


def squeeze_excite(x, units):
    """Weigh each channel by what is in all of them (Hu et al. 2018, arXiv:1709.01507)."""
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = keras.layers.Conv2D(units, 1, activation="swish")(gate)
    gate = keras.layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(gate)
    return keras.layers.Multiply()([x, gate])


def convolution(x, filters, size, stride=1, activation=True):
    x = keras.layers.Conv2D(filters, size, stride, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    # 0.9, as the default 0.99 lags behind in runs of a thousand steps.
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    return keras.layers.Activation("swish")(x) if activation else x


def narrowed(config, width):
    """The same network with `width` times the widths, for a small student of a large teacher."""
    return config.model_copy(update={"width": config.width * width})


def training(config, data):
    return Training(
        optimizer=keras.optimizers.Adam(config.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
