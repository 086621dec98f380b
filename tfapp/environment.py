"""What a run stood on: versions, machine, devices, threads and commit, so that a result can be explained later.

Light to import; only `devices` imports TensorFlow.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tfapp.launch import cluster as clusters

# As in setup.cfg; a test holds the two together.
NEEDED = (
    "tensorflow",
    "tf_keras",
    "tensorboard",
    "ai-edge-litert",
    "flatbuffers",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "pyarrow",
    "pillow",
    "matplotlib",
    "jinja2",
    "pydantic",
    "PyYAML",
    "click",
    "rich",
    "psutil",
)
EXTRAS = {
    "tune": ("keras-tuner", "optuna", "cmaes"),
    "compress": ("tensorflow-model-optimization",),
    "private": ("tensorflow-privacy", "dp-accounting"),
}
# What the others bring and what results depend on.
_BROUGHT = ("keras", "h5py", "protobuf", "ml_dtypes")

# The instructions that decide how fast a model runs on a CPU, by their names in /proc/cpuinfo.
_FEATURES = (
    "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8", "amx_tile",
    "asimd", "bf16", "i8mm", "sve",
)  # fmt: skip
# Those of them that multiply in bfloat16: without one it is emulated, and slow.
BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_ENABLE_ONEDNN_OPTS")

_CHECKOUT = Path(__file__).resolve().parent.parent


def describe() -> dict[str, Any]:
    """Everything below in one JSON-able dictionary: a run's environment.json. Imports TensorFlow."""
    return {
        "versions": versions(),
        "machine": machine(),
        "devices": devices(),
        "threads": threads(),
        "tf_config": tf_config(),
        "commit": commit(),
    }


def versions() -> dict[str, str | None]:
    """Versions of Python, tfapp and the packages it stands on; None for one that is not installed."""
    from tfapp import __version__

    packages = [*NEEDED, *_BROUGHT, *(name for names in EXTRAS.values() for name in names)]
    return {"python": platform.python_version(), "tfapp": __version__} | {name: version(name) for name in packages}


def version(package: str) -> str | None:
    """The installed version of a package, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """The processor and memory that this process may use; memory in bytes."""
    model, features = cpu()
    total, available = memory()
    return {
        "system": platform.platform(),
        "python": sys.executable,
        "cpu": model,
        "cpu_features": features,
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory": total,
        "available_memory": available,
    }


def cpu() -> tuple[str, list[str]]:
    """The processor's name and those of its features that matter to TensorFlow."""
    if sys.platform == "darwin":
        return _said_by("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor(), []
    facts: dict[str, str] = {}
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip().lower(), value.strip())
    flags = set(facts.get("flags", facts.get("features", "")).split())
    return facts.get("model name", platform.machine()), [name for name in _FEATURES if name in flags]


def usable_cores() -> float:
    """Cores that the scheduler and the container's quota leave to this process; 1.5 is possible."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for folder in _cgroups():
        quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
        if quota.isdigit() and period.isdigit():
            cores = min(cores, int(quota) / int(period))
    # The older kind of cgroups.
    quota, period = (_read(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    if quota.isdigit() and period.isdigit():
        cores = min(cores, int(quota) / int(period))
    return cores


def memory() -> tuple[int, int]:
    """Bytes of memory in all, and free, as far as the container's limit lets this process use them."""
    import psutil

    system = psutil.virtual_memory()
    total, available = system.total, system.available
    limits = [(folder, "memory.max", "memory.current", "inactive_file") for folder in _cgroups()]
    older = (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    for folder, limit, used, cached in [*limits, older]:
        if (most := _read(folder / limit).strip()).isdigit() and int(most) < system.total:
            total = min(total, int(most))
            # Files that were read count as used, but are given up as soon as memory is wanted.
            taken = int(_read(folder / used).strip() or 0) - _statistic(folder / "memory.stat", cached)
            available = min(available, max(0, int(most) - max(0, taken)))
    return total, available


def give_back_memory() -> None:
    """Hand to the system what the process no longer needs, as after reading data; the C library would keep it for later."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def free_memory() -> int:
    """Bytes that this process may still take, of the machine or of its container: the one answer for who must fit."""
    return memory()[1]


def peak_memory() -> int:
    """The most bytes of memory that this process has held at any moment so far."""
    # What getrusage says begins, on Linux, with the peak of the process that started this one.
    if (held := _statistic("/proc/self/status", "VmHWM:")) > 0:
        return held * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def workers_here(environ: Mapping[str, str] = os.environ) -> int:
    """How many workers of this process's cluster share its host, and so its memory; at least 1."""
    here = clusters.current(environ)
    if here is None:
        return 1
    hosts = [address.rpartition(":")[0] for address in here.addresses]
    return hosts.count(hosts[here.worker])


def threads() -> dict[str, str]:
    """The environment variables that are set and change how many threads compute."""
    return {name: os.environ[name] for name in _THREADS if name in os.environ}


def devices() -> dict[str, Any]:
    """What TensorFlow sees: its devices by kind, and its thread counts (0: it chooses). Imports TensorFlow."""
    import tensorflow as tf

    accelerators = []
    for kind in ("GPU", "TPU"):
        for device in tf.config.list_physical_devices(kind):
            details = tf.config.experimental.get_device_details(device) if kind == "GPU" else {}
            capability = details.get("compute_capability")
            accelerators.append(
                {
                    "kind": kind,
                    "name": details.get("device_name", device.name),
                    "compute_capability": ".".join(map(str, capability)) if capability else None,
                }
            )
    return {
        "accelerators": accelerators,
        "intra_op_threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "inter_op_threads": tf.config.threading.get_inter_op_parallelism_threads(),
    }


def tf_config(environ: Mapping[str, str] = os.environ) -> dict[str, Any] | None:
    """The cluster that TF_CONFIG describes, and what is wrong with it; None when it is not set.

    Returns: `workers` (how many), `type` and `index` of this task, and `problem` (None: it is valid).
    """
    text = environ.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        kind, index = task["type"], int(task["index"])
        addresses = [address for group in cluster.values() for address in group]
        workers = sum(len(cluster.get(name, ())) for name in ("chief", "worker"))
        problem = _cluster_problem(cluster, kind, index, addresses)
    except ValueError as error:
        return {"workers": 0, "type": None, "index": None, "problem": f"no valid JSON: {error}"}
    except (KeyError, TypeError, AttributeError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else "its parts are not of the right kind"
        return {"workers": 0, "type": None, "index": None, "problem": said}
    return {"workers": workers, "type": kind, "index": index, "problem": problem}


def _cluster_problem(cluster: Mapping[str, list[str]], kind: str, index: int, addresses: list[str]) -> str | None:
    if kind not in cluster:
        return f"the task is a {kind!r}, but the cluster has only {', '.join(cluster)}"
    if not 0 <= index < len(cluster[kind]):
        return f"the task is {kind} {index}, but the cluster has {len(cluster[kind])} of them, counted from 0"
    for address in addresses:
        if not address.rpartition(":")[2].isdigit() or not address.rpartition(":")[0]:
            return f"{address!r} is not host:port"
    if len(set(addresses)) < len(addresses):
        return "two tasks share one address"
    return None


def commit() -> str | None:
    """The git commit of this checkout, with «-dirty» when files differ from it; None outside of one."""
    if not (_CHECKOUT / ".git").exists():
        return None
    # A tag must not stand in for the commit, so none may match.
    return _said_by("git", "-C", str(_CHECKOUT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _cgroups() -> list[Path]:
    """The folders of this process's control group and of those around it, innermost first."""
    own = next((line[3:] for line in _read("/proc/self/cgroup").splitlines() if line.startswith("0::/")), None)
    if own is None:
        return []
    root = Path("/sys/fs/cgroup")
    inner = root / own.lstrip("/")
    return [folder for folder in (inner, *inner.parents) if folder.is_relative_to(root)]


def _read(path: str | Path) -> str:
    """The text of a file of the system; empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _statistic(path: str | Path, name: str) -> int:
    """One number of a file of «name number» lines; 0 where it is not there."""
    lines = (line.split() for line in _read(path).splitlines())
    return next((int(words[1]) for words in lines if len(words) > 1 and words[0] == name), 0)


def _said_by(*words: str) -> str | None:
    """What a program prints; None where it is missing or fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
