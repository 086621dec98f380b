"""A real run is compressed to its targets, gone on with when stopped, and refused what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tfapp.cli.main import main

SMALL = str(Path(__file__).parents[1] / "fixtures" / "small.py")

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert main(["train", SMALL, "n=300", "fit.epochs=6", "--run", str(folder)]) == 0
    return folder


def compressed(run: Path, *words: str) -> dict:
    assert main(["compress", str(run), *words]) == 0
    return json.loads((run / "report.json").read_text())


def test_stages_are_runs_that_go_on_from_one_another_and_the_file_meets_the_targets(finished: Path, capsys) -> None:
    words = ["--pipeline", "prune,cluster,quantize", "--target", "gzip<=0.95x,accuracy>=-0.5", "--epochs", "2"]
    report = compressed(finished, *words)
    told = report["compression"]
    assert told["met"] and told["tried"][0]["missed"] == []
    rows = {row["name"]: row for row in report["artefacts"]}
    assert list(rows)[0] == "float32" and list(rows)[-1] == "compressed" and len(rows) == 4
    pruned = next(row for name, row in rows.items() if name.startswith("prune"))
    clustered = next(row for name, row in rows.items() if name.startswith("cluster"))
    assert pruned["sparsity"] > 0.45 and clustered["sparsity"] > 0.45
    assert rows["compressed"]["gzip_bytes"] <= 0.95 * rows["float32"]["gzip_bytes"]
    assert rows["float32"]["change"]["value"] == 0 and rows["float32"]["agreement"]["share"] == 1
    # The same command again trains nothing.
    before = {path: path.stat().st_mtime_ns for path in (finished / "compress").glob("*/model/saved_model.pb")}
    assert len(before) == 2
    capsys.readouterr()
    compressed(finished, *words)
    assert "is trained already" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_the_file_predicts_on_its_own(finished: Path, tmp_path: Path, capsys) -> None:
    compressed(finished, "--pipeline", "prune", "prune.sparsity=0.5", "--epochs", "1")
    np.save(tmp_path / "new.npy", np.zeros((2, 6, 6, 1), np.float32))
    capsys.readouterr()
    assert main(["predict", str(finished / "compress/model.tflite"), str(tmp_path / "new.npy")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_pattern_is_pruned_by(finished: Path) -> None:
    report = compressed(finished, "--pipeline", "prune,cluster", "prune.pattern=1:2", "--epochs", "1")
    after = [path.read_text() for path in (finished / "compress").glob("cluster-*/plan.yaml")]
    assert after and all("prune: null" in plan for plan in after), "a stage's words are for that stage alone"
    row = next(row for row in report["artefacts"] if row["name"] == "prune-0.5")
    assert next(layer for layer in row["layers"] if layer["shape"][-1] == 64)["sparsity"] == 0.5


def test_a_student_of_the_run_is_made_and_pinned_stages_are_one_level(finished: Path) -> None:
    report = compressed(finished, "--pipeline", "distill,quantize", "--epochs", "2", "--target", "size<=1.5x")
    told = report["compression"]
    assert told["tried"][0]["stages"] == ["distill-0.75"] and len(told["tried"]) == 1


def test_a_target_out_of_reach_is_refused_before_anything_is_trained(finished: Path, capsys) -> None:
    before = sorted((finished / "compress").glob("*"))
    pinned = ["--pipeline", "prune", "prune.sparsity=0.5"]
    assert main(["compress", str(finished), *pinned, "--target", "gzip<=10B"]) == 3
    assert "gzip<=10B is out of reach" in capsys.readouterr().err
    assert main(["compress", str(finished), "--target", "size<=10B"]) == 3
    told = capsys.readouterr().err
    assert "size<=10B is out of reach: the strongest level of prune,cluster,quantize comes to about" in told
    assert sorted((finished / "compress").glob("*")) == before


def test_targets_that_no_level_meets_end_in_4_with_the_best_that_was_reached(finished: Path, capsys) -> None:
    words = ["--pipeline", "prune", "prune.sparsity=0.9", "--epochs", "1", "--target", "log_loss<=0.0001"]
    assert main(["compress", str(finished), *words]) == 4
    assert "no level meets log_loss<=0.0001; what was reached is in" in capsys.readouterr().err
    assert (finished / "compress" / "model.tflite").exists()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--target", "rmse<=1"], 2, "has no rmse to aim at"),
        (["--pipeline", "quantize,prune"], 2, "in the order"),
        (["cluster=8", "--pipeline", "prune"], 2, "for the stage cluster"),
        (["prune.sparsity=2"], 2, "less than 1"),
        (["prune.pattern=two"], 2, "pattern is unstructured, or n:m"),
        (["fit.batchsize=3"], 2, "batch_size"),
    ],
)
def test_words_that_make_no_sense_are_refused(finished: Path, capsys, words, code: int, told: str) -> None:
    assert main(["compress", str(finished), *words]) == code
    assert told in capsys.readouterr().err
