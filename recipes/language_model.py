"""A small decoder-only transformer that learns to foresee the next byte or word of any text.

Run:    tfapp train language_model
        tfapp train language_model data=novel.txt
        tfapp train language_model data=docs/*.md,notes tokens=words vocabulary=8000
Cost:   about five minutes on two cores
Score:  at most 2.3 bits per byte on the test part of the default text
Data:   your own text files; by default the docstrings of Python's standard library, 0.9 MB, no download

`tfapp predict language_model prompt.txt --tokens 300` goes on from the end of a text.

Each position sees itself and what stands before it (Vaswani et al. 2017, arXiv:1706.03762; normalised first, as in
Radford et al. 2019). With tokens=bytes any language and any file will do; with tokens=words the perplexity is that of
a word. Each file is cut into stretches for training, validation and test, unless files are given for these.
"""

from __future__ import annotations

from typing import Literal

import tensorflow as tf
import tf_keras as keras
from pydantic import Field

from tfapp import recompute
from tfapp.data import tokens as streams
from tfapp.recipe import Settings, Training, scaled

defaults = {"fit": {"epochs": 6, "batch_size": 32, "schedule": {"kind": "cosine", "warmup": 0.3}, "clip_norm": 1.0}}


class Config(Settings):
    data: list[str] = Field([], description="text files, folders or globs; none: the standard library's docstrings")
    validation: list[str] = Field([], description="files with the validation part; none: a stretch of each document")
    test: list[str] = Field([], description="files with the test part; none: a stretch of each document")
    validation_share: float = Field(0.1, ge=0, lt=1, description="share of each document used for validation")
    test_share: float = Field(0.1, ge=0, lt=1, description="share of each document, its end, used for the test")
    tokens: Literal["bytes", "words"] = Field("bytes", description="what is foreseen")
    vocabulary: int = Field(8000, ge=2, description="tokens=words: most different words, the rest are one unknown word")
    length: int = Field(128, ge=1, description="tokens of a window: how far back the model can see")

    width: int = Field(96, ge=1, description="dimensions of a token's vector")
    layers: int = Field(3, ge=1, description="transformer blocks")
    heads: int = Field(4, ge=1, description="attention heads; they share out the width")
    dropout: float = Field(0.05, ge=0, lt=1, description="share of each block's additions dropped in training")
    recompute: bool = Field(
        False, description="keep only each block's input while training: less memory, one more forward pass"
    )
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate of Adam")


def data(config):
    settings = (config.tokens, config.length, config.vocabulary, (config.validation_share, config.test_share))
    if config.data:
        return streams.read(config.data, *settings, validation=config.validation, test=config.test)
    return streams.cut(streams.standard_library(), *settings)


def model(config, inputs, data):
    place = tf.cumsum(tf.ones_like(inputs), axis=1) - 1
    x = keras.layers.Embedding(data.outputs, config.width, name="tokens")(inputs)
    x += keras.layers.Embedding(config.length, config.width, name="places")(place)
    for number in range(config.layers):
        block = _block(config, f"block_{number}", x.dtype)
        x = (recompute.around(block) if config.recompute else block)(x)
    x = keras.layers.LayerNormalization(name="last_norm")(x)
    return keras.Model(inputs, keras.layers.Dense(data.outputs, name="logits")(x))


def _block(config, name, dtype):
    """Attention to what came before, then two dense layers; each adds to what it was given."""
    x = inputs = keras.Input((config.length, config.width), dtype=dtype)
    y = keras.layers.LayerNormalization()(x)
    attention = keras.layers.MultiHeadAttention(config.heads, -(-config.width // config.heads))
    x += keras.layers.Dropout(config.dropout)(attention(y, y, use_causal_mask=True))
    y = keras.layers.LayerNormalization()(x)
    y = keras.layers.Dense(4 * config.width, activation="gelu", name="expand")(y)
    x += keras.layers.Dropout(config.dropout)(keras.layers.Dense(config.width, name="contract")(y))
    return keras.Model(inputs, x, name=name)


def narrowed(config, width):
    return config.model_copy(update={"width": scaled(config.width, width, config.heads)})


def training(config, data):
    return Training(
        optimizer=keras.optimizers.Adam(config.learning_rate, beta_2=0.98),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
