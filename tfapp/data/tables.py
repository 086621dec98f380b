"""Tables in CSV, TSV or Parquet files: columns typed, targets found, bad rows counted.

What is learned of the training files (which columns, of which type, what counts as missing) is kept in the
reader, so that new files are read the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfapp.data import delimited, files
from tfapp.data.examples import Data, Dropped, Examples, Task
from tfapp.data.files import Paths
from tfapp.data.parts import named, share_out
from tfapp.errors import Missing, Usage, guess, nearest
from tfapp.settings import Split

Type = Literal["number", "boolean", "category", "ignored"]

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
    names: np.ndarray
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
    columns = {name: _plain(table[name]) for name in table.column_names}
    names = np.array([str(row) for row in range(len(frame))], dtype=object)
    parts = np.full(len(frame), "", dtype=object)
    return _data(_Table(columns, names), parts, target, split or Split(), task, types or {}, ignore, MISSING, "auto")


def read_new(reader: Mapping[str, Any], paths: Paths) -> tuple[dict[str, np.ndarray], np.ndarray, tuple[Dropped, ...]]:
    """The features, names and dropped rows of new files, read as the training files were.

    The target need not be there and other columns do not matter.

    Raises:
      Usage: a column that the model needs is not there. Missing: a file that is not there, empty or unreadable.
    """
    table = _table(paths, reader["missing"], reader["delimiter"])
    values, _ = _values(table, _columns(reader, table), reader["missing"])
    return values, table.names, table.dropped


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
    found, ignored = _infer(_rows(table, training), features, types, ignore, missing)
    task = _task(_take(table.columns[target], training), missing) if task == "auto" else _task_named(task)
    classes = _classes(_take(table.columns[target], training), missing, target) if task == "classification" else ()
    labels, kept, dropped = _labels(table, target, classes, task, missing)
    if not len(kept):
        raise Missing(f"none of {len(table):,} rows can be learned from: {dropped[0].name}: {dropped[0].reason}")

    values, unreadable = _values(table, found, missing)
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
    simple = delimited.columns(path, len(names), delimiter)
    if simple is not None:
        lines = np.array([f"{label}:{line}" for line in range(2, len(simple[0]) + 2)], dtype=object)
        return _Table(dict(zip(names, simple, strict=True)), lines)
    dropped: list[Dropped] = []
    numbers: list[np.ndarray] = []
    chunks: list[list[pa.Array]] = []
    good = delimited.whole(stream, len(names), label, dropped)
    while chunk := list(islice(good, CHUNK)):
        numbers.append(np.array([f"{label}:{line}" for line, _ in chunk], dtype=object))
        chunks.append([pa.array(cells, pa.string()) for cells in zip(*(cells for _, cells in chunk), strict=True)])
    columns = {
        name: pa.chunked_array([chunk[number] for chunk in chunks], pa.string()) for number, name in enumerate(names)
    }
    return _Table(columns, np.concatenate([np.empty(0, object), *numbers]), tuple(dropped))


def _parquet(path: Path, label: str) -> _Table:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise Missing(f"cannot read {path} as Parquet: {str(error).splitlines()[0]}") from None
    twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if twice:
        raise Missing(f"{path} has two columns called {twice[0]!r}\ngive each column its own name")
    columns = {name: _plain(table[name]) for name in table.column_names}
    names = np.array([f"{label}:{row}" for row in range(1, len(table) + 1)], dtype=object)
    return _Table(columns, names)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as int64, float64 or text, whatever Parquet stores; what has no text form is all missing."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_signed_integer(kind) or pa.types.is_unsigned_integer(kind) and kind != pa.uint64():
        return column.cast(pa.int64())
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or kind == pa.uint64():
        return column.cast(pa.float64(), safe=False)
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.chunked_array([pa.nulls(len(column), pa.string())])


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
    filled = [table for table in tables if len(table)]
    columns = {name: _below([table.columns[name] for table in filled]) for name in first.columns}
    names = np.concatenate([np.empty(0, object), *(table.names for table in filled)])
    return _Table(columns, names, tuple(row for table in tables for row in table.dropped))


def _below(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    kinds = {column.type for column in columns}
    kind = kinds.pop() if len(kinds) == 1 else pa.string() if pa.string() in kinds else pa.float64()
    return pa.chunked_array([chunk for column in columns for chunk in column.cast(kind).chunks], kind)


def _rows(table: _Table, indices: np.ndarray) -> _Table:
    if len(indices) == len(table):
        return table
    columns = {name: _take(column, indices) for name, column in table.columns.items()}
    return replace(table, columns=columns, names=table.names[indices])


def _take(column: pa.ChunkedArray, indices: np.ndarray) -> pa.ChunkedArray:
    return column if len(indices) == len(column) else column.take(pa.array(indices))


# Cells to values ------------------------------------------------------------------------------------------------------


def _cells(column: pa.ChunkedArray, missing: Sequence[str]) -> pa.ChunkedArray:
    """Text of each cell, null where the value is missing."""
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    gone = pc.is_in(text, value_set=pa.array([*missing, ""], pa.string()))
    return pc.if_else(gone, pa.scalar(None, pa.string()), text)


def _text(column: pa.ChunkedArray, missing: Sequence[str]) -> np.ndarray:
    """Text of each cell, "" where the value is missing; equal texts are one object, to save memory."""
    coded = pc.fill_null(_cells(column, missing), "").combine_chunks().dictionary_encode()
    return _object(coded.dictionary.to_pylist())[coded.indices.to_numpy()]


def _numbers(column: pa.ChunkedArray, missing: Sequence[str]) -> tuple[np.ndarray, int]:
    """float64 values, NaN where missing, and how many cells were neither missing nor a finite float32."""
    if pa.types.is_string(column.type):
        cells = _cells(column, missing)
        written = pc.if_else(pc.match_substring_regex(cells, NUMBER), cells, pa.scalar(None, pa.string()))
        values = written.cast(pa.float64()).to_numpy().astype(np.float64)
        present = cells.is_valid().to_numpy()
    else:
        values = column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)
        markers = [float(word) for word in missing if re.match(NUMBER, word)]
        present = ~(np.isnan(values) | np.isin(values, markers))
    usable = np.isfinite(values) & (np.abs(values) <= np.finfo(np.float32).max)
    return np.where(present & usable, values, np.nan), int((present & ~usable).sum())


def _booleans(column: pa.ChunkedArray, missing: Sequence[str]) -> tuple[np.ndarray, int]:
    """1 for yes, 0 for no, NaN where missing, and how many cells were neither."""
    words = np.char.lower(_text(column, missing).astype(str))
    yes, no = np.isin(words, list(TRUE)), np.isin(words, list(FALSE))
    return np.where(yes, 1.0, np.where(no, 0.0, np.nan)), int((~yes & ~no & (words != "")).sum())


def _values(
    table: _Table, columns: Sequence[Column], missing: Sequence[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The features by key, and a note for each column with cells that could not be read."""
    values: dict[str, np.ndarray] = {}
    notes = []
    for column in columns:
        cells = table.columns[column.name]
        if column.type == "category":
            values[column.key] = _text(cells, missing)
            continue
        read_as, unreadable = (_booleans if column.type == "boolean" else _numbers)(cells, missing)
        values[column.key] = read_as.astype(np.float32)
        if unreadable:
            notes.append(f"{column.name}: {unreadable:,} cells are no {column.type} and count as missing")
    return values, notes


def _object(values: Sequence[str]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


# What the columns are -------------------------------------------------------------------------------------------------


def _infer(
    table: _Table, features: Sequence[str], types: Mapping[str, str], ignore: Sequence[str], missing: Sequence[str]
) -> tuple[list[Column], dict[str, str]]:
    """The columns to learn from, and those left out with the reason."""
    wrong = {name: kind for name, kind in types.items() if kind not in Type.__args__}  # type: ignore[attr-defined]
    if wrong:
        name, kind = next(iter(wrong.items()))
        raise Usage(f"types.{name}={kind}: {nearest(kind, Type.__args__)}")  # type: ignore[attr-defined]
    decided = {name: _type(table.columns[name], name, missing) for name in features}
    decided |= {name: (kind, "as asked") for name, kind in types.items() if name in decided}  # type: ignore[misc]
    decided |= {name: ("ignored", "as asked") for name in ignore if name in decided}
    ignored = {name: reason for name, (kind, reason) in decided.items() if kind == "ignored"}
    kept = {name: kind for name, (kind, _) in decided.items() if kind != "ignored"}
    if not kept:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in islice(ignored.items(), 5))
        raise Missing(
            f"no column to learn from ({reasons or 'the target is the only one'})\n"
            "keep one with types.COLUMN=number or types.COLUMN=category"
        )
    return _keyed(kept), ignored


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


def _type(column: pa.ChunkedArray, name: str, missing: Sequence[str]) -> tuple[Type, str]:
    """What a column holds, and the reason where it is left out."""
    cells = _cells(column, missing).drop_null() if pa.types.is_string(column.type) else column.drop_null()
    distinct = pc.count_distinct(cells).as_py()
    if distinct < 2:
        return "ignored", "the same in every row" if distinct else "empty"
    stored_as_text = pa.types.is_string(column.type)
    if stored_as_text:
        words = {str(word).lower() for word in cells.unique().to_pylist()} if distinct <= 10 else set()
        if words and words <= TRUE | FALSE and words & TRUE and words & FALSE:
            return "boolean", ""
    values, unreadable = _numbers(column, missing)
    values = values[np.isfinite(values)]
    if not stored_as_text or len(values) and len(values) >= MOSTLY * (len(values) + unreadable):
        return ("ignored", "numbers the rows") if _numbers_rows(values, name) else ("number", "")
    if len(cells) >= FEW and distinct > 0.9 * len(cells):
        return "ignored", "a different text in almost every row"
    return "category", ""


def _numbers_rows(values: np.ndarray, name: str) -> bool:
    """Whether the values say no more than which row it is."""
    if len(values) < FEW or len(np.unique(values)) < len(values) or np.any(values % 1):
        return False
    called_so = re.fullmatch(r"(.*[_\W])?(id|idx|index|uuid|rowid|row|column1)", name.lower()) is not None
    return called_so or (values[0] in {0, 1} and bool(np.all(np.diff(values) == 1)))


def _task(target: pa.ChunkedArray, missing: Sequence[str]) -> Task:
    values, unreadable = _numbers(target, missing)
    values = values[np.isfinite(values)]
    if unreadable or not len(values):
        return "classification"
    distinct = len(np.unique(values))
    few = distinct <= 2 or distinct <= min(FEW, len(values) // 5)
    return "classification" if few and not np.any(values % 1) else "regression"


def _task_named(task: str) -> Task:
    if task not in {"classification", "regression"}:
        raise Usage(f"task {task!r}: {nearest(task, ['auto', 'classification', 'regression'])}")
    return task  # type: ignore[return-value]


def _classes(target: pa.ChunkedArray, missing: Sequence[str], name: str) -> tuple[str, ...]:
    """The classes in order: of their numbers where all are numbers, else of the alphabet."""
    found = np.unique(_class_names(target, missing))
    found = found[found != ""]
    if len(found) > 50 and len(found) > len(target) / 2:
        raise Usage(
            f"{len(found):,} different values of {name!r} in {len(target):,} rows are no classes\n"
            "is it the target? A number is learned with task=regression"
        )
    if all(re.match(NUMBER, word) for word in found):
        found = np.array(sorted(found, key=float), dtype=object)
    return tuple(str(word) for word in found)


def _class_names(target: pa.ChunkedArray, missing: Sequence[str]) -> np.ndarray:
    """The class of each row as text: 1, 1.0 and «1» are one class. "" where missing."""
    values, unreadable = _numbers(target, missing)
    if unreadable or np.any(values[np.isfinite(values)] % 1):
        return _text(target, missing)
    names, codes = np.unique(values, return_inverse=True)
    return _object(["" if np.isnan(value) else str(int(value)) for value in names])[codes]


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
        words = _class_names(column, missing)
        number = {name: index for index, name in enumerate(classes)}
        labels = np.array([number.get(word, -1) for word in words], dtype=np.int64)
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
    facts = [f"{len(np.unique(values)) - (empty > 0)} values"] if column.type == "category" else []
    facts += [f"{empty:.1%} missing"] if empty else []
    return f"{column.name} ({', '.join(facts)})" if facts else column.name


def _listed(words: Sequence[str] | Mapping[str, Any], most: int = 30) -> str:
    words = list(words)
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
