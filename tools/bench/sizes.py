"""Trains the recipe rivals/many.py in growing sizes, each in processes of its own, and writes the table.

One line of sizes with the same batch, one line of batches with the same size. Two workers train the same global batch, on a
core each as far as there are cores; time is then theirs together to the wall, processor time and memory are those of one.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from speed import machine, write

HERE = Path(__file__).resolve().parent
# What a training is measured for: about so many examples, but at most so many epochs and, where batches are small, steps.
EXAMPLES, EPOCHS, STEPS = 2_000_000, 20, 10_000


def trained(examples: int, batch: int, workers: int) -> dict[str, float]:
    """What the chief told of its training."""
    steps = min(EXAMPLES // batch, EPOCHS * -(-examples // batch), STEPS)
    words = [f"n={examples}", f"fit.batch_size={batch}", f"fit.steps={steps}", "fit.epochs=1000"]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "BENCH_BEGAN": str(time.time())}
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(workers)]
        cluster = {"worker": [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]}
    with tempfile.TemporaryDirectory(prefix="tfapp-sizes-") as folder:
        command = [sys.executable, HERE / "rivals/sized.py", Path(folder) / "run", HERE / "rivals/many.py", *words]
        processes = []
        for number in range(workers):
            task = {"cluster": cluster, "task": {"type": "worker", "index": number}}
            here = environment | ({"TF_CONFIG": json.dumps(task)} if workers > 1 else {})
            pinned = ["taskset", "--cpu-list", str(cores[number % len(cores)]), *map(str, command)]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            processes.append(subprocess.Popen(pinned, env=here, **pipes))
        told = [process.communicate() for process in processes]
    for process, (_, said) in zip(processes, told, strict=True):
        if process.returncode:
            raise SystemExit(said[-3000:])
    return json.loads(told[0][0].strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, nargs="*", default=[10**power for power in range(3, 8)])
    parser.add_argument("--batches", type=int, nargs="*", default=[32, 128, 512, 1024, 4096])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    asked = parser.parse_args()
    grid = [(examples, 256) for examples in asked.examples] + [(100_000, batch) for batch in asked.batches]
    began = time.monotonic()
    rows = [
        f"{machine()}, one for each worker; ten numbers an example, two hidden layers of 64, one training each.",
        "",
        "| examples | batch | workers | µs an example | CPU µs an example | first step, s | peak memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(rows), flush=True)
    for examples, batch in grid:
        for workers in asked.workers:
            told = trained(examples, batch, workers)
            rows.append(
                f"| {examples:,} | {batch:,} | {workers} | {1e6 * told['wall']:.2f} | {1e6 * told['cpu']:.2f} | "
                f"{told['first']:.1f} | {told['peak']:,.0f} |"
            )
            print(rows[-1], flush=True)
    print(f"{time.monotonic() - began:.0f} s")
    if asked.write:
        write(rows, "sizes")


if __name__ == "__main__":
    main()
