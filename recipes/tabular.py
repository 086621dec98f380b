"""Rows of a CSV or Parquet file: classification (two or many classes) and regression.

Run:    tfapp train tabular                                       (breast cancer, no download)
        tfapp train tabular data=adult.csv target=income-per-year
        tfapp train tabular data='sales-*.parquet' target=price types.zip=category ignore=id
Cost:   seconds on breast cancer; about a minute on two cores for 32,561 rows of the UCI Adult census
Score:  breast cancer: at least 0.95 test accuracy; Adult: at least 0.91 test ROC-AUC
Data:   your own; with none, sklearn.datasets.load_breast_cancer (UCI Breast Cancer Wisconsin Diagnostic,
        W. Wolberg and others, 1995: 569 rows, 30 numbers, benign or malignant)

Every number is given to the model twice: scaled, and as how far it has come through each of its quantile bins
(piecewise-linear encoding, Gorishniy et al. 2022, arXiv:2203.05556), because thresholds, which decision trees find
easily, are hard to learn for a network. A category is an embedding vector; values that training saw rarely
share one vector with those it never saw.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
import tensorflow as tf
import tf_keras as keras
from pydantic import Field

from tfapp.data import tables
from tfapp.errors import Usage
from tfapp.recipe import Settings, Split, Training, scaled

defaults = {"fit": {"epochs": 20, "batch_size": 256, "patience": 8, "schedule": "cosine"}}


class Config(Settings):
    data: list[str] = Field([], description="CSV, TSV or Parquet files, folders or globs; none: breast cancer")
    target: str = Field("", description="column to predict")
    task: Literal["auto", "classification", "regression"] = Field("auto", description="auto: by what the target holds")
    types: dict[str, Literal["number", "boolean", "category", "ignored"]] = Field(
        {}, description="column -> type, where the inferred one is wrong"
    )
    ignore: list[str] = Field([], description="columns to leave out")
    missing: list[str] = Field(
        ["", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"], description="cells that mean: no value"
    )
    delimiter: str = Field("auto", description="auto, comma, tab, semicolon, pipe or one character")
    validation: list[str] = Field([], description="files with the validation part; none: split off the data")
    test: list[str] = Field([], description="files with the test part; none: split off the data")
    split_column: str | None = Field(None, description="column that says train, validation or test of each row")
    group: str | None = Field(None, description="column whose equal values stay in one part (a patient, say)")
    split: Split = Split()

    scale: Literal["standardise", "normalise"] = Field(
        "standardise", description="numbers to mean 0 and variance 1, or to the range 0 to 1"
    )
    impute: Literal["median", "mean"] = Field("median", description="what stands in for a missing number")
    bins: int = Field(48, ge=0, description="most quantile bins of the piecewise-linear encoding; 0: none")
    rare: int = Field(3, ge=1, description="a category seen less often than this in training counts as unseen")
    embedding: int = Field(8, ge=1, description="dimensions of a category's vector")
    hidden: list[int] = Field([256, 128], description="units of each hidden layer")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of each hidden layer dropped in training")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate of AdamW")
    weight_decay: float = Field(1e-4, ge=0, description="decoupled weight decay of AdamW")


def data(config):
    if not config.data:
        return _breast_cancer(config)
    if not config.target:
        raise Usage("which column is to be predicted? give target=COLUMN")
    return tables.read(
        config.data,
        config.target,
        split=config.split,
        task=config.task,
        types=config.types,
        ignore=config.ignore,
        missing=config.missing,
        delimiter=config.delimiter,
        validation=config.validation,
        test=config.test,
        split_column=config.split_column,
        group=config.group,
    )


def _breast_cancer(config):
    from sklearn.datasets import load_breast_cancer

    source = load_breast_cancer(as_frame=True)
    frame = source.data.assign(diagnosis=source.target_names[source.target])
    return tables.frame(frame, "diagnosis", split=config.split, types=config.types, ignore=config.ignore)


def preprocess(config, data):
    columns = data.train.features
    inputs = {
        name: keras.Input((1,), name=name, dtype="string" if column.dtype == object else "float32")
        for name, column in columns.items()
    }
    numbers = [name for name, column in columns.items() if column.dtype != object]
    categories = [name for name, column in columns.items() if column.dtype == object]
    outputs = {}
    if numbers:
        raw = joined([inputs[name] for name in numbers])
        outputs["numbers"] = _encode(config, raw, np.stack([columns[name] for name in numbers], axis=1))
    if categories:
        known = [_known(config, columns[name]) for name in categories]
        starts = np.cumsum([0] + [len(words) + 1 for words in known])
        ids = [
            keras.layers.StringLookup(vocabulary=words)(inputs[name]) + int(start)
            for name, words, start in zip(categories, known, starts, strict=False)
        ]
        outputs["categories"] = joined(ids)
    return keras.Model(inputs, outputs)


def _encode(config, raw, train):
    """Numbers [n, k] with NaN for missing as what the model is given, learned from the training part [N, k]."""
    gaps = np.isnan(train)
    there = [column[~gap] for column, gap in zip(train.T, gaps.T, strict=True)]
    middle_of = np.median if config.impute == "median" else np.mean
    middle = np.array([middle_of(values) if len(values) else 0 for values in there])
    filled = np.where(gaps, middle.astype("float32"), train)
    missing = tf.math.is_nan(raw)
    values = tf.where(missing, middle.astype("float32"), raw)

    if config.scale == "standardise":
        mean, variance = ([measure(column, dtype="float64") for column in filled.T] for measure in (np.mean, np.var))
        scale = keras.layers.Normalization(mean=mean, variance=variance)
    else:
        least, width = filled.min(axis=0), np.maximum(np.ptp(filled, axis=0), 1e-6)
        scale = keras.layers.Rescaling((1 / width).tolist(), (-least / width).tolist())
    # One wild value should not drown out everything else.
    parts = [tf.clip_by_value(scale(values), -10.0, 10.0)]

    edges = [_edges(values, config.bins) for values in there]
    low, width = np.concatenate([e[:-1] for e in edges]), np.concatenate([np.diff(e) for e in edges])
    if len(low):
        bins = tf.gather(values, np.repeat(np.arange(len(edges)), [max(len(e) - 1, 0) for e in edges]), axis=1)
        through = keras.layers.Rescaling((1 / width).tolist(), (-low / width).tolist())(bins)
        parts.append(keras.layers.ReLU(max_value=1.0)(through))

    sometimes = np.flatnonzero(gaps.any(axis=0))
    if len(sometimes):
        parts.append(tf.cast(tf.gather(missing, sometimes, axis=1), tf.float32))
    return joined(parts)


def joined(parts):
    """The parts side by side; a Concatenate of a single one would not come back from a saved model."""
    return keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]


def _edges(values, bins):
    """Edges of at most `bins` bins: quantiles of all values and, since one value may fill most, of distinct ones."""
    if not bins or not len(values):
        return np.empty(0)
    shares = np.linspace(0, 1, bins // 2 + 1)
    values = values.astype("float64")
    return np.unique(np.concatenate([np.quantile(values, shares), np.quantile(np.unique(values), shares)]))


def _known(config, column):
    """The categories that training saw often enough to learn a vector for each."""
    counts = Counter(column)
    return sorted(word for word, count in counts.items() if count >= min(config.rare, max(counts.values())))


def model(config, inputs, data):
    parts = []
    if "numbers" in inputs:
        parts.append(inputs["numbers"])
    if "categories" in inputs:
        columns = [column for column in data.train.features.values() if column.dtype == object]
        size = sum(len(_known(config, column)) + 1 for column in columns)
        parts.append(keras.layers.Flatten()(keras.layers.Embedding(size, config.embedding)(inputs["categories"])))
    x = joined(parts)
    for units in config.hidden:
        x = keras.layers.Dense(units, activation="relu")(x)
        x = keras.layers.Dropout(config.dropout)(x)
    x = keras.layers.Dense(data.outputs)(x)
    if data.task == "regression":
        targets = data.train.labels
        x = keras.layers.Rescaling(float(targets.std()) or 1.0, float(targets.mean()), dtype="float32")(x)
    return keras.Model(inputs, x)


def narrowed(config, width):
    hidden = [scaled(units, width) for units in config.hidden]
    return config.model_copy(update={"hidden": hidden, "embedding": scaled(config.embedding, width)})


def training(config, data):
    optimizer = keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay)
    if data.task == "regression":
        metrics = [keras.metrics.MeanAbsoluteError("mae"), keras.metrics.RootMeanSquaredError("rmse")]
        return Training(optimizer, keras.losses.MeanSquaredError(), metrics)
    return Training(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )


def space(hp, config):
    # Each layer half as wide as the one before it.
    layers, units = hp.Int("layers", 1, 3), hp.Choice("units", [64, 128, 256, 512])
    return config.model_copy(
        update={
            "hidden": [units // 2**layer for layer in range(layers)],
            "bins": hp.Choice("bins", [0, 16, 32, 48, 64]),
            "embedding": hp.Choice("embedding", [4, 8, 16]),
            "dropout": hp.Float("dropout", 0.0, 0.6),
            "learning_rate": hp.Float("learning_rate", 3e-4, 1e-2, sampling="log"),
            "weight_decay": hp.Float("weight_decay", 1e-6, 1e-2, sampling="log"),
        }
    )
