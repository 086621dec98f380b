"""What to call the rows of files, «adult.csv:17», each made when it is asked for: as text they would be most of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Lines:
    """Names of n rows.

    Attributes:
      files: what the files are called; "" where there is none, and the number says it all. file: uint32 [n], which of them. line: uint32 [n].
    """

    files: tuple[str, ...]
    file: np.ndarray
    line: np.ndarray

    @classmethod
    def of(cls, file: str, line: np.ndarray) -> Lines:
        return cls((file,), np.zeros(len(line), np.uint32), line.astype(np.uint32))

    @classmethod
    def joined(cls, parts: Sequence[Lines]) -> Lines:
        """One below the other."""
        starts = np.cumsum([0, *(len(part.files) for part in parts)])
        file = [(part.file + start).astype(np.uint32) for part, start in zip(parts, starts, strict=False)]
        names = tuple(name for part in parts for name in part.files)
        return cls(names, np.concatenate(file), np.concatenate([part.line for part in parts]))

    def __len__(self) -> int:
        return len(self.line)

    def __getitem__(self, index: Any) -> Any:
        file, line = self.file[index], self.line[index]
        return self._name(file, line) if np.ndim(line) == 0 else Lines(self.files, file, line)

    def __iter__(self) -> Iterator[str]:
        return map(self._name, self.file, self.line)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        names = np.empty(len(self), object)
        names[:] = list(self)
        return names

    def _name(self, file: Any, line: Any) -> str:
        return f"{self.files[file]}:{line}" if self.files[file] else str(line)
