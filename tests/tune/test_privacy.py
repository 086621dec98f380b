"""What a private search gave away: every training of it together, also those that nobody looks at any more."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tune.searches import asked
from tfapp.errors import Refused
from tfapp.private import accounting, ledger
from tfapp.private.accounting import Mechanism
from tfapp.report import words
from tfapp.run import Run
from tfapp.tune import go, page, privacy
from tfapp.tune.state import State

PLANNED = Mechanism("poisson", 1_000, 50, 8.0, 60)
SECRET = {"source": "operating system"}


def trained(folder: Path, steps: int, **facts) -> ledger.Ledger:
    """A run's folder with the ledger of so many steps."""
    made = ledger.made(PLANNED, 1e-4, "rdp", **{"key": SECRET, "data_sha256": "a", "clip_norm": 1.0, **facts})
    folder.mkdir(parents=True, exist_ok=True)
    found = ledger.taken(made, steps)
    ledger.write(folder, found)
    return found


@pytest.mark.moderate
def test_every_training_counts_with_the_steps_that_it_took(tmp_path: Path) -> None:
    trained(tmp_path / "trials" / "0", 60)
    trained(tmp_path / "trials" / "1", 10)  # Stopped.
    trained(tmp_path / "trials" / "2" / "seed-0", 60)
    trained(tmp_path / "trials" / "2" / "seed-1", 60, data_sha256="b")
    shutil.copytree(tmp_path / "trials" / "0", tmp_path / "best")
    whole = privacy.write(tmp_path)
    assert whole is not None
    assert (whole["runs"], whole["steps"]) == (4, 190)
    assert whole["epsilon"]["rdp"] == accounting.epsilon(replace(PLANNED, steps=190), 1e-4, "rdp") > whole["largest"]
    assert privacy.COMPOSED in whole["not_covered"]
    assert len(Run(tmp_path).read("privacy.json")["each"]) == 4


@pytest.mark.moderate
def test_a_training_whose_folder_is_gone_stays_spent(tmp_path: Path) -> None:
    trained(tmp_path / "trials" / "0", 60)
    trained(tmp_path / "best", 60)
    first = privacy.write(tmp_path)
    shutil.rmtree(tmp_path / "best")
    assert privacy.write(tmp_path) == first
    trained(tmp_path / "best", 60)
    again = privacy.write(tmp_path)
    assert again is not None and (again["runs"], again["steps"]) == (3, 180)


def test_a_search_that_is_not_private_says_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "trials" / "0").mkdir(parents=True)
    assert privacy.write(tmp_path) is None
    assert not (tmp_path / "privacy.json").exists()
    assert privacy.told(tmp_path, {"recipe": "x"}, None) == {"recipe": "x"}


@pytest.mark.moderate
def test_the_end_of_a_search_and_its_page_tell_the_sum_and_no_trials_own(tmp_path: Path) -> None:
    search = asked(["learning_rate=log:1e-4..1e-1"])
    state = State(search, tmp_path)
    trial = state.begin()
    assert trial is not None
    rows = [{"epoch": 1, "val_loss": 0.5, "val_accuracy": 0.5, "seconds": 1.0}]
    state.ran(trial, {"ended": "finished", "rows": rows, "best_epoch": 1, "seconds": 1.0})
    state.end(trial, "finished")
    own = trained(tmp_path / "trials" / "0", 60)
    trained(tmp_path / "trials" / "1", 60)
    found = {
        "folder": str(tmp_path), "trials": 1, "statuses": {"finished": 1}, "luck": None, "pareto": [], "test_looks": 1,
        "best": {"trial": 0, "values": trial.values, "validation": {"val_loss": 0.5}, "test": {}, "run": "best"},
        "privacy": privacy.write(tmp_path),
    }  # fmt: skip
    line = next(line for line in go.lines(found) if line.startswith("privacy"))
    assert f"ε {words.epsilon(found['privacy']['epsilon']['rdp'])} at" in line and "2 private trainings" in line
    assert line.endswith(f"up to {words.epsilon(own.spent)}")
    page.write(state, found)
    assert line.removeprefix("privacy     ") in (tmp_path / "report.html").read_text()


@pytest.mark.moderate
def test_the_winners_own_report_tells_what_the_search_cost(tmp_path: Path) -> None:
    from tests.report import samples

    report = samples.private()
    trained(tmp_path / "trials" / "0", 60)
    trained(tmp_path / "trials" / "1", 60)
    whole = privacy.write(tmp_path)
    (tmp_path / "best").mkdir()
    told = privacy.told(tmp_path / "best", report, whole)
    assert whole is not None and words.spent(told["privacy"]) == whole["epsilon"]["rdp"]
    assert "of the search" in (tmp_path / "best" / "report.html").read_text()


def test_folds_are_refused_since_their_scores_have_no_noise() -> None:
    with pytest.raises(Refused, match="--repeat"):
        asked(["learning_rate=log:1e-4..1e-1", "private.noise_multiplier=1"], folds=2)
