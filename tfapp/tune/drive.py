"""The loop of a search: trials from the algorithm, to processes that are free, and how they went back to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfapp.errors import Failed
from tfapp.tune.state import TRIES, State, Trial
from tfapp.tune.workers import CUTS, Worker, Workers

LOOK = 0.25
# A search of which the first so many trials fail, each twice, has something wrong that no setting mends.
HOPELESS = 5
# So many repeated configurations in a row mean that the space holds no other.
REPEATS = 50


@dataclass(frozen=True)
class Limits:
    """How far a search goes this time.

    Attributes:
      trials: in all, those of earlier times counted; None: as many as the algorithm has.
      until: a moment of time.monotonic() to stop at; None: none.
    """

    trials: int | None = None
    until: float | None = None

    def over(self) -> bool:
        return self.until is not None and time.monotonic() >= self.until


@dataclass
class Task:
    """One run of a trial on a worker: which run it is, and the numbers of its epochs so far."""

    trial: Trial
    run: int
    rows: list[Mapping[str, float]] = field(default_factory=list)
    stopped: str = ""


Show = Callable[[State, Mapping[Worker, Task]], None]


def search(state: State, workers: Workers, limits: Limits, show: Show) -> bool:
    """Run trials until there are no more, or the limits are reached; whether it came to its end.

    A trial that was running when an earlier process was killed comes first, and goes on from its checkpoint. One whose
    process dies goes to whichever is free. One that fails is tried once more. A host that cannot be reached is given up.

    Raises:
      Failed: the first trials all failed, or the processes that run them cannot start. Expected: one has no part of its
      machine.
    """
    waiting = [trial for trial in state.running() if not _follows(state, trial)]
    busy: dict[Worker, Task] = {}
    while not limits.over():
        for worker in workers.all:
            if worker not in busy and (trial := _next(state, waiting, limits)) is not None:
                busy[worker] = _give(state, worker, trial)
        show(state, busy)
        if not busy:
            return True
        for worker, told in workers.told(LOOK):
            if told is None:
                _lost(state, workers, worker, busy.pop(worker, None), waiting)
            elif "epochs" in told:
                _hear(state, worker, busy[worker], told["epochs"])
            elif worker in busy:
                _close(state, worker, busy, told, waiting)
        _check_hope(state)
    for worker in busy:
        worker.halt()
    return False


def _follows(state: State, trial: Trial) -> bool:
    """Whether a trial has a twin; if that has ended, this one ends with it."""
    if trial.twin is None:
        return False
    if state.trials[trial.twin].status != "running":
        state.follow(trial)
    return True


def _next(state: State, waiting: list[Trial], limits: Limits) -> Trial | None:
    """A trial to run: one that waits, or a new one of the algorithm."""
    if waiting:
        return waiting.pop(0)
    while (limits.trials is None or len(state.trials) < limits.trials) and not _exhausted(state):
        trial = state.begin()
        if trial is None or not _follows(state, trial):
            return trial
    return None


def _exhausted(state: State) -> bool:
    """Whether the algorithm only comes back to what was tried."""
    last = list(state.trials.values())[-REPEATS:]
    return len(last) == REPEATS and all(trial.twin is not None for trial in last)


def _give(state: State, worker: Worker, trial: Trial) -> Task:
    task = Task(trial, len(trial.results))
    name, plan = state.search.runs(trial.values)[task.run]
    worker.ask(
        {
            "train": {
                "plan": plan.model_dump(mode="json"),
                "folder": str(run_folder(state, trial, name).absolute()),
                "until": trial.until,
                "costs": [one.name for one in state.search.objectives if one.is_cost],
            }
        }
    )
    return task


def run_folder(state: State, trial: Trial, name: str) -> Path:
    """Where a run of a trial is: the trial's folder, or a folder in it where a trial has several runs."""
    return state.folder / "trials" / trial.folder / name


def _hear(state: State, worker: Worker, task: Task, rows: list[Mapping[str, float]]) -> None:
    """An epoch has ended: answer whether the training goes on."""
    task.rows += rows
    stopper, first = state.search.stopper, state.search.objectives[0]
    if stopper is not None and not task.stopped:
        task.stopped = stopper.why(first, task.rows, state.others(task.trial, task.run)) or ""
    worker.ask({"pause": task.stopped or None})


def _close(state: State, worker: Worker, busy: dict[Worker, Task], told: dict[str, Any], waiting: list[Trial]) -> None:
    """A run has ended, one way or another: go on with the next run of its trial, or end the trial."""
    task = busy.pop(worker)
    trial, ended = task.trial, told["ended"]
    if ended == "failed":
        _failed(state, trial, told["reason"], waiting)
    elif ended == "stopped":
        waiting.insert(0, trial)  # By somebody else's signal; it has its checkpoint.
    elif ended == "diverged":
        state.end(trial, "diverged", told["reason"].partition("\n")[0])
    else:
        state.ran(trial, told)
        if task.stopped and ended == "paused":
            state.end(trial, "stopped", task.stopped)
        elif len(trial.results) < len(state.search.runs(trial.values)):
            busy[worker] = _give(state, worker, trial)
        elif any(result["ended"] == "paused" for result in trial.results):
            state.end(trial, "paused", f"trained for {trial.until} epochs")
        else:
            state.end(trial, "finished")


def _lost(state: State, workers: Workers, worker: Worker, task: Task | None, waiting: list[Trial]) -> None:
    """A process has ended; what it ran is given to another. That a host is gone is not the trial's doing."""
    how = worker.gone()
    if task is not None and worker.cut:
        waiting.insert(0, task.trial)
    elif task is not None:
        _failed(state, task.trial, f"its process died: {how}", waiting)
    if worker.cut >= CUTS:
        state.say(f"{worker.name} is given up: {how}")
        workers.give_up(worker, how)


def _failed(state: State, trial: Trial, reason: str, waiting: list[Trial]) -> None:
    state.failed(trial, reason)
    if trial.failures < TRIES:
        waiting.insert(0, trial)
    else:
        state.end(trial, "failed", reason)


def _check_hope(state: State) -> None:
    ended = state.ended()
    if len(ended) >= HOPELESS and all(trial.status == "failed" for trial in ended):
        raise Failed(
            f"all of the first {len(ended)} trials failed; the last: {ended[-1].reason.strip().splitlines()[0]}\n"
            f"see the log {state.folder / 'logs'}; try one trial alone: tfapp train …"
        )
