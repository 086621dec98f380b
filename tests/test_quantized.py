"""Every layer that TF-MOT knows rounds, the others are named, and what the weights had is kept."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras as keras

from tfapp import kernels, quantized
from tfapp.errors import Refused

pytestmark = pytest.mark.moderate

L = keras.layers


def small(*layers: keras.layers.Layer, shape=(8, 8, 1)) -> keras.Model:
    x = inputs = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def test_the_weights_are_the_model_s_own_and_the_answers_nearly() -> None:
    model = small(L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(), L.Flatten(), L.Dense(3))
    made, said = quantized.aware(model)
    assert said == "quantize: 5 of 5 layers in 8 bits"
    for own, copied in zip(kernels.of(model), kernels.of(made), strict=True):
        assert own.path == copied.path and np.array_equal(own.weight, copied.weight)
    assert quantized.is_aware(made) and not quantized.is_aware(model)


def test_layers_without_a_scheme_are_left_and_named() -> None:
    inputs = keras.Input((5,), dtype="int32")
    x = L.Embedding(10, 4, name="words")(inputs)
    model = keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling1D()(L.LayerNormalization(name="norm")(x))))
    made, said = quantized.aware(model)
    assert said == "quantize: 2 of 4 layers in 8 bits; in float: words (Embedding), norm (LayerNormalization)"
    assert made(np.ones((2, 5), np.int32)).shape == (2, 3)


def test_a_layer_called_twice_stays_in_float() -> None:
    twice = L.Dense(8, name="twice")
    inputs = keras.Input((8,))
    _, said = quantized.aware(keras.Model(inputs, L.Dense(2)(twice(twice(inputs)))))
    assert "in float: twice (Dense)" in said


def test_patterns_choose_the_layers() -> None:
    model = small(L.Flatten(), L.Dense(4, name="a"), L.Dense(3, name="b"))
    assert "1 of 3 layers" in quantized.aware(model, ["b"])[1]
    assert "2 of 3 layers" in quantized.aware(model, skip=["b"])[1]


@pytest.mark.parametrize(
    "model",
    [
        small(L.GRU(3), shape=(5, 2)),
        small(keras.Sequential([keras.Input((4,)), L.Dense(3)]), shape=(4,)),
        small(L.Flatten(), L.ReLU()),
    ],
    ids=["recurrent", "nested", "without weights"],
)
def test_a_model_with_nothing_to_round_is_refused_with_the_way_out(model: keras.Model) -> None:
    with pytest.raises(Refused, match="no 8-bit scheme for any .*\nquantise after training: tfapp export"):
        quantized.aware(model)


def test_a_model_of_its_own_class_is_refused() -> None:
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(Refused, match="Own is a model of its own kind"):
        quantized.aware(Own())


def pressed() -> keras.Model:
    model = small(L.Dense(30, name="sparse"), L.Dense(20, name="shared"), L.Dense(3, name="plain"), shape=(10,))
    sparse, shared, _ = (kernel.weight for kernel in kernels.of(model))
    sparse.assign(sparse * (np.random.default_rng(0).random(sparse.shape) > 0.5))
    shared.assign(np.round(shared.numpy() * 4) / 4)
    return model


def test_zeros_and_shared_values_are_found_and_kept() -> None:
    made, _ = quantized.aware(pressed())
    laws, said = quantized.preserved(made, "auto")
    assert len(laws) == 2 and said[0].startswith("quantize: ") and "clustered kernels stay so" in said[0]
    assert quantized.preserved(made, "none") == ([], [])
    assert len(quantized.preserved(made, "sparsity")[0]) >= 1


def test_preserving_what_is_not_there_is_refused() -> None:
    made, _ = quantized.aware(small(L.Flatten(), L.Dense(3)))
    for preserve, what in (("sparsity", "pruned"), ("clusters", "clustered"), ("both", "pruned")):
        with pytest.raises(Refused, match=f"no kernel is {what} yet\nstart from .* start.run=RUN"):
            quantized.preserved(made, preserve)


def test_ranges_are_right_after_the_first_step_and_the_quantizers_plain_again_after_training() -> None:
    model, _ = quantized.aware(small(L.Flatten(), L.Dense(3, activation="relu"), shape=(4,)))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    quantized.follow(model, replicas=1)
    x = np.array([[0.0, 1, 2, 0.25]] * 4, np.float32)
    model.fit(x, np.zeros((4, 3)), verbose=0)
    ranges = {w.name.split("/")[-1]: float(w) for w in model.layers[1].weights if "max" in w.name or "min" in w.name}
    assert max(ranges.values()) == 2.0 and min(ranges.values()) == 0.0
    quantized.forget_ranges(model)
    assert not any(isinstance(getattr(layer, "quantizer", None), quantized.Ranges) for layer in model.layers)
    assert model(x).shape == (4, 3)


def test_inputs_that_are_joined_round_behind_the_joint() -> None:
    numbers, words = keras.Input((5,), name="numbers"), keras.Input((1,), dtype="int64", name="words")
    x = L.Concatenate()([numbers, L.Flatten()(L.Embedding(4, 3)(words))])
    model, _ = quantized.aware(keras.Model({"numbers": numbers, "words": words}, L.Dense(2)(x)))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    quantized.follow(model, replicas=1)
    model.fit({"numbers": np.ones((4, 5)), "words": np.ones((4, 1))}, np.zeros((4, 2)), verbose=0)
    quantized.forget_ranges(model)


def test_many_layers_in_float_are_told_by_kind() -> None:
    x = inputs = keras.Input((4,))
    for _ in range(3):
        x = L.LayerNormalization()(L.Dense(4)(x))
    assert quantized.aware(keras.Model(inputs, x))[1].endswith("; in float: 3 LayerNormalization")
