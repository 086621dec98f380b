"""What of a model is shared out by default, what a recipe may ask for, and what is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp.errors import Expected, Failed, Refused
from tfapp.mesh import layout
from tfapp.settings import Settings


@pytest.fixture
def row() -> Iterator[Any]:
    """A row of two parts, in whose scope models are built; only the numbers count here, so that one device will do."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    strategy.parts = 2
    with strategy.scope():
        yield strategy


def chain(*after: keras.layers.Layer, shape: tuple[int, ...] = (6,)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *after])


def dense(units: int, name: str, **settings: Any) -> keras.layers.Dense:
    return keras.layers.Dense(units, name=name, **settings)


def shared_out(make: Callable[[], keras.Model], **recipe: Any) -> keras.Model:
    return layout.shared_out(SimpleNamespace(**recipe), Settings(), make)  # type: ignore[arg-type]


def default(model: keras.Model) -> dict[str, str]:
    return {layer.name: way for layer, way in layout.default(model).items()}


def test_of_two_dense_layers_in_a_row_the_second_is_parted_by_rows(row: Any) -> None:
    model = chain(dense(8, "a", activation="relu"), dense(6, "b"), dense(4, "c"), dense(2, "d"))
    assert default(model) == {"a": "columns", "b": "rows", "c": "columns", "d": "rows"}


def test_what_another_layer_sees_too_is_not_kept_in_parts(row: Any) -> None:
    x = keras.Input((6,))
    y = dense(8, "a")(x)
    model = keras.Model(x, keras.layers.Add()([y, dense(8, "b")(y)]))
    assert default(model) == {"a": "columns", "b": "columns"}
    model = keras.Model(x, [y, dense(8, "b")(y)])
    assert default(model) == {"a": "columns", "b": "columns"}


def test_layers_in_models_in_the_model_are_found(row: Any) -> None:
    inner = keras.Sequential([keras.Input((6,)), dense(8, "a"), dense(6, "b")])
    assert default(chain(inner)) == {"a": "columns", "b": "rows"}


@pytest.mark.parametrize(
    ("hindered", "way"),
    [
        ({"units": 7, "name": "odd"}, "rows"),
        ({"units": 8, "name": "soft", "activation": "softmax"}, "rows"),
        ({"units": 8, "name": "held", "kernel_regularizer": "l2"}, None),
        ({"units": 8, "name": "held", "kernel_constraint": "unit_norm"}, None),
    ],
)
def test_a_layer_is_parted_as_it_can_be_or_left_whole(row: Any, hindered: dict[str, Any], way: str | None) -> None:
    layer = keras.layers.Dense(**hindered)
    assert default(chain(layer)).get(layer.name) == way


def test_a_class_of_the_recipe_s_own_is_left_whole(row: Any) -> None:
    class Mine(keras.layers.Dense):
        pass

    assert default(chain(Mine(8), dense(2, "b"))) == {"b": "columns"}


@pytest.mark.parametrize(
    ("wrong", "kind", "said"),
    [
        (["a"], Failed, "gave list, not a dict"),
        ({"aa": "rows"}, Failed, "names 'aa', which is no layer of its model\ndid you mean 'a'?"),
        ({"a": "sideways"}, Refused, "'a' by sideways, but a Dense can be columns or rows or whole"),
        ({"a": "rows"}, Refused, "2 devices cannot share out its 5 inputs evenly"),
        ({"b": "columns"}, Refused, "its activation softmax wants to see all outputs"),
        ({"norm": "columns"}, Refused, "but a LayerNormalization can be whole"),
    ],
)
def test_a_layout_that_cannot_be_had_is_refused_by_the_layer_s_name(
    row: Any, wrong: Any, kind: type[Expected], said: str
) -> None:
    norm = keras.layers.LayerNormalization(name="norm")
    model = chain(dense(8, "a"), norm, dense(4, "b", activation="softmax"), shape=(5,))
    with pytest.raises(kind) as caught:
        layout.named(wrong, model)
    assert said in str(caught.value)


def test_a_recipe_that_parts_nothing_is_told_what_can_be(row: Any) -> None:
    with pytest.raises(Refused, match="'a' is one, but 2 devices cannot share out its 7 outputs evenly"):
        shared_out(lambda: chain(dense(7, "a"), shape=(5,)))
    with pytest.raises(Refused, match="there is none"):
        shared_out(lambda: chain(keras.layers.Flatten()))


def test_layers_of_one_name_are_looked_at_one_by_one(row: Any) -> None:
    blocks = [keras.Sequential([keras.Input((5,)), dense(units, "same"), dense(5, "back")]) for units in (8, 7)]
    model = shared_out(lambda: chain(*blocks, shape=(5,)))
    shapes = [[tuple(weight.shape) for weight in block.weights] for block in model.layers]
    assert shapes == [[(5, 4), (4,), (4, 5), (5,)], [(5, 7), (7,), (7, 5), (5,)]]


def test_a_recipe_s_layout_is_what_is_shared_out(row: Any) -> None:
    def make() -> keras.Model:
        return chain(dense(8, "a"), dense(6, "b"))

    model = shared_out(make, layout=lambda config, model: {"a": "whole", "b": "rows"})
    assert [tuple(weight.shape) for weight in model.weights] == [(6, 8), (8,), (4, 6), (6,)]
    assert [weight.shape for weight in layout.whole(model).weights] == [weight.shape for weight in make().weights]
    with pytest.raises(Refused, match="'a' is one, but the recipe leaves it whole"):
        shared_out(make, layout=lambda config, model: {"a": "whole"})


class Own(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x: Any) -> Any:
        return self.dense(x)


def test_a_model_that_is_not_made_of_layers_is_refused(row: Any) -> None:
    model = Own()
    model(tf.zeros([1, 4]))
    with pytest.raises(Refused, match="a class of its own"):
        shared_out(lambda: model)
    around = keras.Input((4,))
    with pytest.raises(Refused, match=r"a class of its own \(Own\)"):
        shared_out(lambda: keras.Model(around, dense(4, "b")(model(around))))


def test_a_layer_that_uses_another_s_weights_is_refused(row: Any) -> None:
    table = keras.layers.Embedding(10, 4, name="table")
    ids = keras.Input((3,), dtype="int32")
    tied = keras.Model(ids, tf.matmul(table(ids), table.embeddings, transpose_b=True))
    with pytest.raises(Refused, match="uses table/embeddings:0 of another layer"):
        shared_out(lambda: tied)
    closed = keras.layers.Lambda(lambda x: tf.matmul(x, table.embeddings, transpose_b=True), name="closed")
    with pytest.raises(Refused, match="'closed', which uses table of another layer"):
        shared_out(lambda: keras.Model(ids, closed(table(ids))))


def test_a_layer_in_two_models_in_the_model_is_refused(row: Any) -> None:
    both = dense(4, "both")
    first, second = (keras.Sequential([keras.Input((4,)), both]) for _ in range(2))
    x = keras.Input((4,))
    with pytest.raises(Refused, match="'both'"):
        shared_out(lambda: keras.Model(x, second(first(x))))


def test_a_parted_model_is_not_called_outside_of_a_step(row: Any) -> None:
    model = shared_out(lambda: chain(dense(8, "a")))
    assert model.output_shape == (None, 8)
    with pytest.raises(Failed, match="outside of a training step"):
        model(tf.zeros([1, 6]))
