"""CPU seconds per 1,000 images that do not fit in memory: to open the data (the check), and for a pass over it (an epoch).

Each kind as the folder of files that it is, and as shards of it (to write them, once; as pixels and as JPEG), at 96×96.

The files are made here: noise over smooth colours, which compresses like a photograph, in two classes.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tfapp.runtime import import_tensorflow

tf = import_tensorflow()

from tfapp.data import images, shard  # noqa: E402
from tfapp.data.pipeline import Batches  # noqa: E402
from tfapp.settings import Split  # noqa: E402

SIZE = 96

KINDS = {
    "JPEG 500×375": ("jpg", 375, 500, 400),
    "JPEG 4000×3000": ("jpg", 3000, 4000, 24),
    "PNG 500×375": ("png", 375, 500, 200),
}


def main() -> None:
    for name, (suffix, height, width, count) in KINDS.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "files"
            size = photographs(folder, suffix, height, width, count)
            opening(folder)  # the first decoding also loads what it needs
            told(f"{name} ({size / count / 1000:.0f} kB)", folder, count)
            for encoding in ("raw", "jpeg"):
                shards = Path(place) / encoding
                asked = shard.Asked(SIZE, encoding=encoding)
                written = cpu(partial(shard.write, folder, shards, asked, print)) / count * 1000
                size = sum(path.stat().st_size for path in shards.glob("*.tfrecord"))
                told(f"  {encoding} ({size / count / 1000:.0f} kB): written {written:.2f} s", shards, count)


def told(name: str, folder: Path, count: int) -> None:
    """One line: the medians of three."""
    check = statistics.median(cpu(partial(opening, folder)) / count * 1000 for _ in range(3))
    epoch = passing(opening(folder)) * 1000
    print(f"{name}: check {check:.3f} s, epoch {epoch:.3f} s per 1,000", flush=True)


def photographs(folder: Path, suffix: str, height: int, width: int, count: int) -> int:
    """Write them; returns their bytes."""
    random = np.random.default_rng(0)
    for i in range(count):
        colours = Image.fromarray(random.integers(0, 256, (height // 16, width // 16, 3), np.uint8))
        smooth = np.asarray(colours.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + random.integers(-6, 7, (height, width, 1), np.int16)
        path = folder / "ab"[i % 2] / f"{i}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, **({"quality": 90} if suffix == "jpg" else {}))
    return sum(path.stat().st_size for path in folder.glob("*/*"))


def opening(folder: Path) -> images.Data:
    return images.from_folder(folder, Split(validation=0, test=0), SIZE, memory_limit=0)


def passing(data: images.Data) -> float:
    """CPU seconds an image on its way to a model, after the first pass."""
    batches = Batches(data.train, 32, shuffle=True)
    stream, steps = iter(batches.dataset()), 0
    for _ in range(len(batches) + 4):
        next(stream)
    began = time.process_time()
    while (spent := time.process_time() - began) < 2:
        next(stream)
        steps += 1
    return spent / steps / 32


def cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


main()
