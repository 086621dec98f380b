"""Columns of a table that is too large to lie about: read when one is asked for, and forgotten again.

A large table is held as Parquet, on the disk where it came so, else compressed in memory: text of ten million rows takes a few
hundred megabytes so, and nobody needs more than a column of it at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tfapp.errors import Missing

PACKED = 64 * 2**20
"""Bytes of text from which on it is packed, and of each portion that is."""


class Store:
    """Takes a table of text portion by portion, and gives its columns.

    Args:
      names: of the columns.
      packed: bytes of a portion that is packed; a table of less stays as it is.
    """

    def __init__(self, names: Sequence[str], packed: int = PACKED):
        self._schema = pa.schema([(name, pa.string()) for name in names])
        self._limit, self._bytes = packed, 0
        self._portions: list[pa.RecordBatch] = []
        self._sink = pa.BufferOutputStream()
        self._writer: pq.ParquetWriter | None = None
        self.rows = 0

    def add(self, cells: Sequence[pa.Array]) -> None:
        """More rows: strings of each column."""
        portion = pa.RecordBatch.from_arrays(list(cells), schema=self._schema)
        self._portions.append(portion)
        self._bytes += portion.nbytes
        self.rows += len(portion)
        if self._bytes >= self._limit:
            self._pack()

    def columns(self) -> Mapping[str, pa.ChunkedArray]:
        """All that was added; nothing can be added any more."""
        if self._writer is None:
            table = pa.Table.from_batches(self._portions, self._schema)
            return {name: table[name] for name in table.column_names}
        self._pack()
        self._writer.close()
        return Parquet(pq.ParquetFile(pa.BufferReader(self._sink.getvalue())), "")

    def _pack(self) -> None:
        self._writer = self._writer or pq.ParquetWriter(
            self._sink, self._schema, compression="zstd", write_statistics=False
        )
        if self._portions:
            self._writer.write_table(pa.Table.from_batches(self._portions, self._schema))
        self._portions, self._bytes = [], 0


class Parquet(Mapping[str, pa.ChunkedArray]):
    """The columns of a Parquet file: numbers as int64 or float64, all else as text; what has no text form is all missing.

    Raises:
      Missing: when a column cannot be read, or was given twice.
    """

    def __init__(self, file: pq.ParquetFile, path: str | Path):
        self._file, self._path = file, path
        self._names = file.schema_arrow.names
        twice = sorted({name for name in self._names if self._names.count(name) > 1})
        if twice:
            raise Missing(f"{path} has two columns called {twice[0]!r}\ngive each column its own name")

    @classmethod
    def open(cls, path: Path) -> Parquet:
        """Raises Missing: the file is not Parquet."""
        try:
            return cls(pq.ParquetFile(path), path)
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(path, error) from None

    @property
    def rows(self) -> int:
        return int(self._file.metadata.num_rows)

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        if name not in self._names:
            raise KeyError(name)
        try:
            return plain(self._file.read([name], use_threads=False)[name])
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(self._path, error) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class Below(Mapping[str, pa.ChunkedArray]):
    """These columns of tables one below the other, matched by name."""

    names: Sequence[str]
    tables: Sequence[Mapping[str, pa.ChunkedArray]]

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        columns = [table[name] for table in self.tables]
        kinds = {column.type for column in columns}
        kind = kinds.pop() if len(kinds) == 1 else pa.string() if pa.string() in kinds else pa.float64()
        return pa.chunked_array([chunk for column in columns for chunk in column.cast(kind).chunks], kind)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
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


def _unreadable(path: Any, error: Exception) -> Missing:
    return Missing(f"cannot read {path} as Parquet: {str(error).splitlines()[0]}")
