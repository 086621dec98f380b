"""What ships: one model from raw features to probabilities or values, as SavedModel, .keras and TFLite."""

from __future__ import annotations

import keyword
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfapp import tasks
from tfapp.data.examples import Examples
from tfapp.errors import Failed, Refused, Usage
from tfapp.preprocess import Preprocess, batches_of
from tfapp.run import Run, make_folder, writing, writing_folder


def whole(preprocess: Preprocess, model: keras.Model, task: str) -> keras.Model:
    """Preprocessing, model and what the task adds (float32 softmax) as one model: raw features in, answers out.

    Answers are float32: probabilities [n, classes], values [n, 1], or probabilities of the next token [n, length, tokens].
    """
    raw = preprocess.raw_inputs()
    outputs = model(preprocess(raw), training=False)
    return keras.Model(raw, tasks.of(task).finish(outputs), name="tfapp_model")


def save(model: keras.Model, folder: Path) -> None:
    """Write `model/` (SavedModel with the signature serving_default) and `model.keras` into a run's folder.

    A model that TF-MOT made round has no `model.keras`: Keras would write it, and could not load it.
    """
    with writing_folder(folder / "model") as aside:
        saved_model(model, aside)
    if any(hasattr(layer, "quantize_config") for layer in model._flatten_layers()):
        return
    with writing(folder / "model.keras") as file:
        # Keras looks at the name's ending to choose the format, so it gets a name of its own.
        aside = folder / ".model.part.keras"
        try:
            model.save(aside)
            file.write(aside.read_bytes())
        finally:
            aside.unlink(missing_ok=True)


def saved_model(model: keras.Model, path: Path) -> None:
    """Write a SavedModel whose serving_default takes the raw features by name and gives `outputs`."""
    module = tf.Module()
    module.model = model
    specs = {name: tf.TensorSpec(t.shape, t.dtype, name=_argument(name)) for name, t in _named_inputs(model).items()}

    @tf.function(input_signature=[specs])
    def serve(features: dict[str, Any]) -> dict[str, Any]:
        return {"outputs": model(features if isinstance(model.input, dict) else features["inputs"], training=False)}

    # The function and not a trace of it: TensorFlow must trace it anew to save variables of several replicas.
    module.serve = serve
    tf.saved_model.save(module, str(path), signatures={"serving_default": serve})


def tflite(folder: Path) -> bytes:
    """The run's model as a TFLite file, with the float32 weights as they are.

    Raises:
      Refused: the model has operations that TFLite lacks (strings and lookups).
    """
    model = load_keras(folder / "model.keras")
    if any(t.dtype == tf.string for t in tf.nest.flatten(model.input)):
        raise Refused(
            "this model takes strings (texts or categories), and TFLite has no operations on them\n"
            "export it with --format savedmodel or keras"
        )
    # Not from the Keras model: an input named by a keyword of Python would have no signature.
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "model"), signature_keys=["serving_default"])
    try:
        content = converter.convert()
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise Refused(
            f"the TFLite converter refuses this model: {reason}\nexport it with --format savedmodel or keras"
        ) from error
    return content


def export(run: Run, kind: str, path: Path) -> dict[str, Any]:
    """Write a finished run's model as `kind` (savedmodel, keras, tflite) to `path`, load it back and check it.

    Returns:
      Its path, bytes, and the largest difference of its outputs from the run's own on random inputs.

    Raises:
      Usage: there is something already. Refused: TFLite cannot hold this model.
    """
    if path.exists():
        raise Usage(f"{path} exists already, and is left as it is\nwrite elsewhere with --output")
    make_folder(path.parent)
    # Loaded before anything is written: a damaged model is not passed on.
    own = load(run.folder)
    sample = _sample(own.inputs, 16)
    expected = own(sample)
    if kind == "tflite":
        content = tflite(run.folder)
        written = _tflite_call(content)
        with writing(path) as file:
            file.write(content)
    elif kind == "keras":
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
    difference = float(np.max(np.abs(written(sample) - expected)))
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
    """A SavedModel of ours as a function, as `load` gives it."""
    graph = served(path)

    def call(features: Any) -> np.ndarray:
        return graph(features).numpy()

    call.inputs = graph.inputs  # type: ignore[attr-defined]
    return call


def served(path: Path) -> Any:
    """A SavedModel as a function on tensors, with `inputs` (a tf.TensorSpec, or one a feature) and `outputs` (one).

    Raises:
      Failed: it cannot be read. Refused: it has not the signature that ours have.
    """
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # noqa: BLE001, as a damaged file can make its reader raise anything
        raise _unreadable(path, error) from error
    serve = loaded.signatures["serving_default"] if "serving_default" in loaded.signatures else None
    if serve is None or "outputs" not in serve.structured_outputs:
        raise Refused(
            f"{path} has no signature serving_default that gives `outputs`, as the SavedModels of runs have\n"
            "take one that tfapp wrote: a run's model/, or tfapp export RUN --format savedmodel"
        )

    def call(features: Any) -> Any:
        named = features if isinstance(features, dict) else {"inputs": features}
        return serve(**{_argument(name): tf.convert_to_tensor(value) for name, value in named.items()})["outputs"]

    # The signature's function dies with the object that it came from.
    call.model = loaded  # type: ignore[attr-defined]
    inputs = {_feature(argument): spec for argument, spec in serve.structured_input_signature[1].items()}
    call.inputs = inputs["inputs"] if list(inputs) == ["inputs"] else inputs  # type: ignore[attr-defined]
    call.outputs = serve.structured_outputs["outputs"]  # type: ignore[attr-defined]
    return call


def variables(path: Path) -> Any:
    """The reader of a SavedModel's variables, as `tf.train.load_checkpoint` gives it.

    Raises:
      Failed: it cannot be read.
    """
    try:
        return tf.train.load_checkpoint(str(path / "variables" / "variables"))
    except Exception as error:  # noqa: BLE001, as a damaged file can make its reader raise anything
        raise _unreadable(path, error) from error


def predict(call: Any, examples: Examples, batch_size: int = 256) -> np.ndarray:
    """Outputs of the exported model for all examples, float32 [n, outputs]."""
    parts = [call(batch) for batch in raw_batches(examples, batch_size)]
    return np.concatenate(parts)


def raw_batches(examples: Examples, batch_size: int) -> Any:
    """The examples' raw features as the exported model takes them, in portions."""
    if examples.load is None:
        return batches_of(examples.features, batch_size)
    features = tf.nest.map_structure(tf.constant, examples.features)
    dataset = tf.data.Dataset.from_tensor_slices(features)
    return dataset.map(examples.load, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size).prefetch(2)


def _tflite_call(content: bytes) -> Any:
    """A TFLite file's content as a function, through the LiteRT interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=content).get_signature_runner("serving_default")

    def call(features: Any) -> np.ndarray:
        named = features if isinstance(features, dict) else {"inputs": features}
        return np.concatenate(
            [
                runner(**{_argument(name): value[[row]] for name, value in named.items()})["outputs"]
                for row in range(len(next(iter(named.values()))))
            ]
        )

    return call


def _sample(inputs: Any, n: int) -> Any:
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


def _argument(name: str) -> str:
    """What a SavedModel calls an input: a column «class» cannot be the keyword argument that TensorFlow makes of it.

    A «class_» beside it becomes «class__», so no two inputs get one name.
    """
    return f"{name}_" if keyword.iskeyword(name.rstrip("_")) else name


def _feature(argument: str) -> str:
    """The input that a SavedModel calls so."""
    return argument[:-1] if keyword.iskeyword(argument.rstrip("_")) else argument


def _named_inputs(model: keras.Model) -> dict[str, Any]:
    return model.input if isinstance(model.input, dict) else {"inputs": model.input}
