"""A file is rewritten with facts inside and nothing twice, and says what weights it ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tf_keras as keras

from tfapp import export
from tfapp.errors import Failed, Missing
from tfapp.lite import converter, flatbuffer, interpreter

pytestmark = pytest.mark.moderate

ROWS = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A network with half of its first kernel at 0 and three values in the second, in float and in int8."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16,), name="inputs")
    first, second = keras.layers.Dense(64, activation="relu", name="first"), keras.layers.Dense(8, name="second")
    model = keras.Model(inputs, second(first(inputs)))
    kernel, bias = first.get_weights()
    kernel[:8] = 0
    first.set_weights([kernel, bias + 0.1])
    second.set_weights([np.random.default_rng(0).choice([-0.5, 0.25, 0.5], (64, 8)), np.ones(8)])
    folder = tmp_path_factory.mktemp("model")
    export.saved_model(model, folder)
    rows = lambda: ({"inputs": row[None]} for row in ROWS)  # noqa: E731
    return {"none": converter.convert(folder), "int8": converter.convert(folder, "int8", rows)}


@pytest.mark.parametrize("scheme", ["none", "int8"])
def test_packing_keeps_every_answer_and_every_weight(files, scheme: str) -> None:
    content, facts = files[scheme], {"classes": ["ä", "b"], "nested": {"n": 1}}
    packed = flatbuffer.packed(content, facts)
    assert flatbuffer.facts(packed) == facts and flatbuffer.facts(content) == {}
    np.testing.assert_array_equal(interpreter.of_content(packed)(ROWS), interpreter.of_content(content)(ROWS))
    for a, b in zip(flatbuffer.weights(content), flatbuffer.weights(packed), strict=True):
        np.testing.assert_array_equal(a.values, b.values)
    again = flatbuffer.packed(packed, {"n": 2})
    assert flatbuffer.facts(again) == {"n": 2} and len(again) <= len(packed)


def test_a_vector_that_is_there_twice_is_written_once(files) -> None:
    without, twice = (flatbuffer.packed(files["none"], {"facts": "x" * n}) for n in (0, 5000))
    assert len(twice) - len(without) <= 5016
    builder = flatbuffer._Once(100)
    first = builder.CreateNumpyVector(np.arange(1000, dtype=np.int64))
    assert builder.CreateNumpyVector(np.arange(1000, dtype=np.int64)) == first
    assert builder.CreateNumpyVector(np.arange(1000, dtype=np.int32)) != first


@pytest.mark.parametrize("scheme", ["none", "int8"])
def test_zeros_and_shared_values_are_counted_in_what_ships(files, scheme: str) -> None:
    kernels = {weight.values.shape: weight for weight in flatbuffer.weights(files[scheme]) if weight.kernel}
    assert set(kernels) == {(64, 16), (8, 64)}
    first, second = kernels[64, 16], kernels[8, 64]
    assert (first.values == first.zero).mean() >= 0.5 and (second.values == second.zero).mean() == 0
    assert len(np.unique(second.values)) == 3
    assert "first" in first.name and "second" in second.name
    assert sum(weight.values.size for weight in flatbuffer.weights(files[scheme])) == 64 * 16 + 64 + 64 * 8 + 8


def test_names_lose_what_all_have_in_common() -> None:
    fused = "tfapp_model/model/re_lu/Relu;tfapp_model/model/batch_norm/FusedBatchNormV3;tfapp_model/model/conv/Conv2D"
    assert flatbuffer.short(fused) == "model/conv/Conv2D"
    assert flatbuffer.short(b"StatefulPartitionedCall:0") == "StatefulPartitionedCall:0"


def test_what_is_no_tflite_file_is_told_in_a_line(files, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    with pytest.raises(Missing, match="there is no file .*model.tflite\nwrite one"):
        flatbuffer.read(path)
    path.write_bytes(b"PK\3\4 no model")
    with pytest.raises(Failed, match="is no TFLite file\nwrite one: tfapp export"):
        interpreter.load(path)
    for damaged in (files["none"][:400], files["none"][:8] + bytes(200)):
        path.write_bytes(damaged)
        with pytest.raises(Failed, match="damaged|cannot be run") as caught:
            interpreter.load(path)
        assert str(caught.value).count("\n") == 1
