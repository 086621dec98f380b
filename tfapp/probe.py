"""How fast an exported model answers and how much memory it takes, in a fresh process that holds nothing else.

    python -m tfapp.probe MODEL EXAMPLE.npz THREADS SECONDS

MODEL is a .tflite file (run by the LiteRT interpreter) or a SavedModel folder (by TensorFlow); EXAMPLE holds one
example by the names of the signature. Prints one JSON object. Another process would be slower for what it has done
before, and its peak of memory would be that of its past.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfapp.errors import Refused
from tfapp.evaluate import latency

THREADS = (1, 4)


def measure(
    path: Path, example: Mapping[str, np.ndarray], threads: Sequence[int] = THREADS, seconds: float = 1.0
) -> dict[str, Any]:
    """Latency of one example and peak memory.

    Args:
      path: a .tflite file or a SavedModel folder.
      example: arrays [1, ...] by the names of the signature, of the dtypes that the model takes.
      threads: how many to measure with, one after another.
      seconds: to spend on each.

    Returns:
      `latency`: number of threads (a string) -> `evaluate.latency.measure` of one example;
      `memory`: {peak_bytes: of the process, model_bytes: of that, what came with the model};
      `cores`: how many the process may use.

    Raises:
      Refused: the model ends the process that runs it, as LiteRT's kernels do with what they do not expect.
    """
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "example.npz"
        np.savez(file, **{name: _plain(values) for name, values in example.items()})
        # TensorFlow's threads are set once a process.
        groups = [[count] for count in threads] if path.is_dir() else [list(threads)]
        found = [_run(path, file, group, seconds) for group in groups]
    timed = {count: times for one in found for count, times in one["latency"].items()}
    return {**found[0], "latency": timed}


def _run(path: Path, file: Path, threads: list[int], seconds: float) -> dict[str, Any]:
    words = [str(path.resolve()), str(file), ",".join(map(str, threads)), str(seconds)]
    root = str(Path(__file__).resolve().parent.parent)
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "tfapp.probe", *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
        how = signal.Signals(-done.returncode).name if done.returncode < 0 else last[:200]
        raise Refused(
            f"{path.name} cannot be run: its interpreter ends with {how}\n"
            "take another scheme: --quantize dynamic, or none for float32"
        )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _plain(values: np.ndarray) -> np.ndarray:
    """Texts as bytes of one length: NumPy's objects could not be read back without running code."""
    return values.astype(bytes) if values.dtype == object else values


def main() -> None:
    model, file, threads, seconds = sys.argv[1:]
    with np.load(file) as held:
        example = dict(held)
    prepare = _savedmodel if Path(model).is_dir() else _tflite
    timed: dict[str, Any] = {}
    memory: dict[str, int] = {}
    for count in map(int, threads.split(",")):
        opened = prepare(count)
        before = _memory("VmRSS")
        invoke = opened(model, example)
        invoke(None)
        if not memory:
            peak = _memory("VmHWM")
            memory = {"peak_bytes": peak, "model_bytes": max(0, peak - before)} if peak else {}
        timed[str(count)] = latency.measure(invoke, lambda size: None, sizes=(1,), seconds=float(seconds))["1"]
    print(json.dumps({"latency": timed, "memory": memory, "cores": _cores()}))


Opened = Callable[[str, dict[str, np.ndarray]], Callable[[Any], Any]]


def _tflite(threads: int) -> Opened:
    from ai_edge_litert.interpreter import Interpreter

    def opened(model: str, example: dict[str, np.ndarray]) -> Callable[[Any], Any]:
        interpreter = Interpreter(model_path=model, num_threads=threads)
        interpreter.allocate_tensors()
        inputs = interpreter.get_signature_runner("serving_default").get_input_details()
        for name, values in example.items():
            interpreter.set_tensor(inputs[name]["index"], values)
        return lambda _: interpreter.invoke()

    return opened


def _savedmodel(threads: int) -> Opened:
    warnings.simplefilter("ignore")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.list_logical_devices()

    def opened(model: str, example: dict[str, np.ndarray]) -> Callable[[Any], Any]:
        loaded = tf.saved_model.load(model)
        serve = loaded.signatures["serving_default"]
        tensors = {name: tf.convert_to_tensor(values) for name, values in example.items()}

        def invoke(_: Any) -> Any:
            return serve(**tensors)["outputs"].numpy()

        # The signature's function dies with the object that it came from.
        invoke.model = loaded  # type: ignore[attr-defined]
        return invoke

    return opened


def _cores() -> int:
    """How many this process may use; all where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory(what: str) -> int:
    """VmRSS or VmHWM of this process in bytes; 0 where the system does not tell.

    Not getrusage: on Linux its peak is that of the process that started this one, where that was larger.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:")), 0)


if __name__ == "__main__":
    main()
