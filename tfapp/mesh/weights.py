"""The weights of a model that is shared out over a mesh: given, read, trained and saved as if they were whole.

A weight is a variable of the strategy, with a component on each device. That of a parted layer has another part of the whole
weight in each component of a row; any other has the same in each. Outside of a step whole weights are seen: by
`model.get_weights` and `set_weights`, in this host's memory, and in checkpoints, which have the names and shapes of one
device's and are written part by part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MethodType
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow.python.training.saving.saveable_object import SaveableObject, SaveSpec

from tfapp import hold
from tfapp.errors import Failed, Refused
from tfapp.mesh import exchange

# They take each number of a weight by itself: a part is moved as it would be in the whole.
ELEMENTWISE = {"Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lion", "Nadam", "RMSprop", "SGD"}


def share_out(plain: keras.Model, model: keras.Model) -> None:
    """Give each device its parts of the plain model's weights, and let the model's weights be seen whole.

    Raises:
      Failed: the two do not have the same weights in the same order.
    """
    pairs = list(zip(plain.weights, model.weights, strict=True))
    for old, new in pairs:
        axes = [axis for axis, (all_, here) in enumerate(zip(old.shape, new.shape, strict=True)) if all_ != here]
        if len(axes) > 1 or old.name.split("/")[-1] != new.name.split("/")[-1]:
            raise Failed(f"{new.name} of the mesh stands where one device has {old.name}\nleave runtime.mesh out")
        if axes:
            _part(new, axes[0])
        give(new, old.numpy())
    model.get_weights = MethodType(lambda self: [_whole(weight) for weight in self.weights], model)
    model.set_weights = MethodType(_give_all, model)
    model.count_params = MethodType(lambda self: sum(math.prod(shape(weight)) for weight in self.weights), model)


def axis(variable: Any) -> int | None:
    """Along which axis a variable is parted; None if each device has all of it."""
    # Asked for something that it has not, a variable of a strategy looks into its value, which workers would have to sum.
    along: int | None = vars(_bare(variable)).get("parted_along")
    return along


def shape(variable: Any) -> list[int]:
    """Of the whole of a variable."""
    along = axis(variable)
    return [size * _parts(variable) if number == along else size for number, size in enumerate(variable.shape)]


def components(variable: Any) -> Sequence[Any]:
    """What each device holds of a variable."""
    bare = _bare(variable)
    return getattr(bare, "values", [bare])


def give(variable: Any, value: np.ndarray) -> None:
    """Assign the whole of a variable."""
    along = axis(variable)
    if along is None:
        _bare(variable).assign(value)
    else:
        parts = np.split(value, _parts(variable), along)
        for number, component in enumerate(components(variable)):
            component.assign(parts[number % len(parts)])


def held(model: keras.Model) -> tuple[int, int]:
    """Bytes of a model's weights on a device, and of the whole weights."""
    here = sum(math.prod(weight.shape) * weight.dtype.size for weight in model.weights)
    return here, sum(math.prod(shape(weight)) * weight.dtype.size for weight in model.weights)


def part_slots(optimizer: Any, model: keras.Model) -> None:
    """Take what a built optimizer keeps of a parted weight for parts of a whole."""
    for weight in model.trainable_variables:
        along = axis(weight)
        if along is not None:
            for slot in _slots(optimizer, model.trainable_variables, weight):
                _part(slot, along)


def install(model: keras.Model) -> None:
    """Let a compiled model's optimizer move parts as it would move the whole, and its checkpoints be whole.

    Raises:
      Refused: it is an optimizer that looks at a whole weight, or may do so.
    """
    optimizer = model.optimizer
    if type(optimizer).__module__.partition(".")[0] != "tf_keras" or type(optimizer).__name__ not in ELEMENTWISE:
        raise Refused(
            f"runtime.mesh with the optimizer {type(optimizer).__name__}, which may look at more than one number of a weight "
            f"at once\nuse one of {', '.join(sorted(ELEMENTWISE))}"
        )
    part_slots(optimizer, model)
    for weight in model.trainable_variables:
        for average in hold.averages(optimizer, weight):
            # The strategy has given all of them the first one's.
            for here, value in zip(components(average), components(weight), strict=True):
                here.assign(value)
    plain = optimizer.aggregate_gradients

    def aggregate(pairs: Any) -> Any:
        pairs = list(pairs)
        whole = [pair for pair in pairs if axis(pair[1]) is None]
        summed = {id(weight): gradient for gradient, weight in (plain(whole) if whole else [])}
        # Keras parts the loss by the number of devices; a part's gradient is of those that hold it alone.
        summed |= {
            id(weight): _changed(exchange.summed_copies(gradient), lambda values: values * exchange.parts())
            for gradient, weight in pairs
            if axis(weight) is not None
        }
        weights = [weight for _, weight in pairs]
        return list(zip(_clipped(optimizer, [summed[id(weight)] for weight in weights], weights), weights, strict=True))

    optimizer.aggregate_gradients = aggregate
    optimizer._clip_gradients = lambda gradients: gradients


def _bare(variable: Any) -> Any:
    """The strategy's variable in one that Keras casts to 16 bits when it is read."""
    return vars(variable).get("_variable", variable)


def _parts(variable: Any) -> int:
    return int(_bare(variable).distribute_strategy.parts)


def _part(variable: Any, along: int) -> None:
    """Take a variable's components for parts of a whole, in checkpoints too."""
    bare = _bare(variable)
    bare.parted_along = along
    bare._gather_saveables_for_checkpoint = lambda: {"VARIABLE_VALUE": lambda name: _Parts(bare, along, name)}


class _Parts(SaveableObject):
    """A parted variable in a checkpoint: one tensor, of which each part is written, and read, alone."""

    def __init__(self, variable: Any, along: int, name: str):
        self._variable, self._count = variable, _parts(variable)
        here, specs = list(variable.shape), []
        for number, part in enumerate(variable.values[: self._count]):
            start = [number * size if axis == along else 0 for axis, size in enumerate(here)]
            where = tf.Variable.SaveSliceInfo(name, shape(variable), start, here).spec
            specs.append(SaveSpec(part.read_value, where, name, dtype=variable.dtype, device=part.device))
        super().__init__(variable, specs, name)

    def restore(self, restored_tensors: Sequence[tf.Tensor], restored_shapes: Any) -> Any:
        parts = enumerate(self._variable.values)
        return tf.group(*(part.assign(restored_tensors[number % self._count]) for number, part in parts))


def _whole(variable: Any) -> np.ndarray:
    along, parts = axis(variable), components(variable)
    if along is None:
        return parts[0].numpy()
    return np.concatenate([part.numpy() for part in parts[: _parts(variable)]], along)


def _give_all(model: keras.Model, values: Sequence[np.ndarray]) -> None:
    for weight, value in zip(model.weights, values, strict=True):
        give(weight, value)


def _slots(optimizer: Any, weights: Sequence[Any], weight: Any) -> list[Any]:
    """What an optimizer keeps of a weight: its lists of variables have one for each weight, in their order."""
    number = next(number for number, one in enumerate(weights) if one is weight)
    kept = [value for value in vars(optimizer).values() if isinstance(value, list) and len(value) == len(weights)]
    known = {id(variable) for variable in optimizer.variables}
    return [slots[number] for slots in kept if id(slots[number]) in known and slots[number].shape == weight.shape]


def _clipped(optimizer: Any, gradients: list[Any], weights: Sequence[Any]) -> list[Any]:
    """As the optimizer clips whole gradients, each weight's rows summed before (see `clip_whole_gradients`)."""
    if optimizer.clipvalue:
        most = optimizer.clipvalue
        gradients = optimizer._deduplicate_sparse_grad(gradients)
        return [_changed(gradient, lambda values: tf.clip_by_value(values, -most, most)) for gradient in gradients]
    most = optimizer.clipnorm or optimizer.global_clipnorm
    if not most:
        return gradients
    gradients = optimizer._deduplicate_sparse_grad(gradients)
    squares = [tf.reduce_sum(tf.square(getattr(gradient, "values", gradient))) for gradient in gradients]
    # A part knows only its own share of a norm.
    squares = [
        square if axis(weight) is None else exchange.summed(square)
        for square, weight in zip(squares, weights, strict=True)
    ]
    if not optimizer.clipnorm:
        squares = [exchange.added(squares)] * len(squares)
    scales = [most / tf.maximum(tf.sqrt(square), most) for square in squares]
    return [
        _changed(gradient, lambda values, scale=scale: values * scale)
        for gradient, scale in zip(gradients, scales, strict=True)
    ]


def _changed(gradient: Any, change: Any) -> Any:
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(change(gradient.values), gradient.indices, gradient.dense_shape)
    return change(gradient)
