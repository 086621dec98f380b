"""The events of a search, without processes: what a trial becomes, and that a journal plays back to the same state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tune.searches import asked
from tfapp.errors import Missing
from tfapp.tune.state import JOURNAL, State, Trial

WORDS = ["learning_rate=log:1e-4..1e-1", "dropout=float:0..0.5"]


def told(loss: float, ended: str = "finished", epochs: int = 3) -> dict[str, Any]:
    rows = [
        {"epoch": n + 1, "val_loss": loss + epochs - 1 - n, "val_accuracy": 0.5, "seconds": 1.0} for n in range(epochs)
    ]
    return {"ended": ended, "rows": rows, "best_epoch": epochs if ended == "finished" else None, "seconds": 3.0}


def through(state: State, trials: int) -> None:
    """Trials whose score is a function of their values."""
    for _ in range(trials):
        trial = state.begin()
        assert trial is not None
        state.ran(trial, told(abs(float(trial.values["dropout"]) - 0.2)))
        state.end(trial, "finished")


def values(state: State) -> list[dict[str, Any]]:
    return [trial.values for trial in state.trials.values()]


@pytest.mark.parametrize("algorithm", ["random", "grid", "tpe", "cmaes", "genetic", "pso", "evolution"])
def test_a_search_cut_anywhere_goes_on_as_if_it_had_not_been(tmp_path: Path, algorithm: str) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    search = asked(WORDS, algorithm=algorithm)
    whole = State(search, tmp_path / "whole")
    through(whole, 12)
    for trials in (1, 4, 0, 3, 4):
        through(State(search, tmp_path / "cut"), trials)
    again = State(search, tmp_path / "cut")
    assert values(again) == values(whole) and not again.drifted
    assert [trial.scores for trial in again.ranked()] == [trial.scores for trial in whole.ranked()]


def test_a_trial_that_was_running_is_there_to_go_on_with_its_runs_so_far(tmp_path: Path) -> None:
    search = asked(WORDS, repeat=2)
    trial = State(search, tmp_path).begin()
    state = State(search, tmp_path)
    assert [one.id for one in state.running()] == [trial.id]
    state.ran(state.trials[trial.id], told(0.4))
    again = State(search, tmp_path)
    assert len(again.trials[trial.id].results) == 1
    again.ran(again.trials[trial.id], told(0.2))
    again.end(again.trials[trial.id], "finished")
    assert again.trials[trial.id].scores == {"val_loss": pytest.approx(0.3)}


def test_a_torn_last_line_is_as_if_it_had_not_been_written(tmp_path: Path) -> None:
    search = asked(WORDS)
    through(State(search, tmp_path), 2)
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    state = State(search, tmp_path)
    assert len(state.ended()) == 1 and len(state.running()) == 1
    state.end(state.running()[0], "finished")
    assert values(State(search, tmp_path)) == values(state)
    journal.write_bytes(whole.replace(b'"begin"', b'"begin', 1))
    with pytest.raises(Missing, match="damaged in line 1"):
        State(search, tmp_path)


def ended(state: State, loss: float | None, status: str = "finished") -> Trial:
    trial = state.begin()
    assert trial is not None
    if loss is not None:
        state.ran(trial, told(loss))
    state.end(trial, status, "why")
    return trial


def test_a_diverged_trial_scores_as_worst_and_a_failed_one_not_at_all(tmp_path: Path) -> None:
    state = State(asked(WORDS), tmp_path)
    first = ended(state, None, "diverged")
    ended(state, 0.5)
    ended(state, 0.9)
    diverged, failed = ended(state, None, "diverged"), ended(state, None, "failed")
    known = {id: trial.score for id, trial in state.oracle.trials.items() if trial.status == "COMPLETED"}
    assert known[diverged.id] == pytest.approx(0.9)
    # Where nothing is known yet, nothing is the worst.
    assert first.id not in known and failed.id not in known
    assert [trial.scores["val_loss"] for trial in state.ranked()] == [pytest.approx(0.5), pytest.approx(0.9)]


def test_a_score_that_is_no_number_is_a_divergence(tmp_path: Path) -> None:
    state = State(asked(WORDS), tmp_path)
    assert ended(state, float("inf")).status == "diverged"
    assert State(asked(WORDS), tmp_path).trials["0000"].status == "diverged"


def test_a_repeated_configuration_ends_with_the_first_one_and_is_not_run(tmp_path: Path) -> None:
    state = State(asked(["dropout=choice:0.1,0.2"], algorithm="tpe"), tmp_path)
    first = state.begin()
    assert first is not None
    second = state.begin()
    while second is not None and second.twin is None:
        second = state.begin()
    assert second is not None and second.status == "running"
    twin = state.trials[str(second.twin)]
    state.ran(twin, told(0.3))
    state.end(twin, "finished")
    assert second.status == "same" and second.scores == twin.scores
    assert second not in state.ranked()
    assert State(state.search, tmp_path).trials[second.id].status == "same"


def test_halving_goes_on_with_the_run_of_the_better_ones(tmp_path: Path) -> None:
    state = State(asked([*WORDS, "fit.epochs=9"], algorithm="hyperband"), tmp_path)
    losses: dict[str, float] = {}
    while (trial := state.begin()) is not None:
        losses.setdefault(trial.folder, len(losses) * 0.1)
        paused = trial.until is not None
        state.ran(trial, told(losses[trial.folder], "paused" if paused else "finished"))
        state.end(trial, "paused" if paused else "finished")
    trials = list(state.trials.values())
    first = [trial for trial in trials if trial.until == 1]
    second = [trial for trial in trials if trial.until == 3 and trial.folder in {one.folder for one in first}]
    last = [trial for trial in trials if trial.until is None and trial.folder in {one.folder for one in second}]
    assert len(first) > len(second) > len(last) >= 1
    # Those of the lowest loss went on, in the folder in which they had begun.
    assert {trial.folder for trial in second} == set(sorted(losses, key=losses.__getitem__)[: len(second)])
    assert state.ranked()[0].whole
    assert values(State(state.search, tmp_path)) == values(state)


def test_looks_at_the_test_part_are_kept_with_what_was_said_of_them(tmp_path: Path) -> None:
    state = State(asked(WORDS), tmp_path)
    trial = ended(state, 0.5)
    state.ship(trial.id)
    state.ship("0000 0.5 + default 0.5", {"weights": {"0000": 0.5, "default": 0.5}})
    state.keep(90.0)
    again = State(state.search, tmp_path)
    assert again.shipped == state.shipped and [look["shipped"] for look in again.shipped][0] == trial.id
    assert again.shipped[1]["about"]["weights"]["default"] == 0.5
