"""Runs are set side by side by what they hold, and paired where they saw the same examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report import samples
from tfapp import compare
from tfapp.errors import Missing
from tfapp.private import ledger
from tfapp.run import Run, writing

LABELS = np.arange(40) % 2


def made(folder: Path, right: int | None, labels: np.ndarray = LABELS, epochs: int = 3, **scores: float) -> Run:
    """A finished run whose first `right` test examples are right."""
    run = Run(folder)
    folder.mkdir()
    run.file("plan.yaml").write_text(f"recipe: mine\nfit: {{epochs: {epochs}}}\n")
    report: dict[str, Any] = {
        "evaluation": {"scores": {name: {"value": value} for name, value in scores.items()}},
        "model": {"parameters": 7},
        "sizes": {"savedmodel": {"bytes": 1500}},
        "latency": {"savedmodel": {"1": {"p50_ms": 0.5}}},
        "seconds": 2.0,
    }
    run.write("report.json", report)
    run.write("data.json", {"task": "classification"})
    if right is not None:
        guesses = np.where(np.arange(len(labels)) < right, labels, 1 - labels)
        with writing(run.file("predictions.npz")) as file:
            np.savez(file, labels=labels, outputs=np.eye(2)[guesses] * 0.8 + 0.1)
    return run


def test_scores_sizes_and_latency_are_rows_with_a_gap_where_a_run_has_none(tmp_path: Path) -> None:
    runs = [made(tmp_path / "a", 20, accuracy=0.5), made(tmp_path / "b", 40, accuracy=1.0, roc_auc=0.9)]
    found = compare.compare(runs)
    assert found["runs"] == ["a", "b"]
    assert found["rows"]["accuracy"] == [0.5, 1.0] and found["rows"]["roc_auc"] == [None, 0.9]
    assert found["rows"]["parameters"] == [7, 7] and found["rows"]["savedmodel_kb"] == [1.5, 1.5]
    assert found["rows"]["latency_p50_ms"] == [0.5, 0.5]
    (pair,) = found["pairs"]
    assert pair["runs"] == ["a", "b"] and pair["only_b"] == 20 and pair["p_value"] < 0.001
    assert pair["words"].startswith("b against a: accuracy +0.5000 (95 % interval +")


def test_what_a_private_run_gave_away_is_a_row(tmp_path: Path) -> None:
    runs = [made(tmp_path / "a", 20, accuracy=0.5), made(tmp_path / "b", 40, accuracy=1.0)]
    assert "epsilon" not in compare.compare(runs)["rows"]
    privacy = ledger.plain(samples.ledger_of_a_run())
    runs[1].write("report.json", {**runs[1].read("report.json"), "privacy": privacy})
    assert compare.compare(runs)["rows"]["epsilon"] == [None, 1.134]


def test_what_differs_in_the_plans_is_told_against_the_first(tmp_path: Path) -> None:
    runs = [made(tmp_path / name, 20, epochs=epochs) for name, epochs in (("a", 3), ("b", 3), ("c", 9))]
    assert compare.compare(runs)["changes"] == {"b": [], "c": ["fit.epochs: 3 → 9"]}


def test_runs_that_saw_other_examples_are_not_paired(tmp_path: Path) -> None:
    first = made(tmp_path / "a", 20)
    others = [
        made(tmp_path / "other labels", 20, 1 - LABELS),
        made(tmp_path / "fewer", 20, LABELS[:30]),
        made(tmp_path / "none", None),
    ]
    assert compare.compare([first, *others])["pairs"] == []


def test_regressions_are_paired_by_their_errors(tmp_path: Path) -> None:
    runs = [made(tmp_path / name, None) for name in "ab"]
    for run, off in zip(runs, (2.0, 1.0), strict=True):
        with writing(run.file("predictions.npz")) as file:
            np.savez(file, labels=np.arange(20.0), outputs=np.arange(20.0)[:, None] + off)
        run.write("data.json", {"task": "regression"})
    (pair,) = compare.compare(runs)["pairs"]
    assert pair["words"].startswith("b against a: mean absolute error -1.0000")


def test_a_run_without_a_report_cannot_be_compared(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(Missing, match="b has no report yet: it is new"):
        compare.compare([made(tmp_path / "a", 20), Run(tmp_path / "b")])
