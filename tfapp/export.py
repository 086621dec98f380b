"""What ships: one model from raw features to probabilities or values, as SavedModel and .keras (TFLite: `lite`)."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfapp import tasks
from tfapp.errors import Failed, Refused, Usage
from tfapp.outputs import predict, raw_batches  # noqa: F401, what one does with a loaded export
from tfapp.preprocess import Preprocess
from tfapp.run import Run, make_folder, writing, writing_folder
from tfapp.signature import argument, feature


def whole(preprocess: Preprocess, model: keras.Model, task: str) -> keras.Model:
    """Preprocessing, model and what the task adds (float32 softmax) as one model: raw features in, answers out.

    Answers are float32: probabilities [n, classes], values [n, 1], or probabilities of the next token [n, length, tokens].
    """
    raw = preprocess.raw_inputs()
    outputs = model(preprocess(raw), training=False)
    return keras.Model(raw, tasks.of(task).finish(outputs), name="tfapp_model")


def save(model: keras.Model, folder: Path) -> None:
    """Write `model/` (SavedModel with the signature serving_default) and `model.keras` into a run's folder.

    A model that TF-MOT made round has no `model.keras`: Keras would write it, and could not load it. What `parts` makes
    of it stands in `parts/` instead, as two SavedModels.
    """
    with writing_folder(folder / "model") as aside:
        saved_model(model, aside)
    if any(hasattr(layer, "quantize_config") for layer in model._flatten_layers()):
        if apart := parts(model):
            with writing_folder(folder / "parts") as aside:
                for name, part in zip(("before", "rest"), apart, strict=True):
                    saved_model(part, aside / name)
        return
    with writing(folder / "model.keras") as file:
        # Keras looks at the name's ending to choose the format, so it gets a name of its own.
        aside = folder / ".model.part.keras"
        try:
            model.save(aside)
            file.write(aside.read_bytes())
        finally:
            aside.unlink(missing_ok=True)


def saved_model(model: keras.Model, path: Path, batch: int | None = None) -> None:
    """Write a SavedModel whose serving_default takes the raw features by name and gives `outputs`.

    A model that gives several tensors by name (a preprocessing does) gives them by these names instead. `batch` fixes
    how many examples it takes, which TFLite wants of recurrent layers; None: any number.
    """
    module = tf.Module()
    module.model = model
    specs = {
        name: tf.TensorSpec([batch, *t.shape[1:]], t.dtype, name=argument(name))
        for name, t in _named_inputs(model).items()
    }

    @tf.function(input_signature=[specs])
    def serve(features: dict[str, Any]) -> dict[str, Any]:
        given = model(features if isinstance(model.input, dict) else features["inputs"], training=False)
        return given if isinstance(given, dict) else {"outputs": given}

    # The function and not a trace of it: TensorFlow must trace it anew to save variables of several replicas.
    module.serve = serve
    tf.saved_model.save(module, str(path), signatures={"serving_default": serve})


def export(run: Run, kind: str, path: Path) -> dict[str, Any]:
    """Write a finished run's model as `kind` (savedmodel, keras) to `path`, load it back and check it.

    Returns:
      Its path, bytes, and the largest difference of its outputs from the run's own on random inputs.

    Raises:
      Usage: there is something already.
    """
    if path.exists():
        raise Usage(f"{path} exists already, and is left as it is\nwrite elsewhere with --output")
    make_folder(path.parent)
    # Loaded before anything is written: a damaged model is not passed on.
    own = load(run.folder)
    drawn = sample(own.inputs, 16)
    expected = own(drawn)
    if kind == "keras":
        if run.rounds:
            raise Refused(
                f"{run.folder} was trained with quantize, and such a model has no .keras form\n"
                "export it with --format tflite or savedmodel"
            )
        model = load_keras(run.file("model.keras"))
        with writing(path) as file:
            file.write(run.file("model.keras").read_bytes())

        def written(features: Any) -> np.ndarray:
            return model(features, training=False).numpy()

    else:
        with writing_folder(path) as aside:
            shutil.copytree(run.file("model"), aside)
        written = load_saved(path)
    difference = float(np.max(np.abs(written(drawn) - expected)))
    return {"path": str(path), "bytes": _bytes(path), "checked": 16, "max_difference": difference}


def load_keras(path: Path) -> keras.Model:
    """The saved .keras model, in safe mode: nothing that the file says is executed.

    Raises:
      Refused: it needs code that the file brings or names (Lambda layers, layers of one's own). Failed: it is damaged.
    """
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError) as error:
        if not zipfile.is_zipfile(path):
            raise _unreadable(path, error) from error
        raise Refused(
            f"{path} is not loaded, since it needs code of its own: {str(error).strip().splitlines()[0][:200]}\n"
            "export it with --format savedmodel, or train with plain operations and Keras's own layers in the recipe"
        ) from error
    except Exception as error:  # noqa: BLE001, as a damaged file can make its reader raise anything
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> Failed:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return Failed(
        f"{path} cannot be loaded: {reason[:300]}\n"
        "if it belongs to a run, remove it: the command that trained the run writes it anew"
    )


def load(folder: Path) -> Any:
    """The run's SavedModel as a function: a batch of raw features (array, or dict of arrays) -> float32 outputs.

    Raises:
      Failed: it cannot be read.
    """
    return load_saved(folder / "model")


def load_saved(path: Path) -> Any:
    """A SavedModel of ours as a function, as `load` gives it; of preprocessing that gives several inputs, a dict.

    Its attributes: `inputs` (a tf.TensorSpec, or one a name) and `variables`.
    """
    graph = served(path)

    def call(features: Any) -> Any:
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), graph(features))

    call.inputs, call.variables = graph.inputs, graph.variables  # type: ignore[attr-defined]
    return call


def served(path: Path) -> Any:
    """A SavedModel as a function on tensors; its `inputs` and `outputs` are a tf.TensorSpec each, or one a name.

    Raises:
      Failed: it cannot be read. Refused: it has not the signature that ours have.
    """
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # noqa: BLE001, as a damaged file can make its reader raise anything
        raise _unreadable(path, error) from error
    if "serving_default" not in loaded.signatures:
        raise Refused(
            f"{path} has no signature serving_default, as the SavedModels of runs have\n"
            "take one that tfapp wrote: a run's model/, or tfapp export RUN --format savedmodel"
        )
    serve = loaded.signatures["serving_default"]

    def call(features: Any) -> Any:
        named = features if isinstance(features, dict) else {"inputs": features}
        return _single(
            serve(**{argument(name): tf.convert_to_tensor(value) for name, value in named.items()}), "outputs"
        )

    # The signature's function dies with the object that it came from.
    call.model = loaded  # type: ignore[attr-defined]
    inputs = {feature(name): spec for name, spec in serve.structured_input_signature[1].items()}
    call.inputs = _single(inputs, "inputs")  # type: ignore[attr-defined]
    call.outputs = _single(serve.structured_outputs, "outputs")  # type: ignore[attr-defined]
    call.variables = serve.variables  # type: ignore[attr-defined]
    return call


def _single(named: dict[str, Any], name: str) -> Any:
    return named[name] if list(named) == [name] else named


def variables(path: Path) -> Any:
    """The reader of a SavedModel's variables, as `tf.train.load_checkpoint` gives it.

    Raises:
      Failed: it cannot be read.
    """
    try:
        return tf.train.load_checkpoint(str(path / "variables" / "variables"))
    except Exception as error:  # noqa: BLE001, as a damaged file can make its reader raise anything
        raise _unreadable(path, error) from error


def parts(model: keras.Model) -> tuple[keras.Model, keras.Model] | None:
    """A whole model (of `whole`) as its preprocessing and the rest of it; None where it has no preprocessing.

    For forms that cannot hold the first (TFLite has no operations on strings). The rest takes what the first gives, by
    the same names, or `inputs` where that is one tensor. Weights are shared, not copied.
    """
    inside = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    if len(inside) < 2:
        return None
    inner, trained = inside
    raw = _fresh(model.input)
    before = keras.Model(raw, inner(raw, training=False), name="tfapp_preprocess")
    inputs = _fresh(before.output)
    outputs = trained(inputs, training=False)
    for layer in model.layers[model.layers.index(trained) + 1 :]:
        outputs = layer(outputs)
    return before, keras.Model(inputs, outputs, name="tfapp_model")


def _fresh(tensors: Any) -> Any:
    """New inputs like these symbolic tensors: by the same names, or one called inputs."""
    if isinstance(tensors, dict):
        return {name: keras.Input(t.shape[1:], dtype=t.dtype, name=name) for name, t in tensors.items()}
    return keras.Input(tensors.shape[1:], dtype=tensors.dtype, name="inputs")


def sample(inputs: Any, n: int) -> Any:
    """Random raw features of the inputs (a tf.TensorSpec, or one a name), to compare two forms of a model."""
    random = np.random.default_rng(0)

    def draw(tensor: Any) -> np.ndarray:
        shape = (n, *(size or 1 for size in tensor.shape[1:]))
        if tensor.dtype == tf.string:
            return np.full(shape, b"some words", object)
        if tensor.dtype.is_integer:
            return random.integers(0, 2, shape).astype(tensor.dtype.as_numpy_dtype)
        return random.random(shape).astype(tensor.dtype.as_numpy_dtype)

    return tf.nest.map_structure(draw, inputs)


def _bytes(path: Path) -> int:
    return (
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size
    )


def _named_inputs(model: keras.Model) -> dict[str, Any]:
    return model.input if isinstance(model.input, dict) else {"inputs": model.input}
