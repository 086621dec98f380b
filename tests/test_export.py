"""What ships gives the same outputs in every form, whatever the model takes and gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp import export, lite
from tfapp.data.examples import Examples
from tfapp.errors import Failed, Missing, Refused, Usage
from tfapp.lite import exporting
from tfapp.lite.asked import Asked
from tfapp.preprocess import Preprocess
from tfapp.run import Run

pytestmark = pytest.mark.moderate

N = 12
RANDOM = np.random.default_rng(0)


def single() -> tuple[keras.Model, Any]:
    raw = tf.TensorSpec([None, 6, 6, 1])
    before = Preprocess(raw, keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Rescaling(0.5)]))
    inputs = before.inputs()
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(3, 3)(inputs))
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    return export.whole(before, keras.Model(inputs, keras.layers.Dense(3)(x)), "classification"), RANDOM.random(
        (N, 6, 6, 1), np.float32
    )


def named() -> tuple[keras.Model, Any]:
    """Numbers, whole numbers and a column by a keyword's name, joined by the preprocessing."""
    features = {
        "age": RANDOM.random((N, 1), np.float32),
        "class": RANDOM.integers(0, 5, (N, 1)),
        "pixels": RANDOM.random((N, 4, 2), np.float32),
    }
    raw = {name: tf.TensorSpec([None, *v.shape[1:]], v.dtype) for name, v in features.items()}
    columns = {name: keras.Input(s.shape[1:], dtype=s.dtype, name=name) for name, s in raw.items()}
    parts = [
        keras.layers.Flatten()(columns["pixels"]),
        columns["age"],
        keras.layers.Flatten()(keras.layers.Embedding(5, 2)(columns["class"])),
    ]
    before = Preprocess(raw, keras.Model(columns, keras.layers.Concatenate()(parts)))
    inputs = before.inputs()
    return export.whole(before, keras.Model(inputs, keras.layers.Dense(2)(inputs)), "classification"), features


def structured() -> tuple[keras.Model, Any]:
    """Two inputs all the way to the model, and no preprocessing."""
    features = {"a": RANDOM.random((N, 3), np.float32), "b": RANDOM.random((N, 2), np.float32)}
    before = Preprocess({name: tf.TensorSpec([None, v.shape[1]]) for name, v in features.items()}, None)
    inputs = before.inputs()
    x = keras.layers.Concatenate()([keras.layers.Dense(2)(inputs["a"]), inputs["b"]])
    return export.whole(before, keras.Model(inputs, keras.layers.Dense(2)(x)), "classification"), features


def words() -> tuple[keras.Model, Any]:
    texts = np.array(["a good day", "no", "never seen", "day and night"] * (N // 4), object)
    vectors = keras.layers.TextVectorization(output_sequence_length=4)
    vectors.adapt(texts[texts != "never seen"])
    text = keras.Input((), dtype=tf.string)
    before = Preprocess(tf.TensorSpec([None], tf.string), keras.Model(text, vectors(text)))
    inputs = before.inputs()
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(20, 3, mask_zero=True)(inputs))
    return export.whole(before, keras.Model(inputs, keras.layers.Dense(2)(x)), "classification"), texts


def regression() -> tuple[keras.Model, Any]:
    before = Preprocess(tf.TensorSpec([None, 5]), None)
    inputs = before.inputs()
    return export.whole(before, keras.Model(inputs, keras.layers.Dense(1)(inputs)), "regression"), RANDOM.normal(
        size=(N, 5)
    ).astype(np.float32)


MODELS = {"single": single, "named": named, "structured": structured, "words": words, "regression": regression}


@pytest.fixture(scope="module", params=MODELS)
def saved(request, tmp_path_factory) -> tuple[str, Run, Any, np.ndarray]:
    """A run's folder with a saved model, raw features for it, and the outputs it gave before it was saved."""
    model, features = MODELS[request.param]()
    folder = tmp_path_factory.mktemp(request.param)
    export.save(model, folder)
    before = model(tf.nest.map_structure(tf.constant, features), training=False).numpy()
    return request.param, Run(folder), features, before


def test_the_saved_model_gives_what_the_model_gave(saved) -> None:
    name, run, features, before = saved
    after = export.load(run.folder)(features)
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert after.dtype == np.float32
    if name != "regression":
        np.testing.assert_allclose(after.sum(1), 1, atol=1e-5)
    assert {path.name for path in run.folder.iterdir()} == {"model", "model.keras"}


def test_predicting_in_portions_is_predicting_at_once(saved) -> None:
    _, run, features, before = saved
    outputs = export.predict(export.load(run.folder), Examples(features, np.zeros(N, np.int64)), batch_size=5)
    np.testing.assert_allclose(outputs, before, atol=1e-5)


@pytest.mark.parametrize("kind", ["savedmodel", "keras"])
def test_every_form_gives_the_run_s_outputs_and_replaces_nothing(saved, kind: str, tmp_path: Path) -> None:
    _, run, features, before = saved
    path = tmp_path / "deep" / f"model.{kind}"
    written = export.export(run, kind, path)
    assert written["max_difference"] < 1e-5 and written["bytes"] > 100 and written["checked"] == 16
    if kind == "keras":
        after = export.load_keras(path)(tf.nest.map_structure(tf.constant, features), training=False).numpy()
    else:
        after = export.load_saved(path)(features)
    np.testing.assert_allclose(after, before, atol=1e-5)
    with pytest.raises(Usage, match="exists already, and is left as it is"):
        export.export(run, kind, path)


def test_a_tflite_file_gives_the_run_s_outputs_with_its_strings_looked_up_beside_it(saved, tmp_path: Path) -> None:
    name, run, features, before = saved
    path = tmp_path / "deep" / "model.tflite"
    written = exporting.write(run, path, Asked(), lambda line: None)
    assert written["max_difference"] < 1e-5 and written["bytes"] == path.stat().st_size
    np.testing.assert_allclose(lite.load(path)(features), before, atol=1e-5)
    beside = path.with_suffix(".preprocess")
    assert beside.exists() == (name == "words") and written.get("preprocess") == (
        str(beside) if name == "words" else None
    )
    with pytest.raises(Usage, match="exists already, and is left as it is"):
        exporting.write(run, path, Asked(), lambda line: None)
    if beside.exists():
        beside.rename(tmp_path / "elsewhere")
        with pytest.raises(Missing, match="takes what .*model.preprocess makes of the raw features, and that is not"):
            lite.load(path)


def test_the_serving_signature_has_the_features_names(saved) -> None:
    name, run, features, _ = saved
    loaded = tf.saved_model.load(str(run.file("model")))
    taken = set(loaded.signatures["serving_default"].structured_input_signature[1])
    expected = {"class_" if key == "class" else key for key in features} if isinstance(features, dict) else {"inputs"}
    assert taken == expected
    assert set(loaded.signatures["serving_default"].structured_outputs) == {"outputs"}


def test_examples_that_are_loaded_are_predicted_as_they_are_loaded(tmp_path: Path) -> None:
    model, features = regression()
    export.save(model, tmp_path)
    examples = Examples(np.arange(N), np.zeros(N, np.float32), load=lambda i: tf.gather(tf.constant(features), i))
    outputs = export.predict(export.load(tmp_path), examples, batch_size=5)
    np.testing.assert_allclose(outputs, model(features), atol=1e-5)


def test_saving_again_replaces_the_model_whole(tmp_path: Path) -> None:
    for _ in range(2):
        model, features = regression()
        export.save(model, tmp_path)
    np.testing.assert_allclose(export.load(tmp_path)(features), model(features), atol=1e-5)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model.keras"}


def test_code_in_a_keras_file_is_refused_and_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "run"
    inputs = keras.Input((2,))
    code = eval(f"lambda x: (open({str(marker)!r}, 'w'), x)[1]")  # A path that is not in the file would not be saved.
    model = keras.Model(inputs, keras.layers.Lambda(code)(inputs))
    marker.unlink()
    model.save(tmp_path / "model.keras")
    with pytest.raises(Refused, match="model.keras is not loaded, since it needs code of its own: .*Lambda"):
        export.load_keras(tmp_path / "model.keras")
    assert not marker.exists()


def test_a_file_that_is_no_model_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"PK\3\4 half")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"half")
    for load in (lambda: export.load_keras(tmp_path / "model.keras"), lambda: export.load(tmp_path)):
        with pytest.raises(Failed, match="cannot be loaded: ") as caught:
            load()
        assert str(caught.value).count("\n") == 1
    for load in (lambda: export.load_keras(tmp_path / "none.keras"), lambda: export.load(tmp_path / "none")):
        with pytest.raises(Failed, match="cannot be loaded: "):
            load()
