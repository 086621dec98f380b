"""IDX files, the format of MNIST and its likes, read strictly: a wrong byte is an error and never an image."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfapp.data import arrays
from tfapp.data.examples import Data, existing
from tfapp.errors import Missing, Usage
from tfapp.settings import Split

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# Deflate shrinks 1,032 to 1 at best: a header that asks for more than that is a lie, found before memory is asked for.
_MOST_SHRINKING = 1032


def read(path: str | Path) -> np.ndarray:
    """The array in an IDX file, gzipped or not, in the machine's byte order.

    Raises:
      Missing: no such file, or it ends early or is damaged.
      Usage: not an IDX file, or bytes are left over.
    """
    file = existing(path, "IDX file")
    if not file.is_file():
        raise Usage(f"not a file: {path}")
    with file.open("rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
    most = file.stat().st_size * (_MOST_SHRINKING if zipped else 1)
    with gzip.open(file) if zipped else file.open("rb") as stream:
        try:
            head = stream.read(4)
            if head[:2] != b"\0\0"[: len(head)] or len(head) > 2 and head[2] not in _TYPES:
                raise Usage(f"not an IDX file: {path} begins with bytes {head.hex(' ')}")
            if len(head) < 4:
                raise _truncated(path)
            dtype = np.dtype(_TYPES[head[2]])
            sizes = stream.read(4 * head[3])
            if len(sizes) < 4 * head[3]:
                raise _truncated(path)
            shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
            length = math.prod(shape) * dtype.itemsize
            body = stream.read(length + 1) if length <= most else b""
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise Missing(f"damaged IDX file: {path} ({error})\nget it again") from None
    if len(body) < length:
        raise _truncated(path)
    if len(body) > length:
        raise Usage(f"not an IDX file: {path} holds more bytes than its header says")
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def folder(path: str | Path, settings: Split, classes: Sequence[str] | None = None, target: str = "label") -> Data:
    """Labelled images from a folder of MNIST's four files, or of two of them.

    With `train-…` and `t10k-…` pairs the t10k pair is the test part; a single pair is shared out in three.

    Raises:
      Missing, Usage: nothing there, half a pair, or as `read`.
    """
    where = existing(path, "folder of IDX files")
    pairs = {name: pair for name in ("train", "t10k") if (pair := _pair(where, name)) is not None}
    if not pairs:
        raise Missing(
            f"no IDX files in {path}\n"
            "expected train-images-idx3-ubyte[.gz] with train-labels-idx1-ubyte[.gz], and/or the same with t10k"
        )
    official = pairs.get("t10k") if "train" in pairs else None
    features, labels = pairs.get("train") or pairs["t10k"]
    if official is not None and official[0].shape[1:] != features.shape[1:]:
        raise Usage(f"{path}: t10k images are {official[0].shape[1:]}, train images {features.shape[1:]}")
    return arrays.split(features, labels, settings, classes, "image", target, test=official)


def _pair(where: Path, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    images, labels = _find(where, f"{name}-images"), _find(where, f"{name}-labels")
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        there = images or labels
        raise Missing(f"{there} has no partner: {name}-{'labels' if images else 'images'}-… is missing beside it")
    features, numbers = read(images), read(labels)
    if features.ndim not in (3, 4) or numbers.ndim != 1 or len(features) != len(numbers):
        raise Usage(f"{images.name} of shape {features.shape} and {labels.name} of shape {numbers.shape} do not match")
    return features, numbers


def _find(where: Path, stem: str) -> Path | None:
    """The file of that stem: «-idx3-ubyte» or «.idx3-ubyte», plain or gzipped."""
    found = sorted(where.glob(f"{stem}[-.]idx[134]-ubyte")) + sorted(where.glob(f"{stem}[-.]idx[134]-ubyte.gz"))
    return found[0] if found else None


def _truncated(path: str | Path) -> Missing:
    return Missing(f"truncated IDX file: {path} ends before its header says\nget it again")
