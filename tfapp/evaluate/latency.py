"""What a model costs to serve: how long an answer takes and how many bytes it weighs."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

WARM_UP = 3
FEWEST = 5


def measure(
    call: Callable[[Any], Any], batch_for: Callable[[int], Any], sizes: Sequence[int] = (1, 32), seconds: float = 1.0
) -> dict[str, dict[str, float]]:
    """How long a call takes at each batch size.

    Args:
      call: answers one batch and returns when the answer is there (on a device: fetch it, as `.numpy()` does).
      batch_for: makes a batch of so many examples; not timed.
      sizes: batch sizes.
      seconds: to spend on each size, at least; after three calls that are not counted, since the first ones compile.

    Returns:
      batch size (a string, as JSON wants it) → {p50_ms, p95_ms, mean_ms, examples_per_second, calls}.
    """
    return {str(size): _time(call, batch_for(size), size, seconds) for size in sizes}


def _time(call: Callable[[Any], Any], batch: Any, size: int, seconds: float) -> dict[str, float]:
    for _ in range(WARM_UP):
        call(batch)
    took: list[float] = []
    start = time.perf_counter()
    while len(took) < FEWEST or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        call(batch)
        took.append(time.perf_counter() - before)
    p50, p95 = np.quantile(took, [0.5, 0.95]) * 1000
    mean = float(np.mean(took))
    return {
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "mean_ms": mean * 1000,
        "examples_per_second": size / max(mean, 1e-9),
        "calls": len(took),
    }


def size(path: str | Path) -> dict[str, int]:
    """Bytes of a file, or of all files in a folder, as they are and compressed as gzip does."""
    path = Path(path)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    sizes = [_file_size(file) for file in files]
    return {"bytes": sum(plain for plain, _ in sizes), "gzip_bytes": sum(packed for _, packed in sizes)}


def _file_size(path: Path) -> tuple[int, int]:
    pack = zlib.compressobj(wbits=31)
    packed = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            packed += len(pack.compress(block))
    return path.stat().st_size, packed + len(pack.flush())
