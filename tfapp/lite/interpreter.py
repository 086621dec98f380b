"""A TFLite file as a function of raw features, through the LiteRT interpreter."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tfapp.errors import Failed, Missing
from tfapp.lite import flatbuffer
from tfapp.signature import feature

SIGNATURE = "serving_default"


def load(path: Path, threads: int = 1) -> Any:
    """A TFLite file of ours as a function: a batch of raw features (array, or dict of arrays) -> float32 outputs.

    Examples go through one at a time, as they do on a device. Where the file's preprocessing is a SavedModel beside
    it (texts, categories), the features go through that first, and TensorFlow is needed.

    The function has the attribute `facts`: what the file says of itself (task, classes, reader, …).

    Raises:
      Failed: the file cannot be read or run. Missing: its preprocessing is not beside it.
    """
    content = flatbuffer.read(path)
    facts = flatbuffer.facts(content)
    call = of_content(content, threads, str(path))
    if facts.get("preprocess"):
        call = _after(_beside(path, str(facts["preprocess"])), call)
    call.facts = facts
    return call


def of_content(content: bytes, threads: int = 1, name: str = "the TFLite file") -> Any:
    """A TFLite file's content as a function, as `load` gives it, from what the file itself takes."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        with hushed():
            interpreter = Interpreter(model_content=content, num_threads=threads)
            interpreter.allocate_tensors()
            runner = interpreter.get_signature_runner(SIGNATURE)
    except Exception as error:  # noqa: BLE001, as a damaged file can make its reader raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Failed(
            f"{name} cannot be run: {reason[:300]}\nwrite it anew: tfapp export RUN --format tflite"
        ) from error
    takes = {feature(argument): (argument, detail) for argument, detail in runner.get_input_details().items()}
    [(output, gives)] = runner.get_output_details().items()

    def call(features: Any) -> np.ndarray:
        columns = fed(takes, features)
        answers = []
        for row in range(len(next(iter(columns.values())))):
            # A recurrent layer goes on from where the example before left it.
            interpreter.reset_all_variables()
            try:
                answers.append(runner(**{key: column[[row]] for key, column in columns.items()})[output])
            except RuntimeError as error:
                raise Failed(f"{name} fails on example {row + 1}: {str(error).strip().splitlines()[0]}") from error
        return meant(np.concatenate(answers), gives)

    call.takes = takes  # type: ignore[attr-defined]
    return call


def fed(takes: Mapping[str, tuple[str, dict[str, Any]]], features: Any) -> dict[str, np.ndarray]:
    """A batch of features by the names of the signature and in the form that the file takes.

    Args:
      takes: name of the feature -> (name in the signature, LiteRT's detail of it), the function's own attribute.
    """
    named = features if isinstance(features, dict) else {next(iter(takes)): features}
    return {argument: stored(np.asarray(named[name]), detail) for name, (argument, detail) in takes.items()}


def stored(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """Values as an input of the file takes them: of its dtype, and as its whole numbers where it is quantised."""
    kind = detail["dtype"]
    scale, zero = detail["quantization"]
    if not scale or not np.issubdtype(kind, np.integer) or not np.issubdtype(values.dtype, np.floating):
        return values.astype(kind, copy=False)
    limits = np.iinfo(kind)
    return np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(kind)


def meant(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """An output of the file as the float32 values that it stands for."""
    scale, zero = detail["quantization"]
    if scale and np.issubdtype(values.dtype, np.integer):
        return (values.astype(np.float32) - zero) * np.float32(scale)
    return values.astype(np.float32, copy=False)


def _beside(path: Path, name: str) -> Any:
    """The preprocessing that a file names, from the folder that the file is in."""
    # A name and no path: a file may not reach elsewhere.
    folder = path.parent / Path(name).name
    if not folder.is_dir():
        raise Missing(
            f"{path} takes what {folder} makes of the raw features, and that is not there\n"
            "keep the two together, or write both anew: tfapp export RUN --format tflite"
        )
    from tfapp.runtime import import_tensorflow

    import_tensorflow()
    from tfapp import export

    return export.load_saved(folder)


def _after(before: Any, call: Any) -> Any:
    def whole(features: Any) -> np.ndarray:
        return call(before(features))

    whole.takes = call.takes  # type: ignore[attr-defined]
    whole.before = before  # type: ignore[attr-defined]
    return whole


@contextmanager
def hushed() -> Iterator[None]:
    """Keep back what the C++ side of LiteRT and of the converter writes to both outputs; there is no setting for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    try:
        with open(os.devnull, "wb") as nowhere, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in (1, 2):
                os.dup2(nowhere.fileno(), number)
            yield
    finally:
        ctypes.CDLL(None).fflush(None)  # What C has written into a pipe is still in its buffer.
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
