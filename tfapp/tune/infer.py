"""Which recipe suits somebody's data, by a look at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tfapp.data import delimited
from tfapp.errors import Missing, Usage, nearest

LOOK = 2000
IMAGES = {".jpg", ".jpeg", ".png", ".gif", ".bmp"}
TABLES = {".csv", ".tsv", ".txt", ".parquet"}
# A column of sentences: so many words a cell, and rarely the same cell twice.
WORDS, DIFFERENT = 4, 0.5


@dataclass(frozen=True)
class Inferred:
    """A recipe for some data: its name, the words that give it the data, and why it."""

    recipe: str
    words: tuple[str, ...]
    why: str


def infer(path: Path, target: str | None) -> Inferred:
    """The recipe for a CSV, TSV or Parquet file, or for a folder of images.

    Args:
      target: the column to predict; of images the folders tell.

    Raises:
      Missing: there is nothing. Usage: no target, or none of the columns; what can be read by no recipe.
    """
    if not path.exists():
        raise Missing(f"no data at {path}")
    if path.is_dir():
        if not any(file.suffix.lower() in IMAGES for file in islice(path.rglob("*.*"), LOOK)):
            raise Usage(f"{path} holds no images\ngive a folder with one sub-folder a class, or a CSV or Parquet file")
        if target is not None:
            raise Usage("--target is a column, and of images the folders are the classes\nleave it out")
        return Inferred("image_folder", (f"folder={path}",), "a folder of images")
    if path.suffix.lower() not in TABLES:
        raise Usage(f"cannot read {path}\ngive a CSV, TSV or Parquet file, or a folder of images")
    if target is None:
        raise Usage(f"which column of {path} is to be predicted? give --target COLUMN")
    if path.suffix.lower() == ".parquet":
        return Inferred("tabular", (f"data={path}", f"target={target}"), "a Parquet table")
    rows = delimited.rows(path)
    names = delimited.header(path, rows)
    if target not in names:
        raise Usage(f"{path} has no column {target!r}\n{nearest(target, names)}")
    cells = [cells for _, cells in islice(rows, LOOK)]
    texts = [
        name
        for place, name in enumerate(names)
        if name != target and _is_text([c[place] for c in cells if place < len(c)])
    ]
    others = len(names) - 1 - len(texts)
    if texts and others <= 1:
        words = (f"data={path}", f"text={','.join(texts)}", f"label={target}")
        return Inferred("text_classification", words, f"sentences in {', '.join(texts)}")
    why = f"a table of {len(names) - 1} columns"
    return Inferred("tabular", (f"data={path}", f"target={target}"), why)


def _is_text(cells: Sequence[str]) -> bool:
    there = [cell for cell in cells if cell.strip()]
    if not there:
        return False
    words = sum(len(cell.split()) for cell in there) / len(there)
    return words >= WORDS and len(set(there)) > DIFFERENT * len(there)
