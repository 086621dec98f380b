"""Rows of CSV and TSV files with their line numbers, so that every message can point at a line.

The csv module reads the rows: it alone knows on which line a row began when cells hold line breaks.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfapp.data.examples import Dropped
from tfapp.errors import Missing, Usage

if TYPE_CHECKING:
    from tfapp.data.columns import Store

DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|"}
LONGEST_CELL = 2**27
# What Arrow reads at once; a line must fit into it.
BLOCK = 2**24

Row = tuple[int, list[str]]
"""The line a row began on (the first is 1), and its cells."""


def rows(path: Path, delimiter: str = "auto") -> Iterator[Row]:
    """The rows of a UTF-8 file, blank lines left out, cells stripped of spaces around them.

    Args:
      delimiter: one character, a name of DELIMITERS, or "auto": tab for .tsv, else the one that cuts the
        first line into most cells.

    Raises:
      Missing: the file is not text in UTF-8, or not readable as CSV.
    """
    csv.field_size_limit(LONGEST_CELL)  # the module's default of 128 KiB is less than a long document
    separator = _separator(path, delimiter)
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator, skipinitialspace=True)
            for cells in reader:
                if cells:
                    yield line, [cell.strip() for cell in cells]
                line = reader.line_num + 1
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except csv.Error as error:
        raise Missing(f"{path}, line {line}: {error}\na quote that is never closed does this") from None
    except OSError as error:
        raise Missing(f"cannot read {path}: {error.strerror}") from None


def columns(path: Path, store: Store, width: int, delimiter: str = "auto") -> bool:
    """The cells of a simple file as `rows` would give them, by Arrow, which reads ten times as fast.

    Simple: no quotes but in the first line, no blank line, no carriage return but at the end of a line, and as many cells in each line.

    Args:
      store: takes them.
      width: of the header, which is the first line.

    Returns:
      Whether the file is simple, and readable at all; where it is not, what the store took is worth nothing.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv as arrow

    separator = _separator(path, delimiter)
    try:
        with path.open("rb") as file:
            if file.read(5).removeprefix(b"\xef\xbb\xbf").startswith((b"\r", b"\n")):
                return False
            file.seek(0)
            first = file.readline()
            if b"\0" in first or first.count(b"\r") != first.count(b"\r\n"):
                return False
            # An error where an open quote would let the header go on in the next line.
            next(csv.reader([first.decode("utf-8-sig")], delimiter=separator, skipinitialspace=True, strict=True), None)
            lines, last = first.count(b"\n"), first[-1:]
            while block := file.read(2**20):
                if b'"' in block or b"\0" in block or block.count(b"\r") != block.count(b"\r\n"):
                    return False
                # A third of what bytes.count takes.
                lines += np.count_nonzero(np.frombuffer(block, np.uint8) == ord("\n"))
                last = block[-1:]
        names = [str(number) for number in range(width)]
        with arrow.open_csv(
            path,
            arrow.ReadOptions(column_names=names, skip_rows=1, use_threads=False, block_size=BLOCK),
            arrow.ParseOptions(delimiter=separator, quote_char=False),
            arrow.ConvertOptions(column_types={name: pa.string() for name in names}),
        ) as portions:
            for portion in portions:
                store.add([pc.utf8_trim_whitespace(column) for column in portion.columns])
    except (pa.ArrowException, OSError, csv.Error, UnicodeDecodeError):
        return False
    # The lines must be countable: every message names one.
    return store.rows + 1 == lines + (last != b"\n")


def header(path: Path, stream: Iterator[Row]) -> list[str]:
    """The column names in the first row of `stream`; a column without one is called after its number.

    Raises:
      Missing: there is no row, or two columns share a name.
    """
    first = next(stream, None)
    if first is None:
        raise Missing(f"{path} is empty: the first line should name the columns")
    names = [name or f"column{number}" for number, name in enumerate(first[1], start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Missing(f"{path} has two columns called {twice[0]!r}\ngive each column its own name in the first line")
    return names


def whole(stream: Iterable[Row], width: int, label: str, dropped: list[Dropped]) -> Iterator[Row]:
    """The rows of exactly `width` cells; the others go to `dropped`, since nobody knows which cell is which."""
    for line, cells in stream:
        if len(cells) == width:
            yield line, cells
        else:
            dropped.append(Dropped(f"{label}:{line}", _ragged(cells, width)))


def not_utf8(path: Path) -> Missing:
    """The error for a file in some other encoding, with the line where it shows."""
    with path.open("rb") as file:
        for line, text in enumerate(file, start=1):
            try:
                text.decode("utf-8")
            except UnicodeDecodeError as error:
                where = f"line {line}, byte 0x{text[error.start]:02x}"
                break
        else:
            where = "at its end"
    return Missing(
        f"{path} is not UTF-8 text ({where})\n"
        f"save it as UTF-8; from Latin-1, for instance: iconv -f latin1 -t utf-8 {path.name} > utf8-{path.name}"
    )


def _ragged(cells: Sequence[str], width: int) -> str:
    reason = f"{len(cells)} cells where {width} are expected"
    breaks = sum(cell.count("\n") for cell in cells)
    return reason + (f", over {breaks + 1} lines: is a quote left open?" if breaks else "")


def _separator(path: Path, delimiter: str) -> str:
    if delimiter != "auto":
        separator = DELIMITERS.get(delimiter, delimiter)
        if len(separator) != 1:
            raise Usage(f"delimiter {delimiter!r}: give one character, auto, or one of {', '.join(DELIMITERS)}")
        return separator
    if path.suffix.lower() == ".tsv":
        return "\t"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(2**16)
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except OSError as error:
        raise Missing(f"cannot read {path}: {error.strerror}") from None
    return max(DELIMITERS.values(), key=lambda candidate: len(next(csv.reader([first], delimiter=candidate), [])))
