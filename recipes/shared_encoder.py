"""Texts with a label by an encoder whose layers share their weights: as deep as you like in the size of one layer.

Run:    tfapp train shared_encoder data=ag_news.csv text=2,3 label=1 classes=classes.txt     (no header line)
        tfapp train shared_encoder data=reviews.csv text=review label=stars layers=8
        tfapp train shared_encoder data=reviews.csv text=review label=stars share=none
Cost:   two minutes on two cores for 7,600 short texts; sharing saves memory and disk, not time
Score:  AG News test part (7,600 headlines with a sentence or two, 80 % for training): at least 0.83 test accuracy
Data:   your own CSV, TSV or JSONL files, or a folder per class of .txt files; AG News is by X. Zhang, J. Zhao and
        Y. LeCun, 2015 (arXiv:1509.01626)

ALBERT (Lan et al. 2020, arXiv:1909.11942) is BERT with two savings. The same attention and the same two dense layers are used
in every layer (share=all; attention or ffn share only those; none is an ordinary encoder). And a word's vector is short, and
made as wide as the layers by one matrix, since a word alone says less than a word in its text. Nothing is pretrained here: with a
few thousand texts, text_classification's pooled vectors are better; this is for many texts, and for small models.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import tensorflow as tf
import tf_keras as keras
from pydantic import Field, model_validator

from tfapp.data import texts
from tfapp.errors import Missing
from tfapp.recipe import Settings, Split, Training

defaults = {"fit": {"epochs": 12, "batch_size": 64, "patience": 4, "schedule": {"kind": "cosine", "warmup": 1}}}


class Config(Settings):
    data: list[str] = Field([], description="CSV, TSV or JSONL files, a glob, or a folder with a folder per class")
    text: list[str] = Field(["text"], description="columns that make up the text: names, or numbers from 1 on")
    label: str = Field("label", description="column with the label: a name, or a number from 1 on")
    classes: str | None = Field(None, description="file with a class name in each line, for labels that are numbers")
    split: Split = Split()

    share: Literal["none", "attention", "ffn", "all"] = Field("all", description="what all layers have in common")
    layers: int = Field(4, ge=1, description="how often attention and the two dense layers are applied")
    units: int = Field(128, ge=1, description="dimensions of a token's vector inside the layers")
    heads: int = Field(4, ge=1, description="attention heads; they share out the units")
    embedding: int = Field(
        32, ge=1, description="dimensions of a token's own vector, before it is made as wide as units"
    )
    vocabulary: int = Field(30_000, ge=10, description="most words that get a vector of their own")
    length: int | None = Field(
        None, ge=1, description="words read of each text; none: what 95% of the training texts need, at most 512"
    )
    word_dropout: float = Field(0.6, ge=0, lt=1, description="share of the words left out in training")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of what a layer adds dropped in training")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of Adam")

    @model_validator(mode="after")
    def _heads_share_out_the_units(self) -> Config:
        if self.units % self.heads:
            raise ValueError(f"units={self.units} cannot be shared out among heads={self.heads}: take a multiple of it")
        return self


def data(config):
    if not config.data:
        raise Missing(
            "shared_encoder needs texts: a CSV, TSV or JSONL file, or a folder with a folder per class of .txt files\n"
            "as: tfapp train shared_encoder data=reviews.csv text=review label=stars"
        )
    layout = texts.Layout(tuple(config.text), config.label)
    return texts.read(config.data, layout, split=config.split, classes=config.classes)


def preprocess(config, data):
    text = keras.Input((1,), dtype="string")
    # Small letters and digits of any script; everything else parts words.
    words = tf.strings.regex_replace(tf.strings.lower(text, encoding="utf-8"), r"[^\pL\pM\pN]+", " ")
    lengths = [len(one.split()) for one in data.train.features]
    vectorize = keras.layers.TextVectorization(
        max_tokens=config.vocabulary,
        standardize=None,
        output_sequence_length=config.length or min(512, int(np.ceil(np.quantile(lengths, 0.95)))),
    )
    rows = tf.data.Dataset.from_tensor_slices(data.train.features[:, None]).batch(1024)
    vectorize.adapt(rows.map(keras.Model(text, words)))
    return keras.Model(text, vectorize(words))


def model(config, inputs, data):
    place = tf.cumsum(tf.ones_like(inputs), axis=1) - 1
    x = keras.layers.Embedding(config.vocabulary, config.embedding, name="words")(inputs)
    x = keras.layers.Dropout(config.word_dropout, noise_shape=(None, inputs.shape[1], 1))(x)
    x = x + keras.layers.Embedding(inputs.shape[1], config.embedding, name="places")(place)
    x = keras.layers.Dense(config.units, name="widen")(x)
    there = tf.not_equal(inputs, 0)
    seen = tf.expand_dims(there, 1)
    attends = several(attention, config, config.share in ("attention", "all"))
    thinks = several(ffn, config, config.share in ("ffn", "all"))
    for attend, think in zip(attends, thinks, strict=True):
        x = think(attend(x, seen))
    x = mean(keras.layers.LayerNormalization(name="last_norm")(x), there)
    return keras.Model(inputs, keras.layers.Dense(data.outputs, name="logits")(x))


def several(part, config, shared):
    """A part for each layer: one and the same, or one each."""
    one = part(config)
    return [one if shared or number == 0 else part(config) for number in range(config.layers)]


def attention(config):
    """Layers that let every word look at all the words that are there, and add what they see."""
    norm = keras.layers.LayerNormalization()
    look = keras.layers.MultiHeadAttention(config.heads, config.units // config.heads)
    drop = keras.layers.Dropout(config.dropout)

    def applied(x, seen):
        y = norm(x)
        return x + drop(look(y, y, attention_mask=seen))

    return applied


def ffn(config):
    """Layers that work on every word alone, and add what comes of it."""
    norm = keras.layers.LayerNormalization()
    expand = keras.layers.Dense(4 * config.units, activation="gelu")
    contract = keras.layers.Dense(config.units)
    drop = keras.layers.Dropout(config.dropout)
    return lambda x: x + drop(contract(expand(norm(x))))


def mean(vectors, there):
    """Mean over the words that are there; 0 for a text without any."""
    there = tf.expand_dims(tf.cast(there, vectors.dtype), -1)
    return tf.math.divide_no_nan(tf.reduce_sum(vectors * there, axis=1), tf.reduce_sum(there, axis=1))


def narrowed(config, width):
    """The same encoder with `width` times the dimensions, for a small student of a large teacher."""
    units = config.heads * max(1, round(width * config.units / config.heads))
    embedding = max(1, round(width * config.embedding))
    return config.model_copy(update={"units": units, "embedding": embedding})


def training(config, data):
    return Training(
        optimizer=keras.optimizers.Adam(config.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
