"""Runs side by side, and whether their difference is more than chance."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np

from tfapp import tasks
from tfapp.errors import Missing, of_system
from tfapp.plan import difference
from tfapp.report import words
from tfapp.run import Run


def reports(runs: list[Run]) -> list[dict[str, Any]]:
    """The reports of finished runs.

    Raises:
      Missing: one has none.
    """
    for run in runs:
        if not run.file("report.json").exists():
            raise Missing(f"{run.folder} has no report yet: it is {run.status}")
    return [{**run.read("report.json"), "run": run.folder.name} for run in runs]


def compare(runs: list[Run]) -> dict[str, Any]:
    """Scores, sizes and latency in rows; paired tests against the first run; what differs in the plans."""
    all_reports = reports(runs)
    rows: dict[str, list[float | None]] = {}
    for name in dict.fromkeys(name for report in all_reports for name, value in _scores(report).items()):
        rows[name] = [_scores(report).get(name) for report in all_reports]
    pairs = [(run.folder.name, _pair(runs[0], run)) for run in runs[1:]]
    return {
        "runs": [report["run"] for report in all_reports],
        "rows": rows,
        "pairs": [pair for _, pair in pairs if pair is not None],
        "unpaired": [name for name, pair in pairs if pair is None],
        "changes": {run.folder.name: difference(runs[0].plan(), run.plan()) for run in runs[1:]},
    }


def _scores(report: dict[str, Any]) -> dict[str, float | None]:
    scores = {name: score["value"] for name, score in report.get("evaluation", {}).get("scores", {}).items()}
    sizes, latency = report.get("sizes", {}), report.get("latency", {}).get("savedmodel", {})
    return {
        **scores,
        "parameters": report["model"]["parameters"],
        "savedmodel_kb": sizes["savedmodel"]["bytes"] / 1000 if "savedmodel" in sizes else None,
        "latency_p50_ms": latency.get("1", {}).get("p50_ms"),
        "seconds": report.get("seconds"),
        **({"epsilon": words.spent(report["privacy"])} if report.get("privacy") else {}),
    }


def _pair(first: Run, second: Run) -> dict[str, Any] | None:
    """The second run against the first, example by example; None where their test examples differ."""
    a, b = _predictions(first), _predictions(second)
    if a is None or b is None:
        return None
    task, other = (run.read("data.json")["task"] for run in (first, second))
    if task != other or a.keys() != b.keys():
        return None
    if any(a[name].shape != b[name].shape for name in a) or not np.array_equal(a["labels"], b["labels"]):
        return None
    return tasks.of(task).paired([first.folder.name, second.folder.name], a, b)


def _predictions(run: Run) -> dict[str, np.ndarray] | None:
    path = run.file("predictions.npz")
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as held:
            # A language model's answers are losses.
            answers = "losses" if "losses" in held.files else "outputs"
            return {name: held[name] for name in ("labels", answers)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        if of_system(error):
            raise
        raise Missing(f"{path} is damaged: {error}\nmeasure the run again: tfapp evaluate {run.folder}") from None
