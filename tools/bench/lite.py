"""Exported TFLite files of runs beside each other: the row of each in its report, and their latency measured in pairs.

Files take turns, a block of calls each, on the one core that this process may use; what is told is the median over the
blocks of the ratio to the float file, with the smallest and the largest ratio. No TensorFlow is loaded.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from tfapp.run import Run

PARENT = "model.tflite"


def runner(path: Path) -> Callable[[], None]:
    """One answer of a file on one thread, for an input of noise."""
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        noise = np.random.default_rng(0).random(detail["shape"]) * (255 if detail["dtype"] == np.uint8 else 1)
        interpreter.set_tensor(detail["index"], noise.astype(detail["dtype"]))
    return interpreter.invoke


def block(call: Callable[[], None], calls: int) -> float:
    """Median seconds of a call."""
    took = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def paired(files: list[Path], blocks: int, calls: int) -> list[list[float]]:
    """Seconds of a call of each file in each block, the files in turn."""
    calls_of = [runner(path) for path in files]
    for call in calls_of:
        block(call, calls)
    return [
        list(times) for times in zip(*([block(call, calls) for call in calls_of] for _ in range(blocks)), strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", type=Path, help="runs with exports, one of them model.tflite")
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--calls", type=int, default=100)
    asked = parser.parse_args()
    print(
        f"{'run and file':34} {'bytes':>10} {'of float':>9} {'gzipped':>9} {'accuracy':>9} {'change':>24} {'µs':>8}  time of float"
    )
    for folder in asked.runs:
        rows = {row["name"]: row for row in Run(folder).read("report.json")["artefacts"]}
        there = [name for name in rows if (folder / "exports" / name).suffix == ".tflite"]
        names = sorted(
            (name for name in there if (folder / "exports" / name).exists()), key=lambda name: name != PARENT
        )
        times = paired([folder / "exports" / name for name in names], asked.blocks, asked.calls)
        for name, took in zip(names, times, strict=True):
            row, parent = rows[name], rows[PARENT]
            ratios = [mine / theirs for mine, theirs in zip(took, times[0], strict=True)]
            change = row["change"]
            span = "" if change["low"] is None else f" ({change['low']:+.4f} to {change['high']:+.4f})"
            print(
                f"{folder.name + ' ' + name:34} {row['bytes']:10,} {row['bytes'] / parent['bytes']:9.4f} "
                f"{row['gzip_bytes'] / parent['gzip_bytes']:9.4f} {row['score']['value']:9.4f} "
                f"{change['value']:+.4f}{span:>18} {1e6 * statistics.median(took):8.1f}  "
                f"{statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})"
            )


if __name__ == "__main__":
    main()
