"""Tells what a process has taken at the end of each stage of `tfapp train`: processor seconds, memory held, the most ever held."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tfapp import environment

IMPORTS = {
    "TensorFlow, by itself": "import tensorflow",
    "TensorFlow, by tfapp": "from tfapp.runtime import import_tensorflow; import_tensorflow()",
}
# Where each stage is: the name of its module, and of the function that ends it.
STAGES = {
    "imports": ("tfapp.batch_size", "settle"),
    "data": ("tfapp.features", "data"),
    "model, preprocessed examples": ("tfapp.features", "apply"),
    "compiled": ("tfapp.train", "compiled"),
    "trial of XLA": ("tfapp.xla", "settle"),
    "first step": ("tfapp.callbacks.pace", "Pace.on_train_batch_end"),
    "first epoch": ("tfapp.callbacks.record", "Record.on_epoch_end"),
    "training": ("tfapp.train", "fit"),
    "export": ("tfapp.export", "save"),
    "measured": ("tfapp.worth", "measured"),
    "report": ("tfapp.worth", "publish"),
}


def tell(stage: str) -> None:
    """A row of the table, of now."""
    held = environment._statistic("/proc/self/status", "VmRSS:") / 1024
    print(
        f"| {stage} | {time.process_time():.2f} | {held:,.0f} | {environment.peak_memory() / 2**20:,.0f} |", flush=True
    )


def told(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which tells the first time that it has ended."""
    waiting = [stage]

    def run(*words: Any, **named: Any) -> Any:
        given = function(*words, **named)
        while waiting:
            tell(waiting.pop())
        return given

    return run


def train(words: list[str]) -> int:
    """`tfapp train` of these words, its stages told."""
    from tfapp.cli.main import main
    from tfapp.runtime import import_tensorflow

    tell("command line")
    import_tensorflow()
    for stage, (module, path) in STAGES.items():
        *inside, name = path.split(".")
        place: Any = importlib.import_module(module)
        for one in inside:
            place = getattr(place, one)
        setattr(place, name, told(stage, getattr(place, name)))
    with tempfile.TemporaryDirectory() as folder:
        return main(["train", *words, "--run", f"{folder}/run"])


if __name__ == "__main__":
    print("| after | CPU s | memory, MB | at most, MB |\n|---|---|---|---|", flush=True)
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_USE_LEGACY_KERAS": "1"}
    for name, code in IMPORTS.items():
        script = f"import sys; sys.path[:0] = {sys.path[:2]!r}; import start; {code}; start.tell({name!r})"
        subprocess.run([sys.executable, "-c", script], env=quiet, stderr=subprocess.DEVNULL, check=True)
    sys.exit(train(sys.argv[1:]))
