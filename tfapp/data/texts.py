"""Texts with a label: CSV, TSV or JSONL files with columns, or a folder per class of .txt files.

How the training files were read (which columns, with a header line or not, what a label is called) is kept in the
reader, so that new files are read the same way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfapp.data import delimited, files
from tfapp.data.examples import Data, Dropped, Examples, existing
from tfapp.data.files import Paths
from tfapp.data.parts import WORDS, named, share_out
from tfapp.errors import Missing, Usage, guess
from tfapp.settings import Split

JSON_LINES = (".jsonl", ".ndjson", ".json")
COLUMNS = (".csv", ".tsv", *JSON_LINES)
WHOLE_NUMBER = re.compile(r"\d{1,9}")


@dataclass(frozen=True)
class Layout:
    """Where in a file texts and labels stand.

    Attributes:
      text: the columns that make up the text, joined by a space: names, or numbers from 1 on.
      label: the column with the label; "": there is none.
      split: the column that says train, validation or test; "": there is none.
      header: whether the first line names the columns; None: it does, unless columns are given by number.
      delimiter: one character, comma, tab, semicolon, pipe, or auto.
    """

    text: tuple[str, ...] = ("text",)
    label: str = "label"
    split: str = ""
    header: bool | None = None
    delimiter: str = "auto"

    @property
    def columns(self) -> tuple[str, ...]:
        """All that a file must have."""
        return tuple(name for name in (*self.text, self.label, self.split) if name)


class Document(NamedTuple):
    """One text as it was found; label and part are "" where the file says none."""

    name: str
    text: str
    label: str = ""
    part: str = ""


def read(
    paths: Paths,
    layout: Layout | None = None,
    *,
    split: Split | None = None,
    classes: str | Path | None = None,
    validation: Paths = (),
    test: Paths = (),
) -> Data:
    """Labelled texts in three parts.

    Args:
      paths: CSV, TSV or JSONL files, a folder or glob of them; or one folder that holds a folder per class of .txt
        files, or train and test (and validation) folders that do.
      layout: where texts and labels stand in CSV, TSV and JSONL files.
      split: how texts are shared out where the user has not done it.
      classes: a file with the name of a class in each line, for labels that are numbers: counted from 0 if there is a
        label 0, else from 1.
      validation, test: files or folders with these parts.

    Raises:
      Usage: a column that is not there, labels that do not fit the class names.
      Missing: files that are not there, empty or unreadable, or nothing left to learn from.
    """
    layout, dropped = layout or Layout(), list[Dropped]()
    given = {"": paths, "validation": validation, "test": test}
    found = [
        document if document.part or not part else document._replace(part=part)
        for part, where in given.items()
        if where
        for document in _documents(where, layout, dropped)
    ]
    found = _usable(found, dropped, labelled=True)
    if not found:
        raise Missing(f"no text with a label in {_said(paths)}{_reason(dropped)}")
    names = _class_names([document.label for document in found if document.part in {"", "train"}], classes)
    examples, unseen = _examples(found, names)
    parts = np.array([document.part for document in found if document.label in names], dtype=object)
    whole, leaks = share_out(examples, parts, split or Split(), "classification")
    dropped += unseen
    return Data(
        *whole,
        task="classification",
        kind="text",
        classes=tuple(dict.fromkeys(names.values())),
        target=layout.label if not WHOLE_NUMBER.fullmatch(layout.label) else "label",
        reader={
            "text": list(layout.text),
            "label": layout.label,
            "header": layout.header,
            "delimiter": layout.delimiter,
            "labels": names,
        },
        dropped=tuple(dropped),
        notes=(*_described(examples, dropped, names), *leaks),
    )


def read_new(reader: Mapping[str, Any], paths: Paths) -> tuple[np.ndarray, np.ndarray, tuple[Dropped, ...]]:
    """Texts (object array of str), names and what was dropped, of .txt files (one text each), CSV, TSV or JSONL.

    Raises:
      Usage: the text column is not there. Missing: a file that is not there, empty or unreadable.
    """
    dropped: list[Dropped] = []
    layout = replace(_layout(reader), label="", split="")
    found = _usable(_documents(paths, layout, dropped, folders=False), dropped, labelled=False)
    if not found:
        raise Missing(f"no text in {_said(paths)}{_reason(dropped)}")
    return _array([document.text for document in found]), _array([document.name for document in found]), tuple(dropped)


def read_labelled(
    reader: Mapping[str, Any], classes: Sequence[str], paths: Paths
) -> tuple[Examples, tuple[Dropped, ...]]:
    """New examples with their labels, and what was dropped: an unseen label, for one.

    Raises:
      Usage: a column that is not there.
      Missing: a file that is not there, empty or unreadable, or no text with a label that the model knows.
    """
    dropped: list[Dropped] = []
    found = _usable(_documents(paths, _layout(reader), dropped), dropped, labelled=True)
    # A file may say «3» as the training files did, or «Business» as the model does.
    examples, unseen = _examples(found, {**{name: name for name in classes}, **reader["labels"]})
    dropped += unseen
    if not len(examples):
        raise Missing(f"no text with a label that the model knows in {_said(paths)}{_reason(dropped)}")
    return examples, tuple(dropped)


def _layout(reader: Mapping[str, Any]) -> Layout:
    return Layout(tuple(reader["text"]), reader["label"], "", reader["header"], reader["delimiter"])


# Files to documents ---------------------------------------------------------------------------------------------------


def _documents(paths: Paths, layout: Layout, dropped: list[Dropped], folders: bool = True) -> Iterator[Document]:
    given = files.each(paths)
    nested = [path for path in given if folders and path.is_dir() and any(inside.is_dir() for inside in path.iterdir())]
    for folder in nested:
        yield from _folder(folder, dropped)
    rest = [path for path in given if path not in nested]
    if not rest:
        return
    found = files.find(rest, COLUMNS if folders else (*COLUMNS, ".txt"))
    labels = files.call(found)
    for file in found:
        if file.suffix.lower() == ".txt" and not folders:
            yield from _text_file(file, labels[file], dropped)
        elif file.suffix.lower() in JSON_LINES:
            yield from _json_lines(file, labels[file], layout, dropped)
        else:
            yield from _delimited(file, labels[file], layout, dropped)


def _delimited(path: Path, label: str, layout: Layout, dropped: list[Dropped]) -> Iterator[Document]:
    numbered = all(WHOLE_NUMBER.fullmatch(column) for column in layout.columns)
    stream = delimited.rows(path, layout.delimiter)
    if layout.header if layout.header is not None else not numbered:
        names = delimited.header(path, stream)
    else:
        first = next(stream, None)
        if first is None:
            raise Missing(f"{path} is empty")
        names, stream = [str(number) for number in range(1, len(first[1]) + 1)], chain([first], stream)
    place = {name: _place(name, names, path) for name in layout.columns}
    for line, cells in delimited.whole(stream, len(names), label, dropped):
        yield Document(
            f"{label}:{line}",
            " ".join(cells[place[name]] for name in layout.text),
            cells[place[layout.label]] if layout.label else "",
            cells[place[layout.split]] if layout.split else "",
        )


def _place(column: str, names: Sequence[str], path: Path) -> int:
    """Where the column of this name, or else of this number, stands."""
    if column in names:
        return names.index(column)
    if WHOLE_NUMBER.fullmatch(column) and 1 <= int(column) <= len(names):
        return int(column) - 1
    listed = ", ".join(name if len(name) <= 40 else name[:37] + "…" for name in names)
    said = ": ".join(filter(None, [f"{path} has no column {column!r}", guess(column, names)]))
    raise Usage(
        f"{said}\ncolumns: {listed}\n"
        "in training, text=COLUMN and label=COLUMN say which; by number, as text=2 label=1, where no line names them"
    )


def _json_lines(path: Path, label: str, layout: Layout, dropped: list[Dropped]) -> Iterator[Document]:
    looked = False
    for number, line in _lines(path):
        name = f"{label}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            dropped.append(Dropped(name, "not a JSON object in one line"))
            continue
        lacking = [column for column in layout.columns if column not in record]
        if lacking and not looked:
            raise Usage(
                f"{path} has no {lacking[0]!r} in line {number}\n"
                f"keys: {', '.join(record)}; name others with text=KEY label=KEY"
            )
        looked = True
        if lacking:
            dropped.append(Dropped(name, f"no {lacking[0]!r}"))
            continue
        values = {column: _json_text(record[column]) for column in layout.columns}
        text = " ".join(values[column] for column in layout.text)
        yield Document(name, text, values.get(layout.label, ""), values.get(layout.split, ""))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())
    except UnicodeDecodeError:
        raise delimited.not_utf8(path) from None
    except OSError as error:
        raise Missing(f"cannot read {path}: {error.strerror}") from None


def _json_text(value: Any) -> str:
    """A JSON value as a CSV cell would hold it. Half a surrogate pair, which JSON allows, is no text."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode("utf-8").strip()


def _folder(root: Path, dropped: list[Dropped]) -> Iterator[Document]:
    inside = sorted(folder for folder in existing(root, "folder").iterdir() if folder.is_dir())
    given = {folder: WORDS[folder.name.lower()] for folder in inside if folder.name.lower() in WORDS}
    homes = given if "train" in given.values() else {root: ""}
    some = False
    for home, part in homes.items():
        for folder in sorted(folder for folder in home.iterdir() if folder.is_dir()):
            for file in sorted(folder.glob("*.txt")):
                some = True
                for document in _text_file(file, str(file.relative_to(root)), dropped):
                    yield document._replace(label=folder.name, part=part)
    if not some:
        raise Missing(f"no .txt file in a folder per class in {root}\nwanted: {root}/CLASS/NAME.txt")


def _text_file(path: Path, name: str, dropped: list[Dropped]) -> Iterator[Document]:
    try:
        yield Document(name, path.read_text(encoding="utf-8-sig").strip())
    except UnicodeDecodeError:
        dropped.append(Dropped(name, "not UTF-8 text"))
    except OSError as error:
        dropped.append(Dropped(name, f"cannot be read: {error.strerror}"))


def _usable(documents: Iterable[Document], dropped: list[Dropped], labelled: bool) -> list[Document]:
    """The documents with a text, a label where one is needed, and the part in one word."""
    kept = []
    for document in documents:
        if not document.text.strip():
            dropped.append(Dropped(document.name, "empty text"))
        elif labelled and not document.label:
            dropped.append(Dropped(document.name, "label is missing"))
        else:
            kept.append(document)
    said = [index for index, document in enumerate(kept) if document.part]
    if said:
        parts = named(_array([kept[index].part for index in said]), _array([kept[index].name for index in said]))
        for index, part in zip(said, parts, strict=True):
            kept[index] = kept[index]._replace(part=part)
    return kept


# Labels to classes ----------------------------------------------------------------------------------------------------


def _class_names(labels: Sequence[str], path: str | Path | None) -> dict[str, str]:
    """What the class of each label is called, in the order of the class numbers."""
    found = sorted(set(labels))
    numbers = all(WHOLE_NUMBER.fullmatch(label) for label in found)
    if len(found) > 50 and len(found) > len(labels) / 2:
        raise Usage(
            f"{len(found):,} different labels in {len(labels):,} texts are no classes\n"
            "is it the right column? Name another with label=COLUMN"
        )
    if path is None:
        return {label: label for label in (sorted(found, key=int) if numbers else found)}
    given = [line.strip() for _, line in _lines(existing(path, "file of class names"))]
    if set(found) <= set(given):
        return {name: name for name in given}
    first = 0 if "0" in found else 1
    names = {str(number): name for number, name in enumerate(given, start=first)}
    strange = [label for label in found if label not in names]
    if strange:
        raise Usage(
            f"label {strange[0]!r} has no name in {path}\n"
            f"its {len(given)} lines name the labels {first} to {first + len(given) - 1}"
        )
    return names


def _examples(documents: Sequence[Document], names: Mapping[str, str]) -> tuple[Examples, list[Dropped]]:
    """Labelled examples, and the documents whose label has no name."""
    number = {name: index for index, name in enumerate(dict.fromkeys(names.values()))}
    known = [document for document in documents if document.label in names]
    examples = Examples(
        _array([document.text for document in known]),
        np.array([number[names[document.label]] for document in known], dtype=np.int64),
        _array([document.name for document in known]),
    )
    unseen = [
        Dropped(document.name, f"label {document.label!r} was never seen in training")
        for document in documents
        if document.label not in names
    ]
    return examples, unseen


def _array(values: Sequence[str]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


# What to say of it ----------------------------------------------------------------------------------------------------


def _described(examples: Examples, dropped: Sequence[Dropped], names: Mapping[str, str]) -> Iterator[str]:
    classes = list(dict.fromkeys(names.values()))
    counts = np.bincount(examples.labels, minlength=len(classes))
    shares = [f"{name} {count / len(examples):.0%}" for name, count in zip(classes, counts, strict=True)]
    more = f" and {len(shares) - 6} more" if len(shares) > 6 else ""
    lost = f" ({len(dropped):,} dropped)" if dropped else ""
    yield f"{len(examples):,} texts{lost}; {len(classes)} classes: {', '.join(shares[:6])}{more}"
    words = np.array([text.count(" ") + 1 for text in examples.features])
    yield f"words a text: half have up to {np.median(words):.0f}, 95% up to {np.quantile(words, 0.95):.0f}"


def _said(paths: Paths) -> str:
    return ", ".join(str(path) for path in files.each(paths))


def _reason(dropped: Sequence[Dropped]) -> str:
    return f" ({dropped[0].name}: {dropped[0].reason})" if dropped else ""
