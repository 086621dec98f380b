"""Which weights are kernels, what they are called, and which of them a pattern means."""

from __future__ import annotations

import pytest
import tf_keras as keras

from tfapp import kernels
from tfapp.errors import Refused

pytestmark = pytest.mark.moderate

L = keras.layers


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """One of every kind of layer that has weights, some inside others."""
    inner_in = keras.Input((8,))
    inner = keras.Model(inner_in, L.Dense(8, name="deep")(inner_in), name="block")
    x = inputs = keras.Input((6, 8))
    x = inner(inner(x))
    x = x + L.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = L.LayerNormalization(name="norm")(x)
    x = L.Bidirectional(L.GRU(3, return_sequences=True), name="both")(x)
    x = L.Conv1D(4, 3, padding="same", name="conv")(x)
    x = L.Reshape((6, 4, 1))(x)
    x = L.DepthwiseConv2D(3, name="depthwise")(x)
    x = L.SeparableConv2D(5, 1, name="separable")(x)
    return keras.Model(inputs, L.Dense(2, name="last")(L.Flatten()(x)))


def test_every_kernel_is_found_once_however_deep_and_no_bias_norm_or_depthwise_kernel(model) -> None:
    found = {(kernel.path, kernel.weight.name.split("/")[-1].partition(":")[0]) for kernel in kernels.of(model)}
    rest = {(path, name) for path, name in found if not path.startswith("both")}
    assert rest == {
        ("block/deep", "kernel"),
        ("attention/query", "kernel"),
        ("attention/key", "kernel"),
        ("attention/value", "kernel"),
        ("attention/attention_output", "kernel"),
        ("conv", "kernel"),
        ("separable", "pointwise_kernel"),
        ("last", "kernel"),
    }
    both = [path for path, _ in found if path.startswith("both/")]
    assert len(both) == 4 and len({path.split("/")[1] for path in both}) == 2


def test_frozen_layers_are_left_alone() -> None:
    layer = L.Dense(3)
    model = keras.Sequential([keras.Input((4,)), layer, L.Dense(2, name="free")])
    layer.trainable = False
    assert [kernel.path for kernel in kernels.of(model)] == ["free"]


def test_the_axes_summed_over_are_those_that_leave_the_equation(model) -> None:
    inward = {kernel.path: kernel.inward for kernel in kernels.of(model)}
    assert inward["attention/query"] == (0,) and inward["attention/attention_output"] == (0, 1)
    assert inward["conv"] == (1,) and inward["last"] == (0,)


def test_patterns_mean_paths_or_last_names(model) -> None:
    chosen = kernels.chosen(model, ["attention/*", "deep"], ["key"], "prune")
    assert [kernel.path for kernel in chosen] == [
        "block/deep",
        "attention/query",
        "attention/value",
        "attention/attention_output",
    ]
    with pytest.raises(Refused, match=r"prune.layers=lst fits none of the layers\n.*last"):
        kernels.chosen(model, ["lst"], [], "prune")
    with pytest.raises(Refused, match="leaves no layer"):
        kernels.chosen(model, ["last"], ["last"], "prune")


def test_a_model_without_kernels_is_refused() -> None:
    model = keras.Sequential([keras.Input((4,)), L.LayerNormalization()])
    with pytest.raises(Refused, match="has none\nleave it out: cluster=none"):
        kernels.chosen(model, ["*"], [], "cluster")


def test_the_share_is_of_all_parameters() -> None:
    model = keras.Sequential([keras.Input((4,)), L.Dense(5)])
    assert kernels.share(kernels.of(model), model) == 20 / 25


def test_the_smallest_kernels_up_to_a_hundredth_of_the_weights_are_left_alone_unless_they_are_named() -> None:
    model = keras.Sequential([keras.Input((50,)), L.Dense(2, name="a"), L.Dense(60, name="b"), L.Dense(200, name="c")])
    assert [kernel.path for kernel in kernels.chosen(model, ["*"], [], "prune")] == ["b", "c"]
    assert [kernel.path for kernel in kernels.chosen(model, ["a", "c"], [], "prune")] == ["a", "c"]
