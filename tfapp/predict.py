"""New files through an exported model: a run's, or a TFLite file by itself."""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tfapp import tasks
from tfapp.data.examples import Dropped
from tfapp.errors import Failed, Missing, Usage
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
    from tfapp import export

    return _rows(run.read("data.json"), lambda: export.load(run.folder), paths, continuation)


def files_by_lite(
    model: Path, paths: Sequence[str], continuation: Continuation | None = None
) -> tuple[list[dict[str, Any]], Sequence[Dropped]]:
    """The same from a TFLite file of ours, which holds all that it takes; TensorFlow is imported only where it must be.

    Raises:
      Missing, Usage: as `files`. Failed: the file cannot be read, or is not tfapp's.
    """
    call = opened(model)
    return _rows(call.facts, lambda: call, paths, continuation)


def opened(model: Path) -> Any:
    """A TFLite file of ours as `lite.load` gives it.

    Raises:
      Failed: it cannot be read, or does not say what it was trained on.
    """
    from tfapp.lite import interpreter

    call = interpreter.load(model)
    if "reader" not in call.facts:
        raise Failed(
            f"{model} does not say what it takes and gives: it was not written by tfapp export\n"
            "write one: tfapp export RUN --format tflite"
        )
    return call


def _rows(
    facts: Mapping[str, Any], load: Callable[[], Any], paths: Sequence[str], continuation: Continuation | None
) -> tuple[list[dict[str, Any]], Sequence[Dropped]]:
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
    return tasks.of(facts["task"]).rows(load(), features, names, facts, continuation), dropped


def score(call: Any, facts: Mapping[str, Any], path: Path, say: Any) -> dict[str, Any]:
    """What a model is worth on labelled data in the form of its training data, as the report's section `evaluation`.

    Classes that the model never saw are left out and counted.

    Raises:
      Missing: there is no labelled example of the model's classes.
    """
    examples, dropped = source(facts["kind"]).read_labelled(facts["reader"], facts["classes"], path)
    if dropped:
        say(f"left out {len(dropped)} examples of {path}, as {dropped[0].name} ({dropped[0].reason})")
    if not len(examples):
        raise Missing(f"no labelled example of the model's classes in {path}\nclasses: {', '.join(facts['classes'])}")
    measured = tasks.of(facts["task"]).score(call, examples, facts["classes"])
    return {**measured, "part": str(path), "dropped": len(dropped)}


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
