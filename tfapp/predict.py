"""New files through a run's exported model."""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from tfapp import export
from tfapp.data.examples import Dropped, Examples
from tfapp.errors import Missing
from tfapp.run import Run

SOURCES = {"image": "images", "table": "tables", "text": "texts", "array": "arrays"}


def source(kind: str) -> ModuleType:
    """The module that reads new files of a kind."""
    return importlib.import_module(f"tfapp.data.{SOURCES[kind]}")


def files(run: Run, paths: Sequence[str]) -> tuple[list[dict[str, Any]], Sequence[Dropped]]:
    """A row an example (name, prediction, probabilities by class), and what could not be read.

    Raises:
      Missing: nothing could be read at all.
    """
    facts = run.read("data.json")
    arrays = facts["kind"] == "image" and all(path.endswith((".npy", ".npz")) for path in paths)
    features, names, dropped = source("array" if arrays else facts["kind"]).read_new(facts["reader"], list(paths))
    if not len(names):
        first = f": {dropped[0].name}: {dropped[0].reason}" if dropped else ""
        raise Missing(f"no example could be read from {', '.join(paths)}{first}")
    outputs = export.predict(export.load(run.folder), Examples(features, np.zeros(len(names), np.int64)))
    return [_row(name, output, facts) for name, output in zip(names, outputs, strict=True)], dropped


def _row(name: str, output: np.ndarray, facts: dict[str, Any]) -> dict[str, Any]:
    # A column that is called «name» is not what an example is called.
    target = "predicted name" if facts["target"] == "name" else facts["target"]
    if facts["task"] == "regression":
        return {"name": name, target: float(str(output[0]))}  # 0.1, not 0.10000000149
    classes = facts["classes"]
    probabilities = {f"p({label})": round(float(p), 6) for label, p in zip(classes, output, strict=True)}
    return {"name": name, target: classes[int(output.argmax())], **probabilities}


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
