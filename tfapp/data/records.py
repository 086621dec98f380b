"""Images in TFRecord files, decoded and resized beforehand: a folder that `tfapp data shard` wrote, and how it is read.

The folder holds `images-00000-of-00004.tfrecord` and so on, `index.npz` (what is known of each image, and where its
bytes are) and `shards.json`, which is written last. Each record is a tf.train.Example of image, label, name, part and number, so
that other programs can read it without the index.

A step's number decides its images, in any order; so files are not read through but at the places that the index tells, by
each worker what it needs, and a training on shards sees the images in the order in which one on the folder would. Only what
fits in memory is read through, and compressed files, which have no places, must fit.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfapp.data.examples import Dropped
from tfapp.data.threads import threads, untuned
from tfapp.errors import Missing, Usage

Encoding = Literal["raw", "jpeg"]
Compression = Literal["none", "gzip"]

FORMAT = 1
HEAD, INDEX, UNFINISHED = "shards.json", "index.npz", "unfinished.json"
# Before a record's bytes: their number (8) and its checksum (4); behind them a checksum of their own (4).
BEFORE, BEHIND = 12, 4
# int64 [n]: which of the source's files it is; its shard; where the image's bytes begin and how many they are; a number that
# copies of a file share.
NUMBERS = ("number", "shard", "offset", "length", "copies")
# Object arrays of str [n].
TEXTS = ("names", "labels", "parts")


def are_in(folder: Path) -> bool:
    """Whether a folder holds shards, finished or not."""
    return any((folder / name).is_file() for name in (HEAD, UNFINISHED))


def head(folder: Path) -> dict[str, Any]:
    """What `shards.json` says: reader, encoding, compression, shards (file, bytes), dropped.

    Raises:
      Missing: the folder is not finished, a file is gone or not as it was written, or another version wrote it.
    """
    again = f"the command that wrote it goes on where it was stopped: tfapp data shard SOURCE {folder}"
    if not (folder / HEAD).exists():
        raise Missing(f"{folder} holds unfinished shards\n{again}")
    try:
        held = json.loads((folder / HEAD).read_text(encoding="utf-8"))
        shards = [(folder / shard["file"], int(shard["bytes"])) for shard in held["shards"]]
        version = held["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise Missing(f"{folder / HEAD} is damaged ({error!r}); remove it\n{again}") from None
    if version != FORMAT:
        raise Missing(
            f"{folder} has shards of format {version}, and this version reads {FORMAT}\nshard the images anew"
        )
    for path, size in shards:
        if not path.exists() or path.stat().st_size != size:
            what = f"has {path.stat().st_size:,} bytes instead of {size:,}" if path.exists() else "is not there"
            raise Missing(f"{path} {what}\nremove {folder / HEAD}; then {again}")
    return held


def index(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of `NUMBERS` and `TEXTS`, in the order of the source.

    Raises:
      Missing: the file is gone or damaged.
    """
    try:
        with np.load(folder / INDEX, allow_pickle=False) as held:
            numbers = {name: held[name] for name in NUMBERS}
            texts = {name: np.array(bytes(held[name]).decode().split("\0")[:-1], object) for name in TEXTS}
    except Exception as error:  # noqa: BLE001, as a broken zip can make its parser raise anything
        raise Missing(
            f"cannot read {folder / INDEX}: {error}\n"
            f"remove {folder / HEAD}; then tfapp data shard SOURCE {folder} writes both anew"
        ) from None
    return numbers | texts


def packed(known: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The same as the file holds them: texts as UTF-8, each ended by a zero byte."""
    texts = {name: "".join(f"{text}\0" for text in known[name]).encode() for name in TEXTS}
    return {name: np.asarray(known[name], np.int64) for name in NUMBERS} | {
        name: np.frombuffer(text, np.uint8) for name, text in texts.items()
    }


def checked(held: Mapping[str, Any], reader: Mapping[str, Any], folder: Path) -> None:
    """Refuse shards of images in another form than is asked for.

    Raises:
      Usage: size, channels or the way of resizing differ.
    """
    for name in ("height", "width", "channels", "resize"):
        there, asked = held["reader"][name], reader[name]
        if there != asked:
            word = {"height": "size", "width": "size"}.get(name, name)
            raise Usage(
                f"{folder} holds images of {word} {there}, and {asked} is asked for\n"
                f"take {word}={there}, or shard the images anew: tfapp data shard SOURCE OTHER --{word} {asked}"
            )


def dropped(held: Mapping[str, Any]) -> list[Dropped]:
    return [Dropped(name, reason) for name, reason in held["dropped"]]


def load(folder: Path, held: Mapping[str, Any], features: Mapping[str, Any]) -> Any:
    """One image inside tf.data, uint8 [height, width, channels], of its shard, offset and length in the index."""
    import tensorflow as tf

    paths = [str(folder / shard["file"]) for shard in held["shards"]]
    read = functools.partial(_read, paths)
    place = [features[name] for name in ("shard", "offset", "length")]
    # The bytes are what they are, but TensorFlow would take a stateless one for a constant where its arguments are.
    content = tf.ensure_shape(tf.numpy_function(read, place, tf.string), [])
    return _image(content, held)


def _read(paths: list[str], shard: Any, offset: Any, length: Any) -> bytes:
    # Opened each time: 6 of 70 µs, and no bound on how many shards there may be.
    with open(paths[int(shard)], "rb", buffering=0) as file:
        content = os.pread(file.fileno(), int(length), int(offset))
    if len(content) != length:
        raise OSError(f"{paths[int(shard)]} ends before byte {offset + length:,}")
    return content


def _image(content: Any, held: Mapping[str, Any]) -> Any:
    import tensorflow as tf

    shape = [held["reader"][name] for name in ("height", "width", "channels")]
    if held["encoding"] == "jpeg":
        return tf.ensure_shape(tf.io.decode_jpeg(content, shape[-1], dct_method="INTEGER_ACCURATE"), shape)
    return tf.reshape(tf.io.decode_raw(content, tf.uint8), shape)


def through(folder: Path, held: Mapping[str, Any], number: np.ndarray) -> np.ndarray:
    """The images of these numbers, uint8 [n, height, width, channels]: all files are read through, side by side.

    Args:
      number: ascending, int64 [n].

    Raises:
      Missing: a file whose checksums do not fit, or that lacks one of them.
    """
    import tensorflow as tf

    paths = [str(folder / shard["file"]) for shard in held["shards"]]
    images = np.empty((len(number), *(held["reader"][name] for name in ("height", "width", "channels"))), np.uint8)
    fields = {"image": tf.io.FixedLenFeature([], tf.string), "number": tf.io.FixedLenFeature([], tf.int64)}

    def one(record: Any) -> Any:
        found = tf.io.parse_single_example(record, fields)
        return found["number"], _image(found["image"], held)

    compression = "GZIP" if held["compression"] == "gzip" else ""
    records = tf.data.TFRecordDataset(paths, compression, num_parallel_reads=threads())
    seen = 0
    try:
        work = tf.autograph.experimental.do_not_convert(one)
        batches = untuned(records.map(work, threads(), deterministic=False).batch(32))
        for numbers, batch in batches.as_numpy_iterator():
            wanted = np.isin(numbers, number)
            images[np.searchsorted(number, numbers[wanted])] = batch[wanted]
            seen += int(wanted.sum())
    except tf.errors.OpError as error:
        raise Missing(
            f"a shard in {folder} is damaged: {error.message[:200]}\n"
            f"remove {folder}, and write it anew with tfapp data shard"
        ) from None
    if seen != len(number):
        raise Missing(f"the shards in {folder} hold {seen:,} of {len(number):,} images in their index\nshard them anew")
    return images
