"""Which files a person means by a path, several paths, a folder or a glob, and what to call them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tfapp.data.examples import existing
from tfapp.errors import Missing

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def find(paths: Paths, suffixes: Iterable[str]) -> list[Path]:
    """The files meant, each once, sorted within a folder or a glob.

    A file that is named is taken whatever its suffix; a folder or a glob gives the files with one of `suffixes`.

    Raises:
      Missing: a path, a folder or a glob that gives no file.
    """
    found = dict.fromkeys(file for path in each(paths) for file in _find(path, tuple(suffixes)))
    return list(found)


def each(paths: Paths) -> list[Path]:
    """One path or several as a list, «~» spelt out."""
    given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    return [Path(path).expanduser() for path in given]


def call(files: Sequence[Path]) -> Mapping[Path, str]:
    """What to call each file in messages: its name, or its path where two files share a name."""
    names = [file.name for file in files]
    return {file: file.name if names.count(file.name) == 1 else str(file) for file in files}


def _find(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes and file.is_file())
    elif glob.has_magic(str(path)):
        inside = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
        inside = [file for file in inside if file.suffix.lower() in suffixes and file.is_file()]
    else:
        return [existing(path, "data file")]
    if not inside:
        raise Missing(f"no {', '.join(suffixes)} file in {path}\nlooked in {path.absolute()}")
    return inside
