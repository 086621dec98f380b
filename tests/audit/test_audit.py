"""Whole audits of real runs: what learnt by heart is found out, and what an audit cannot be made of is refused."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.report import samples
from tfapp.audit import go
from tfapp.cli.main import main
from tfapp.errors import Failed, GateFailed

NOISY = str(Path(__file__).parents[1] / "fixtures" / "noisy.py")


def test_a_lower_bound_above_the_proved_one_fails_loudly_with_both_numbers() -> None:
    told = {"epsilon": 3.5, "upper": 3.0, "delta": 1e-5, "run": "x"}
    with pytest.raises(GateFailed, match=r"at least 3\.5, and at most 3 is proved") as failed:
        go.gate({"canaries": told})
    assert failed.value.exit_code == 4
    go.gate({"canaries": told | {"epsilon": 2.9}})
    go.gate({"canaries": told | {"upper": None}})
    go.gate({})


def test_what_is_proved_is_read_from_the_ledger_and_both_runs_must_have_the_same() -> None:
    proved = samples.ledger_of_a_run()
    subject = SimpleNamespace(ledger=proved, run=SimpleNamespace(folder="x"))
    one = SimpleNamespace(run=SimpleNamespace(folder="y"))
    assert go._proved(subject) == {"epsilon": 1.134, "delta": 1e-5, "insecure_key": False}  # type: ignore[arg-type]
    assert go._proved(SimpleNamespace(ledger=None)) is None  # type: ignore[arg-type]
    go._check_same(subject, one, replace(proved, steps=10))  # type: ignore[arg-type]
    for other in (None, replace(proved, noise_multiplier=0.5), replace(proved, batch_size=128)):
        with pytest.raises(Failed, match="not private as x is"):
            go._check_same(subject, one, other)  # type: ignore[arg-type]
    assert go._upper(replace(proved, epsilon={"pld": math.inf, "rdp": math.inf})) is None


@pytest.fixture(scope="module")
def heart(tmp_path_factory) -> Path:
    """A run that has learnt its 300 rows, 30 % of them with a wrong label, by heart."""
    folder = tmp_path_factory.mktemp("runs") / "heart"
    assert main(["train", NOISY, "rows=600", "fit.epochs=80", "--run", str(folder)]) == 0
    return folder


def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


@pytest.mark.slow
@pytest.mark.e2e
def test_what_was_learnt_by_heart_is_found_out(heart: Path, capsys) -> None:
    assert main(["audit", str(heart), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    loss, logistic = found["attacks"]["loss"], found["attacks"]["logistic"]
    assert 0.72 < loss["auc"]["value"] < 0.86 and 0.45 < loss["advantage"]["value"] < 0.7
    assert logistic["advantage"]["value"] > logistic["chance"] and found["rows"]["members"] == 300
    assert len(found["by_class"]["rows"]) == 10
    assert json.loads((heart / "audit/audit.json").read_text()) == found
    page = (heart / "report.html").read_text()
    assert "What it gives away" in page and "0.1 % false positives are less than one of 300 rows" in page
    assert (heart / "audit/roc.svg").read_text().startswith("<svg xmlns")


@pytest.mark.slow
@pytest.mark.e2e
def test_what_has_not_learnt_by_heart_gives_nothing_away(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "modest"
    assert main(["train", NOISY, "units=4", "fit.epochs=3", "--run", str(folder)]) == 0
    capsys.readouterr()
    assert main(["audit", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(abs(each["auc"]["value"] - 0.5) < 0.06 for each in found["attacks"].values())


@pytest.mark.slow
@pytest.mark.e2e
def test_shadows_and_canaries_are_ordinary_runs_and_are_trained_once(heart: Path, capsys) -> None:
    words = ["audit", str(heart), "--shadows", "4", "--canaries", "150", "--json"]
    assert main(words) == 0
    first = capsys.readouterr()
    found = json.loads(first.out)
    assert found["attacks"]["lira"]["auc"]["value"] > found["attacks"]["confidence"]["auc"]["value"]
    told = found["canaries"]
    assert told["upper"] is None and told["epsilon"] > 0.3 and told["right"] / told["guesses"] > 0.8
    shadow = heart / "audit/shadows/0-003"
    assert "shadow: 3" in (shadow / "plan.yaml").read_text() and (shadow / "model/saved_model.pb").exists()
    # What was killed on its way is gone on with, what is there is left as it is.
    facts = json.loads((shadow / "run.json").read_text())
    (shadow / "run.json").write_text(json.dumps(facts | {"status": "running"}))
    assert main(words) == 0
    again = capsys.readouterr()
    assert "4 of 5 trainings are there already" in again.err and json.loads(again.out) == found


@pytest.mark.slow
@pytest.mark.e2e
def test_what_an_audit_cannot_be_made_of_is_refused_in_words(heart: Path, tmp_path: Path, capsys) -> None:
    run = copied(heart, tmp_path)
    assert main(["audit", str(run), "--shadows", "5"]) == 2
    assert main(["audit", str(run), "--canaries", "301"]) == 3
    assert "301 canaries are more than the 300 training rows" in capsys.readouterr().err
    assert not (run / "audit/canaries/0-301").exists()
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"recipe_sha256": "other"}))
    assert main(["audit", str(run), "--shadows", "4"]) == 3
    assert "the recipe's file has changed" in capsys.readouterr().err
    (run / "run.json").write_text(json.dumps(facts | {"data_sha256": "other"}))
    assert main(["audit", str(run)]) == 5
    assert "has changed since it was trained" in capsys.readouterr().err
    (run / "run.json").write_text(json.dumps(facts | {"status": "stopped"}))
    assert main(["audit", str(run)]) == 5
    assert "is not finished" in capsys.readouterr().err
