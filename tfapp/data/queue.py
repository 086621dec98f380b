"""The queue of batches before a device, which knows how long each side of it waits for the other.

A device that waits says little by itself: on a GPU, or behind a second queue, whoever asks for a batch runs ahead of the
device. The input is the limit where batches are waited for *and* the queue is hardly ever full, so that its maker never rests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

# A private class for what its public face, Dataset.map, does not offer: to run in the thread that asks. In the pool of
# threads, a time would be taken when some slow decoding lets it.
from tensorflow.python.data.ops.map_op import _MapDataset
from tensorflow.python.framework.config import is_op_determinism_enabled

LENGTH = 4
ENDLESS = 2**60


class Queue:
    """Batches made ahead of the step that takes them, for one process and as many datasets as its strategy asks for."""

    def __init__(self) -> None:
        with tf.init_scope(), tf.device("CPU:0"):
            self._waited, self._made = (tf.Variable(0.0, trainable=False, dtype=tf.float64) for _ in range(2))

    def before(self, dataset: Any) -> Any:
        """The same batches, through the queue."""
        # TensorFlow refuses to tell the time where all operations are to be deterministic.
        if is_op_determinism_enabled():
            return dataset.prefetch(LENGTH)
        options = tf.data.Options()
        # A second queue behind this one would be what waits.
        options.experimental_optimization.inject_prefetch = False
        return _timed(_timed(dataset, self._made).prefetch(LENGTH), self._waited).with_options(options)

    def seconds(self) -> np.ndarray:
        """Since the beginning: in which a batch was asked for and not there; in which one was being made. float64 [2]."""
        return np.array([self._waited.numpy(), self._made.numpy()])


def _timed(dataset: Any, seconds: Any) -> Any:
    """The same elements; the time from asking for each until it was there is added to `seconds`."""

    def passed(asked: Any, element: Any, there: Any) -> Any:
        seconds.assign_add(there - asked)
        return element

    # A zip asks one dataset after the other.
    now = _mapped(tf.data.Dataset.range(ENDLESS), lambda _: tf.timestamp())
    return _mapped(tf.data.Dataset.zip(now, dataset, now), passed)


def _mapped(dataset: Any, work: Any) -> Any:
    work = tf.autograph.experimental.do_not_convert(work)
    return _MapDataset(dataset, work, force_synchronous=True, use_inter_op_parallelism=False)
