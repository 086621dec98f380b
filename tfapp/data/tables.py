"""Tables in CSV, TSV or Parquet files: columns typed, targets found, bad rows counted.

What is learned of the training files (which columns, of which type, what counts as missing) is kept in the
reader, so that new files are read the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tfapp.data import columns, delimited, files
from tfapp.data.columns import Below, Store
from tfapp.data.examples import Data, Dropped, Examples, Task
from tfapp.data.files import Paths
from tfapp.data.lines import Lines
from tfapp.data.parts import named, share_out
from tfapp.errors import Missing, Usage, guess, nearest
from tfapp.settings import Split

Type = Literal["number", "boolean", "category", "ignored"]
_Read = tuple[np.ndarray, int]
"""Values of a column, float32 [n] with NaN for missing, and how many cells could not be read and count as such."""

SUFFIXES = (".csv", ".tsv", ".parquet")
MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
TRUE, FALSE = frozenset({"true", "t", "yes", "y", "1"}), frozenset({"false", "f", "no", "n", "0"})

MOSTLY = 0.95
"""Share of the cells that must be numbers for a column of numbers; the others are then missing values."""
FEW = 20
"""Most distinct whole numbers that are taken for class numbers."""
CHUNK = 65_536


@dataclass(frozen=True)
class Column:
    """One feature.

    Attributes:
      name: as the file calls it.
      key: as the model calls it; TensorFlow takes only letters, digits and underscores in the name of an input.
      type: number and boolean become float32 with NaN for missing, category text with "" for missing.
    """

    name: str
    key: str
    type: Type


@dataclass(frozen=True)
class _Table:
    """The rows of some files, cells as the files have them."""

    columns: Mapping[str, pa.ChunkedArray]
    names: Lines
    dropped: tuple[Dropped, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


def read(
    paths: Paths,
    target: str,
    *,
    split: Split | None = None,
    task: Task | Literal["auto"] = "auto",
    types: Mapping[str, str] | None = None,
    ignore: Sequence[str] = (),
    missing: Sequence[str] = MISSING,
    delimiter: str = "auto",
    validation: Paths = (),
    test: Paths = (),
    split_column: str | None = None,
    group: str | None = None,
) -> Data:
    """The rows of a table in three parts, with each column's type inferred.

    Args:
      paths: a CSV, TSV or Parquet file, several, a folder or a glob; columns are matched by name.
      target: the column to predict.
      split: how rows are shared out where the user has not done it.
      task: auto: classification for text, booleans and few whole numbers, else regression.
      types: column -> number, boolean, category or ignored, where the inferred type is wrong.
      ignore: columns to leave out.
      missing: cells that mean «no value».
      delimiter: one character, comma, tab, semicolon, pipe, or auto.
      validation, test: files with these parts of the rows.
      split_column: the column that says train, validation or test of each row.
      group: a column whose equal values must stay in one part (a patient, say). It is no feature.

    Raises:
      Usage: a column that is not there, a type that is none.
      Missing: files that are not there, empty or unreadable, or nothing left to learn from.
    """
    table, parts = _in_parts({"": paths, "validation": validation, "test": test}, missing, delimiter)
    settings = split or Split()
    return _data(table, parts, target, settings, task, types or {}, ignore, missing, delimiter, split_column, group)


def frame(
    frame: pd.DataFrame,
    target: str,
    *,
    split: Split | None = None,
    task: Task | Literal["auto"] = "auto",
    types: Mapping[str, str] | None = None,
    ignore: Sequence[str] = (),
) -> Data:
    """The same of a table that is in memory, which files with the same columns can then be read like."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    held = {name: columns.plain(table[name]) for name in table.column_names}
    parts = np.full(len(frame), "", dtype=object)
    return _data(
        _Table(held, Lines.of("", np.arange(len(frame)))),
        parts,
        target,
        split or Split(),
        task,
        types or {},
        ignore,
        MISSING,
        "auto",
    )


def read_new(reader: Mapping[str, Any], paths: Paths) -> tuple[dict[str, np.ndarray], np.ndarray, tuple[Dropped, ...]]:
    """The features, names and dropped rows of new files, read as the training files were.

    The target need not be there and other columns do not matter.

    Raises:
      Usage: a column that the model needs is not there. Missing: a file that is not there, empty or unreadable.
    """
    table = _table(paths, reader["missing"], reader["delimiter"])
    values, _ = _values(table, _columns(reader, table), reader["missing"])
    return values, np.asarray(table.names), table.dropped


def read_labelled(
    reader: Mapping[str, Any], classes: Sequence[str], paths: Paths
) -> tuple[Examples, tuple[Dropped, ...]]:
    """New examples with their labels (none of `classes`: regression), and the rows dropped.

    A row whose label is missing or was never seen in training is dropped.

    Raises:
      Usage: a column that the model needs, or the target, is not there.
      Missing: a file that is not there, empty or unreadable, or no row with a label.
    """
    table = _table(paths, reader["missing"], reader["delimiter"])
    _known(table, [reader["target"]])
    task: Task = "classification" if classes else "regression"
    labels, kept, dropped = _labels(table, reader["target"], classes, task, reader["missing"])
    if not len(kept):
        raise Missing(f"no row with a label that the model knows in {paths}")
    values, _ = _values(table, _columns(reader, table), reader["missing"])
    return Examples(values, labels, table.names).take(kept), (*table.dropped, *dropped)


def _data(
    table: _Table,
    parts: np.ndarray,
    target: str,
    settings: Split,
    task: Task | Literal["auto"],
    types: Mapping[str, str],
    ignore: Sequence[str],
    missing: Sequence[str],
    delimiter: str,
    split_column: str | None = None,
    group: str | None = None,
) -> Data:
    roles = {"target": target, "split": split_column, "group": group}
    _known(table, [name for name in [*roles.values(), *ignore, *types] if name])
    if split_column:
        parts = np.where(parts == "", named(_text(table.columns[split_column], ()), table.names), parts)
    training = np.flatnonzero((parts == "train") | (parts == ""))

    features = [name for name in table.columns if name not in roles.values()]
    found, ignored, read = _infer(table, training, features, types, ignore, missing)
    task = _task(_take(table.columns[target], training), missing) if task == "auto" else _task_named(task)
    classes = _classes(_take(table.columns[target], training), missing, target) if task == "classification" else ()
    labels, kept, dropped = _labels(table, target, classes, task, missing)
    if not len(kept):
        raise Missing(f"none of {len(table):,} rows can be learned from: {dropped[0].name}: {dropped[0].reason}")

    values, unreadable = _values(table, found, missing, read)
    examples = Examples(values, labels, table.names).take(kept)
    groups = None if group is None else np.unique(_text(table.columns[group], missing), return_inverse=True)[1][kept]
    (train, held_out, tested), leaks = share_out(examples, parts[kept], settings, task, groups)
    dropped = [*table.dropped, *dropped]
    reader = {
        "columns": [asdict(column) for column in found],
        "target": target,
        "missing": list(missing),
        "delimiter": delimiter,
    }
    return Data(
        train,
        held_out,
        tested,
        task=task,
        kind="table",
        classes=classes,
        target=target,
        reader=reader,
        dropped=tuple(dropped),
        notes=(
            _headline(len(kept), len(dropped), target, labels[kept], classes),
            *_described(found, ignored, examples),
            *unreadable,
            *leaks,
        ),
    )


# Files to tables ------------------------------------------------------------------------------------------------------


def _in_parts(given: Mapping[str, Paths], missing: Sequence[str], delimiter: str) -> tuple[_Table, np.ndarray]:
    """All files in one table, and for each row the part it was given for («»: none)."""
    tables = {part: _table(paths, missing, delimiter) for part, paths in given.items() if paths}
    parts = np.concatenate([np.full(len(table), part, dtype=object) for part, table in tables.items()])
    return _joined(list(tables.values())), parts


def _table(paths: Paths, missing: Sequence[str], delimiter: str) -> _Table:
    found = files.find(paths, SUFFIXES)
    labels = files.call(found)
    tables = [
        _parquet(file, labels[file]) if file.suffix.lower() == ".parquet" else _delimited(file, labels[file], delimiter)
        for file in found
    ]
    table = _joined(tables)
    if not len(table):
        reason = f"{table.dropped[0].name}: {table.dropped[0].reason}" if table.dropped else "only the column names"
        raise Missing(f"no row in {', '.join(labels.values())} ({reason})")
    return table


def _delimited(path: Path, label: str, delimiter: str) -> _Table:
    stream = delimited.rows(path, delimiter)
    names = delimited.header(path, stream)
    store = Store(names)
    if delimited.columns(path, store, len(names), delimiter):
        return _Table(store.columns(), Lines.of(label, np.arange(2, store.rows + 2)))
    store = Store(names)
    dropped: list[Dropped] = []
    numbers = [np.empty(0, np.uint32)]
    good = delimited.whole(stream, len(names), label, dropped)
    while chunk := list(islice(good, CHUNK)):
        numbers.append(np.array([line for line, _ in chunk], np.uint32))
        store.add([pa.array(cells, pa.string()) for cells in zip(*(cells for _, cells in chunk), strict=True)])
    return _Table(store.columns(), Lines.of(label, np.concatenate(numbers)), tuple(dropped))


def _parquet(path: Path, label: str) -> _Table:
    table = columns.Parquet.open(path)
    return _Table(table, Lines.of(label, np.arange(1, table.rows + 1)))


def _joined(tables: Sequence[_Table]) -> _Table:
    """One table below the other, columns matched by name; the first says which columns there are."""
    if len(tables) == 1:
        return tables[0]
    first = tables[0]
    for table in tables[1:]:
        lacking = [name for name in first.columns if name not in table.columns]
        if lacking and len(table):
            where = str(table.names[0]).rpartition(":")[0]
            raise Usage(
                f"{where} has no column {lacking[0]!r}, which the first file has\nits columns: {_listed(table.columns)}"
            )
    filled = [table for table in tables if len(table)] or [first]
    names = Lines.joined([table.names for table in filled])
    dropped = tuple(row for table in tables for row in table.dropped)
    return _Table(Below(tuple(first.columns), [table.columns for table in filled]), names, dropped)


def _take(column: pa.ChunkedArray, indices: np.ndarray) -> pa.ChunkedArray:
    return column if len(indices) == len(column) else column.take(pa.array(indices))


# Cells to values ------------------------------------------------------------------------------------------------------


def _portions(column: pa.ChunkedArray) -> Iterator[pa.Array]:
    """The cells some at a time: what is between text and value takes several times as much as either."""
    for chunk in column.chunks:
        for start in range(0, len(chunk), CHUNK):
            yield chunk.slice(start, CHUNK)


def _cells(cells: pa.Array | pa.ChunkedArray, missing: Sequence[str]) -> Any:
    """Text of each cell, null where the value is missing."""
    text = pc.utf8_trim_whitespace(cells.cast(pa.string()))
    gone = pc.is_in(text, value_set=pa.array([*missing, ""], pa.string()))
    return pc.if_else(gone, pa.scalar(None, pa.string()), text)


def _coded(column: pa.ChunkedArray, missing: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The different texts of the cells, "" for missing, and which of them each cell holds, int32 [n]."""
    known: dict[str, int] = {}
    codes = [np.empty(0, np.int32)]
    for chunk in _portions(column):
        found = pc.fill_null(_cells(chunk, missing), "").dictionary_encode()
        numbers = [known.setdefault(text, len(known)) for text in found.dictionary.to_pylist()]
        codes.append(np.array(numbers, np.int32)[found.indices.to_numpy(zero_copy_only=False)])
    return list(known), np.concatenate(codes)


def _text(column: pa.ChunkedArray, missing: Sequence[str]) -> np.ndarray:
    """Text of each cell, "" where the value is missing; equal texts are one object, to save memory."""
    texts, codes = _coded(column, missing)
    return _object(texts)[codes]


def _numbers(column: pa.ChunkedArray, missing: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """float64 values, NaN where missing, and which cells were neither missing nor a finite float32, bool; both [n]."""
    values, unreadable, at = np.empty(len(column)), np.zeros(len(column), bool), 0
    for chunk in _portions(column):
        here = slice(at, at + len(chunk))
        values[here], present = _written(chunk, missing) if pa.types.is_string(chunk.type) else _stored(chunk, missing)
        usable = np.abs(values[here]) <= np.finfo(np.float32).max
        if not usable.all():
            values[here][~usable], unreadable[here] = np.nan, present & ~usable
        at += len(chunk)
    return values, unreadable


def _written(cells: pa.Array, missing: Sequence[str]) -> tuple[np.ndarray, np.ndarray | bool]:
    """float64 of text, NaN or infinite where it is no number, and which cells are not missing."""
    if not any(re.match(NUMBER, word) for word in missing):
        # Most columns of numbers hold nothing else. What Arrow takes for a number and NUMBER does not is not finite.
        try:
            values = cells.cast(pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:
            pass
        else:
            if np.isfinite(values).all():
                return values, True
    cells = _cells(cells, missing)
    written = pc.if_else(pc.match_substring_regex(cells, NUMBER), cells, pa.scalar(None, pa.string()))
    values = written.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
    return values, cells.is_valid().to_numpy(zero_copy_only=False)


def _stored(cells: pa.Array, missing: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """As `_written`, of numbers."""
    values = cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    markers = [float(word) for word in missing if re.match(NUMBER, word)]
    gone = np.isnan(values) | np.isin(values, markers)
    values[gone] = np.nan
    return values, ~gone


def _booleans(column: pa.ChunkedArray, missing: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """1 for yes, 0 for no, NaN where missing, and which cells were neither, bool; both [n]."""
    texts, codes = _coded(column, missing)
    words = [text.lower() for text in texts]
    values = np.array([1.0 if word in TRUE else 0.0 if word in FALSE else np.nan for word in words])
    strange = np.array([bool(word) and word not in TRUE | FALSE for word in words], bool)
    return values[codes], strange[codes]


def _values(
    table: _Table, columns: Sequence[Column], missing: Sequence[str], read: Mapping[str, _Read] | None = None
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The features by key, and a note for each column with cells that could not be read.

    Args:
      read: the columns of numbers that were read before, by name.
    """
    values: dict[str, np.ndarray] = {}
    notes = []
    for column in columns:
        if column.type == "category":
            values[column.key] = _text(table.columns[column.name], missing)
            continue
        if column.type == "number" and read and column.name in read:
            values[column.key], unreadable = read[column.name]
        else:
            work = _booleans if column.type == "boolean" else _numbers
            values[column.key], unreadable = _as_read(*work(table.columns[column.name], missing))
        if unreadable:
            notes.append(f"{column.name}: {unreadable:,} cells are no {column.type} and count as missing")
    return values, notes


def _as_read(values: np.ndarray, unreadable: np.ndarray) -> _Read:
    return values.astype(np.float32), int(unreadable.sum())


def _object(values: Sequence[str]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


# What the columns are -------------------------------------------------------------------------------------------------


def _infer(
    table: _Table,
    training: np.ndarray,
    features: Sequence[str],
    types: Mapping[str, str],
    ignore: Sequence[str],
    missing: Sequence[str],
) -> tuple[list[Column], dict[str, str], dict[str, _Read]]:
    """The columns to learn from as the rows of `training` tell, those left out with the reason, and what was read of all rows."""
    wrong = {name: kind for name, kind in types.items() if kind not in Type.__args__}  # type: ignore[attr-defined]
    if wrong:
        name, kind = next(iter(wrong.items()))
        raise Usage(f"types.{name}={kind}: {nearest(kind, Type.__args__)}")  # type: ignore[attr-defined]
    asked: dict[str, Any] = {**types, **dict.fromkeys(ignore, "ignored")}
    decided: dict[str, tuple[Type, str, _Read | None]] = {
        name: (asked[name], "as asked", None) if name in asked else _type(table.columns[name], name, missing, training)
        for name in features
    }
    ignored = {name: reason for name, (kind, reason, _) in decided.items() if kind == "ignored"}
    kept = {name: kind for name, (kind, *_) in decided.items() if kind != "ignored"}
    if not kept:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in islice(ignored.items(), 5))
        raise Missing(
            f"no column to learn from ({reasons or 'the target is the only one'})\n"
            "keep one with types.COLUMN=number or types.COLUMN=category"
        )
    return _keyed(kept), ignored, {name: read for name, (*_, read) in decided.items() if read}


def _keyed(kept: Mapping[str, Type]) -> list[Column]:
    columns: list[Column] = []
    taken: set[str] = set()
    for name, kind in kept.items():
        plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "column"
        key = plain = plain if plain[0].isalpha() else f"column_{plain}"
        number = 2
        while key.lower() in taken:
            key, number = f"{plain}_{number}", number + 1
        taken.add(key.lower())
        columns.append(Column(name, key, kind))
    return columns


def _type(
    column: pa.ChunkedArray, name: str, missing: Sequence[str], training: np.ndarray
) -> tuple[Type, str, _Read | None]:
    """What a column holds by its training rows, the reason where it is left out, and what was read of it where it is numbers."""
    stored_as_text = pa.types.is_string(column.type)
    seen = _take(column, training)
    words = _some(seen, missing if stored_as_text else None, 10)
    if len(words) < 2:
        return "ignored", "the same in every row" if words else "empty", None
    if stored_as_text and len(words) <= 10:
        lower = {word.lower() for word in words}
        if lower <= TRUE | FALSE and lower & TRUE and lower & FALSE:
            return "boolean", "", None
    numbers, unreadable = _numbers(column, missing)
    values = numbers[training]
    values = values[np.isfinite(values)]
    if not stored_as_text or len(values) and len(values) >= MOSTLY * (len(values) + unreadable[training].sum()):
        if _numbers_rows(values, name):
            return "ignored", "numbers the rows", None
        return "number", "", _as_read(numbers, unreadable)
    if _all_different(seen, missing):
        return "ignored", "a different text in almost every row", None
    return "category", "", None


def _some(column: pa.ChunkedArray, missing: Sequence[str] | None, most: int) -> set[str]:
    """What the cells hold: all that is different where that is at most `most`, else some more."""
    found = set[str]()
    for chunk in _portions(column):
        some = (chunk if missing is None else _cells(chunk, missing)).drop_null().unique()
        found |= set(map(str, some.slice(0, most + 1).to_pylist()))
        if len(found) > most:
            break
    return found


def _all_different(column: pa.ChunkedArray, missing: Sequence[str]) -> bool:
    """Whether nearly no text comes twice, by hashes of 64 bits, which take less room than texts."""
    from pandas.util import hash_array

    present, hashes = 0, [np.empty(0, np.uint64)]
    for chunk in _portions(column):
        cells = _cells(chunk, missing).drop_null()
        present += len(cells)
        hashes.append(hash_array(np.asarray(cells.unique().to_pylist(), object)))
    return present >= FEW and len(np.unique(np.concatenate(hashes))) > 0.9 * present


def _numbers_rows(values: np.ndarray, name: str) -> bool:
    """Whether the values say no more than which row it is."""
    if len(values) < FEW or not _whole(values) or len(np.unique(values)) < len(values):
        return False
    called_so = re.fullmatch(r"(.*[_\W])?(id|idx|index|uuid|rowid|row|column1)", name.lower()) is not None
    return called_so or (values[0] in {0, 1} and bool(np.all(np.diff(values) == 1)))


def _whole(values: np.ndarray) -> bool:
    """Whether all are whole numbers."""
    return bool(np.all(values == np.floor(values)))


def _task(target: pa.ChunkedArray, missing: Sequence[str]) -> Task:
    values, unreadable = _numbers(target, missing)
    values = values[np.isfinite(values)]
    if unreadable.any() or not len(values):
        return "classification"
    distinct = len(np.unique(values))
    few = distinct <= 2 or distinct <= min(FEW, len(values) // 5)
    return "classification" if few and _whole(values) else "regression"


def _task_named(task: str) -> Task:
    if task not in {"classification", "regression"}:
        raise Usage(f"task {task!r}: {nearest(task, ['auto', 'classification', 'regression'])}")
    return task  # type: ignore[return-value]


def _classes(target: pa.ChunkedArray, missing: Sequence[str], name: str) -> tuple[str, ...]:
    """The classes in order: of their numbers where all are numbers, else of the alphabet."""
    names, codes = _class_names(target, missing)
    found = sorted(names[code] for code in np.unique(codes) if names[code])
    if len(found) > 50 and len(found) > len(target) / 2:
        raise Usage(
            f"{len(found):,} different values of {name!r} in {len(target):,} rows are no classes\n"
            "is it the target? A number is learned with task=regression"
        )
    if all(re.match(NUMBER, word) for word in found):
        found = sorted(found, key=float)
    return tuple(found)


def _class_names(target: pa.ChunkedArray, missing: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The classes as text, "" for missing, and the number among them of each row: 1, 1.0 and «1» are one class."""
    values, unreadable = _numbers(target, missing)
    if unreadable.any() or not _whole(values[np.isfinite(values)]):
        return _coded(target, missing)
    codes, names = pd.factorize(values, sort=True, use_na_sentinel=False)
    return ["" if np.isnan(value) else str(int(value)) for value in names], codes


def _labels(
    table: _Table, target: str, classes: Sequence[str], task: Task, missing: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, list[Dropped]]:
    """Labels of all rows (int64 classes or float32 values), the rows that have one, and those dropped."""
    column = table.columns[target]
    if task == "regression":
        values, _ = _numbers(column, missing)
        good = np.isfinite(values)
        labels = np.where(good, values, 0).astype(np.float32)
    else:
        words, codes = _class_names(column, missing)
        number = {name: index for index, name in enumerate(classes)}
        labels = np.array([number.get(word, -1) for word in words], np.int64)[codes]
        good = labels >= 0
    bad = np.flatnonzero(~good)
    cells = _text(_take(column, bad), missing)
    wrong = "is not a number" if task == "regression" else "was never seen in training"
    dropped = [
        Dropped(str(table.names[row]), f"{target} {cell!r} {wrong}" if cell else f"{target} is missing")
        for row, cell in zip(bad, cells, strict=True)
    ]
    return labels, np.flatnonzero(good), dropped


# Looking columns up ---------------------------------------------------------------------------------------------------


def _known(table: _Table, names: Sequence[str]) -> None:
    for name in names:
        if name not in table.columns:
            said = ": ".join(filter(None, [f"no column {name!r}", guess(name, table.columns)]))
            raise Usage(f"{said}\ncolumns: {_listed(table.columns)}")


def _columns(reader: Mapping[str, Any], table: _Table) -> list[Column]:
    """The reader's columns, all of which the table must have."""
    columns = [Column(**column) for column in reader["columns"]]
    for column in columns:
        if column.name not in table.columns:
            raise Usage(f"the model needs the column {column.name!r}\ncolumns: {_listed(table.columns)}")
    return columns


# What to say of it ----------------------------------------------------------------------------------------------------


def _headline(rows: int, dropped: int, target: str, labels: np.ndarray, classes: Sequence[str]) -> str:
    if classes:
        counts = np.bincount(labels, minlength=len(classes))
        shares = [f"{name} {count / rows:.0%}" for name, count in zip(classes, counts, strict=True)]
        what = f"{len(classes)} classes of {target}: {_listed(shares, 6)}"
    else:
        what = f"{target}: {labels.min():.4g} to {labels.max():.4g}, mean {labels.mean():.4g}"
    return f"{rows:,} rows{f' ({dropped:,} dropped)' if dropped else ''}; {what}"


def _described(columns: Sequence[Column], ignored: Mapping[str, str], examples: Examples) -> Iterator[str]:
    """One line a type: its columns, with how many values a category has and what share is missing."""
    plural = {"number": "numbers", "boolean": "booleans", "category": "categories"}
    for kind, word in plural.items():
        said = [_said(column, examples.features[column.key]) for column in columns if column.type == kind]
        if said:
            yield f"{word} ({len(said)}): {_listed(said)}"
    if ignored:
        yield f"ignored ({len(ignored)}): {_listed([f'{name} ({reason})' for name, reason in ignored.items()])}"


def _said(column: Column, values: np.ndarray) -> str:
    empty = float(np.mean(values == "" if column.type == "category" else np.isnan(values)))
    facts = [f"{len(set(values)) - (empty > 0)} values"] if column.type == "category" else []
    facts += [f"{empty:.1%} missing"] if empty else []
    return f"{column.name} ({', '.join(facts)})" if facts else column.name


def _listed(words: Sequence[str] | Mapping[str, Any], most: int = 30) -> str:
    words = list(words)
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
