"""Whether an image works, run inside it: each extra imports, `tfapp doctor` is content, a recipe trains and exports."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

# The library's own switch: its estimators are gone from TensorFlow, and importing them fails.
sys.skip_tf_privacy_import = True  # type: ignore[attr-defined]
EXTRAS = (
    "keras_tuner",
    "tensorflow_model_optimization",
    "tensorflow_privacy.privacy.optimizers.dp_optimizer_keras",
    "dp_accounting",
)


def call(*words: str) -> None:
    print("$ tfapp", *words, flush=True)
    subprocess.run(["tfapp", *words], check=True)


def main() -> None:
    call("doctor")
    with TemporaryDirectory() as folder:
        run = str(Path(folder) / "digits")
        call("train", "digits", "fit.epochs=4", "--run", run, "--gate", "accuracy>=0.9")
        for form in ("savedmodel", "keras", "tflite"):
            call("export", run, "--format", form)
        call("evaluate", run, "--gate", "accuracy>=0.9")
    from tfapp.runtime import import_tensorflow

    import_tensorflow()
    for name in EXTRAS:
        importlib.import_module(name)
        print("imported", name, flush=True)


if __name__ == "__main__":
    main()
