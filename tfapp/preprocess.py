"""The way from raw features to the model's inputs: adapted on training data, done once, shipped with the model.

It stands apart from the trained model so that string and lookup layers run once instead of each epoch
(and never on an accelerator), pruning and quantisation never meet them, and yet the exported model takes
raw rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfapp import environment
from tfapp.data import memory
from tfapp.data.examples import Data, Examples
from tfapp.data.pipeline import Batches
from tfapp.errors import Failed
from tfapp.recipe import gist
from tfapp.settings import Settings


@dataclass(frozen=True)
class Preprocess:
    """From raw features to inputs.

    Attributes:
      raw: tf.TensorSpec (or a dict of them, in the features' own structure) of a batch of raw features.
      model: raw -> inputs; None where the recipe has no preprocess.
      again: makes the model anew from other data.
    """

    raw: Any
    model: keras.Model | None
    again: Callable[[Data], keras.Model] | None = None

    @classmethod
    def of(cls, recipe: ModuleType, config: Settings, data: Data) -> Preprocess:
        """The recipe's preprocess(), adapted on the training part alone."""
        raw = example(data.train)
        has = hasattr(recipe, "preprocess")
        model = _taking(recipe.preprocess(config, data), raw) if has else None
        specs = tf.nest.map_structure(lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), raw)
        return cls(specs, model, (lambda other: recipe.preprocess(config, other)) if has else None)

    def learned(self, data: Data) -> bool:
        """Whether the model would be another one had it seen half of the training rows only: it is made of their values."""
        if self.model is None or self.again is None:
            return False
        other = self.again(replace(data, train=data.train.take(np.arange(0, len(data.train), 2))))
        some = data.train.take(np.arange(min(len(data.train), 256)))
        if some.load is not None:
            return [w.tolist() for w in self.model.get_weights()] != [w.tolist() for w in other.get_weights()]
        rows = next(batches_of(some.features, 256))
        pairs = zip(tf.nest.flatten(self.model(rows)), tf.nest.flatten(other(rows)), strict=True)
        return any(one.shape != two.shape or not np.array_equal(one, two) for one, two in pairs)

    def __call__(self, features: Any) -> Any:
        """A batch of raw features as a batch of inputs."""
        return features if self.model is None else self.model(features, training=False)

    def inputs(self) -> Any:
        """Fresh keras.Input(s) for the model that trains."""
        if self.model is None:
            return tf.nest.map_structure(lambda spec: keras.Input(spec.shape[1:], dtype=spec.dtype), self.raw)
        return _inputs(self.model.output)

    def raw_inputs(self) -> Any:
        """Fresh keras.Input(s) for the exported model, named after the features."""
        if isinstance(self.raw, dict):
            return {name: keras.Input(s.shape[1:], dtype=s.dtype, name=name) for name, s in self.raw.items()}
        return keras.Input(self.raw.shape[1:], dtype=self.raw.dtype, name="inputs")

    def before(self, batches: Batches) -> Batches:
        """The batches with the preprocessing done beforehand where its result fits in memory, else batch by batch.

        Random augmentation comes before preprocessing, so with it nothing can be done beforehand.
        """
        if self.model is None:
            return batches
        if batches.augment is not None or batches.examples.load is not None:
            return replace(batches, transform=self)
        rows = sum(
            np.prod(out.shape[1:], dtype=np.int64) * out.dtype.size for out in tf.nest.flatten(self.model.output)
        )
        if rows * len(batches.examples) > environment.free_memory() // 4:
            return replace(batches, transform=self)
        return replace(batches, examples=self.apply(batches.examples))

    def apply(self, examples: Examples, batch_size: int = 1024) -> Examples:
        """The examples with their features preprocessed, in memory."""
        step = tf.function(self.__call__, reduce_retracing=True)
        whole: Any = None
        for number, batch in enumerate(batches_of(examples.features, batch_size)):
            part, start = tf.nest.map_structure(np.asarray, step(batch)), number * batch_size
            if whole is None:
                # Filled portion by portion: all portions beside the whole would be twice as much.
                whole = tf.nest.map_structure(
                    lambda one: memory.empty((len(examples), *one.shape[1:]), one.dtype), part
                )
            for column, rows in zip(tf.nest.flatten(whole), tf.nest.flatten(part), strict=True):
                column[start : start + len(rows)] = rows
        return replace(examples, features=whole)


def of_tf_keras(made: Any, where: str) -> keras.Model:
    """What a recipe made, if it is a model of the Keras that trains here.

    Raises:
      Failed: it is none.
    """
    if not isinstance(made, keras.Model):
        raise Failed(
            f"the recipe's {where} gave {type(made).__name__}, not a tf_keras Model\n"
            "recipes import tf_keras as keras; models of Keras 3 (import keras) do not train here"
        )
    return made


def batches_of(features: Any, batch_size: int) -> Iterator[Any]:
    """Raw features in portions of at most batch_size rows, as tensors."""
    features = dict(features) if isinstance(features, Mapping) else features

    def rows(start: int) -> Any:
        return tf.nest.map_structure(lambda column: tf.constant(column[start : start + batch_size]), features)

    return map(rows, range(0, len(tf.nest.flatten(features)[0]), batch_size))


def _inputs(tensors: Any) -> Any:
    if isinstance(tensors, dict):
        return {name: keras.Input(t.shape[1:], dtype=t.dtype, name=name) for name, t in tensors.items()}
    return keras.Input(tensors.shape[1:], dtype=tensors.dtype)


def example(examples: Examples) -> Any:
    """The raw features of the first example, as a batch of one."""
    first = tf.nest.map_structure(lambda column: tf.constant(column[:1]), examples.features)
    if examples.load is None:
        return first
    one = examples.load(tf.nest.map_structure(lambda column: column[0], first))
    return tf.nest.map_structure(lambda value: value[None], one)


def in_words(features: Any) -> str:
    """What one or more features look like, as «float32 [28, 28, 1]»."""
    if isinstance(features, Mapping):
        return "{" + ", ".join(f"{name}: {in_words(one)}" for name, one in sorted(features.items())) + "}"
    if isinstance(features, list | tuple):
        return f"{type(features).__name__} of {len(features)}"
    if not isinstance(features, tf.Tensor):
        return type(features).__name__
    return f"{features.dtype.name} {list(features.shape)}"


def _taking(made: Any, raw: Any) -> keras.Model:
    """What preprocess() made, if it is a model that takes these raw features (a batch of one) and gives inputs."""
    model = of_tf_keras(made, "preprocess()")
    one = in_words(tf.nest.map_structure(lambda t: t[0], raw))
    try:
        given = model(raw, training=False)
    except Exception as error:
        raise Failed(
            f"the recipe's preprocess() does not take the features of one example, {one}: {gist(error)}\n"
            'begin it in keras.Input(shape, dtype="…") of that shape, or in a dict of them with these names'
        ) from error
    outputs = list(given.values()) if isinstance(given, dict) else [given]
    if not all(isinstance(one, tf.Tensor) and one.shape.rank and one.shape[0] == 1 for one in outputs):
        raise Failed(
            f"the recipe's preprocess() gives {in_words(given)} for a batch of one example of {one}\n"
            "it gives a tensor, or a dict of tensors, with a row an example"
        )
    return model
