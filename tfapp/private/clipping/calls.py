"""What the layers of a model were called on during one forward pass, and what they gave before their activation.

A unit is a layer whose variables' gradients are found from its calls: one with a rule; or one that holds variables and
has no rule, with all that is inside it. A layer that is called on something other than the examples of the batch (as
an embedding of places is, in a layer of its own) makes the layer around it a unit without a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import tensorflow as tf
import tf_keras as keras
from tf_keras.src.engine.base_layer_utils import call_context
from tf_keras.src.mixed_precision.autocast_variable import enable_auto_cast_variables

from tfapp.private.clipping import standing

# Two numbers of examples that are no other size of a model, more likely than not: what changes from one to the other in
# their ratio one to one has the examples as its first axis.
FEW, MORE = 5, 7


@dataclass(frozen=True, eq=False)
class Unit:
    """A layer to be recorded; `why` it has no rule, or None where it has one."""

    layer: keras.layers.Layer
    why: str | None


@dataclass(frozen=True, eq=False)
class Units:
    """The units of a model, and which tensors of the arguments of each call of the slow ones have examples."""

    units: list[Unit]
    batched: dict[tuple[int, int], list[bool]]


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a unit.

    Attributes:
      batched: of each of the flattened arguments, whether its first axis is the examples.
      outputs: what is watched: before the activation if there is one, flattened.
    """

    unit: Unit
    plain: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    batched: list[bool]
    outputs: list[tf.Tensor]
    training: Any

    @property
    def layer(self) -> keras.layers.Layer:
        return self.unit.layer

    @property
    def input(self) -> tf.Tensor:
        return _first(self.args, self.kwargs)

    def again(self, *args: Any, **kwargs: Any) -> Any:
        """The layer's answer to other arguments, with nothing recorded, as Keras would have called it."""
        context = {"training": self.training}
        cast = enable_auto_cast_variables(self.layer._compute_dtype_object)
        with call_context().enter(self.layer, args, not tf.executing_eagerly(), context), cast:
            return self.plain(*args, **kwargs)


def inside(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers in a layer, at any depth, each once."""
    return list({id(one): one for one in layer._flatten_layers(include_self=False)}.values())


def of_classes(model: keras.Model) -> list[Unit]:
    """The units by the classes of the layers alone."""
    from tfapp.private.clipping.rules import rule_of

    found: dict[int, Unit] = {}

    def visit(layer: keras.layers.Layer) -> None:
        if not layer.trainable_weights or id(layer) in found:
            return
        if rule_of(layer) is not None:
            found[id(layer)] = Unit(layer, None)
        elif layer._trainable_weights or isinstance(layer, ONE_BY_ONE):
            found[id(layer)] = Unit(layer, f"there is no rule for a {type(layer).__name__}")
            return
        for part in layer._flatten_layers(recursive=False, include_self=False):
            visit(part)

    visit(model)
    return list(found.values())


# They call what is in them on parts of each example, in loops or as more examples than there are.
ONE_BY_ONE = (keras.layers.RNN, keras.layers.TimeDistributed)

_SURVEYED: WeakKeyDictionary[keras.Model, dict[Any, Units]] = WeakKeyDictionary()


def survey(model: keras.Model, x: Any, training: Any) -> Units:
    """The units of a model, by calling it on FEW and on MORE examples like those of x, in graphs that never run."""
    specs = tf.nest.map_structure(lambda one: (tuple(one.shape[1:]), one.dtype), x)
    key = (repr(specs), repr(training), tuple(id(variable) for variable in model.trainable_variables))
    known = _SURVEYED.setdefault(model, {})
    if key not in known:
        known[key] = _surveyed(model, x, training)
    return known[key]


@dataclass(eq=False)
class _Seen:
    """One call of a layer in a survey: the layers around it, and the first sizes of arguments and outputs."""

    layer: keras.layers.Layer
    around: list[_Seen]
    arguments: list[int | None] = field(default_factory=list)
    outputs: list[int | None] = field(default_factory=list)


def _surveyed(model: keras.Model, x: Any, training: Any) -> Units:
    few, more = (_seen(model, x, training, examples) for examples in (FEW, MORE))
    if len(few) != len(more):
        # A Sequential without an Input is built anew for the first batch of another size.
        few = _seen(model, x, training, FEW)
    units = {id(unit.layer): unit for unit in of_classes(model)}
    pairs = {id(one): other for one, other in zip(few, more, strict=True)}

    def whole(one: _Seen) -> bool:
        """Whether the call was on the examples and gave something for each."""
        other = pairs[id(one)]
        ends = list(zip(one.outputs, other.outputs, strict=True))
        starts = list(zip(one.arguments, other.arguments, strict=True))
        return (FEW, MORE) in starts and bool(ends) and all(end == (FEW, MORE) for end in ends)

    for one in few:
        if id(one.layer) in units and not whole(one):
            covered = [outer for outer in one.around if id(outer.layer) in units and units[id(outer.layer)].why]
            if covered and covered[0].layer is not one.layer:
                continue
            outer = next((outer for outer in reversed(one.around) if whole(outer)), few[0])
            why = f"{one.layer.name} in it is called on something other than the examples of the batch"
            units[id(outer.layer)] = Unit(outer.layer, why)
    counts: dict[int, int] = {}
    batched = {}
    for one in few:
        if id(one.layer) in units and units[id(one.layer)].why:
            number = counts.get(id(one.layer), 0)
            counts[id(one.layer)] = number + 1
            starts = zip(one.arguments, pairs[id(one)].arguments, strict=True)
            batched[id(one.layer), number] = [start == (FEW, MORE) for start in starts]
    slow = {layer for layer, unit in units.items() if unit.why}
    apart = [id(one.layer) for one in few if not any(id(outer.layer) in slow for outer in one.around)]
    return Units([units[layer] for layer in dict.fromkeys(apart) if layer in units], batched)


def _seen(model: keras.Model, x: Any, training: Any, examples: int) -> list[_Seen]:
    """The calls of all layers, in the order in which they began."""
    seen: list[_Seen] = []
    around: list[_Seen] = []
    graph = tf.__internal__.FuncGraph("survey")

    def sizes(values: Any) -> list[int | None]:
        """First sizes; None of what is no tensor, or is one of a graph inside this one."""
        return [
            one.shape[0] if isinstance(one, tf.Tensor) and _of(one, graph) and one.shape.rank else None
            for one in tf.nest.flatten(values)
        ]

    def watching(layer: keras.layers.Layer, plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            this = _Seen(layer, list(around), sizes((args, kwargs)))
            seen.append(this)
            around.append(this)
            try:
                outputs = plain(*args, **kwargs)
            finally:
                around.pop()
            this.outputs = sizes(outputs)
            return outputs

        return call

    with graph.as_default():
        like = tf.nest.map_structure(
            lambda one: tf.raw_ops.Placeholder(dtype=one.dtype, shape=[examples, *one.shape[1:]]), x
        )
        with ExitStack() as stack:
            for layer in [model, *inside(model)]:
                stand_in = tf.autograph.experimental.do_not_convert(watching(layer, layer._autographed_call()))
                stack.enter_context(standing.in_for(layer, call=stand_in))
            model(like, training=training)
    return seen


def outputs(model: keras.Model, x: Any, training: Any) -> list[tuple[keras.layers.Layer, list[Any]]]:
    """Each layer's outputs, flattened and as arrays, in the order in which the layers ended; called eagerly."""
    given: list[tuple[keras.layers.Layer, list[Any]]] = []

    def listening(layer: keras.layers.Layer, plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            outputs = plain(*args, **kwargs)
            given.append((layer, [one.numpy() for one in tf.nest.flatten(outputs) if hasattr(one, "numpy")]))
            return outputs

        return call

    with ExitStack() as stack:
        for layer in inside(model):
            stack.enter_context(standing.in_for(layer, call=listening(layer, layer.call)))
        model(x, training=training)
    return given


def _of(tensor: tf.Tensor, graph: Any) -> bool:
    return not hasattr(tensor, "graph") or tensor.graph is graph


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else next(iter(kwargs.values()))


@contextmanager
def recorded(units: Units, tape: tf.GradientTape) -> Iterator[list[Call]]:
    """While this holds, calls of the units are added to the list, and what they give is watched by the tape.

    Replicas are traced in turns, each from one end of its forward pass to the other, so they do not meet here.
    """
    calls: list[Call] = []
    inner: list[Unit] = []
    counts: dict[int, int] = {}

    def recording(unit: Unit, plain: Callable[..., Any]) -> Callable[..., Any]:
        layer, slow = unit.layer, unit.why is not None

        def call(*args: Any, **kwargs: Any) -> Any:
            if inner:
                return plain(*args, **kwargs)
            number = counts.get(id(layer), 0)
            counts[id(layer)] = number + 1
            heard: list[tf.Tensor] = []

            def activation(values: tf.Tensor) -> tf.Tensor:
                tape.watch(values)
                heard.append(values)
                return own(values)

            own: Any = None if slow else vars(layer).get("activation")
            if own is not None and own is not keras.activations.linear:
                with standing.in_for(layer, activation=activation):
                    outputs = plain(*args, **kwargs)
            else:
                if slow:
                    inner.append(unit)
                try:
                    outputs = plain(*args, **kwargs)
                finally:
                    if slow:
                        inner.pop()
                heard.extend(one for one in tf.nest.flatten(outputs) if one.dtype.is_floating)
                tape.watch(heard)
            batched = units.batched.get((id(layer), number), [])
            calls.append(Call(unit, plain, args, kwargs, batched, heard, call_context().training))
            return outputs

        return call

    with ExitStack() as stack:
        for unit in units.units:
            stand_in = tf.autograph.experimental.do_not_convert(recording(unit, unit.layer._autographed_call()))
            stack.enter_context(standing.in_for(unit.layer, call=stand_in))
        yield calls
