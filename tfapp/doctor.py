"""Whether this machine can train: each part looked at, a short real fit, and what to do about what is wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tfapp import environment

GiB = 1024**3
FIT_SECONDS = 6.0
# Four epochs of it, the fewest there are, reach 0.88 and more: far below that, the arithmetic is wrong.
LEARNED = 0.8


# What is imported where that is not the package's own name.
_MODULES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "scikit-learn": "sklearn",
    "pillow": "PIL.Image",
    "PyYAML": "yaml",
    "pyarrow": "pyarrow.parquet",
    "matplotlib": "matplotlib.figure",
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
      state: «broken» keeps tfapp from working; «warning» costs something.
      found: what is there, in a line.
      advice: what to do, where something is to be done.
    """

    name: str
    state: Literal["ok", "warning", "broken"]
    found: str
    advice: str = ""


def examine() -> tuple[list[Check], dict[str, Any]]:
    """Look at everything; takes about twenty seconds.

    Returns: the checks in order, and the JSON-able facts behind them (versions, machine, devices, threads,
      tf_config, commit, fit).
    """
    trial = try_fit()
    facts: dict[str, Any] = {
        "versions": environment.versions(),
        "machine": environment.machine(),
        "devices": trial.get("devices"),
        "threads": environment.threads(),
        "tf_config": environment.tf_config(),
        "commit": environment.commit(),
        "fit": trial,
    }
    checks = [
        python(facts["versions"]["python"], sys.executable),
        *packages(facts["versions"]),
        imports(trial),
        cpu(facts["machine"]),
        memory(facts["machine"]),
        disk("runs", Path(os.environ.get("TFAPP_RUNS") or "runs"), "choose another disk: TFAPP_RUNS=FOLDER"),
        disk("Keras cache", Path.home() / ".keras", "downloaded data sets and weights go there"),
        accelerators(facts["devices"]),
        threads(facts["threads"]),
        precision(facts["machine"], facts["devices"]),
        cluster(facts["tf_config"]),
        fit(trial),
    ]
    return checks, facts


def verdict(checks: list[Check]) -> str:
    """The worst state among the checks."""
    states = {check.state for check in checks}
    return next(state for state in ("broken", "warning", "ok") if state in states)


def python(version: str, executable: str) -> Check:
    found = f"{version} ({executable})"
    if version.startswith("3.11."):
        return Check("Python", "ok", found)
    return Check("Python", "broken", found, "tfapp needs Python 3.11: tools/setup finds it, or says how to install it")


def packages(versions: Mapping[str, str | None]) -> list[Check]:
    """The trio that must fit together, what else is needed, and the extras."""
    tensorflow, keras = versions["tensorflow"] or "missing", versions["tf_keras"] or "missing"
    trio = f"TensorFlow {tensorflow}, tf_keras {keras}, Keras {versions['keras'] or 'missing'}"
    fits = tensorflow.split(".")[:2] == keras.split(".")[:2] and versions["tensorflow"] is not None
    mend = "install the tested versions: pip install -c tools/constraints.txt tfapp, or tools/setup in a checkout"
    checks = [Check("TensorFlow", "ok" if fits else "broken", trio, "" if fits else mend)]

    missing = [name for name in environment.NEEDED if versions[name] is None]
    found = f"missing: {', '.join(missing)}" if missing else f"all {len(environment.NEEDED)} installed"
    checks.append(Check("packages", "broken" if missing else "ok", found, mend if missing else ""))
    if (versions["numpy"] or "1").split(".")[0] != "1":
        checks.append(
            Check("NumPy", "broken", f"{versions['numpy']}", "tfapp needs NumPy below 2: pip install 'numpy<2'")
        )

    for extra, names in environment.EXTRAS.items():
        absent = [name for name in names if versions[name] is None]
        found = ", ".join(f"{name} {versions[name] or 'not installed'}" for name in names)
        checks.append(
            Check(f"extra {extra}", "ok", found, f"if you want it: pip install 'tfapp[{extra}]'" if absent else "")
        )
    return checks


def imports(trial: Mapping[str, Any]) -> Check:
    """Installed is not enough: two packages may each be fine and not go together."""
    broken: Mapping[str, str] = trial.get("not_imported", {})
    if "error" in trial:
        return Check("imports", "warning", "not tried: the fit did not end", "mend the fit first")
    if not broken:
        return Check("imports", "ok", "every needed package imports")
    found = "; ".join(f"{name}: {said}" for name, said in broken.items())
    return Check("imports", "broken", found, "install the tested versions: pip install -c tools/constraints.txt tfapp")


def cpu(machine: Mapping[str, Any]) -> Check:
    features = machine["cpu_features"]
    found = f"{machine['cpu']}, {machine['usable_cores']:g} of {machine['cores']} cores usable"
    found += f" ({' '.join(features)})" if features else ""
    if features and "avx" not in features and "asimd" not in features:
        return Check("CPU", "broken", found, "TensorFlow's packages need AVX: use another machine, or build TensorFlow")
    return Check("CPU", "ok", found)


def memory(machine: Mapping[str, Any]) -> Check:
    free = machine["available_memory"]
    found = f"{free / GiB:.1f} GiB free of {machine['memory'] / GiB:.1f}"
    if free < 2 * GiB:
        return Check(
            "memory", "warning", found, "TensorFlow alone takes about 1 GiB: stop something, or use small batches"
        )
    return Check("memory", "ok", found)


def disk(name: str, folder: Path, advice: str) -> Check:
    """Room, and leave to write, where `folder` is or would be made."""
    there = folder.expanduser().absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    found = f"{folder}: {free / GiB:.1f} GiB free"
    try:
        # Asking the system is not enough: it says yes on a read-only or full disk.
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"tfapp")
            probe.flush()
    except OSError as error:
        return Check(name, "broken", f"{folder}: can't be written in {there}: {error.strerror}", advice)
    return Check(name, "ok" if free > GiB else "warning", found, "" if free > GiB else advice)


def accelerators(devices: Mapping[str, Any] | None) -> Check:
    if devices is None:
        return Check("devices", "broken", "unknown: TensorFlow did not start")
    named = [f"{device['kind']} {device['name']}" for device in devices["accelerators"]]
    if named:
        return Check("devices", "ok", ", ".join(named))
    if shutil.which("nvidia-smi"):
        return Check(
            "devices",
            "warning",
            "the CPU alone, though nvidia-smi is here",
            "pip install 'tensorflow[and-cuda]' brings CUDA",
        )
    return Check("devices", "ok", "the CPU alone; TensorFlow sees no GPU and no TPU")


def threads(settings: Mapping[str, str]) -> Check:
    return Check("threads", "ok", ", ".join(f"{k}={v}" for k, v in settings.items()) or "TensorFlow's own choice")


def precision(machine: Mapping[str, Any], devices: Mapping[str, Any] | None) -> Check:
    """Which number type is fast here: a 16-bit one that the hardware lacks is emulated, and slow."""
    found = (devices or {}).get("accelerators", [])
    capabilities = [float(device["compute_capability"]) for device in found if device["compute_capability"]]
    if any(device["kind"] == "TPU" for device in found) or (capabilities and min(capabilities) >= 8):
        return Check("precision", "ok", "bfloat16 is fast here: runtime.precision=bfloat16")
    if capabilities and min(capabilities) >= 7:
        return Check("precision", "ok", "float16 is fast here: runtime.precision=float16")
    native = environment.BFLOAT16 & set(machine["cpu_features"])
    if native and not found:
        return Check(
            "precision",
            "ok",
            f"bfloat16 is fast here ({', '.join(sorted(native))}): runtime.precision=bfloat16; tfapp plan measures it",
        )
    return Check("precision", "ok", "float32: this machine has no fast 16-bit arithmetic (AVX512_BF16, AMX)")


def cluster(config: Mapping[str, Any] | None) -> Check:
    if config is None:
        return Check("TF_CONFIG", "ok", "not set: one machine")
    if config["problem"]:
        return Check(
            "TF_CONFIG", "broken", config["problem"], "mend it, or train on this machine alone: unset TF_CONFIG"
        )
    return Check("TF_CONFIG", "ok", f"{config['workers']} workers; this is {config['type']} {config['index']}")


def fit(trial: Mapping[str, Any]) -> Check:
    if "error" in trial:
        return Check("real fit", "broken", trial["error"], trial["advice"])
    found = (
        f"{trial['import_seconds']:.1f} s to import TensorFlow, {trial['first_step_seconds']:.1f} s more to the first step, "
        f"{trial['examples_per_second']:,.0f} examples/s, accuracy {trial['accuracy']:.3f}"
    )
    if not trial["accuracy"] >= LEARNED:
        return Check("real fit", "broken", found, f"an accuracy of {LEARNED} was sure: reinstall with tools/setup")
    if trial["import_seconds"] > 15:
        if trial["bytecode"]:
            return Check("real fit", "warning", found, "the machine is busy, or its disk is slow")
        return Check("real fit", "warning", found, f"no bytecode; once: python -m compileall -q {trial['folder']}")
    return Check("real fit", "ok", found)


def try_fit(seconds: float = FIT_SECONDS, timeout: float = 180.0) -> dict[str, Any]:
    """A small CNN on scikit-learn's digits, in a process of its own: a crash of TensorFlow is a finding too.

    Returns: devices, import_seconds, first_step_seconds, examples_per_second, epochs, accuracy, whether TensorFlow's
      `bytecode` is in its `folder`, and the packages `not_imported`; or `error` and `advice`.
    """
    paths = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    # A fit on this machine alone must not wait for the other workers.
    child = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    child |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "TF_CPP_MIN_LOG_LEVEL": "2"}
    words = [sys.executable, "-P", "-m", "tfapp.doctor", str(seconds)]
    try:
        done = subprocess.run(words, env=child, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return {
            "error": f"not done after {timeout:.0f} s",
            "advice": "the machine is overloaded, or swapping: look at top",
        }
    if done.returncode == 0:
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        hint = {
            "SIGILL": "this CPU lacks instructions that TensorFlow needs (AVX)",
            "SIGKILL": "out of memory, most likely",
        }
        return {"error": f"TensorFlow died of {name}", "advice": hint.get(name, "reinstall with tools/setup")}
    last = (done.stderr.strip().splitlines() or ["no word"])[-1]
    return {"error": last, "advice": "all of it: python -m tfapp.doctor; then reinstall with tools/setup"}


def _fit(seconds: float) -> dict[str, Any]:
    """What runs in the process of its own: at least four epochs, then as many as `seconds` hold."""
    spec = importlib.util.find_spec("tensorflow")
    folder = Path(spec.origin).parents[1] if spec and spec.origin else Path()
    # Asked first: the import itself may write it.
    bytecode = bool(spec and spec.cached and Path(spec.cached).exists())
    start = time.perf_counter()
    import tensorflow  # noqa: F401  its import is what is measured
    import tf_keras as keras

    imported = time.perf_counter()
    from sklearn.datasets import load_digits

    keras.utils.set_random_seed(0)
    digits = load_digits()
    images, labels = digits.images[..., None].astype("float32") / 16, digits.target
    begun = time.perf_counter()
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"]
    )
    model.train_on_batch(images[:32], labels[:32])
    stepped = time.perf_counter()

    epochs, part = 0, 1440
    rates = []
    while epochs < 4 or time.perf_counter() - stepped < seconds:
        epoch = time.perf_counter()
        model.fit(images[:part], labels[:part], batch_size=32, verbose=0)
        rates.append(part / (time.perf_counter() - epoch))
        epochs += 1
    _, accuracy = model.evaluate(images[part:], labels[part:], verbose=0)
    return {
        "import_seconds": round(imported - start, 2),
        "first_step_seconds": round(stepped - begun, 2),
        "examples_per_second": round(sorted(rates)[len(rates) // 2]),
        "epochs": epochs,
        "accuracy": round(accuracy, 4),
        "bytecode": bytecode,
        "folder": str(folder),
        "not_imported": not_imported(environment.NEEDED),
        "devices": environment.devices(),
    }


def not_imported(packages: Sequence[str]) -> dict[str, str]:
    """Those that fail to import, with the last line of what they say; those that are absent are told of elsewhere."""
    failed = {}
    for package in packages:
        if environment.version(package) is None:
            continue
        try:
            importlib.import_module(_MODULES.get(package, package))
        except (Exception, SystemExit) as error:  # noqa: BLE001  a broken package may raise anything
            failed[package] = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return failed


if __name__ == "__main__":
    print(json.dumps(_fit(float(sys.argv[1]) if len(sys.argv) > 1 else FIT_SECONDS)))
