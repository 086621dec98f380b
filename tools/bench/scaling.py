"""How much processor time a step costs with two workers, and under a launcher, against one plain process.

Each worker is a process of its own on loopback, held to one core, and gets the same batch whatever their number. Counted is
the processor time of the whole process, its communication included, from the end of the first return from TensorFlow (which
is mostly tracing) to the end of the last step of the same epoch. Efficiency is the step of one worker alone over that of two,
in turn; waiting for the other takes none. The launched worker is the same training started by `tfapp launch`. By the ring is
with TensorFlow's own collectives (runtime.communication=ring).
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

BATCH = 64
CLOCK = "TFAPP_BENCH_CLOCK"
# What makes a recipe's file one that is timed, whoever starts its training; under a name that no recipe has.
CLOCKED = "\n\nimport scaling as _bench\n\n_bench.install()\n"
STILL = [f"augment.{name}=0" for name in ("shift", "rotation", "zoom", "brightness")]


def workloads(folder: Path) -> dict[str, list[str]]:
    """What is trained, as words of a command line."""
    digits = ["mnist", f"folder={folder}/mnist10k", "fit.epochs=3"]
    signs = ["image_folder", f"folder={folder}/sign_digits", "backbone=resnet20", "size=64", *STILL, "fit.epochs=4"]
    return {
        "CNN, 221 k parameters": [*digits, "units=64"],
        "CNN, 485 k parameters": [*digits, "units=148"],
        "ResNet-20, 274 k parameters": signs,
    }


def install() -> None:
    """Put a clock among the callbacks of whatever this process trains; its seconds a step go into a file of its own."""
    import tf_keras as keras

    from tfapp import features

    class Clock(keras.callbacks.Callback):
        """Notes processor and wall time of the steps between the first return and the last of an epoch."""

        _supports_tf_logs = True

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.marks: list[tuple[int, float, float]] = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.marks.append((batch, time.process_time(), time.perf_counter()))

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            (first, *began), (last, *ended) = self.marks[0], self.marks[-1]
            if last > first:
                with open(f"{os.environ[CLOCK]}-{os.getpid()}", "a") as file:
                    print(json.dumps([(b - a) / (last - first) for a, b in zip(began, ended, strict=True)]), file=file)

    applied = features.apply
    features.apply = lambda plan, job: replace(  # type: ignore[assignment]
        job := applied(plan, job), callbacks=(*job.callbacks, Clock())
    )


def started(words: list[str], core: int, clock: Path, **environment: str) -> subprocess.Popen[bytes]:
    """A process of the command line, held to one core."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tools/bench")])
    return subprocess.Popen(
        ["taskset", "--cpu-list", str(core), sys.executable, "-m", "tfapp", *words],
        env={**os.environ, "PYTHONPATH": paths, CLOCK: str(clock), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def step(words: list[str], way: str, folder: Path) -> tuple[float, float]:
    """Processor and wall seconds of a step, the median of its epochs and the mean of its workers.

    Args:
      way: plain, launched, two or ring.
    """
    cores = sorted(os.sched_getaffinity(0))
    clock = folder / "clock"
    workers = 2 if way in ("two", "ring") else 1
    words = ["train", *words, f"fit.batch_size={BATCH * workers}", "--run", str(folder / "run")]
    if way == "ring":
        words.append("runtime.communication=ring")
    if workers == 2:
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
            cluster = {"worker": [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]}
        configs = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": number}}) for number in (0, 1)]
        processes = [started(words, cores[number], clock, TF_CONFIG=configs[number]) for number in (0, 1)]
    else:
        before = ["launch", "--workers", "1", "--"] if way == "launched" else []
        processes = [started([*before, *words], cores[0], clock)]
    for process in processes:
        _, told = process.communicate()
        if process.returncode:
            raise SystemExit(told.decode()[-2000:])
    rows = [[json.loads(line) for line in path.read_text().splitlines()] for path in folder.glob("clock-*")]
    assert len(rows) == workers
    medians = [[statistics.median(column) for column in zip(*worker, strict=True)] for worker in rows]
    return statistics.mean(cpu for cpu, _ in medians), statistics.mean(wall for _, wall in medians)


def main() -> None:
    from tfapp import environment

    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="only workloads whose name holds one of these")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("two workers with a core each need two cores")
    host = environment.machine()
    print(f"{host['cpu']}, {host['usable_cores']:g} cores; batch {BATCH} a worker; medians of {asked.repeats} in turn")
    print(
        f"{'':28} {'ms a step: plain':>17} {'launched':>17} {'two workers':>17} {'by the ring':>17} "
        f"{'launched cost':>14} {'efficiency':>11} {'by the ring':>12}"
    )
    for name, words in workloads(asked.folder.resolve()).items():
        if asked.names and not any(part in name for part in asked.names):
            continue
        spent: dict[str, list[tuple[float, float]]] = {"plain": [], "launched": [], "two": [], "ring": []}
        for _ in range(asked.repeats):
            for way, found in spent.items():
                with tempfile.TemporaryDirectory(prefix="tfapp-scaling-") as folder:
                    recipe = Path(folder, "clocked.py")
                    recipe.write_text((ROOT / "recipes" / f"{words[0]}.py").read_text() + CLOCKED)
                    found.append(step([str(recipe), *words[1:]], way, Path(folder)))
        cpu, wall = (
            {way: 1e3 * statistics.median(times[kind] for times in found) for way, found in spent.items()}
            for kind in (0, 1)
        )
        each = [f"{cpu[way]:.1f} ({wall[way]:.1f} wall)" for way in spent]
        print(
            f"{name:28} " + " ".join(f"{one:>17}" for one in each) + f" {cpu['launched'] / cpu['plain']:>13.3f}× "
            f"{cpu['plain'] / cpu['two']:>11.2f} {cpu['plain'] / cpu['ring']:>12.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
