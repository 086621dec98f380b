"""Weights that share their values: which belongs to which, and how they move as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfapp import hold

# More weights than these say nothing more about where the centres are.
SAMPLE = 100_000


class Shared(tf.Module):
    """One kernel's clusters. Made in the strategy's scope.

    Attributes:
      weight: the kernel, float32 of any shape.
      cluster: int32 of the kernel's shape: which cluster each weight belongs to; 0 is the cluster of zeros.
      on: whether the weights are clustered yet.
    """

    def __init__(self, weight: Any):
        super().__init__()
        self.weight = weight
        # Not uint8: what workers begin with is broadcast, and collectives have no such type.
        self.cluster = tf.Variable(tf.zeros(weight.shape, tf.int32), trainable=False, name="cluster")
        self.on = tf.Variable(False, trainable=False, name="on")

    def law(self, step: tf.Tensor, before: tf.Tensor, now: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
        """The law by which the weights of one cluster are equal (see `hold`)."""
        on, cluster = tf.identity(self.on), tf.identity(self.cluster)
        return lambda weight: tf.cond(on, lambda: _as_one(weight, cluster), lambda: weight)

    def fit(self, clusters: int, seed: int) -> np.ndarray:
        """Find the clusters of the weights as they are; returns the weights, each at its cluster's centre."""
        weights = self.weight.numpy()
        centres = _centres(weights, clusters, seed)
        nearest = np.searchsorted((centres[1:] + centres[:-1]) / 2, weights)
        self.hold(np.where(weights == 0, 0, nearest + 1))
        return np.where(weights == 0, 0, centres[nearest])

    def hold(self, cluster: np.ndarray) -> None:
        """From now on the weights of one cluster (int, of the weights' shape, at most 255; 0: of the zeros) move as one."""
        self.cluster.assign(cluster.astype(np.int32))
        self.on.assign(True)


def install(model: keras.Model, shared: Sequence[Shared]) -> None:
    """Let the clusters hold of a compiled model's kernels; which weight is in which is saved with the optimizer."""
    model.optimizer.clusters = list(shared)
    hold.after_each_step(model, [(one.weight, one.law) for one in shared])


def as_they_are(weights: np.ndarray) -> np.ndarray:
    """The clusters of weights that share values already: int of their shape, 0 for the zeros."""
    values, cluster = np.unique(np.append(weights.ravel(), 0), return_inverse=True)
    zero = int(np.searchsorted(values, 0))
    # The zeros' own number comes first; those below move up by one.
    cluster = np.where(cluster == zero, 0, np.where(cluster < zero, cluster + 1, cluster))
    return cluster[:-1].reshape(weights.shape)


def _as_one(weight: tf.Tensor, cluster: tf.Tensor) -> tf.Tensor:
    mean = tf.math.unsorted_segment_mean(tf.reshape(weight, [-1]), tf.reshape(cluster, [-1]), 257)
    return tf.gather(mean, cluster) * tf.cast(cluster != 0, weight.dtype)


def _centres(weights: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """The sorted centres of all weights that are not zero; with those there are, one fewer than `clusters`."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    present = weights[weights != 0].ravel()
    clusters = clusters - 1 if present.size < weights.size else clusters
    values = np.unique(present)
    if len(values) <= clusters:
        return values if len(values) else np.zeros(1, weights.dtype)
    if present.size > SAMPLE:
        present = np.random.default_rng(seed).choice(present, SAMPLE, replace=False)
    # Sums of several threads end in other last bits, and every worker must find the same centres.
    with threadpool_limits(1):
        found = KMeans(clusters, init="k-means++", n_init=1, random_state=seed).fit(present[:, None])
    return np.unique(found.cluster_centers_.ravel()).astype(weights.dtype)
