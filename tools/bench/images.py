"""CPU seconds per 1,000 images that do not fit in memory: to open the data (the check), and for a pass over it (an epoch).

The files are made here: noise over smooth colours, which compresses like a photograph, in two classes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tfapp.runtime import import_tensorflow

tf = import_tensorflow()

from tfapp.data import images  # noqa: E402
from tfapp.settings import Split  # noqa: E402

KINDS = {
    "JPEG 500×375": ("jpg", 375, 500, 400),
    "JPEG 4000×3000": ("jpg", 3000, 4000, 24),
    "PNG 500×375": ("png", 375, 500, 200),
}


def main() -> None:
    for name, (suffix, height, width, count) in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            size = photographs(Path(folder), suffix, height, width, count)
            opened = opening(folder)
            opening(folder)  # the first decoding also loads what it needs
            check = cpu(partial(opening, folder)) / count * 1000
            epoch = cpu(partial(passing, opened)) / count * 1000
        print(f"{name} ({size / count / 1000:.0f} kB): check {check:.2f} s, epoch {epoch:.2f} s per 1,000")


def photographs(folder: Path, suffix: str, height: int, width: int, count: int) -> int:
    """Write them; returns their bytes."""
    random = np.random.default_rng(0)
    for i in range(count):
        colours = Image.fromarray(random.integers(0, 256, (height // 16, width // 16, 3), np.uint8))
        smooth = np.asarray(colours.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + random.integers(-6, 7, (height, width, 1), np.int16)
        path = folder / "ab"[i % 2] / f"{i}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, **({"quality": 90} if suffix == "jpg" else {}))
    return sum(path.stat().st_size for path in folder.glob("*/*"))


def opening(folder: str) -> images.Data:
    return images.from_folder(folder, Split(), 96, memory_limit=0)


def passing(data: images.Data) -> None:
    for part in (data.train, data.validation, data.test):
        for image in tf.data.Dataset.from_tensor_slices(part.features).map(part.load, tf.data.AUTOTUNE).batch(32):
            image.numpy()


def cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


main()
