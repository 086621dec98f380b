"""New files through a run's exported model."""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tfapp import export, tasks
from tfapp.data.examples import Dropped
from tfapp.errors import Missing, Usage
from tfapp.run import Run

SOURCES = {"image": "images", "table": "tables", "text": "texts", "array": "arrays", "tokens": "tokens"}


def source(kind: str) -> ModuleType:
    """The module that reads new files of a kind."""
    return importlib.import_module(f"tfapp.data.{SOURCES[kind]}")


@dataclass(frozen=True)
class Continuation:
    """How a language model goes on from a text.

    Attributes:
      tokens: how many to write, at least 1.
      temperature: probabilities go as p^(1/temperature); 0 always takes the likeliest.
      seed: of the draws.
    """

    tokens: int = 200
    temperature: float = 0.8
    seed: int = 0


def files(
    run: Run, paths: Sequence[str], continuation: Continuation | None = None
) -> tuple[list[dict[str, Any]], Sequence[Dropped]]:
    """A row an example (name, prediction, probabilities by class; or how its text goes on), and what could not be read.

    Raises:
      Missing: nothing could be read at all. Usage: a continuation of what is no text.
    """
    facts = run.read("data.json")
    arrays = facts["kind"] == "image" and all(path.endswith((".npy", ".npz")) for path in paths)
    features, names, dropped = source("array" if arrays else facts["kind"]).read_new(facts["reader"], list(paths))
    if not len(names):
        first = f": {dropped[0].name}: {dropped[0].reason}" if dropped else ""
        raise Missing(f"no example could be read from {', '.join(paths)}{first}")
    if continuation is not None and facts["task"] != "language":
        raise Usage(
            f"--tokens, --temperature and --seed go on from a text, and this model's task is {facts['task']}\n"
            "leave them out"
        )
    return tasks.of(facts["task"]).rows(export.load(run.folder), features, names, facts, continuation), dropped


def csv_text(rows: list[dict[str, Any]]) -> str:
    """The rows as CSV with a header."""
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def json_lines(rows: list[dict[str, Any]]) -> str:
    """The rows as one JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
