"""A finished run as a TFLite file: on its own data, within the tolerance or not at all, with a row in its report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp import export, lite, predict, shipped, worth
from tfapp.errors import Failed, Refused, Usage
from tfapp.evaluate import latency
from tfapp.lite import exporting, flatbuffer
from tfapp.lite.asked import Asked
from tfapp.run import Run

pytestmark = pytest.mark.moderate

# Which half of 400 points are on; the second column is ten thousand times the first and says nothing.
RECIPE = '''
"""Points.

Run: tfapp train points
"""

import numpy as np
from pydantic import Field

from tfapp.data import arrays
from tfapp.recipe import Settings, Split, Training


class Config(Settings):
    n: int = Field(400, description="points")
    split: Split = Split(validation=0.25, test=0.25)


def data(config):
    random = np.random.default_rng(0)
    features = (random.normal(size=(config.n, 2)) * [1, 1e4]).astype("float32")
    return arrays.split(features, (features[:, 0] > 0).astype("int64"), config.split, classes="ab")


def model(config, inputs, data):
    raise AssertionError("nobody trains it")


def training(config, data):
    raise AssertionError("nobody trains it")
'''


@pytest.fixture(scope="module")
def points(tmp_path_factory) -> Run:
    """A run whose model int8 breaks: one scale for both columns leaves nothing of the first."""
    folder = tmp_path_factory.mktemp("points")
    (folder / "points.py").write_text(RECIPE)
    run = Run(folder / "run")
    run.folder.mkdir()
    run.file("plan.yaml").write_text(f"recipe: {folder / 'points.py'}\n")
    inputs = keras.Input((2,), name="inputs")
    first, second = keras.layers.Dense(4, activation="relu", name="first"), keras.layers.Dense(2, name="second")
    model = keras.Model(inputs, keras.layers.Softmax()(second(first(inputs))))
    first.set_weights([np.array([[-1, 1, -1, 1], [0, 0, 0, 0]]), np.zeros(4)])
    second.set_weights([np.array([[9, -9], [-9, 9], [9, -9], [-9, 9]]), np.zeros(2)])
    export.save(model, run.folder)
    run.describe(worth.data_of(run))
    run.write("report.json", {"recipe": "points", "task": "classification"})
    return run


@pytest.fixture
def said() -> list[str]:
    return []


def test_the_layer_that_int8_hurts_stays_in_float_and_is_named(points: Run, said: list[str], tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    written = exporting.write(points, path, Asked("int8"), said.append)
    assert "points of accuracy on 100 validation examples: looking for the layers that cost it" in said[0]
    assert written["lost"] <= 0.5 and any("first" in name for name in written["kept_in_float"])
    assert not any("second" in name for name in written["kept_in_float"])
    assert written["layer_errors"][0]["error"] >= written["layer_errors"][-1]["error"]
    kinds = {weight.name: weight.values.dtype for weight in flatbuffer.weights(path.read_bytes()) if weight.kernel}
    assert sorted(map(str, kinds.values())) == ["float32", "int8"]
    assert flatbuffer.facts(path.read_bytes())["kept_in_float"] == written["kept_in_float"]


def test_what_cannot_come_within_the_tolerance_is_not_written(points: Run, said: list[str], tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    with pytest.raises(Failed, match="int16x8 loses .* and at most 0.5 is allowed\ntake int8"):
        exporting.write(points, path, Asked("int16x8"), said.append)
    assert not path.exists()
    assert exporting.write(points, path, Asked("int8", tolerance=100), said.append)["lost"] > 0.5


def test_too_few_examples_are_refused_before_anything_is_read() -> None:
    with pytest.raises(Usage, match="--representative 31 is too few .*: at least 32\nleave it out for 256"):
        Asked("int8", representative=31)
    assert [Asked(scheme).file for scheme in ("none", "int8")] == ["model.tflite", "model.int8.tflite"]
    assert Asked("int8", io="int8").file == "model.int8.int8io.tflite"


def test_a_file_says_all_that_predict_needs_and_is_measured_for_the_report(points: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    exporting.write(points, path, Asked(), print)
    new = tmp_path / "new.npy"
    np.save(new, np.array([[0.3, 5e4], [-0.2, -40], [2, 0]], np.float32))
    by_run, by_file = predict.files(points, [str(new)])[0], predict.files_by_lite(path, [str(new)])[0]
    assert [row["label"] for row in by_file] == [row["label"] for row in by_run] == ["b", "a", "b"]
    for a, b in zip(by_run, by_file, strict=True):
        assert a["p(a)"] == pytest.approx(b["p(a)"], abs=1e-5)

    for _ in range(2):
        row = exporting.measured(points, path, "model.tflite", seconds=0.1)
    assert points.read("report.json")["artefacts"] == [json.loads(json.dumps(row))]
    assert "What ships" in points.file("report.html").read_text()
    assert row["part"] == "test" and row["n"] == 100 and row["format"] == "tflite" and row["scheme"] == "none"
    assert row["score"]["name"] == "accuracy" and row["score"]["value"] == 1
    assert row["change"]["value"] == 0 and row["agreement"]["share"] == 1
    assert {"bytes": row["bytes"], "gzip_bytes": row["gzip_bytes"]} == latency.size(path)
    # The second row of the first kernel is 0; its biases, all 0, do not ship.
    assert row["parameters"] == 16 and row["sparsity"] == 4 / 16
    assert sorted(layer["unique"] for layer in row["layers"]) == [2, 3]
    assert 0 < row["latency"]["1"]["p50_ms"] <= row["latency"]["1"]["p95_ms"] and row["latency"]["4"]["calls"] >= 5
    assert 0 < row["memory"]["model_bytes"] < row["memory"]["peak_bytes"] < 500e6


@pytest.mark.e2e
def test_predicting_from_a_file_needs_no_tensorflow(points: Run, tmp_path: Path) -> None:
    exporting.write(points, tmp_path / "model.tflite", Asked(), print)
    np.save(tmp_path / "new.npy", np.zeros((3, 2), np.float32))
    code = (
        "import sys; from tfapp.cli.main import main; code = main(sys.argv[1:]); assert not code; print(*sys.modules)"
    )
    words = ["predict", str(tmp_path / "model.tflite"), str(tmp_path / "new.npy")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    *rows, modules = done.stdout.splitlines()
    assert len(rows) == 4 and not {"tensorflow", "tf_keras"} & set(modules.split())
    assert done.stderr == ""


@pytest.mark.slow
def test_a_savedmodel_is_measured_by_the_same_function(points: Run) -> None:
    data, facts = worth.data_of(points), points.read("data.json")
    parent = shipped.answers(export.load(points.folder), data.test, facts)
    row = shipped.measure(points.file("model"), data.test, parent, facts, seconds=0.2)
    assert row["format"] == "savedmodel" and row["name"] == "model"
    assert row["parameters"] == 4 * 2 + 4 + 4 * 2 + 2 and row["sparsity"] == 4 / 16
    assert row["score"]["value"] == 1 and set(row["latency"]) == {"1", "4"}
    json.dumps(row)
    with pytest.raises(ValueError, match="the parent's answers are"):
        shipped.measure(points.file("model"), data.test, parent[:3], facts, seconds=0.2)


def test_lite_load_is_all_that_a_stage_needs(points: Run, tmp_path: Path) -> None:
    content = lite.convert(points.file("model"))
    (tmp_path / "bare.tflite").write_bytes(content)
    features = worth.data_of(points).test.features
    call = lite.load(tmp_path / "bare.tflite")
    np.testing.assert_allclose(call(features), export.load(points.folder)(features), atol=1e-5)
    with pytest.raises(Failed, match="does not say what it takes and gives"):
        predict.opened(tmp_path / "bare.tflite")


def test_a_run_that_was_trained_for_int8_becomes_int8_and_nothing_else(tmp_path: Path) -> None:
    inputs = keras.Input((2,), name="inputs")
    rounded = tf.quantization.fake_quant_with_min_max_vars(inputs, -1.0, 1.0)
    export.save(keras.Model(inputs, keras.layers.Dense(2)(rounded)), tmp_path)
    run = Run(tmp_path)
    assert exporting.settled(run, Asked()) == exporting.settled(run, Asked("int8")) == Asked("int8")
    with pytest.raises(Refused, match="trained quantisation-aware, for int8, and --quantize dynamic would round it"):
        exporting.settled(run, Asked("dynamic"))
    assert exporting.write(run, tmp_path / "model.tflite", Asked(), print)["max_difference"] < 0.02
