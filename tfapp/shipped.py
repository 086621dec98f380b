"""The truth about what ships: a TFLite file or a SavedModel measured as it is, against the model it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfapp import probe, tasks
from tfapp.data.examples import Examples
from tfapp.evaluate import latency
from tfapp.lite import flatbuffer, interpreter
from tfapp.lite.flatbuffer import Weight
from tfapp.outputs import raw_batches
from tfapp.signature import argument


def answers(call: Any, examples: Examples, facts: Mapping[str, Any]) -> np.ndarray:
    """What a model answers for examples, in the form that `measure` compares.

    Args:
      call: an exported model as a function, from `export.load` or `lite.load`.
      examples: raw features with labels. facts: `task`, as in a run's data.json.

    Returns:
      float32: probabilities [n, classes], values [n, 1], or of a language model the loss of each token and the likeliest
      token [n, length, 2].
    """
    return tasks.of(facts["task"]).answers(call, examples)


def measure(
    path: Path,
    examples: Examples,
    parent: np.ndarray,
    facts: Mapping[str, Any],
    name: str | None = None,
    threads: Sequence[int] = probe.THREADS,
    seconds: float = 1.0,
) -> dict[str, Any]:
    """Everything that is worth knowing of an exported model, as one row of the report's «What ships».

    Args:
      path: a .tflite file (with NAME.preprocess beside it where it was written with one), or a SavedModel folder of
        `export.saved_model`.
      examples: raw features with labels, as the exported model takes them; never seen in training. At least one.
      parent: what the model that this one was made from answers for the same examples, from `answers`.
      facts: `task` and `classes`, as in a run's data.json.
      name: the row's key; the path's own name by default.
      threads, seconds: of the latency, see `probe.measure`.

    Returns:
      JSON-able:
      `name`, `path`, `format` ("tflite" or "savedmodel"), `scheme` and `kept_in_float` (of a TFLite file of ours);
      `bytes`, `gzip_bytes`; `preprocess_bytes` where that lies beside;
      `parameters`, `sparsity` (share of zeros among the numbers of all kernels), `layers`: [{name, shape, dtype,
      parameters, sparsity, unique}] of each kernel (biases and scales count as parameters only);
      `n`; `score` {name, value, low, high}; `change` {value, low, high, …}: score minus the parent's on the same
      examples, with a paired interval; `agreement` {share, mean_difference}; what the share is depends on the task:
      see its module;
      `latency` {threads: {p50_ms, p95_ms, …}}, `memory` {peak_bytes, model_bytes}, `cores`: see `probe.measure`; the
      preprocessing beside a file is not in them.

    Raises:
      Failed: it cannot be read. Refused: it ends the process that runs it. ValueError: `parent` has another shape.
    """
    call = load(path)
    # First in a process of its own: what crashes the interpreter is not to end this one.
    probed = probe.measure(path, one(call, examples), threads, seconds)
    task = tasks.of(facts["task"])
    given = answers(call, examples, facts)
    if given.shape != np.shape(parent):
        raise ValueError(f"the parent's answers are {np.shape(parent)}, and {path.name} gives {given.shape}")
    scores = task.judged(examples.labels, given, facts["classes"])["scores"]
    return {
        "name": name or path.name,
        "path": str(path),
        **_form(path),
        **_sizes(path),
        **_weights(list(_weights_of(path, call))),
        "n": len(examples),
        "score": {"name": task.MAIN, **scores[task.MAIN]},
        "change": task.change(examples.labels, parent, given),
        "agreement": task.agreement(parent, given),
        **probed,
    }


def load(path: Path) -> Any:
    """A TFLite file or a SavedModel folder as a function of raw features.

    Raises:
      Failed: it cannot be read.
    """
    if path.is_dir():
        from tfapp import export

        return export.load_saved(path)
    return interpreter.load(path)


def one(call: Any, examples: Examples) -> dict[str, np.ndarray]:
    """The first example as the loaded model's signature takes it, for `probe.measure`."""
    features = next(iter(raw_batches(examples, 1)))
    takes = getattr(call, "takes", None)
    if takes is None:
        named = features if isinstance(features, dict) else {"inputs": features}
        return {argument(name): np.asarray(values) for name, values in named.items()}
    before = getattr(call, "before", None)
    return interpreter.fed(takes, features if before is None else before(features))


def _form(path: Path) -> dict[str, Any]:
    if path.is_dir():
        return {"format": "savedmodel"}
    held = flatbuffer.facts(flatbuffer.read(path))
    told: dict[str, Any] = {key: held[key] for key in ("scheme", "kept_in_float") if key in held}
    return {"format": "tflite"} | told


def _sizes(path: Path) -> dict[str, int]:
    sizes = latency.size(path)
    beside = None if path.is_dir() else flatbuffer.facts(flatbuffer.read(path)).get("preprocess")
    return sizes | ({"preprocess_bytes": latency.size(path.parent / beside)["bytes"]} if beside else {})


def _weights_of(path: Path, call: Any) -> Iterator[Weight]:
    if not path.is_dir():
        yield from flatbuffer.weights(flatbuffer.read(path))
        return
    for variable in call.variables:
        values = variable.numpy()
        if np.issubdtype(values.dtype, np.floating):
            kernel = values.ndim > 1 and values.size > max(values.shape)
            yield Weight(flatbuffer.short(variable.name.partition(":")[0]), values, 0, kernel)


def _weights(weights: Sequence[Weight]) -> dict[str, Any]:
    kernels = [weight for weight in weights if weight.kernel]
    zeros = [int((weight.values == weight.zero).sum()) for weight in kernels]
    count = sum(weight.values.size for weight in kernels)
    return {
        "parameters": sum(weight.values.size for weight in weights),
        "sparsity": sum(zeros) / count if count else 0.0,
        "layers": [
            {
                "name": weight.name,
                "shape": list(weight.values.shape),
                "dtype": str(weight.values.dtype),
                "parameters": weight.values.size,
                "sparsity": none / weight.values.size,
                "unique": len(np.unique(weight.values)),
            }
            for weight, none in zip(kernels, zeros, strict=True)
        ],
    }
