"""The verbs that need no TensorFlow answer for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.report import samples
from tfapp.cli.main import VERBS, main
from tfapp.private import ledger
from tfapp.run import Run

SMALL = str(Path(__file__).parent.parent / "fixtures" / "small.py")


@pytest.fixture
def finished(runs_root: Path) -> Run:
    """A run with a report of a real small model, as `train` leaves it."""
    folder = runs_root / "digits-abc"
    folder.mkdir(parents=True)
    run = Run(folder)
    run.file("plan.yaml").write_text("recipe: digits\n")
    run.write("run.json", {"status": "finished", "started": "2024-01-02T03:04:05+00:00"})
    run.write("report.json", samples.table())
    return run


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_a_command_to_copy(verb: str, capsys) -> None:
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"tfapp {verb}" in out.partition("Usage:")[2].partition("\n")[2]


@pytest.mark.e2e
def test_the_words_that_need_no_tensorflow_do_not_import_it(tmp_path: Path) -> None:
    commands = [
        ["recipes"], ["recipes", "show", "tabular"], ["recipes", "show", "digits", "--schema"], ["runs"],
        ["train", "digits", "--dry-run"], ["train", "digits", "fit.epoch=3"], ["train", "digits", "fit.epochs=x"],
        ["train", "digits", "fit.jit=on", "runtime.deterministic=on"], ["train", "digits", "--gate", "x"],
        ["predict", "none", "x.png"], ["export", "none", "--format", "keras"], ["evaluate", "none"], ["new", "a-b"],
        ["validate", "digts"], ["compare", "none"], ["report", "none"],
    ]  # fmt: skip
    script = (
        "import json, sys; from tfapp.cli.main import main\n"
        "codes = [main(words) for words in json.loads(sys.argv[1])]\n"
        "print(json.dumps([codes, sorted({'tensorflow', 'pandas', 'sklearn'} & set(sys.modules))]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(commands)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    codes, heavy = json.loads(done.stdout.splitlines()[-1])
    assert codes == [0, 0, 0, 0, 0, 2, 2, 3, 2, 5, 5, 5, 2, 2, 5, 5]
    assert heavy == [] and "Traceback" not in done.stderr


def test_recipes_are_listed_for_people_and_for_programs(capsys) -> None:
    assert main(["recipes"]) == 0
    people = capsys.readouterr().out
    assert main(["recipes", "list", "--json"]) == 0
    programs = json.loads(capsys.readouterr().out)
    assert [line.split()[0] for line in people.splitlines() if not line.startswith("    ")] == [
        row["name"] for row in programs
    ]
    assert all(Path(row["path"]).exists() and row["title"] for row in programs)


def test_a_recipe_s_settings_are_shown_as_text_as_json_and_as_a_schema_that_takes_them(capsys) -> None:
    assert main(["recipes", "show", "tabular"]) == 0
    text = capsys.readouterr().out
    for word in ("target=", "fit.schedule.kind=cosine", "average=off", "on with average=true", "hidden=256,128"):
        assert word in text
    assert main(["recipes", "show", "tabular", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert main(["recipes", "show", "tabular", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(plan) == set(schema["properties"]) and schema["additionalProperties"] is False


def test_a_dry_run_shows_a_plan_that_train_takes_again(tmp_path: Path, runs_root: Path, capsys) -> None:
    assert main(["train", SMALL, "fit.epochs=7", "--dry-run"]) == 0
    first = capsys.readouterr().out
    assert first.startswith(f"# would train in {runs_root}/small-") and yaml.safe_load(first)["fit"]["epochs"] == 7
    (tmp_path / "plan.yaml").write_text(first)
    assert main(["train", "-c", str(tmp_path / "plan.yaml"), "--dry-run"]) == 0
    assert capsys.readouterr().out == first
    assert not runs_root.exists()


def test_no_run_yet_says_how_to_train_one(capsys) -> None:
    assert main(["runs"]) == 0
    assert "train one: tfapp train digits" in capsys.readouterr().out
    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_runs_are_listed_with_their_score(finished: Run, capsys) -> None:
    assert main(["runs"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[:5] == ["digits-abc", "digits", "finished", "2024-01-02", "03:04"] and "accuracy 0." in line
    assert main(["runs", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["folder"] == str(finished.folder) and row["status"] == "finished"


def test_what_a_private_run_gave_away_is_listed_beside_its_score(finished: Run, capsys) -> None:
    assert main(["runs"]) == 0
    assert "privacy" not in capsys.readouterr().out
    held = samples.ledger_of_a_run()
    ledger.write(finished.folder, held)
    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["epsilon"] == "ε 1.14 at δ 1e-05"
    ledger.write(finished.folder, replace(held, key={"source": "fixed", "insecure": True}))
    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["epsilon"] == "none: known key (ε 1.14 at δ 1e-05)"
    finished.file(ledger.FILE).write_text("{}}")
    assert main(["runs"]) == 0
    assert "damaged" in capsys.readouterr().out


@pytest.mark.moderate
def test_a_report_is_written_anew_and_its_numbers_are_there_as_json(finished: Run, capsys) -> None:
    assert main(["report", "digits-abc"]) == 0
    assert str(finished.file("report.html")) in capsys.readouterr().out.replace("\n", "")
    assert finished.file("report.html").read_text().startswith("<!DOCTYPE html>")
    assert main(["report", "digits-abc", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == finished.read("report.json")


def test_a_run_without_a_report_says_how_to_finish_it(finished: Run, capsys) -> None:
    finished.file("report.json").unlink()
    assert main(["report", "digits-abc"]) == 5
    assert "finish it: tfapp train -c" in capsys.readouterr().err


def test_one_run_is_nothing_to_compare(finished: Run, capsys) -> None:
    assert main(["compare", "digits-abc"]) == 5
    assert "give two or more" in capsys.readouterr().err
    assert main(["compare", "digits-abc", "digits-abc"]) == 0
    out = capsys.readouterr().out
    assert "accuracy" in out and "digits-abc: the same plan" in out
