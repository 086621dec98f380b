"""What the devices of a mesh tell each other while a step is computed.

A mesh has `data` × `model` devices, numbered row by row: the devices of a row share out one copy of the model (each
holds a part of it) and see the same rows of the batch; the rows of devices share out the batch. All run the same
program, each on its own tensors.

Every function here but `summed_copies` has a gradient, by the convention that what is the same on all devices of a row
has the same gradient on all of them, that of the whole (M. Shoeybi et al., «Megatron-LM», 2019, arXiv:1909.08053).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute.values import PerReplica

from tfapp.errors import Failed


def parts() -> int:
    """Into how many parts a copy of the model is shared out here; 1 where there is no mesh."""
    return int(getattr(tf.distribute.get_strategy(), "parts", 1))


def shared(x: tf.Tensor) -> tf.Tensor:
    """x, the same on all devices of a row, for each of them to use its part of the weights on it."""
    return _shared(x) if _at_work() else x


def summed(x: tf.Tensor) -> tf.Tensor:
    """The sum of what the devices of a row hold, on each of them; the same bits on all."""
    return _summed(x) if _at_work() else x


def own(x: tf.Tensor, axis: int = -1) -> tf.Tensor:
    """Of x, the same on all devices of a row, this one's part along an axis, whose size is a multiple of `parts`."""

    @tf.custom_gradient
    def taken(x: tf.Tensor) -> Any:
        return _part(x, axis), lambda dy: _beside(dy, axis)

    return taken(x) if _at_work() else tf.split(x, parts(), axis)[0]


def gathered(x: tf.Tensor, axis: int = -1) -> tf.Tensor:
    """The parts that the devices of a row hold, side by side along an axis, on each of them."""

    @tf.custom_gradient
    def whole(x: tf.Tensor) -> Any:
        return _beside(x, axis), lambda dy: _part(dy, axis)

    return whole(x) if _at_work() else tf.concat([x] * parts(), axis)


def summed_copies(gradient: Any) -> Any:
    """The sum of a gradient over the devices that hold the same part; the rows of an embedding's stay rows."""

    def together(values: list[Any]) -> Any:
        if not isinstance(values[0], tf.IndexedSlices):
            return added(values)
        rows, indices = zip(*((value.values, value.indices) for value in values), strict=True)
        return tf.IndexedSlices(tf.concat(rows, 0), tf.concat(indices, 0), values[0].dense_shape)

    row = parts()
    return _exchanged(gradient, lambda devices: [range(part, devices, row) for part in range(row)], together)


def added(values: list[tf.Tensor]) -> tf.Tensor:
    """The sum of tensors of one shape, with the same bits on each device and in each run.

    tf.add_n, which TensorFlow also makes of `+`, begins with whatever tensor nobody else holds any more at that moment:
    where others are still sending theirs, that is chance.
    """
    return tf.reduce_sum(tf.stack(values), 0)


@tf.custom_gradient
def _shared(x: tf.Tensor) -> Any:
    return tf.identity(x), _sum


@tf.custom_gradient
def _summed(x: tf.Tensor) -> Any:
    return _sum(x), tf.identity


def _sum(x: tf.Tensor) -> tf.Tensor:
    return _exchanged(x, _rows, added)


def _beside(x: tf.Tensor, axis: int) -> tf.Tensor:
    return _exchanged(x, _rows, lambda values: tf.concat(values, axis))


def _part(x: tf.Tensor, axis: int) -> tf.Tensor:
    device = int(tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group))
    return tf.split(x, parts(), axis)[device % parts()]


def _rows(devices: int) -> list[range]:
    return [range(first, first + parts()) for first in range(0, devices, parts())]


def _exchanged(x: Any, groups: Callable[[int], Iterable[range]], combine: Callable[[list[Any]], Any]) -> Any:
    """What `combine` makes of the values of all devices of a group, in their order, on each of them.

    Plain operations over devices of one graph, and no collectives: these have keys to go wrong, and cannot be told to sum
    over some devices only.
    """

    def merged(strategy: tf.distribute.Strategy, values: Any) -> Any:
        each, devices = strategy.experimental_local_results(values), strategy.extended.worker_devices
        made: list[Any] = [None] * len(each)
        for group in groups(len(each)):
            for number in group:
                with tf.device(devices[number]):
                    made[number] = combine([each[other] for other in group])
        return PerReplica(made)

    return tf.distribute.get_replica_context().merge_call(merged, args=(x,))


def _at_work() -> bool:
    """Whether a device's step is being traced; else it is Keras, which asks for the shapes of a layer's outputs."""
    if not tf.distribute.in_cross_replica_context():
        return True
    if not getattr(tf.compat.v1.get_default_graph(), "name", "").endswith("scratch_graph"):
        raise Failed(
            "a model that is shared out over a mesh was called outside of a training step, where its parts do not meet\n"
            "train without runtime.mesh.model"
        )
    return False
