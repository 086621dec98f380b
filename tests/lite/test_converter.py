"""From a SavedModel to a TFLite file, in every scheme, and what is refused before and after the converter ran."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp import export
from tfapp.errors import Refused, Usage
from tfapp.lite import converter, flatbuffer, interpreter

pytestmark = pytest.mark.moderate

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((64, 8, 8, 1), np.float32)


def representative(count: int = 64):
    def examples() -> Iterator[dict[str, np.ndarray]]:
        for image in IMAGES[:count]:
            yield {"inputs": image[None]}

    return examples


@pytest.fixture(scope="module")
def convolution(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """A small network's SavedModel, and what it gives for IMAGES."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1), name="inputs")
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(16, 3)(inputs))
    x = keras.layers.Flatten()(keras.layers.ReLU()(x))
    model = keras.Model(inputs, keras.layers.Softmax()(keras.layers.Dense(10)(x)))
    folder = tmp_path_factory.mktemp("convolution")
    export.saved_model(model, folder)
    return folder, model(IMAGES).numpy()


@pytest.mark.parametrize(
    ("scheme", "apart", "kinds"),
    [
        ("none", 1e-5, {"float32"}),
        ("dynamic", 0.02, {"float32", "int8"}),
        ("float16", 0.002, {"float16"}),
        ("int8", 0.03, {"int32", "int8"}),
        ("int16x8", 0.03, {"int64", "int8"}),
    ],
)
def test_each_scheme_is_as_near_to_the_model_as_its_numbers_allow(convolution, scheme, apart, kinds) -> None:
    folder, expected = convolution
    needed = representative() if scheme in converter.CALIBRATED else None
    content = converter.convert(folder, scheme, needed)
    call = interpreter.of_content(content)
    assert np.abs(call(IMAGES) - expected).max() < apart
    assert {str(weight.values.dtype) for weight in flatbuffer.weights(content)} == kinds
    assert [detail["dtype"] for _, detail in call.takes.values()] == [np.float32]


def test_an_int8_file_may_take_and_give_whole_numbers_alone(convolution) -> None:
    folder, expected = convolution
    call = interpreter.of_content(converter.convert(folder, "int8", representative(), io="int8"))
    assert [detail["dtype"] for _, detail in call.takes.values()] == [np.int8]
    assert np.abs(call(IMAGES) - expected).max() < 0.04
    with pytest.raises(Usage, match="int8 inputs and outputs belong to an int8 model, not to dynamic"):
        converter.convert(folder, "dynamic", io="int8")


def test_layers_can_be_measured_and_kept_in_float_after_one_look_at_the_data(convolution) -> None:
    folder, expected = convolution
    calibrated = converter.Calibrated(folder, representative())
    errors = calibrated.errors()
    assert [one.error for one in errors] == sorted([one.error for one in errors], reverse=True)
    assert {one.operation for one in errors} >= {"CONV_2D", "FULLY_CONNECTED"}
    dense = next(one for one in errors if one.operation == "FULLY_CONNECTED")
    kept = calibrated.keeping([dense.tensor])
    kernels = {weight.values.shape: weight.values.dtype for weight in flatbuffer.weights(kept) if weight.kernel}
    assert kernels == {(16, 3, 3, 1): np.int8, (10, 576): np.float32}
    assert calibrated.keeping(()) == calibrated.content
    mean = [np.abs(interpreter.of_content(each)(IMAGES) - expected).mean() for each in (kept, calibrated.content)]
    assert mean[0] < mean[1]


def test_columns_of_unlike_size_are_scaled_in_float_before_int8_begins(tmp_path: Path) -> None:
    inputs = keras.Input((2,), name="inputs")
    scaled = tf.clip_by_value(keras.layers.Rescaling([1.0, 1e-4])(inputs), 0.0, 0.9)
    model = keras.Model(inputs, keras.layers.Dense(4, activation="relu")(scaled))
    export.saved_model(model, tmp_path)
    rows = (RANDOM.random((64, 2)) * [1, 1e4]).astype(np.float32)
    content = converter.convert(tmp_path, "int8", lambda: ({"inputs": row[None]} for row in rows))
    assert np.abs(interpreter.of_content(content)(rows) - model(rows)).max() < 0.05


def test_a_range_is_not_guessed_from_nothing_or_from_a_handful(convolution) -> None:
    folder, _ = convolution
    with pytest.raises(Usage, match="int8 needs representative examples"):
        converter.convert(folder, "int8")
    with pytest.raises(Usage, match="5 representative examples are too few .*: at least 32"):
        converter.convert(folder, "int8", representative(5))


def test_an_operation_that_tflite_lacks_is_named_in_a_line(tmp_path: Path) -> None:
    inputs = keras.Input((4,), name="inputs")
    export.saved_model(keras.Model(inputs, tf.linalg.svd(tf.reshape(inputs, (-1, 2, 2)))[0]), tmp_path)
    with pytest.raises(Refused, match="TFLite has no Svd\nexport it with --format savedmodel or keras"):
        converter.convert(tmp_path)


@pytest.mark.slow
def test_a_model_that_was_trained_quantisation_aware_needs_no_examples(tmp_path: Path) -> None:
    tfmot = pytest.importorskip("tensorflow_model_optimization")
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(inputs)))
    plain = keras.Model(inputs, keras.layers.Softmax()(keras.layers.Dense(3)(keras.layers.Flatten()(x))))
    aware = tfmot.quantization.keras.quantize_model(plain)
    aware.compile("adam", "sparse_categorical_crossentropy")
    aware.fit(IMAGES, np.zeros(len(IMAGES)), verbose=0)
    raw = keras.Input((8, 8, 1), name="inputs")
    whole = keras.Model(raw, aware(raw, training=False))
    export.saved_model(whole, tmp_path)
    assert converter.trained_quantised(tmp_path)
    for io in ("float32", "int8"):
        content = converter.convert(tmp_path, "int8", io=io)
        assert {str(weight.values.dtype) for weight in flatbuffer.weights(content)} == {"int8", "int32"}
        assert np.abs(interpreter.of_content(content)(IMAGES) - whole(IMAGES)).max() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_recurrent_layers_take_one_example_and_forget_it(kind: str, tmp_path: Path) -> None:
    layer = keras.layers.LSTM(8) if kind == "lstm" else keras.layers.Bidirectional(keras.layers.GRU(8))
    inputs = keras.Input((10, 4), name="inputs")
    model = keras.Model(inputs, keras.layers.Dense(3)(layer(inputs)))
    export.saved_model(model, tmp_path / "any")
    assert converter.recurrent(tmp_path / "any")
    export.saved_model(model, tmp_path / "one", batch=1)
    series = RANDOM.normal(size=(40, 10, 4)).astype(np.float32)
    for scheme, apart in (("none", 1e-5), ("dynamic", 0.05)):
        call = interpreter.of_content(converter.convert(tmp_path / "one", scheme))
        np.testing.assert_allclose(call(series), model(series), atol=apart)

    def quantised() -> bytes:
        return converter.convert(tmp_path / "one", "int8", lambda: ({"inputs": one[None]} for one in series))

    if kind == "lstm":
        np.testing.assert_allclose(interpreter.of_content(quantised())(series), model(series), atol=0.05)
    else:
        with pytest.raises(Refused, match="TFLite does not look into the loops of this model's recurrent layers"):
            quantised()
        with pytest.raises(Refused, match="recurrent layers that take batches of any size"):
            converter.convert(tmp_path / "any")
