"""Trials of several workers: what the search hears of their epochs, and how it has them pause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tune.searches import asked
from tfapp.launch import places
from tfapp.run import Run
from tfapp.tune.relay import Relay
from tfapp.tune.workers import Workers


def test_epochs_are_told_one_by_one_and_a_pause_is_of_the_epoch_it_was_said_of(tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    relay = Relay(places.here(2), tmp_path / "worker-0", said.append)
    table = tmp_path / "metrics.csv"
    about = {"folder": str(tmp_path), "until": None}
    table.write_text("epoch,loss\n1,0.9\n2,0.8\n")
    assert not relay._look(about)
    assert said == [{"epochs": [{"epoch": 1, "loss": 0.9}]}, {"epochs": [{"epoch": 2, "loss": 0.8}]}]
    relay._pauses.put(None)
    assert not relay._look(about) and len(said) == 2
    relay._pauses.put("no hope")
    # By the time that it is heard another epoch has ended, which does not count.
    table.write_text("epoch,loss\n1,0.9\n2,0.8\n3,0.7\n")
    assert relay._look(about) and relay._why == "no hope" and relay._judged == 2


def test_the_epoch_after_which_the_workers_pause_by_themselves_is_not_asked_about(tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    relay = Relay(places.here(2), tmp_path / "worker-0", said.append)
    (tmp_path / "metrics.csv").write_text("epoch,loss\n1,0.9\n2,0.8\n3,0.7\n")
    assert not relay._look({"folder": str(tmp_path), "until": 2})
    assert said == [{"epochs": [{"epoch": 1, "loss": 0.9}]}]


@pytest.mark.slow
@pytest.mark.e2e
def test_a_training_of_two_workers_pauses_where_the_search_says_so_and_goes_on_from_there(tmp_path: Path) -> None:
    plan = asked(["learning_rate=log:1e-3..1e-1", "fit.epochs=500"]).plan({"learning_rate": 0.01})
    run = Run(tmp_path / "run")
    question = {"plan": plan.model_dump(mode="json"), "folder": str(run.folder), "until": None, "costs": []}
    with Workers(places.here(1), tmp_path / "logs", places.Ssh(), together=2) as workers:
        workers.all[0].ask({"train": question})
        for answer in (None, None, "no hope"):
            assert "epochs" in workers.first_answer()
            workers.all[0].ask({"pause": answer})
        while "epochs" in (told := workers.first_answer()):
            workers.all[0].ask({"pause": None})
        assert told["ended"] == "paused" and told["reason"] == "no hope"
        assert [row["epoch"] for row in told["rows"]] == [1, 2, 3]
        reached = len(run.metrics())
        assert 3 <= reached < 500 and list(run.file("checkpoints").glob("ckpt-*.index"))
        # A pause that was meant for the last training stops no other one, and this one is not begun anew.
        workers.all[0].ask({"train": {**question, "until": reached + 5}})
        while "epochs" in (told := workers.first_answer()):
            workers.all[0].ask({"pause": None})
        assert told["ended"] == "paused" and len(told["rows"]) == reached + 5
