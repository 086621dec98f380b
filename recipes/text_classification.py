"""Texts with a label: headlines, reviews, messages, in CSV, TSV or JSONL, or a folder per class of .txt files.

Run:    tfapp train text_classification data=reviews.csv text=review label=stars
        tfapp train text_classification data=ag_news.csv text=2,3 label=1 classes=classes.txt     (no header line)
        tfapp train text_classification data=aclImdb model=cnn
Cost:   about a minute on two cores for 7,600 short texts
Score:  AG News test part (7,600 headlines with a sentence or two, 80 % for training): at least 0.88 test accuracy
Data:   your own; AG News is by X. Zhang, J. Zhao and Y. LeCun, 2015 (arXiv:1509.01626)

Three models: `pooled` averages the vectors of words (Joulin et al. 2016, arXiv:1607.01759), the rarer a word the more it
weighs, and is the one for a few thousand texts; `cnn` looks at windows of words (Kim 2014, arXiv:1408.5882); `transformer` is a small
encoder with self-attention, for when there are many texts.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import tensorflow as tf
import tf_keras as keras
from pydantic import Field

from tfapp.data import texts
from tfapp.errors import Missing
from tfapp.recipe import Settings, Split, Training, scaled

defaults = {"fit": {"epochs": 20, "batch_size": 64, "patience": 4, "schedule": "cosine"}}


class Config(Settings):
    data: list[str] = Field([], description="CSV, TSV or JSONL files, a glob, or a folder with a folder per class")
    text: list[str] = Field(["text"], description="columns that make up the text: names, or numbers from 1 on")
    label: str = Field("label", description="column with the label: a name, or a number from 1 on")
    classes: str | None = Field(None, description="file with a class name in each line, for labels that are numbers")
    header: bool | None = Field(
        None, description="whether the first line names the columns; none: it does, unless they are given by number"
    )
    delimiter: str = Field("auto", description="auto, comma, tab, semicolon, pipe or one character")
    validation: list[str] = Field([], description="files with the validation part; none: split off the data")
    test: list[str] = Field([], description="files with the test part; none: split off the data")
    split_column: str = Field("", description="column that says train, validation or test of each text")
    split: Split = Split()

    model: Literal["pooled", "cnn", "transformer"] = Field("pooled", description="how words become one vector")
    vocabulary: int = Field(30_000, ge=10, description="most words (and n-grams) that get a vector of their own")
    ngrams: int = Field(1, ge=1, le=4, description="pooled: longest run of words that counts as one token")
    length: int | None = Field(
        None, ge=1, description="tokens read of each text; none: what 95% of the training texts need, at most 512"
    )
    embedding: int = Field(64, ge=1, description="dimensions of a word's vector")
    word_dropout: float | None = Field(
        None, ge=0, lt=1, description="share of the words left out in training; none: 0.5 for pooled, else 0.3"
    )
    dropout: float = Field(0.5, ge=0, lt=1, description="share of the last hidden vector dropped in training")
    filters: int = Field(128, ge=1, description="cnn: filters of each window of 2, 3, 4 and 5 words")
    heads: int = Field(4, ge=1, description="transformer: attention heads")
    layers: int = Field(2, ge=1, description="transformer: encoder layers")
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate of Adam")


def data(config):
    if not config.data:
        raise Missing(
            "text_classification needs texts: a CSV, TSV or JSONL file, or a folder with a folder per class of .txt files\n"
            "as: tfapp train text_classification data=reviews.csv text=review label=stars"
        )
    layout = texts.Layout(tuple(config.text), config.label, config.split_column, config.header, config.delimiter)
    return texts.read(
        config.data,
        layout,
        split=config.split,
        classes=config.classes,
        validation=config.validation,
        test=config.test,
    )


def preprocess(config, data):
    text = keras.Input((1,), dtype="string")
    words = keras.Model(text, _words(text))
    vectorize = keras.layers.TextVectorization(
        max_tokens=config.vocabulary,
        standardize=None,
        ngrams=_ngrams(config),
        output_sequence_length=_length(config, data),
    )
    batches = tf.data.Dataset.from_tensor_slices(data.train.features[:, None]).batch(1024)
    vectorize.adapt(batches.map(words))
    return keras.Model(text, vectorize(words(text)))


def _words(text):
    """Small letters and digits of any script; everything else parts words, as in «Reuters-based» and «fed&#39;s»."""
    return tf.strings.regex_replace(tf.strings.lower(text, encoding="utf-8"), r"[^\pL\pM\pN]+", " ")


def _ngrams(config):
    return config.ngrams if config.model == "pooled" else 1


def _length(config, data):
    words = [len(text.split()) for text in data.train.features]
    return config.length or min(512, _ngrams(config) * int(np.ceil(np.quantile(words, 0.95))))


def model(config, inputs, data):
    body = {"pooled": _pooled, "cnn": _cnn, "transformer": _transformer}[config.model]
    vector = keras.layers.Dropout(config.dropout)(body(config, inputs))
    return keras.Model(inputs, keras.layers.Dense(data.outputs)(vector))


def _embed(config, ids):
    """Vectors of the tokens, some of them left out whole in training."""
    vectors = keras.layers.Embedding(config.vocabulary, config.embedding)(ids)
    usual = 0.5 if config.model == "pooled" else 0.3
    rate = usual if config.word_dropout is None else config.word_dropout
    return keras.layers.Dropout(rate, noise_shape=(None, ids.shape[1], 1))(vectors)


def _mean(vectors, weights):
    """Mean over the tokens by their weights [n, length]; 0 for a text where all weigh nothing."""
    weights = tf.expand_dims(tf.cast(weights, vectors.dtype), -1)
    return tf.math.divide_no_nan(tf.reduce_sum(vectors * weights, axis=1), tf.reduce_sum(weights, axis=1))


def _pooled(config, ids):
    # Ids go by frequency, and by Zipf's law the logarithm of a rank is about how much a word tells. Padding (0) and
    # unknown words (1) weigh nothing.
    return _mean(_embed(config, ids), tf.math.log(tf.cast(tf.maximum(ids, 1), tf.float32)))


def _cnn(config, ids):
    words = _embed(config, ids)
    # Padding is nothing to see, before the windows and after them: how long a text is read must not matter.
    there = tf.cast(tf.expand_dims(tf.not_equal(ids, 0), 2), words.dtype)
    windows = [
        keras.layers.GlobalMaxPooling1D()(
            keras.layers.Conv1D(config.filters, width, padding="same", activation="relu")(words * there) * there
        )
        for width in (2, 3, 4, 5)
    ]
    return keras.layers.Concatenate()(windows)


def _transformer(config, ids):
    place = tf.cumsum(tf.ones_like(ids), axis=1) - 1
    x = _embed(config, ids) + keras.layers.Embedding(ids.shape[1], config.embedding)(place)
    there = tf.expand_dims(tf.not_equal(ids, 0), 1)
    for _ in range(config.layers):
        y = keras.layers.LayerNormalization()(x)
        y = keras.layers.MultiHeadAttention(config.heads, -(-config.embedding // config.heads), dropout=0.1)(
            y, y, attention_mask=there
        )
        x = x + y
        y = keras.layers.LayerNormalization()(x)
        y = keras.layers.Dense(4 * config.embedding, activation="gelu")(y)
        x = x + keras.layers.Dense(config.embedding)(y)
    return _mean(keras.layers.LayerNormalization()(x), tf.not_equal(ids, 0))


def narrowed(config, width):
    embedding = scaled(config.embedding, width, config.heads if config.model == "transformer" else 1)
    return config.model_copy(update={"embedding": embedding, "filters": scaled(config.filters, width)})


def training(config, data):
    return Training(
        optimizer=keras.optimizers.Adam(config.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )


def space(hp, config):
    kind = hp.Choice("model", ["pooled", "cnn"])
    with hp.conditional_scope("model", ["pooled"]):
        ngrams = hp.Choice("ngrams", [1, 2])
    with hp.conditional_scope("model", ["cnn"]):
        filters = hp.Choice("filters", [64, 128, 256])
    return config.model_copy(
        update={
            "model": kind,
            "ngrams": ngrams or config.ngrams,
            "filters": filters or config.filters,
            "embedding": hp.Choice("embedding", [32, 64, 128]),
            "dropout": hp.Float("dropout", 0.0, 0.6),
            "learning_rate": hp.Float("learning_rate", 5e-4, 1e-2, sampling="log"),
        }
    )
