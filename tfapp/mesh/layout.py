"""Which layers of a model are shared out over the devices of a row, and how; and the model that is so.

A layout names layers and how each is parted:

    {"expand": "columns", "contract": "rows", "multi_head_attention": "heads", "tokens": "columns"}

columns: each device has a part of the outputs (Dense, Embedding). rows: a part of the inputs (Dense). heads: a part of the
heads (MultiHeadAttention). whole: all of it, as are all layers that are not named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import tensorflow as tf
import tf_keras as keras
from tensorflow.python.ops.resource_variable_ops import default_variable_creator_v2
from tf_keras.src.engine.functional import Functional

from tfapp import recompute
from tfapp.errors import Failed, Refused, nearest
from tfapp.mesh import exchange, layers, weights
from tfapp.report import words
from tfapp.runtime import Machine
from tfapp.settings import Settings

# By the layers themselves: several may have one name.
Layout = Mapping[keras.layers.Layer, str]

# Each number of their answer is made of one of what they are given: on a part of the units they do what they do on all.
ELEMENTWISE = tuple("linear relu gelu elu selu sigmoid swish silu softplus softsign tanh exponential mish".split())
WAYS = {
    keras.layers.Dense: ("columns", "rows"),
    keras.layers.Embedding: ("columns",),
    keras.layers.MultiHeadAttention: ("heads",),
}


@contextmanager
def on_host() -> Iterator[None]:
    """A block in which variables are made once, in this host's memory, whatever strategy there is around it."""

    def plain(_: Any, **settings: Any) -> Any:
        settings.pop("distribute_strategy", None)
        with tf.device("CPU:0"):
            return default_variable_creator_v2(None, **settings)

    with tf.variable_creator_scope(plain):
        yield


def shared_out(recipe: ModuleType, config: Settings, make: Callable[[], keras.Model]) -> keras.Model:
    """The model that `make` makes, shared out as the recipe says, or by default; called in the strategy's scope.

    Raises:
      Failed, Refused: see `named`. Refused: the model is not made of layers that can be taken one by one, or of none that can be
        shared out.
    """
    with on_host():
        plain = make()
    _countable(plain)
    layout = named(recipe.layout(config, plain), plain) if hasattr(recipe, "layout") else default(plain)
    if not layout:
        one = next((layer for layer in _leaves(plain) if type(layer) in WAYS), None)
        hindered = one is not None and _hindered(one, WAYS[type(one)][0])
        why = f"{one.name!r} is one, {hindered or 'but the recipe leaves it whole'}" if one else "there is none"
        raise Refused(
            f"runtime.mesh.model={exchange.parts()}, and nothing to share out: only Dense, Embedding and "
            f"MultiHeadAttention can be, {why}\nuse runtime.mesh.data alone"
        )
    return split(plain, layout)


def line(model: keras.Model, machine: Machine) -> str:
    """What is shared out, and what a device holds of it."""
    kinds = Counter(
        (type(layer).__mro__[1].__name__, layers.WAYS[type(layer)])
        for layer in _leaves(model)
        if type(layer) in layers.WAYS
    )
    told = ", ".join(f"{count} {kind} by {way}" for (kind, way), count in kinds.items())
    here, whole = weights.held(model)
    return (
        f"mesh of {machine.replicas} × {machine.parts} devices: {told}; a device holds {words.size(here)} of the weights' "
        f"{words.size(whole)}, and as large a share of their gradients and of what the optimizer keeps of them"
    )


def default(model: keras.Model) -> Layout:
    """The layout of a model whose recipe declares none: all of its Dense, Embedding and MultiHeadAttention that can be parted.

    Of two Dense layers of which one takes just what the other gives, the first is parted by columns and the second by rows.
    """
    ways: dict[keras.layers.Layer, str] = {}
    before = _fed_by(model)
    for layer in _leaves(model):
        able = [way for way in WAYS.get(type(layer), ()) if not _hindered(layer, way)]
        if "rows" in able and layer in before and ways.get(before[layer]) == "columns":
            ways[layer] = "rows"
        elif able:
            ways[layer] = able[0]
    return ways


def named(layout: Any, model: keras.Model) -> Layout:
    """A layout that a recipe declares by names, if it can be had.

    Raises:
      Failed: it is none, or names a layer or a way that there is not. Refused: a layer cannot be parted so.
    """
    ways: dict[keras.layers.Layer, str] = {}
    if not isinstance(layout, Mapping):
        raise Failed(
            f"the recipe's layout() gave {type(layout).__name__}, not a dict\n"
            'end it in: return {"expand": "columns", "contract": "rows"}'
        )
    for name, way in layout.items():
        if name not in (names := [layer.name for layer in _leaves(model)]):
            raise Failed(
                f"the recipe's layout() names {name!r}, which is no layer of its model\n{nearest(str(name), names)}"
            )
        for layer in (layer for layer in _leaves(model) if layer.name == name):
            if way == "whole":
                continue
            if why := _hindered(layer, way):
                raise Refused(
                    f"the recipe's layout() parts {name!r} by {way}, {why}\nleave it whole, or use runtime.mesh.data alone"
                )
            ways[layer] = way
    return ways


def split(plain: keras.Model, layout: Layout) -> keras.Model:
    """The model with its weights shared out over the mesh as the layout says; called in the strategy's scope.

    Args:
      plain: made `on_host`; it is not changed.

    """
    pairs = {
        before: after
        for after, before in _fed_by(plain).items()
        if layout.get(before) == "columns" and layout.get(after) == "rows"
    }
    fed = set(pairs.values())

    def parted(layer: keras.layers.Layer) -> keras.layers.Layer:
        match layout.get(layer), layer:
            case "columns", keras.layers.Dense():
                return layers.ColumnDense(layer, gathers=layer not in pairs)
            case "rows", keras.layers.Dense():
                return layers.RowDense(layer, slices=layer not in fed)
            case "columns", keras.layers.Embedding():
                return layers.ColumnEmbedding(layer)
            case "heads", keras.layers.MultiHeadAttention():
                return layers.HeadsAttention(layer)
        return type(layer).from_config(layer.get_config())

    model = _copied(plain, parted)
    weights.share_out(plain, model)
    return model


def whole(model: keras.Model) -> keras.Model:
    """A copy of a model with plain layers in the place of parted ones, and weights of its own that are not set."""

    def plain(layer: keras.layers.Layer) -> keras.layers.Layer:
        return layer.whole() if type(layer) in layers.WAYS else type(layer).from_config(layer.get_config())

    return _copied(model, plain)


def _copied(model: keras.Model, parted: Callable[[keras.layers.Layer], keras.layers.Layer]) -> keras.Model:
    """A copy of a model and of the models in it, of other layers."""

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        if not isinstance(layer, Functional):
            return parted(layer)
        made = _copied(layer, parted)
        return recompute.around(made) if hasattr(vars(layer).get("call"), "recomputes") else made

    return keras.models.clone_model(model, clone_function=copy)


def _leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model and of the models in it."""
    for layer in model.layers:
        if isinstance(layer, Functional):
            yield from _leaves(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            yield layer


def _countable(model: keras.Model) -> None:
    own = next(
        (one for one in (model, *_leaves(model)) if isinstance(one, keras.Model) and not isinstance(one, Functional)),
        None,
    )
    if own is not None:
        raise Refused(
            f"runtime.mesh.model with a model of a class of its own ({type(own).__name__}), whose layers cannot be taken one by one\n"
            "make it of layers: keras.Model(inputs, outputs), or use runtime.mesh.data alone"
        )
    for layer in _leaves(model):
        if foreign := _foreign(layer):
            raise Refused(
                f"runtime.mesh.model with {layer.name!r}, which uses {foreign} of another layer: it would be left behind untrained\n"
                "write it as a layer that has its own weights, or use runtime.mesh.data alone"
            )
    counts = Counter(map(id, _leaves(model)))
    twice = next((layer.name for layer in _leaves(model) if counts[id(layer)] > 1), None)
    if twice:
        raise Refused(
            f"runtime.mesh.model with a layer that belongs to several models in the model, {twice!r}\n"
            "call it in one of them, or use runtime.mesh.data alone"
        )


def _foreign(layer: keras.layers.Layer) -> str | None:
    """The weight that is not a layer's own, in its arguments or in its function; a copy of the layer would not have it."""
    given = [tf.nest.flatten([node.call_args, node.call_kwargs]) for node in layer.inbound_nodes]
    cells = getattr(getattr(layer, "function", None), "__closure__", None) or ()
    used = [*(one for many in given for one in many), *(cell.cell_contents for cell in cells)]
    return next((one.name for one in used if isinstance(one, tf.Variable | keras.layers.Layer)), None)


def _fed_by(model: keras.Model) -> dict[keras.layers.Layer, keras.layers.Layer]:
    """Of each Dense that takes just what one Dense gives, and alone takes it, which that is."""
    found = {}
    for one in [model, *(layer for layer in model._flatten_layers() if isinstance(layer, Functional))]:
        nodes = [node for depth in one._nodes_by_depth.values() for node in depth]
        calls = Counter(node.layer for node in nodes)
        uses = Counter(before for node in nodes for before in _before(node))
        uses.update(tensor._keras_history.layer for tensor in tf.nest.flatten(one.outputs))
        for node in nodes:
            if type(node.layer) is keras.layers.Dense and calls[node.layer] == 1:
                (before,) = _before(node)
                if type(before) is keras.layers.Dense and calls[before] == uses[before] == 1:
                    found[node.layer] = before
    return found


def _before(node: Any) -> list[keras.layers.Layer]:
    return [tensor._keras_history.layer for tensor in node.keras_inputs]


def _hindered(layer: keras.layers.Layer, way: str) -> str | None:
    """What keeps a layer from being parted so, as the end of a sentence; None if nothing does."""
    parts, ways = exchange.parts(), WAYS.get(type(layer), ())
    if way not in ways:
        return f"but a {type(layer).__name__} can be {' or '.join((*ways, 'whole'))}"
    settings = layer.get_config()
    held = [name for name, value in settings.items() if name.endswith(("_regularizer", "_constraint")) and value]
    if held:
        return f"but it has a {held[0]}, which wants to see all of a weight"
    if way == "columns" and settings.get("activation", "linear") not in ELEMENTWISE:
        return f"but its activation {settings['activation']} wants to see all outputs"
    what, size = {
        "heads": lambda: ("heads", settings["num_heads"]),
        "rows": lambda: ("inputs", int(layer.kernel.shape[0])),
        "columns": lambda: ("outputs", settings.get("units") or settings.get("output_dim")),
    }[way]()
    return f"but {parts} devices cannot share out its {size} {what} evenly" if size % parts else None
