"""The input pipeline: a step's number alone decides its batch, whatever the number of workers.

Step s of the whole run belongs to epoch s // steps_per_epoch; its rows are a slice of that epoch's order,
and the order is a stateless function of (seed, epoch). So training can go on from any step, one worker
and many see the same batches, and every example is seen once an epoch. The last batch of an epoch is
filled up with rows of weight 0.

Batches are (features, labels, weights) with weights = {"loss": w, "metrics": m}, float32 of shape [b]:
m is the example's own weight (0 for filling). w is m times the class weight, scaled so that Keras's mean
over batch_size rows is the mean over the real ones, on any replica's share of the batch: over the step's
real rows in training; in evaluation over the epoch's, so that the mean of the steps' losses is exact.
Beside the two travels what a feature of the training needs to know of each row.

Where a `Choice` decides which examples a step sees, their number is the step's own: each replica has an equal part of them
in its first rows, filled up with rows of weight 0, and "row" (int64 [b]) tells each row's number among all of the step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfapp.data import memory
from tfapp.data.examples import Data, Examples
from tfapp.data.queue import ENDLESS, LENGTH, Queue
from tfapp.data.threads import threads, untuned
from tfapp.errors import Missing
from tfapp.runtime import Machine

# Our own functions are graph code as they stand; AutoGraph would read and translate them for a third of a second. What a recipe
# gives (augment, transform, load) may use Python's `if` on tensors.
_as_it_stands = tf.autograph.experimental.do_not_convert


class Choice(Protocol):
    """Decides which examples a step sees, in the place of the order of an epoch.

    Attributes:
      rows: the most that it chooses.
    """

    @property
    def rows(self) -> int: ...

    def __call__(self, step: Any) -> tuple[Any, Any]:
        """(indices int64 [rows] of which the first are chosen, how many these are int64 scalar), of a step's number int64."""


@dataclass(frozen=True)
class Batches:
    """Examples in the order and the portions in which a run sees them.

    Attributes:
      examples: what is batched.
      batch_size: rows of the global batch, over all replicas; with a choice: as many as it chooses on average.
      seed: of the order and the augmentation.
      shuffle: a new order each epoch; False keeps the examples' own order.
      augment: (features of one example, seed int32[2]) -> features, or None.
      transform: (features of a batch) -> the model's inputs, or None; the preprocessing that was not done
        beforehand.
      class_weights: float32 weight of each class in the loss, shape [classes], or None.
      exact_mean: scale the loss for evaluation (see the module's head).
      beside: arrays of shape [n, ...] in any nesting whose rows travel in the batch's weights, or None.
      raw: the features as they are before `transform`, augmented, travel there too, as "raw".
      choice: which examples a step sees, or None: each once an epoch.
    """

    examples: Examples
    batch_size: int
    seed: int = 0
    shuffle: bool = False
    augment: Callable[[Any, Any], Any] | None = None
    transform: Callable[[Any], Any] | None = None
    class_weights: np.ndarray | None = None
    exact_mean: bool = False
    beside: Mapping[str, Any] | None = None
    raw: bool = False
    choice: Choice | None = None

    def __len__(self) -> int:
        """Steps in an epoch."""
        return math.ceil(len(self.examples) / self.batch_size)

    @property
    def rows(self) -> int:
        """Rows of the global batch, filling included."""
        return self.choice.rows if self.choice else self.batch_size

    def indices(self, step: Any, first: Any = 0, rows: int | None = None) -> tuple[Any, Any]:
        """Which examples a step sees.

        Args:
          step: number of the step in the whole run, int64 scalar (tensor or not).
          first, rows: the wanted part of the global batch; by default all of it.

        Returns:
          (indices into the examples int64 [rows], whether each is real and not filling bool [rows]).
        """
        n, steps = len(self.examples), len(self)
        step = tf.cast(step, tf.int64)
        places = (step % steps) * self.batch_size + first + tf.range(rows or self.batch_size, dtype=tf.int64)
        real = places < n
        places = places % n
        if self.shuffle:
            # Below 65,536 examples the last 8 bits of each word are all that counts: what is above goes into the third.
            epoch, above = step // steps, self.seed >> 8
            third = (above ^ above >> 8 ^ above >> 16) + epoch // 256
            seed = tf.cast(tf.stack([tf.constant(self.seed, tf.int64), epoch, third]), tf.uint32)
            last = tf.constant(n - 1, tf.int64)
            # With the default 4 rounds, neighbours stay together five times as often as chance would have it.
            places = tf.raw_ops.RandomIndexShuffle(index=places, seed=seed, max_index=last, rounds=16)
        return places, real

    def seen(self, step: int) -> np.ndarray:
        """Which examples a step sees, filling left out: int64 [at most `rows`]."""
        if self.choice:
            chosen, count = self.choice(tf.constant(step, tf.int64))
            return chosen.numpy()[: int(count)]
        indices, real = self.indices(step)
        return indices.numpy()[real.numpy()]

    def dataset(
        self,
        start: Any = 0,
        replicas: int = 1,
        offset: int = 0,
        of: int | None = None,
        every: int = 1,
        queue: Queue | None = None,
    ) -> Any:
        """All steps from `start` on, without end, as a tf.data.Dataset for one worker.

        Args:
          start: number of the first step in the whole run, an int or an int64 scalar.
          replicas: replicas of this worker; each takes the next batch of batch_size / of rows.
          offset: replicas of the workers before this one.
          of: replicas over all workers.
          every: with one replica, the worker takes one step of so many.
          queue: what the batches wait in; None: one that measures nothing.
        """
        of = of or replicas
        rows = -(-self.rows // of)
        turns = tf.data.Dataset.range(start * replicas, ENDLESS, every)
        if self._by_example:
            dataset = turns.map(lambda turn: self._rows(turn, replicas, offset, of)).unbatch()
            dataset = dataset.map(self._one, num_parallel_calls=threads(), deterministic=True)
            dataset = dataset.batch(rows, drop_remainder=True)
            if self.transform or self.raw:
                dataset = dataset.map(self._finished, num_parallel_calls=2)
        else:

            def batch(turn: Any) -> tuple[Any, Any, Any]:
                return self._batch(**self._rows(turn, replicas, offset, of))

            ready = batch if self.transform else _as_it_stands(batch)
            dataset = turns.map(ready, num_parallel_calls=2, deterministic=True)
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        queued = queue.before(dataset) if queue else dataset.prefetch(LENGTH)
        return untuned(queued.with_options(options), fused=self._by_example)

    def distributed(self, machine: Machine, start: int = 0, queue: Queue | None = None) -> Any:
        """The steps from `start` on as the machine's strategy takes them: each replica its part of each batch."""
        if machine.devices == 1:
            return self.dataset(start, queue=queue)
        here = machine.replicas // machine.workers
        # Every worker has as many batches, all of them whole: none asks the others at each step whether there is one more.
        machine.strategy.extended.experimental_enable_get_next_as_optional = False

        def share(context: Any) -> Any:
            copies = self.dataset(start, here, context.input_pipeline_id * here, machine.replicas, queue=queue)
            return copies if machine.parts == 1 else copies.flat_map(lambda *batch: _to_parts(batch, machine.parts))

        return machine.strategy.distribute_datasets_from_function(share)

    @_as_it_stands
    def gathered(self, step: Any, machine: Machine) -> Any:
        """The batch of a step (int64 scalar) on a worker with one device, where `bytes_held` is known."""
        return self._batch(**self._rows(step, 1, machine.worker, machine.workers))

    @property
    def bytes_held(self) -> int | None:
        """Bytes of the examples as batches take them; None where a batch is more than rows taken from memory."""
        if self._by_example or self.transform is not None:
            return None
        return sum(column.dtype.size * math.prod(column.shape) for column in tf.nest.flatten(self._held))

    @property
    def _by_example(self) -> bool:
        return self.augment is not None or self.examples.load is not None

    @cached_property
    def _held(self) -> dict[str, Any]:
        """The examples as host tensors: captured by the dataset's functions instead of copied into its graph."""
        examples = self.examples
        # Asked for first while a function is traced, they would become constants of it.
        with tf.init_scope(), tf.device("CPU:0"):
            weights = np.ones(len(examples), np.float32) if examples.weights is None else examples.weights
            held = {"features": _tensors(_others(examples.features)), "labels": memory.tensor(examples.labels)}
            held["metrics"] = memory.tensor(weights.astype(np.float32))
            if self.class_weights is not None:
                weights = weights * self.class_weights[examples.labels]
            held["loss"] = memory.tensor(weights.astype(np.float32))
            held["beside"] = _tensors(self.beside or {})
            held["blocks"] = {
                dtype: memory.tensor(_block([examples.features[name] for name in names]))  # type: ignore[index]
                for dtype, names in _together(examples.features).items()
            }
        return held

    @_as_it_stands
    def _rows(self, turn: Any, replicas: int, offset: int, of: int) -> dict[str, Any]:
        """What is known of each row of a worker's turn before anything is gathered."""
        step, replica, rows = turn // replicas, offset + turn % replicas, -(-self.rows // of)
        if self.choice:
            chosen, count = self.choice(step)
            first, end = replica * count // of, (replica + 1) * count // of
            number = first + tf.range(rows, dtype=tf.int64)
            indices, real = tf.gather(chosen, tf.minimum(number, self.rows - 1)), number < end
            scale = rows * of / tf.maximum(count, 1)
        else:
            first = replica * rows
            number = first + tf.range(rows, dtype=tf.int64)
            indices, real = self.indices(step, first, rows)
            if self.exact_mean:
                scale = len(self) * self.batch_size / tf.cast(len(self.examples), tf.float32)
            else:
                left = len(self.examples) - (step % len(self)) * self.batch_size
                scale = self.batch_size / tf.minimum(left, self.batch_size)
        return {
            "index": indices,
            "real": tf.cast(real, tf.float32),
            "scale": tf.fill([rows], tf.cast(scale, tf.float32)),
            "seed": tf.stack(
                [
                    tf.fill([rows], tf.cast(step // len(self), tf.int32) + self.seed * 7919 % 2**30),
                    tf.cast((step % len(self)) * self.rows + number, tf.int32),
                ],
                axis=1,
            ),
            **({"row": number} if self.choice else {}),
        }

    def _batch(self, index: Any, real: Any, scale: Any, seed: Any, row: Any = None) -> tuple[Any, Any, Any]:
        held = self._held
        features = self._features(index)
        weights = {
            "loss": tf.gather(held["loss"], index) * real * scale,
            "metrics": tf.gather(held["metrics"], index) * real,
            **tf.nest.map_structure(lambda rows: tf.gather(rows, index), held["beside"]),
            **({"row": row} if self.choice else {}),
        }
        batch = features, tf.gather(held["labels"], index), weights
        return batch if self._by_example else self._finished(*batch)

    def _features(self, index: Any) -> Any:
        """Of the examples with these numbers, in their own structure and order."""
        found = tf.nest.map_structure(lambda column: tf.gather(column, index), self._held["features"])
        blocks = _together(self.examples.features)
        for dtype, names in blocks.items():
            rows = tf.gather(self._held["blocks"][dtype], index)
            found |= dict(zip(names, tf.unstack(rows, axis=-1), strict=True))
        return {name: found[name] for name in self.examples.features} if blocks else found

    def _finished(self, features: Any, labels: Any, weights: dict[str, Any]) -> tuple[Any, Any, Any]:
        """A batch of raw features as the model takes it."""
        if self.raw:
            weights = {**weights, "raw": features}
        return self.transform(features) if self.transform else features, labels, weights

    def _one(self, row: dict[str, Any]) -> tuple[Any, Any, Any]:
        features, label, weights = self._batch(**row)
        if self.examples.load is not None:
            features = self.examples.load(features)
        if self.augment is not None:
            features = self.augment(features, row["seed"])
        return features, label, weights


def loading(examples: Examples, seconds: float) -> float:
    """Processor seconds that loading one example takes, measured for so many seconds; of a process that does nothing else."""
    some = examples.take(np.arange(min(len(examples), 256)))
    stream = iter(tf.data.Dataset.from_tensor_slices(_tensors(some.features)).repeat().map(some.load))
    next(stream)
    began, count = time.process_time(), 0
    while (spent := time.process_time() - began) < seconds:
        next(stream)
        count += 1
    return spent / count


def _to_parts(batch: tuple[Any, Any, Any], parts: int) -> Any:
    """A batch for each of the devices that share out a copy of the model; in the metrics it counts once."""
    features, labels, weights = batch

    @_as_it_stands
    def of(part: Any) -> tuple[Any, Any, Any]:
        return features, labels, {**weights, "metrics": weights["metrics"] * tf.cast(part == 0, tf.float32)}

    return tf.data.Dataset.range(parts).map(of)


@contextmanager
def readable(data: Data) -> Iterator[None]:
    """While examples are loaded from files: those that are gone or damaged since they were looked at, by name.

    Raises:
      Missing: there are such.
    """
    try:
        yield
    except tf.errors.OpError as error:
        lost = [name for part in (data.train, data.validation, data.test) for name in _unreadable(part)]
        if not lost:
            raise
        raise Missing(
            f"{len(lost):,} examples can no longer be read, as {lost[0]}\n"
            "put them back as they were: the same command goes on from the last checkpoint"
        ) from error


def _unreadable(examples: Examples) -> list[str]:
    """The names of the examples whose loading fails."""
    load: Any = examples.load
    if load is None:
        return []
    each = tf.data.Dataset.from_tensor_slices((np.arange(len(examples)), _tensors(examples.features)))

    def work(i: Any, features: Any) -> tuple[Any, Any]:
        # A value is asked for: TensorFlow leaves out work whose result nobody wants.
        return i, tf.reshape(tf.nest.flatten(load(features))[0], [-1])[:1]

    whole = {int(i) for i, _ in each.map(work, tf.data.AUTOTUNE).ignore_errors()}
    return [examples.name(i) for i in range(len(examples)) if i not in whole]


def _tensors(features: Any) -> Any:
    if isinstance(features, np.ndarray):
        return memory.tensor(features)
    return {key: _tensors(column) for key, column in features.items()}


def _together(features: Any) -> dict[str, list[str]]:
    """The names of the columns with a number for each example, by dtype, where there are several.

    They are held side by side: a row of ten numbers is found as soon as one number is.
    """
    names: dict[str, list[str]] = {}
    for name, column in features.items() if isinstance(features, Mapping) else ():
        if isinstance(column, np.ndarray) and column.ndim == 1 and column.dtype.kind in "iuf":
            names.setdefault(column.dtype.name, []).append(name)
    return {dtype: some for dtype, some in names.items() if len(some) > 1}


def _others(features: Any) -> Any:
    """The features that are not held side by side."""
    blocks = [name for names in _together(features).values() for name in names]
    return {name: features[name] for name in features if name not in blocks} if blocks else features


def _block(columns: list[np.ndarray]) -> np.ndarray:
    """[n, columns] of columns [n] of one dtype."""
    block = memory.empty((len(columns[0]), len(columns)), columns[0].dtype)
    return np.stack(columns, axis=1, out=block)
