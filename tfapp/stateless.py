"""Dropout and noise as functions of (seed, layer, step, row), so that they resume and spread exactly.

A Keras layer draws from its `_random_generator`. While a model trains, each such layer gets a generator
of this kind: what it draws depends on the optimizer's step, which is in every checkpoint, and on the
row's place in the *global* batch. Training that goes on from a checkpoint drops what it would have
dropped, and two workers drop what one would have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import tensorflow as tf
import tf_keras as keras

from tfapp import philox
from tfapp.mesh.exchange import parts
from tfapp.runtime import in_xla, on_cpus

# Which row of the global batch is the first that layers are being called on; None: the replica's own first one.
_FIRST: ContextVar[Any] = ContextVar("first", default=None)


@contextmanager
def rows_from(first: Any) -> Iterator[None]:
    """While this holds, layers are called on rows from the given one of the global batch on (int64 scalar; None: see `first_row`)."""
    token = _FIRST.set(first)
    try:
        yield
    finally:
        _FIRST.reset(token)


def current_first() -> Any:
    """What `rows_from` has set here."""
    return _FIRST.get()


def first_row(rows: Any) -> Any:
    """Which row of the global batch is this replica's first, where each replica has `rows` of them: int64 scalar."""
    context = tf.distribute.get_replica_context()
    device = context.replica_id_in_sync_group if context else 0
    return tf.cast(device // parts(), tf.int64) * tf.cast(rows, tf.int64)


# How often generators have drawn, where a stretch of drawing is done again.
_AGAIN: ContextVar[dict[Any, int] | None] = ContextVar("again", default=None)


@contextmanager
def again(drawn: dict[StatelessGenerator, int]) -> Iterator[None]:
    """While this holds, the generators draw what they drew when `drawn` was taken (see `drawn`)."""
    token = _AGAIN.set(dict(drawn))
    try:
        yield
    finally:
        _AGAIN.reset(token)


def drawn(model: keras.Model) -> dict[StatelessGenerator, int]:
    """How often each generator in a model has drawn in the function that is being traced."""
    layers = model._flatten_layers(include_self=False)
    found = [getattr(layer, "_random_generator", None) for layer in layers]
    return {one: one.counts().get(one, 0) for one in found if isinstance(one, StatelessGenerator)}


class StatelessGenerator(tf.__internal__.tracking.AutoTrackable):
    """Stands in for tf_keras's RandomGenerator in one layer of one training.

    Draws come from the Philox counter generator (Salmon et al. 2011): key = (seed, layer, how often the layer has
    drawn in this step), high half of the counter = the step, low half = the row's offset. So a row's draws do not
    depend on which replica holds it, nor on how many parts the batch is taken in, and the gates of an LSTM each get a
    dropout of their own.
    """

    # Keras writes the kind of generator into a saved layer's config; the layer's own is put back before that.
    _rng_type = "legacy_stateful"

    def __init__(self, seed: int, layer: int, step: tf.Variable):
        self._key = (seed << 32) + (layer << 8)
        self._step = step
        self._calls: WeakKeyDictionary[Any, WeakKeyDictionary[Any, dict[Any, int]]] = WeakKeyDictionary()

    def _maybe_init(self) -> None:
        """Nothing to make: there is no state."""

    def counts(self) -> Any:
        """How often it has drawn in the function that is being traced, for the replica that it is traced for."""
        counted = _AGAIN.get()
        if counted is not None:
            return counted
        replica = tf.distribute.get_replica_context() or tf.distribute.get_strategy()
        here = self._calls.setdefault(tf.compat.v1.get_default_graph(), WeakKeyDictionary())
        return here.setdefault(replica, {})

    def _next_key(self) -> int:
        """The key of the next draw."""
        if tf.executing_eagerly():
            return self._key
        counts = self.counts()
        number = counts.get(self, 0)
        counts[self] = number + 1
        return self._key + number % 256

    def uniform(self, shape: Any) -> tf.Tensor:
        """float32 in [0, 1) of the given shape, whose first axis is this replica's rows of the batch."""
        shape = tf.convert_to_tensor(shape, tf.int32)
        draws = self._draws(tf.raw_ops.StatelessRandomUniformV2, shape, 4, tf.float32)
        return tf.reshape(draws[:, : tf.reduce_prod(shape[1:])], shape)

    def _draws(self, kind: Callable[..., tf.Tensor], shape: tf.Tensor, share: int, dtype: Any) -> tf.Tensor:
        """[rows, at least as many draws as a row of `shape` needs], where a block of the counter is enough for `share` of them."""
        width, first, step = self._blocks(shape, share)
        return kind(
            shape=tf.stack([tf.cast(shape[0], tf.int64), width * 4]),
            key=tf.constant([self._next_key()], tf.uint64),
            counter=tf.cast(tf.stack([first, step]), tf.uint64),
            alg=1,
            dtype=dtype,
        )

    def _blocks(self, shape: tf.Tensor, share: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """How many of the counter's blocks a row takes, and both halves of the first one's counter: int64."""
        # A row takes a whole number of blocks.
        width = tf.cast(-(-tf.reduce_prod(shape[1:]) // share), tf.int64)
        first = _FIRST.get()
        first = first_row(shape[0]) if first is None else tf.cast(first, tf.int64)
        return width, first * width, tf.cast(self._step, tf.int64)

    def dropout(self, inputs: tf.Tensor, rate: float, noise_shape: Any = None) -> tf.Tensor:
        """Zero a share `rate` of the inputs, to 2^-17 the one asked for, and scale up the rest."""
        shape = tf.shape(inputs) if noise_shape is None else noise_shape
        if not tf.is_tensor(shape):
            sizes = tf.shape(inputs)
            shape = tf.stack([sizes[axis] if size is None else size for axis, size in enumerate(shape)])
        keep, scale = self.kept(shape, rate)
        return tf.where(keep, inputs * tf.cast(scale, inputs.dtype), tf.zeros_like(inputs))

    def kept(self, shape: Any, rate: float) -> tuple[tf.Tensor, float]:
        """Which of an input of this shape a dropout keeps, bool, and what these are multiplied by."""
        shape = tf.cast(shape, tf.int32)
        dropped = min(round(rate * 2**16), 2**16 - 1)
        # 16 bits decide: half the drawing of a float each, which is most of what a dropout of attention takes.
        bound = dropped - 2**15
        if in_xla() and on_cpus():
            width, first, step = self._blocks(shape, 8)
            large = philox.at_least(bound, self._next_key(), first, step, tf.cast(shape[0], tf.int64) * width)
        else:
            draws = self._draws(tf.raw_ops.StatelessRandomUniformFullIntV2, shape, 8, tf.int32)
            large = tf.bitcast(draws, tf.int16) >= tf.constant(bound, tf.int16)
        rows = tf.reshape(large, [shape[0], -1])[:, : tf.reduce_prod(shape[1:])]
        return tf.reshape(rows, shape), 2**16 / (2**16 - dropped)

    def random_uniform(self, shape, minval=0.0, maxval=None, dtype=None, nonce=None) -> tf.Tensor:
        """As keras.backend.random_uniform."""
        high = 1.0 if maxval is None else maxval
        return tf.cast(minval + (high - minval) * self.uniform(shape), dtype or keras.backend.floatx())

    def random_normal(self, shape, mean=0.0, stddev=1.0, dtype=None, nonce=None) -> tf.Tensor:
        """As keras.backend.random_normal, by the Box–Muller transform."""
        shape = tf.convert_to_tensor(shape, tf.int32)
        pair = self.uniform(tf.concat([shape, [2]], 0))
        radius = tf.sqrt(-2.0 * tf.math.log(1.0 - pair[..., 0]))
        draws = radius * tf.cos(6.283185307179586 * pair[..., 1])
        return tf.cast(mean + stddev * draws, dtype or keras.backend.floatx())

    def truncated_normal(self, shape, mean=0.0, stddev=1.0, dtype=None, nonce=None) -> tf.Tensor:
        """As keras.backend.truncated_normal: by the inverse of the normal distribution between ±2 deviations."""
        low, high = 0.022750131948179195, 0.9772498680518208
        draws = tf.math.ndtri(low + (high - low) * self.uniform(shape))
        return tf.cast(mean + stddev * draws, dtype or keras.backend.floatx())

    def make_seed_for_stateless_op(self) -> tf.Tensor:
        """int32 [2] for layers that draw once a batch (RandomFlip, …): new each step."""
        step = tf.cast(self._step, tf.int32)
        return tf.stack([tf.constant(self._next_key() % (2**31 - 1), tf.int32), step])

    def make_legacy_seed(self) -> int:
        """A plain seed, for layers that take nothing better."""
        return self._key % (2**31 - 1)


def install(model: keras.Model, seed: int, step: tf.Variable) -> Callable[[keras.Model], keras.Model]:
    """Give every random layer of the model a stateless generator; returns what gives them their own back."""
    own = [
        (layer, layer._random_generator)
        for layer in model._flatten_layers(include_self=False)
        if hasattr(layer, "_random_generator")
    ]
    for number, (layer, _) in enumerate(own):
        layer._random_generator = StatelessGenerator(seed, number, step)

    def restore(model: keras.Model) -> keras.Model:
        for layer, generator in own:
            layer._random_generator = generator
        return model

    return restore
