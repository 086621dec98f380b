"""Data that is in memory already: features and labels as NumPy arrays, and `.npy`/`.npz` files of new ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfapp.data import splits
from tfapp.data.examples import Data, Dropped, Examples, Features, Kind, Task, existing
from tfapp.data.lines import Lines
from tfapp.errors import Usage
from tfapp.settings import Split


def split(
    features: Features,
    labels: np.ndarray,
    settings: Split,
    classes: Sequence[str] | None = None,
    kind: Kind = "array",
    target: str = "label",
    test: tuple[Features, np.ndarray] | None = None,
    task: Task = "classification",
    pixel_max: float = 255,
) -> Data:
    """Data from arrays, shared out by `settings`.

    Args:
      features: [n, ...], or one such array a named input; float64 becomes float32. An image is [n, height, width] or
        [n, height, width, channels].
      labels: [n] or [n, 1], of any dtype. Integers are class numbers when `classes` is given, names otherwise.
        Missing labels and targets that are not finite are dropped.
      settings: the shares; with `test` given only the validation part is split off.
      classes: class names in the order of their numbers; None: the sorted labels as text.
      kind: "image" lets `predict` read image files, and the report show pictures.
      target: what is predicted, as a person would call it.
      test: features and labels of an official test set.
      task: regression takes float targets and no classes.
      pixel_max: the value of white in these images, for reading image files, whose white is 255.

    Raises:
      Usage: lengths that differ, labels of no class.
    """
    features = _tidy(features, kind)
    examples, missing, classes = _examples(features, labels, task, classes, "")
    notes: tuple[str, ...] = ()
    if test is None:
        parts = splits.split(examples, settings, task, classes=classes)
    else:
        given, more, _ = _examples(_tidy(test[0], kind), test[1], task, classes, "test")
        missing += more
        parts = splits.split_rest(examples, settings, task, test=given, classes=classes)
        notes = splits.leak_notes(*parts)
    return Data(
        *parts,
        task=task,
        kind=kind,
        classes=classes,
        target=target,
        reader=_reader(features, kind, pixel_max),
        dropped=missing,
        notes=notes,
    )


def read_new(reader: Mapping[str, Any], files: Sequence[str | Path]) -> tuple[Features, list[str], list[Dropped]]:
    """Features of new examples from `.npy` or `.npz` files, for `predict`.

    A `.npy` file holds one array, a `.npz` file one array or one a named input. The first axis counts examples; a lone
    example without that axis is taken as one.

    Args:
      reader: `Data.reader` of the run.

    Returns:
      Features, a name «file:index» for each, and the examples that hold NaN or infinity, for which no answer is true.

    Raises:
      Missing: no such file.
      Usage: not a NumPy file, or an array of another shape or type.
    """
    inputs = reader.get("inputs") or {"": _image_as_array(reader) if "height" in reader else reader}
    columns: dict[str, list[np.ndarray]] = {name: [] for name in inputs}
    names: list[str] = []
    for file in files:
        found = _arrays(existing(file, "file"), list(inputs))
        count = None
        for name, spec in inputs.items():
            column = _fit(found[name], spec, f"{file}" + (f", array {name!r}" if name else ""))
            if count not in (None, len(column)):
                raise Usage(f"{file}: its arrays hold different numbers of examples ({count} and {len(column)})")
            count = len(column)
            columns[name].append(column)
        names += [f"{Path(file).name}:{i}" for i in range(count or 0)]
    whole = {
        name: np.concatenate(parts) if parts else np.zeros((0, *inputs[name]["shape"]), inputs[name]["dtype"])
        for name, parts in columns.items()
    }
    finite = np.logical_and.reduce([_finite(column) for column in whole.values()])
    dropped = [Dropped(names[i], "holds NaN or infinity") for i in np.flatnonzero(~finite)]
    kept = np.flatnonzero(finite)
    whole = {name: column[kept] for name, column in whole.items()} if dropped else whole
    return (whole if "inputs" in reader else whole[""]), [names[i] for i in kept], dropped


def _finite(column: np.ndarray) -> np.ndarray:
    """Whether all values of each example are finite, bool [n]."""
    if column.dtype.kind != "f":
        return np.ones(len(column), bool)
    return np.isfinite(column).all(axis=tuple(range(1, column.ndim)))


def label_numbers(labels: np.ndarray, classes: Sequence[str] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class numbers of labels of any dtype, and the class names. Nothing may be missing in `labels`.

    Returns:
      int64 class numbers, shape [n] (-1: a name that is none of `classes`), and the names.

    Raises:
      Usage: integer labels that are no numbers of `classes`.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind == "f" and np.array_equal(labels, np.floor(labels)):
        labels = labels.astype(np.int64)
    if classes is None:
        known, numbers = np.unique(labels if labels.dtype.kind in "biufSU" else labels.astype(str), return_inverse=True)
        return numbers.astype(np.int64), tuple(_text(value) for value in known)
    names = tuple(str(name) for name in classes)
    if labels.dtype.kind in "iub":
        numbers = labels.astype(np.int64)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(names):
            raise Usage(
                f"labels go from {numbers.min()} to {numbers.max()}, but {len(names)} classes are numbered "
                f"0 to {len(names) - 1}"
            )
        return numbers, names
    number = {name: i for i, name in enumerate(names)}
    return np.fromiter((number.get(_text(label), -1) for label in labels), np.int64, len(labels)), names


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _tidy(features: Features, kind: Kind) -> Features:
    """Contiguous arrays with no float64, and images with a channel axis."""
    if isinstance(features, Mapping):
        return {name: np.asarray(_tidy(column, "array")) for name, column in features.items()}
    features = np.ascontiguousarray(features, np.float32 if np.asarray(features).dtype == np.float64 else None)
    if kind != "image":
        return features
    if features.ndim == 3:
        features = features[..., None]
    if features.ndim != 4:
        raise Usage(f"images have shape [n, height, width] or [n, height, width, channels], not {features.shape}")
    return features


def _examples(
    features: Features, labels: np.ndarray, task: Task, classes: Sequence[str] | None, part: str
) -> tuple[Examples, tuple[Dropped, ...], tuple[str, ...]]:
    """Examples named «part:index», or by their index, without those whose label is missing, what was dropped, and the classes."""
    import pandas as pd

    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise Usage(f"labels have shape [n], one an example, not {labels.shape}")
    for column in features.values() if isinstance(features, Mapping) else [features]:
        if len(column) != len(labels):
            raise Usage(f"{len(column):,} features for {len(labels):,} labels")
    if task == "regression":
        try:
            labels = labels.astype(np.float32)
        except (TypeError, ValueError):
            raise Usage(f"regression takes numbers as targets, not {labels.dtype} like {labels[0]!r}") from None
        good = np.isfinite(labels)
        reason = "the target is not a finite number"
    else:
        good = ~pd.isna(labels)
        if labels.dtype.kind == "f":
            good &= np.isfinite(labels)
        reason = "the label is missing"
    names = Lines.of(part, np.arange(len(labels)))
    dropped = [Dropped(name, reason) for name in names[~good]]
    kept = np.flatnonzero(good)
    if task == "classification":
        numbers, found = label_numbers(labels[kept], classes)
        dropped += [
            Dropped(name, f"label {_text(label)!r} is none of the classes")
            for name, label in zip(names[kept][numbers < 0], labels[kept][numbers < 0], strict=True)
        ]
        kept, labels = kept[numbers >= 0], numbers[numbers >= 0]
    else:
        labels, found = labels[kept], ()
    whole = Examples(features, np.zeros(len(names)), names)
    examples = whole if len(kept) == len(names) else whole.take(kept)
    return Examples(examples.features, labels, examples.names), tuple(dropped), found


def _reader(features: Features, kind: Kind, pixel_max: float) -> dict[str, Any]:
    """What reading new examples of this shape and dtype takes."""
    if isinstance(features, Mapping):
        return {"inputs": {name: _reader(column, "array", pixel_max) for name, column in features.items()}}
    if kind != "image":
        return {"shape": list(features.shape[1:]), "dtype": str(features.dtype)}
    height, width, channels = (int(size) for size in features.shape[1:])
    facts = {
        "height": height,
        "width": width,
        "channels": channels,
        "dtype": str(features.dtype),
        "resize": "pad",
    }
    return facts if pixel_max == 255 else {**facts, "scale": pixel_max / 255}


def _image_as_array(reader: Mapping[str, Any]) -> dict[str, Any]:
    return {"shape": [reader["height"], reader["width"], reader["channels"]], "dtype": reader["dtype"]}


def _arrays(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """The arrays of a file by the names of the model's inputs. Pickled objects are refused, never loaded."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            found = {"": loaded}
        else:
            with loaded:
                found = {name: loaded[name] for name in loaded.files}
    except Exception as error:  # noqa: BLE001, as a broken zip or header can make its parser raise anything
        raise Usage(f"cannot read {path} as a NumPy file (.npy, .npz): {error}") from None
    if names == [""]:
        if len(found) == 1:
            return {"": next(iter(found.values()))}
        if "features" in found:
            return {"": found["features"]}
        raise Usage(f"{path} holds several arrays: {', '.join(sorted(found)) or 'none'}\nname one of them 'features'")
    absent = [name for name in names if name not in found]
    if absent:
        raise Usage(f"{path} has no array {absent[0]!r}\nthe model takes: {', '.join(names)}")
    return found


def _fit(array: np.ndarray, spec: Mapping[str, Any], where: str) -> np.ndarray:
    """The array as [n, *shape] of the wanted dtype, when no value changes more than by float rounding."""
    shape, dtype = tuple(spec["shape"]), np.dtype(spec["dtype"])
    if array.shape == shape:
        array = array[None]
    elif shape and shape[-1] == 1 and array.shape[1:] == shape[:-1]:
        array = array[..., None]
    if array.shape[1:] != shape or array.ndim == 0:
        wanted = ", ".join(["n", *map(str, shape)])
        raise Usage(f"{where}: an array of shape {list(array.shape)}\nthe model takes [{wanted}] of {dtype}")
    if array.dtype == dtype or np.can_cast(array.dtype, dtype, "same_kind"):
        return array.astype(dtype, copy=False)
    if array.dtype.kind not in "biuf" or dtype.kind not in "biuf":
        raise Usage(f"{where}: values of type {array.dtype}\nthe model takes {dtype}")
    with np.errstate(invalid="ignore"):
        cast = array.astype(dtype)
    if not np.array_equal(cast, array):
        raise Usage(f"{where}: values of type {array.dtype} do not fit into {dtype}")
    return cast
