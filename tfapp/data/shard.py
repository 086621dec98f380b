"""Writing an image folder as shards: every image is decoded and resized once, and never again (see tfapp.data.records).

A shard appears whole or not at all. What a stopped command has written is kept by the same command, and only what is lacking is
made; which images go into which shard depends on the source and the settings alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfapp.data import images, records
from tfapp.data.examples import Dropped, existing
from tfapp.data.images import Found, Resize
from tfapp.errors import Missing, Usage
from tfapp.run import make_folder, write_text, writing

# A shard's size where nothing is asked for: large enough for a disk to read at its pace, small enough to copy.
BYTES = 128e6
# How much smaller a JPEG is than its pixels, to choose how many shards there are.
JPEG = 8
SAID = 10.0


@dataclass(frozen=True)
class Asked:
    """How images are written.

    Attributes:
      size: height and width in pixels. resize, channels: as `images.from_folder`.
      encoding: raw pixels, or JPEG of this quality (1 to 100), smaller by much and a little different.
      compression: of whole files; compressed ones can only be read through.
      shards: how many files; None: as many as are about 128 MB each.
    """

    size: int
    resize: Resize = "pad"
    channels: int = 3
    encoding: records.Encoding = "raw"
    quality: int = 95
    compression: records.Compression = "none"
    shards: int | None = None


def write(source: Path, folder: Path, asked: Asked, say: Any) -> dict[str, Any]:
    """Write the shards of an image folder, or of a CSV of path and label; returns what `shards.json` then says.

    Raises:
      Missing: no source, no image in it. Usage: `folder` holds something else, or shards of another source or form.
    """
    source = existing(source, "image folder or CSV")
    if source.is_dir() and records.are_in(source):
        raise Usage(f"{source} holds shards already\nname the images that they were made of")
    found, dropped = images.find(source)
    if not found:
        raise Missing(f"no image in {source}\nexpected one sub-folder a class, or a CSV of path,label")
    make_folder(folder)
    with _alone(folder):
        return _write_all(source, found, dropped, folder, asked, say)


def _write_all(
    source: Path, found: Sequence[Found], dropped: list[Dropped], folder: Path, asked: Asked, say: Any
) -> dict[str, Any]:
    wanted = {"settings": asdict(asked), "source": _digest(found)}
    if _begun(folder, wanted):
        say(f"{folder} has these shards already")
        return records.head(folder)
    sound, heads, lost = images.scan(found)
    reader = images.reader_of(asked.size, asked.channels, asked.resize)
    each = asked.size**2 * asked.channels / (JPEG if asked.encoding == "jpeg" else 1)
    count = min(asked.shards or math.ceil(len(sound) * each / BYTES), len(sound)) or 1
    parts = np.array_split(np.arange(len(sound)), count)
    paths = [folder / f"images-{i:05}-of-{count:05}.tfrecord" for i in range(count)]
    copies = images.copies(sound)
    places, told, kept = [], time.monotonic(), 0
    for i, (path, rows) in enumerate(zip(paths, parts, strict=True)):
        if path.exists():
            kept += 1
        else:
            some = [sound[row] for row in rows]
            _write(path, rows, some, images.encoded(some, heads[rows, 0], reader, asked.encoding, asked.quality), asked)
        places.append(_places(path, asked.compression, i))
        if time.monotonic() - told > SAID:
            told = time.monotonic()
            say(f"{i + 1} of {count} shards")
    if kept:
        say(f"{kept} of {count} shards were there")
    table = np.concatenate(places)
    here = [sound[row] for row in table[:, 0]]
    good = np.zeros(len(sound), bool)
    good[table[:, 0]] = True
    dropped += lost + images.damaged(sound, good, reader)
    if not len(table):
        raise Missing(f"no readable image in {source}\nthe first: {dropped[0].name}: {dropped[0].reason}")
    numbers = dict(zip(records.NUMBERS, [*table.T, copies[table[:, 0]]], strict=True))
    texts = {"names": [one.name for one in here], "labels": [one.label for one in here]}
    with writing(folder / records.INDEX) as file:
        np.savez(file, **records.packed({**numbers, **texts, "parts": [one.part or "" for one in here]}))
    return _finish(folder, wanted, reader, asked, paths, len(table), dropped)


def _finish(
    folder: Path,
    wanted: dict[str, Any],
    reader: Any,
    asked: Asked,
    paths: Sequence[Path],
    n: int,
    dropped: list[Dropped],
) -> dict[str, Any]:
    head = {
        "format": records.FORMAT,
        **wanted,
        "reader": reader,
        "encoding": asked.encoding,
        "compression": asked.compression,
        "images": n,
        "shards": [{"file": path.name, "bytes": path.stat().st_size} for path in paths],
        "dropped": [[one.name, one.reason] for one in dropped],
    }
    write_text(folder / records.HEAD, json.dumps(head, indent=1))
    (folder / records.UNFINISHED).unlink(missing_ok=True)
    return head


def _digest(found: Sequence[Found]) -> str:
    """SHA-256 of what the source's files are called, labelled, how large and how old they are."""
    whole = hashlib.sha256()
    for one in found:
        try:
            about = one.path.stat()
            age = (about.st_size, about.st_mtime_ns)
        except OSError:
            age = (-1, -1)
        whole.update(repr((one.name, one.label, one.part, *age)).encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _begun(folder: Path, wanted: dict[str, Any]) -> bool:
    """Make the folder ready; whether all is in it already.

    Raises:
      Usage: it holds something else.
    """
    for name in (records.HEAD, records.UNFINISHED):
        path = folder / name
        if not path.exists():
            continue
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise Missing(f"{path} is damaged\nremove {folder}, and write it anew") from None
        if {key: held.get(key) for key in wanted} != wanted:
            what = (
                "other settings" if held.get("source") == wanted["source"] else "another source, or files that changed"
            )
            raise Usage(f"{folder} holds shards of {what}\nname another folder, or remove this one first")
        if name == records.HEAD:
            return True
    others = [one.name for one in folder.iterdir() if not one.name.startswith(".")]
    if others and records.UNFINISHED not in others:
        kept = [name for name in others if name.endswith(".tfrecord") or name == records.INDEX]
        if len(kept) < len(others):
            raise Usage(f"{folder} is not empty (it holds {sorted(others)[0]})\nname a new folder for the shards")
    write_text(folder / records.UNFINISHED, json.dumps(wanted, indent=1))
    for old in folder.glob(".*.part"):
        old.unlink()
    return False


def _write(
    path: Path, rows: np.ndarray, found: Sequence[Found], content: Iterator[tuple[int, bytes]], asked: Asked
) -> None:
    """One shard, in the order of the source; images that cannot be decoded are not in it."""
    import tensorflow as tf

    held = dict(content)
    options = tf.io.TFRecordOptions("GZIP" if asked.compression == "gzip" else "")
    with _aside(path) as aside, tf.io.TFRecordWriter(str(aside), options) as writer:
        for i in sorted(held):
            one = found[i]
            writer.write(_example(held[i], one, int(rows[i])).SerializeToString(deterministic=True))


def _example(image: bytes, one: Found, number: int) -> Any:
    import tensorflow as tf

    texts = {"label": one.label, "name": one.name, "part": one.part or ""}
    fields = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in [("image", image), *((name, text.encode()) for name, text in texts.items())]
    }
    fields["number"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[number]))
    return tf.train.Example(features=tf.train.Features(feature=fields))


def _places(path: Path, compression: str, shard: int) -> np.ndarray:
    """(number, shard, offset, length) of each image of a file, int64 [n, 4], by reading it through.

    Raises:
      Missing: the file is damaged.
    """
    import tensorflow as tf

    at, rows = records.BEFORE, []
    try:
        for record in tf.data.TFRecordDataset(str(path), compression.upper().replace("NONE", "")).as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            image = features["image"].bytes_list.value[0]
            rows.append((features["number"].int64_list.value[0], shard, at + record.index(image), len(image)))
            at += len(record) + records.BEHIND + records.BEFORE
    except tf.errors.OpError as error:
        raise Missing(f"{path} is damaged: {error.message[:200]}\nremove it; the same command writes it anew") from None
    return np.array(rows, np.int64).reshape(-1, 4)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second process out of the same folder."""
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Usage(f"another process writes shards to {folder}\nwait for it, or name another folder") from None
        yield


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A place to write a file by its name, which then appears whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
