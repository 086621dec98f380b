"""Image files of any size and orientation: a folder per class, or a CSV of path and label.

Every file is looked at and decoded before training, by its content and not by its name. What cannot be read is dropped
with a reason, what is turned by EXIF is turned back, and copies of a file stay in one part. Images that fit in memory
are kept as decoded then; others are decoded again, by the same function, in the input pipeline. (A JPEG has no checksum:
changed bytes that still make a picture are a picture here as they are everywhere.)
"""

from __future__ import annotations

import csv
import functools
import io
import os
import re
import struct
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from tfapp import environment
from tfapp.data import arrays, memory, records, splits
from tfapp.data.examples import Data, Dropped, Examples, existing
from tfapp.data.threads import threads, untuned
from tfapp.errors import Missing, Usage
from tfapp.settings import Split

Resize = Literal["pad", "crop", "stretch"]
Part = Literal["train", "validation", "test"]

_FORMATS = ("JPEG", "PNG", "GIF", "BMP")
_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp"}
_PARTS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
_EXIF_ORIENTATION, _SHORT = 0x0112, 3
# Looking into files waits for the disk. By portions, as threads that hand over Python at every file cost more than they save.
_THREADS = min(8, os.cpu_count() or 1)
_PORTION = 64
# What is read of a JPEG's end, and where such a file is read whole: no picture too large to decode is as small.
_TAIL = 1 << 16
# From so many small JPEGs of one size on they are brought to their shape in batches: it saves 40 µs a file, and a graph takes 40 ms.
ALIKE = 1000
# As few files are decoded sooner than a graph for them is made.
FEW = 16
# What comes before where a JPEG may say how it is turned.
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/"


@dataclass(frozen=True)
class Found:
    """An image file with its label, before anyone looked inside."""

    path: Path
    name: str
    label: str
    part: Part | None = None


def from_folder(
    folder: str | Path,
    settings: Split,
    size: int | tuple[int, int],
    channels: Literal[1, 3] = 3,
    resize: Resize = "pad",
    memory_limit: int | None = None,
    target: str = "label",
) -> Data:
    """Data from a folder that holds one sub-folder a class, or `train/`, `test/` (and `validation/`) folders of those.

    Or from a folder that `tfapp data shard` made of such a one: the same images, parts and order.

    Args:
      folder: classes are its sub-folders in sorted order; hidden files are skipped.
      settings: the split of whatever part is not given by such folders.
      size: height and width in pixels, or one number for both.
      channels: 3 (RGB) or 1 (grey).
      resize: pad (whole image, black borders), crop (fill, cut what sticks out), stretch (fill, change proportions).
      memory_limit: bytes that decoded images may take before they are decoded on the fly instead; None: a quarter
        of the memory that is free.
      target: what is predicted, as a person would call it.

    Raises:
      Missing: no such folder, no image in it, one class only, or shards that are not whole.
      Usage: shards of images in another form than is asked for.
    """
    where, reader = _folder(folder), reader_of(size, channels, resize)
    if records.are_in(where):
        return _of_shards(where, settings, reader, memory_limit, target)
    found, dropped = _in_folder(where)
    if not found:
        raise Missing(
            f"no image in {folder}\n"
            "expected one sub-folder a class with JPEG, PNG, GIF or BMP files: "
            f"{folder}/cat/1.jpg, {folder}/dog/2.jpg, …"
        )
    return _data(found, dropped, settings, reader, memory_limit, target, str(folder))


def from_csv(
    path: str | Path,
    settings: Split,
    size: int | tuple[int, int],
    channels: Literal[1, 3] = 3,
    resize: Resize = "pad",
    memory_limit: int | None = None,
    target: str = "label",
) -> Data:
    """Data from a CSV of image path and label, the paths relative to the CSV.

    Columns are found by a header with `path`, `label` and perhaps `split` (train, validation or test); without one
    the first two columns are path and label. Other arguments as `from_folder`.

    Raises:
      Missing: no such file, no image in it, or one class only.
      Usage: not a CSV in UTF-8, or a split that is none.
    """
    found, dropped = _in_csv(existing(path, "CSV of images"))
    if not found:
        raise Missing(f"no image named in {path}\nexpected lines of path,label: cat/1.jpg,cat")
    return _data(found, dropped, settings, reader_of(size, channels, resize), memory_limit, target, str(path))


def read_new(reader: Mapping[str, Any], files: Sequence[str | Path]) -> tuple[np.ndarray, list[str], list[Dropped]]:
    """New images for `predict`: files, folders of files at any depth, and `.npy`/`.npz` arrays of images.

    Args:
      reader: `Data.reader` of the run, made here or by `arrays.split(kind="image")`.

    Returns:
      Images [n, height, width, channels] of the reader's dtype, a name for each, and what could not be read.

    Raises:
      Missing: a file or folder that is not there.
      Usage: an array that does not fit the model.
    """
    stacks, names, dropped = [np.zeros((0, *_shape(reader)), reader["dtype"])], [], []
    for given in files:
        path = existing(given, "image file or folder")
        if path.suffix.lower() in (".npy", ".npz"):
            features, named, lost = arrays.read_new(reader, [path])
            stack = np.asarray(features)
        else:
            inside = list(_files(path)) if path.is_dir() else [path]
            found = [Found(file, str(file.relative_to(path.parent)), "") for file in inside]
            sound, heads, lost = scan(found)
            stack, kept, undecoded = _decode_all(sound, heads, reader)
            lost, named = lost + undecoded, [sound[i].name for i in kept]
        stacks.append(stack)
        names += named
        dropped += lost
    return np.concatenate(stacks), names, dropped


def read_labelled(
    reader: Mapping[str, Any], classes: Sequence[str], path: str | Path
) -> tuple[Examples, list[Dropped]]:
    """Images with their labels for `evaluate`, from a folder or a CSV as training takes them.

    Where these are shared out in parts, only the test part is read. Labels that are none of `classes` are dropped.

    Raises:
      Missing: nothing there.
    """
    where = existing(path, "folder or CSV of images")
    if where.is_dir() and records.are_in(where):
        return _labelled_of_shards(reader, classes, where)
    found, dropped = find(where)
    if any(one.part == "test" for one in found):
        found = [one for one in found if one.part == "test"]
    number = {name: i for i, name in enumerate(classes)}
    dropped += [_unseen(one.name, one.label) for one in found if one.label not in number]
    sound, heads, lost = scan([one for one in found if one.label in number])
    images, kept, undecoded = _decode_all(sound, heads, reader)
    labels = np.array([number[sound[i].label] for i in kept], np.int64)
    names = np.array([sound[i].name for i in kept], object)
    return Examples(images, labels, names), dropped + lost + undecoded


def reader_of(size: int | tuple[int, int], channels: int, resize: Resize) -> dict[str, Any]:
    """What reading new images the same way takes."""
    height, width = (size, size) if isinstance(size, int) else size
    return {"height": height, "width": width, "channels": channels, "dtype": "uint8", "resize": resize}


def _shape(reader: Mapping[str, Any]) -> tuple[int, int, int]:
    return reader["height"], reader["width"], reader["channels"]


def _data(
    found: list[Found],
    dropped: list[Dropped],
    settings: Split,
    reader: dict[str, Any],
    memory_limit: int | None,
    target: str,
    where: str,
) -> Data:
    """Look at the files, leave out the damaged ones, and share out the others.

    Whether the images fit in memory decides how they are kept, never which of them there are or how they are split.
    """
    sound, heads, lost = scan(found)
    size = len(sound) * int(np.prod(_shape(reader)))
    fits = in_memory(size, memory_limit)
    pixels, kept, damaged = _decode_all(sound, heads, reader) if fits else _try_all(sound, heads[:, 0], reader)
    sound = [sound[i] for i in kept]
    features = {"path": np.array([str(one.path) for one in sound], object), "orientation": heads[kept, 0]}
    known = Known.of(sound, copies(sound), features)
    return known.data(
        pixels, functools.partial(_load, reader), dropped + lost + damaged, settings, reader, target, where
    )


def _of_shards(where: Path, settings: Split, reader: dict[str, Any], memory_limit: int | None, target: str) -> Data:
    held = records.head(where)
    records.checked(held, reader, where)
    known = records.index(where)
    fits = in_memory(len(known["names"]) * int(np.prod(_shape(reader))), memory_limit)
    if not fits and held["compression"] != "none":
        raise Missing(
            f"the images in {where} do not fit in memory, and compressed shards can only be read through\n"
            "shard them anew without --compression, or free memory: a quarter of what is free may be taken"
        )
    pixels = records.through(where, held, known["number"]) if fits else None
    places = {name: known[name] for name in ("shard", "offset", "length")}
    images = Known(known["names"], known["labels"], known["parts"], known["copies"], places)
    load = functools.partial(records.load, where, held)
    return images.data(pixels, load, records.dropped(held), settings, reader, target, str(where))


def _labelled_of_shards(
    reader: Mapping[str, Any], classes: Sequence[str], where: Path
) -> tuple[Examples, list[Dropped]]:
    held = records.head(where)
    records.checked(held, reader, where)
    known = records.index(where)
    asked = known["parts"] == "test" if "test" in known["parts"] else np.ones(len(known["parts"]), bool)
    seen = np.isin(known["labels"], classes)
    names, labels, number = (known[name][asked & seen] for name in ("names", "labels", "number"))
    strange = [_unseen(*one) for one in zip(known["names"][asked & ~seen], known["labels"][asked & ~seen], strict=True)]
    pixels = (records.through(where, held, number) * reader.get("scale", 1)).astype(reader["dtype"])
    examples = Examples(pixels, np.array([classes.index(label) for label in labels], np.int64), names)
    return examples, [*records.dropped(held), *strange]


def in_memory(size: int, limit: int | None) -> bool:
    """Whether so many bytes of decoded images are kept in memory."""
    return size <= (environment.free_memory() // 4 if limit is None else limit)


@dataclass(frozen=True)
class Known:
    """Images that can be read, and what is known of each, in one order.

    Attributes:
      names, labels, parts: object arrays of str, shape [n]; a part is train, validation, test or "" (the user gave none).
      copies: int64 [n], equal for equal files.
      features: what reading an image takes, one array of shape [n, ...] a name.
    """

    names: np.ndarray
    labels: np.ndarray
    parts: np.ndarray
    copies: np.ndarray
    features: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, found: Sequence[Found], copies: np.ndarray, features: Mapping[str, np.ndarray]) -> Known:
        names, labels, parts = (
            np.array([getattr(one, name) or "" for one in found], object) for name in ("name", "label", "part")
        )
        return cls(names, labels, parts, copies, features)

    def data(
        self,
        pixels: np.ndarray | None,
        load: Callable[[Any], Any],
        dropped: Sequence[Dropped],
        settings: Split,
        reader: dict[str, Any],
        target: str,
        where: str,
    ) -> Data:
        """The images shared out, but for those of classes that training would not see.

        Args:
          pixels: the decoded images [n, height, width, channels], or None: `load` reads each when it is needed.
          dropped: what was left out before. where: what to call their place in messages.
        """
        classes = sorted(set(self.labels[np.isin(self.parts, ["", "train"])]))
        _check_classes(classes, len(self.names) > 0, dropped, where)
        seen = np.isin(self.labels, classes)
        unseen = [_unseen(name, label) for name, label in zip(self.names[~seen], self.labels[~seen], strict=True)]
        rows = np.flatnonzero(seen)
        number = {name: i for i, name in enumerate(classes)}
        labels = np.array([number.get(label, -1) for label in self.labels], np.int64)
        parts, notes = self._share_out(rows, labels, settings, classes)

        if pixels is None:
            whole = Examples(self.features, labels, self.names, load=load)
        else:
            whole = Examples(pixels, labels, self.names)
        train, validation, test = map(whole.take, parts)
        size = len(self.names) * int(np.prod(_shape(reader)))
        how = "on the fly ({:,.0f} MB do not fit in memory)" if pixels is None else "in memory ({:,.0f} MB)"
        return Data(
            train,
            validation,
            test,
            task="classification",
            kind="image",
            classes=tuple(classes),
            target=target,
            reader=reader,
            dropped=(*dropped, *unseen),
            notes=(
                f"{len(rows):,} images in {len(classes)} classes, decoded to "
                f"{'×'.join(map(str, _shape(reader)))} {how.format(size / 1e6)}",
                *notes,
            ),
        )

    def _share_out(
        self, rows: np.ndarray, labels: np.ndarray, settings: Split, classes: list[str]
    ) -> tuple[tuple[np.ndarray, ...], tuple[str, ...]]:
        """The rows of the three parts, those the user gave respected, and what is worth saying about copies of files."""
        examples = Examples({"row": rows}, labels[rows])
        copies, given = self.copies[rows], self.parts[rows]
        validation, test = (np.flatnonzero(given == part) for part in ("validation", "test"))
        rest = np.flatnonzero(~np.isin(given, ["validation", "test"]))
        shared = splits.split_rest(
            examples.take(rest),
            settings,
            "classification",
            copies[rest],
            validation=examples.take(validation) if len(validation) else None,
            test=examples.take(test) if len(test) else None,
            classes=classes,
        )
        train, validation, test = (np.asarray(part.features["row"], np.int64) for part in shared)
        notes = splits.leak_notes(*shared, groups=(self.copies[train], self.copies[validation], self.copies[test]))
        extra = len(copies) - len(np.unique(copies))
        if extra:
            notes = (f"{extra:,} images are copies of others (copies are never split up)", *notes)
        return (train, validation, test), notes


def _unseen(name: str, label: str) -> Dropped:
    return Dropped(name, f"label {label!r} was never seen in training")


def _check_classes(classes: list[str], some: bool, dropped: Sequence[Dropped], where: str) -> None:
    if len(classes) > 1:
        return
    first = [f"\n{len(dropped):,} files were left out; the first is {one.name}: {one.reason}" for one in dropped[:1]]
    more = "".join(first)
    if classes:
        raise Missing(f"only one class, {classes[0]!r}, in {where}: classification needs two{more}")
    what = "no readable image" if not some else "no image to train on"
    raise Missing(f"{what} in {where}{more}")


def _load(reader: Mapping[str, Any], features: Mapping[str, Any]):
    """One example's image inside tf.data."""
    return _as_it_stands(decode)(features["path"], features["orientation"], reader)


# ---------------------------------------------------------------- finding


def _folder(path: str | Path) -> Path:
    where = existing(path, "image folder")
    if not where.is_dir():
        raise Usage(f"not a folder: {path}\nfor a CSV of path,label use config.csv={path}")
    return where


def find(where: Path) -> tuple[list[Found], list[Dropped]]:
    """The image files of a folder or a CSV, and what is in it that cannot be one, in the order in which they are numbered."""
    return _in_folder(where) if where.is_dir() else _in_csv(where)


def _in_folder(root: Path) -> tuple[list[Found], list[Dropped]]:
    """Every visible file below a class folder, sorted by class and name."""
    below = _subfolders(root)
    given = {folder: _PARTS[folder.name.lower()] for folder in below if folder.name.lower() in _PARTS}
    # Classes may be called «train» and «bus»: parts are given only where both are there and hold folders.
    if not ({"train", "test"} <= set(given.values()) and all(_subfolders(folder) for folder in given)):
        given = {}
    homes: Mapping[Path, Part | None] = given or {root: None}
    found = [
        Found(file, str(file.relative_to(root)), label.name, part)
        for home, part in homes.items()
        for label in _subfolders(home)
        for file in _files(label)
    ]
    if not given:
        stray: Iterable[Path] = root.iterdir()
    else:
        stray = (file for folder in below for file in (folder.iterdir() if folder in given else _files(folder)))
    dropped = [
        Dropped(str(file.relative_to(root)), "not in a class folder, so without a label")
        for file in sorted(stray)
        if file.is_file() and file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")
    ]
    return found, dropped


def _in_csv(path: Path) -> tuple[list[Found], list[Dropped]]:
    """Every line with a path and a label, in the order of the file."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            lines = [(rows.line_num, row) for row in rows]
    except (UnicodeDecodeError, csv.Error, IsADirectoryError) as error:
        raise Usage(f"cannot read {path} as a CSV in UTF-8: {error}") from None
    lines = [(number, [cell.strip() for cell in row]) for number, row in lines if any(cell.strip() for cell in row)]
    header = [cell.lower() for cell in lines[0][1]] if lines else []
    columns = {"path": 0, "label": 1}
    if {"path", "label"} <= set(header):
        columns = {name: header.index(name) for name in ("path", "label", "split") if name in header}
        lines = lines[1:]
    found, dropped = [], []
    for number, row in lines:
        cells = {name: row[at] if at < len(row) else "" for name, at in columns.items()}
        name = cells["path"] or f"{path.name}:{number}"
        if not cells["path"] or not cells["label"]:
            dropped.append(Dropped(name, f"line {number} has no {'label' if cells['path'] else 'path'}"))
            continue
        part = cells.get("split", "").lower()
        if part and part not in _PARTS:
            raise Usage(f"{path}, line {number}: split {part!r}\nallowed: train, validation, test, or nothing")
        found.append(Found(path.parent / cells["path"], name, cells["label"], _PARTS.get(part)))
    return found, dropped


def _subfolders(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))


def _files(folder: Path) -> Iterable[Path]:
    """Visible files at any depth, in sorted order."""
    with os.scandir(folder) as inside:  # which knows what is a file without asking for each
        visible = sorted((one for one in inside if not one.name.startswith(".")), key=lambda one: one.name)
    for one in visible:
        if one.is_file():
            yield folder / one.name
        elif one.is_dir(follow_symlinks=False):
            yield from _files(folder / one.name)


# ---------------------------------------------------------------- looking inside


class Head(NamedTuple):
    """What an image file says of itself.

    Attributes:
      orientation: EXIF's, 1 to 8.
      height, width: of a small JPEG, as it is stored; 0 for other files, which tell it when they are decoded.
    """

    orientation: int
    height: int = 0
    width: int = 0


def scan(found: Sequence[Found]) -> tuple[list[Found], np.ndarray, list[Dropped]]:
    """The files that are images, their heads (int32 [n, 3]), and the others with reasons."""
    # Filters of warnings are the process's own: set here once, not in the threads.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen = _by_portions(lambda one: inspect(one.path), found)
    sound = [one for one, what in zip(found, seen, strict=True) if not isinstance(what, str)]
    heads = np.array([what for what in seen if not isinstance(what, str)], np.int32).reshape(-1, len(Head._fields))
    return sound, heads, [Dropped(o.name, w) for o, w in zip(found, seen, strict=True) if isinstance(w, str)]


def inspect(path: Path) -> Head | str:
    """The head of an image file that looks whole, or the reason why it cannot be used.

    Reads the header and the end of a JPEG and the checksums of a PNG, and decodes a GIF or BMP: TensorFlow fills what
    it cannot read of a GIF and is content.
    """
    plain = _inspect_plain(path)
    if plain is not None:
        return plain
    from PIL import Image

    try:
        size = path.stat().st_size
        if size == 0:
            return "the file is empty"
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            form = image.format
            # Where a PNG has no EXIF before its pixels, asking for it would decode them.
            asked = form != "PNG" or "exif" in image.info
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1) if asked else 1
            if form in ("JPEG", "GIF") and not _ends_whole(file, size, form == "GIF"):
                return f"truncated {form}"
            if form == "PNG":
                image.verify()
            elif form != "JPEG":
                image.load()
    except FileNotFoundError:
        return "file not found"
    except PermissionError:
        return "no permission to read it"
    except Image.UnidentifiedImageError:
        return "not a JPEG, PNG, GIF or BMP image"
    except Exception as error:  # noqa: BLE001, as a damaged file can make its parser raise anything
        return f"damaged image: {error or type(error).__name__}"
    return Head(orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1)


def _inspect_plain(path: Path) -> Head | str | None:
    """As `inspect`, in a tenth of the time, for the small JPEG that most files of most folders are; None for any other."""
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.read(_TAIL)
        orientation = _plain_orientation(content)
    except (OSError, struct.error):
        return None
    if (
        orientation is None
        or not 1 <= orientation <= 8
        or len(content) == _TAIL
        or not content.startswith(b"\xff\xd8\xff")
    ):
        return None
    return Head(orientation, *_stored(content)) if _ends(content) else "truncated JPEG"


def _stored(content: bytes) -> tuple[int, int]:
    """The height and width of a JPEG's pixels before they are turned; 0 where they take more to find."""
    at = 2
    try:
        while True:
            mark, kind, length = struct.unpack_from(">BBH", content, at)
            if mark != 0xFF:
                return 0, 0
            if kind in (0xC0, 0xC1, 0xC2):
                return struct.unpack_from(">HH", content, at + 5)
            at += 2 + length
    except struct.error:
        return 0, 0


def _plain_orientation(content: bytes) -> int | None:
    """The EXIF orientation of a JPEG, 1 where it tells none; None where it takes more to say so."""
    _, exif, tiff = content.partition(_EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if exif and (order is None or _EXIF in tiff):
        return None
    if exif:
        (at,) = struct.unpack_from(f"{order}I", tiff, 4)
        (fields,) = struct.unpack_from(f"{order}H", tiff, at)
        for field in range(at + 2, at + 2 + 12 * fields, 12):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, field)
            if tag == _EXIF_ORIENTATION:
                return value if (kind, count) == (_SHORT, 1) else None
    return None if _XMP in content else 1


def _ends_whole(file: IO[bytes], size: int, gif: bool) -> bool:
    """Whether a GIF or JPEG file holds the end marker of its format, looked for in the last 64 KB first."""
    file.seek(-min(size, _TAIL), os.SEEK_END)
    tail = file.read()
    if gif:
        return tail.rstrip(b"\0").endswith(b";")
    if b"\xff\xd9" not in tail:
        # Phones append long trailers, mostly zeros.
        file.seek(0)
        tail = file.read()
    return _ends(tail)


def _ends(tail: bytes) -> bool:
    """Whether a JPEG's last bytes hold its end marker; one before the last start of scan is that of a thumbnail."""
    end = tail.rfind(b"\xff\xd9")
    return end >= 0 and tail.find(b"\xff\xda", end) < 0


def copies(found: Sequence[Found]) -> np.ndarray:
    """A number for each file, equal for files of equal bytes. Only files of equal size are read."""
    by_size = defaultdict(list)
    for i, one in enumerate(found):
        by_size[one.path.stat().st_size].append(i)
    number = np.arange(len(found))
    alike = [i for same in by_size.values() if len(same) > 1 for i in same]
    first: dict[bytes, int] = {}
    for i, digest in zip(alike, _by_portions(lambda i: _digest(found[i].path), alike), strict=True):
        number[i] = first.setdefault(digest, i)
    return number


def _by_portions(work: Callable[[Any], Any], files: Sequence[Any]) -> list[Any]:
    """What `work` gives for each, by threads."""
    portions = (files[i : i + _PORTION] for i in range(0, len(files), _PORTION))
    with ThreadPoolExecutor(_THREADS) as pool:
        return [one for some in pool.map(lambda portion: list(map(work, portion)), portions) for one in some]


def _digest(path: Path) -> bytes:
    with open(path, "rb", buffering=0) as file:
        start = file.read(_TAIL)
        if len(start) < _TAIL:
            return blake2b(start).digest()
        # For a small file, its buffer alone would cost as much as all else.
        file.seek(0)
        return file_digest(file, "blake2b").digest()


# ---------------------------------------------------------------- decoding


def decode(path, orientation, reader: Mapping[str, Any]):
    """One image file as the tensor the model takes; runs eagerly and in tf.data.

    A large JPEG is decoded at a half, a quarter or an eighth of its size, the smallest that is not below what is asked for:
    most of its pixels are never computed. What is then left to shrink is less than twice, where each pixel still counts
    in a bilinear resize; what shrinks more is resized with antialiasing.

    Args:
      path: string tensor.
      orientation: EXIF orientation, integer tensor, 1 to 8.
      reader: height, width, channels, dtype, resize, and perhaps scale.

    Returns:
      [height, width, channels] of the reader's dtype, 0 to 255 (times scale).
    """
    import tensorflow as tf

    image, size = _pixels(tf.io.read_file(path), orientation, reader)
    return _finished(_turned(image, orientation)[None], size, reader)[0]


def _finished(images, size, reader: Mapping[str, Any]):
    """Upright uint8 [n, …, …, 3] as `decode` gives each; they were of this height and width before their pixels became fewer."""
    import tensorflow as tf

    images = _resized(images, size, reader["height"], reader["width"], reader["resize"])
    if reader["channels"] == 1:
        images = tf.image.rgb_to_grayscale(images)
    if "scale" in reader:
        images = images * reader["scale"]
    if np.dtype(reader["dtype"]).kind in "iu":
        images = tf.round(images)
    return tf.cast(images, reader["dtype"])


def _pixels(content, orientation, reader: Mapping[str, Any]):
    """(uint8 RGB of a file's bytes, the height and width of the whole image upright): the first frame of an animation.

    The pixels are not turned yet, and a JPEG's may be fewer, see `decode`.
    """
    import tensorflow as tf

    def jpeg():
        size = tf.io.extract_jpeg_shape(content)[:2]
        size = tf.where(orientation >= 5, size[::-1], size)
        times = _shrinking(size, reader["height"], reader["width"], reader["resize"])
        halvings = tf.reduce_sum(tf.cast(times >= [2.0, 4.0, 8.0], tf.int32))
        return tf.switch_case(halvings, [functools.partial(reduced, 2**power) for power in range(4)]), size

    def reduced(ratio):
        return _jpeg(content, ratio)

    def bmp():
        # TensorFlow's own reader knows neither palettes nor 16 bits.
        image = tf.numpy_function(_bmp, [content], tf.uint8, stateful=False)
        return tf.ensure_shape(image, [None, None, 3])

    def other():
        return tf.io.decode_image(content, 3, expand_animations=False)

    def rest():
        image = tf.cond(tf.equal(start, b"BM"), bmp, other)
        size = tf.shape(image)[:2]
        return image, tf.where(orientation >= 5, size[::-1], size)

    start = tf.strings.substr(content, 0, 2)
    return tf.cond(tf.equal(start, b"\xff\xd8"), jpeg, rest)


def _jpeg(content, ratio: int = 1):
    import tensorflow as tf

    # The accurate method gives the pixels that other readers give.
    return tf.io.decode_jpeg(content, 3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def _bmp(content: Any) -> np.ndarray:
    from PIL import Image

    if isinstance(content, np.ndarray):  # outside a graph
        content = content.item()
    with Image.open(io.BytesIO(content), formats=("BMP",)) as image:
        return np.asarray(image.convert("RGB"))


def _turned(image, orientation):
    """The image as the camera was held, by the meaning of EXIF's eight orientations."""
    import tensorflow as tf

    def among(*values):
        return tf.reduce_any(tf.equal(orientation, values))

    def transposed():
        # About tf.transpose of bytes, oneDNN complains on the terminal of many machines.
        height, width = tf.shape(image)[0], tf.shape(image)[1]
        return tf.gather(tf.reshape(image, [-1, 3]), tf.range(height) * width + tf.range(width)[:, None])

    def turned():
        straight = tf.cond(orientation >= 5, transposed, lambda: image)
        straight = tf.cond(among(2, 3, 6, 7), lambda: tf.reverse(straight, [1]), lambda: straight)
        return tf.cond(among(3, 4, 7, 8), lambda: tf.reverse(straight, [0]), lambda: straight)

    # Nearly none is.
    return tf.cond(orientation > 1, turned, lambda: image)


def _resized(images, size, height: int, width: int, resize: Resize):
    """float32 [n, height, width, channels]; `size` is that of each image as it was before its pixels became fewer."""
    import tensorflow as tf

    if resize == "pad":
        # tf.image.resize_with_pad gives other pixels in a graph than eagerly (seen with TensorFlow 2.21).
        size = _fitting(size, height, width)
        before = ([height, width] - size) // 2
        after = [height, width] - size - before
        small = _to(images, size)
        borders = [[0, 0], [before[0], after[0]], [before[1], after[1]], [0, 0]]
        images = tf.cond(tf.reduce_any(size < [height, width]), lambda: tf.pad(small, borders), lambda: small)
    else:
        if resize == "crop":
            old = tf.shape(images)[1:3]
            size = _fitting([height, width], old[0], old[1])
            start = (old - size) // 2
            images = images[:, start[0] : start[0] + size[0], start[1] : start[1] + size[1]]
        images = _to(images, [height, width])
    return tf.ensure_shape(images, [None, height, width, 3])


def _to(images, size):
    """Bilinear, float32. Antialiasing is asked for where it matters, as it costs three times as much."""
    import tensorflow as tf

    times = _shrinking(tf.shape(images)[1:3], size[0], size[1], "pad")
    return tf.cond(
        times > 2, lambda: tf.image.resize(images, size, antialias=True), lambda: tf.image.resize(images, size)
    )


def _shrinking(size, height, width, resize: Resize):
    """How many times smaller an image becomes when it is brought to a box, float32: where axes differ, by the less for what
    is to fill the box, by the more for what is to fit into it."""
    import tensorflow as tf

    times = tf.cast(size, tf.float32) / tf.cast([height, width], tf.float32)
    return tf.reduce_max(times) if resize == "pad" else tf.reduce_min(times)


def _fitting(size, height, width):
    """The largest [height, width] with the proportions of `size` that fits in a box, int32, at least 1."""
    import tensorflow as tf

    size, box = tf.cast(size, tf.float32), tf.cast([height, width], tf.float32)
    return tf.maximum(tf.cast(tf.round(size * tf.reduce_min(box / size)), tf.int32), 1)


def _decode_all(
    found: Sequence[Found], heads: np.ndarray, reader: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, list[Dropped]]:
    """Decoded images in one array, the indices of those that could be decoded, and the others with reasons."""
    images = memory.empty((len(found), *_shape(reader)), reader["dtype"])
    good = np.zeros(len(found), bool)
    for numbers, batch in _alike(found, heads, reader):
        images[numbers], good[numbers] = batch, True
    rest = np.flatnonzero(~good)
    each = _each([found[i] for i in rest], heads[rest, 0], lambda path, turn: decode(path, turn, reader))
    for numbers, batch in each:
        images[rest[numbers]], good[rest[numbers]] = batch, True
    kept = np.flatnonzero(good)
    return images if good.all() else memory.taken(images, kept), kept, damaged(found, good, reader)


def _alike(found: Sequence[Found], heads: np.ndarray, reader: Mapping[str, Any]) -> Iterator[Any]:
    """(indices, images) in portions, of what can be decoded of small JPEGs of which many are of one size.

    Nothing need be asked of each: they are upright, and not so large that fewer pixels would be decoded.
    """
    import tensorflow as tf

    sizes, box = heads[:, 1:], np.array(_shape(reader)[:2])
    plain = np.flatnonzero((heads[:, 0] == 1) & (sizes > 0).all(1) & (sizes < 1.9 * box).all(1))
    different, of, count = np.unique(sizes[plain], axis=0, return_inverse=True, return_counts=True)

    def finished(i, images):
        return i, _finished(images, tf.shape(images)[1:3], reader)

    for number in np.flatnonzero(count >= ALIKE):
        rows, shape = plain[of == number], [*different[number], 3]

        def pixels(i, path, shape=shape):
            return i, tf.ensure_shape(_jpeg(tf.io.read_file(path)), shape)

        files = tf.data.Dataset.from_tensor_slices((rows, [str(found[i].path) for i in rows]))
        batches = files.map(_as_it_stands(pixels), threads(), deterministic=False).ignore_errors().batch(16)
        done = batches.map(_as_it_stands(finished), threads(), deterministic=False)
        yield from untuned(done, fused=False).as_numpy_iterator()


def _try_all(
    found: Sequence[Found], orientations: np.ndarray, reader: Mapping[str, Any]
) -> tuple[None, np.ndarray, list[Dropped]]:
    """As `_decode_all`, but no image is kept."""
    import tensorflow as tf

    good = np.zeros(len(found), bool)
    # TensorFlow leaves out work whose result nobody wants: the shape is asked for because it needs the pixels.
    for numbers, _ in _each(
        found, orientations, lambda path, turn: tf.shape(_pixels(tf.io.read_file(path), turn, reader)[0])
    ):
        good[numbers] = True
    return None, np.flatnonzero(good), damaged(found, good, reader)


def encoded(
    found: Sequence[Found], orientations: np.ndarray, reader: Mapping[str, Any], encoding: str, quality: int
) -> Iterator[tuple[int, bytes]]:
    """(index, bytes) of each image that can be decoded, in any order: its pixels, uint8 row by row, or a JPEG of them."""
    import tensorflow as tf

    def work(path, orientation):
        image = decode(path, orientation, reader)
        return tf.io.encode_jpeg(image, quality=quality) if encoding == "jpeg" else image

    for numbers, batch in _each(found, orientations, work):
        for number, one in zip(numbers, batch, strict=True):
            yield int(number), one if isinstance(one, bytes) else one.tobytes()


def _each(found: Sequence[Found], orientations: np.ndarray, work: Callable[[Any, Any], Any]) -> Iterator[Any]:
    """(indices, results) of `work(path, orientation)` in portions, in any order, without those where it failed."""
    import tensorflow as tf

    if len(found) <= FEW:
        return _one_by_one(found, orientations, work)
    files = tf.data.Dataset.from_tensor_slices((np.arange(len(found)), [str(one.path) for one in found], orientations))
    done = files.map(_as_it_stands(lambda i, path, turn: (i, work(path, turn))), threads(), deterministic=False)
    return untuned(done.ignore_errors().batch(32), fused=False).as_numpy_iterator()


def _one_by_one(found: Sequence[Found], orientations: np.ndarray, work: Callable[[Any, Any], Any]) -> Iterator[Any]:
    """As `_each`, without a graph; on the CPU, where graphs of datasets are."""
    import tensorflow as tf

    for i, (one, turn) in enumerate(zip(found, orientations, strict=True)):
        try:
            with tf.device("CPU:0"):
                result = work(tf.constant(str(one.path)), tf.constant(turn)).numpy()
        except Exception:  # noqa: BLE001, S112, as a damaged file can make its parser raise anything
            continue
        yield np.array([i]), [result]


def _as_it_stands(work: Callable[..., Any]) -> Callable[..., Any]:
    """Not translated by AutoGraph: it would be no other function, half a second later."""
    import tensorflow as tf

    return tf.autograph.experimental.do_not_convert(work)


def damaged(found: Sequence[Found], good: np.ndarray, reader: Mapping[str, Any]) -> list[Dropped]:
    """The files that could not be decoded, with reasons."""
    return [Dropped(found[i].name, _why(found[i].path, reader)) for i in np.flatnonzero(~good)]


def _why(path: Path, reader: Mapping[str, Any]) -> str:
    import tensorflow as tf

    try:
        _pixels(tf.io.read_file(str(path)), tf.constant(1), reader)
    except tf.errors.OpError as error:
        # Without the names that TensorFlow gives to the operation.
        told = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", error.message)
        return f"damaged image: {' '.join(told.split())[:200]}"
    except Exception as error:  # noqa: BLE001, as a damaged file can make its parser raise anything
        return f"damaged image: {error or type(error).__name__}"
    return "could not be decoded"


# ---------------------------------------------------------------- changing


def moved(image, shift, angle, scale):
    """An image shifted, turned and scaled about its middle, all at once, for augmentation; the outermost pixels go on.

    Args:
      image: float [height, width, channels].
      shift: [2], to the left and up, as shares of width and height.
      angle: radians, against the clock. scale: above 1 enlarges.

    Returns:
      Of the image's shape and dtype, by bilinear interpolation.
    """
    import tensorflow as tf

    height, width, _ = image.shape
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    shift_x = middle_x - cos * middle_x + sin * middle_y + width * shift[0]
    shift_y = middle_y - sin * middle_x - cos * middle_y + height * shift[1]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([cos, -sin, shift_x, sin, cos, shift_y, 0.0, 0.0])[None],
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )[0]
