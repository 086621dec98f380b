"""The outputs of an exported model for many examples, whatever form it is in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfapp.data.examples import Examples
from tfapp.data.threads import threads, untuned


def predict(call: Any, examples: Examples, batch_size: int = 256) -> np.ndarray:
    """Outputs of the exported model for all examples, float32 [n, outputs].

    Args:
      call: a batch of raw features (array, or dict of arrays) -> outputs, as `export.load` and `lite.load` give it.
    """
    return np.concatenate([call(batch) for batch in raw_batches(examples, batch_size)])


def raw_batches(examples: Examples, batch_size: int) -> Iterator[Any]:
    """The examples' raw features as the exported model takes them, in portions of at most batch_size rows.

    Arrays, or tensors where each example is loaded in its own way: only that takes TensorFlow.
    """
    if examples.load is not None:
        return _loaded(examples, batch_size)
    features = dict(examples.features) if isinstance(examples.features, Mapping) else np.asarray(examples.features)
    return (_rows(features, slice(start, start + batch_size)) for start in range(0, len(examples), batch_size))


def _rows(features: Any, rows: slice) -> Any:
    if isinstance(features, dict):
        return {name: np.asarray(column)[rows] for name, column in features.items()}
    return features[rows]


def _loaded(examples: Examples, batch_size: int) -> Iterator[Any]:
    import tensorflow as tf

    features = tf.nest.map_structure(tf.constant, examples.features)
    dataset = tf.data.Dataset.from_tensor_slices(features)
    loaded = dataset.map(examples.load, num_parallel_calls=threads()).batch(batch_size).prefetch(2)
    return iter(untuned(loaded))
