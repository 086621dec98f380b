"""A search from its beginning, or from where it was, to its end: the straight line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfapp.launch.places import Place, Ssh
from tfapp.report import words
from tfapp.runtime import import_tensorflow
from tfapp.tune import drive, objective, outcome, privacy, table
from tfapp.tune.drive import Limits, Task
from tfapp.tune.search import Search
from tfapp.tune.state import State
from tfapp.tune.workers import Worker, Workers

# Kept of a budget for the winner's export, its measurement and the page, in seconds: so much, but no more than a third.
KEPT = 40.0


def search(
    search: Search,
    folder: Path,
    places: Sequence[Place],
    ssh: Ssh,
    trials: int | None,
    seconds: float | None,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Search, ship the winner, write what was found; returns (`outcome.summary`, the report of the winner's run).

    Args:
      folder: opened by `search.begin` and held. places: one for each trial at a time; on hosts, reached by ssh, the
      folder and the data have the same paths. trials: in all; None: as many as the algorithm has. seconds: for
      everything; None: as long as it takes.

    Raises:
      Usage: the objective is none of the run's numbers. Failed: nothing could be scored. Expected: the plan cannot
      be trained at all.
    """
    began = time.monotonic()
    until = None if seconds is None else began + seconds - min(KEPT, seconds / 3)
    with Workers(places, folder / "logs", ssh) as workers:
        workers.all[0].ask({"describe": search.plan({}).model_dump(mode="json")})
        import_tensorflow()  # Here, while the first worker does the same: Keras Tuner needs it.
        described = workers.first_answer()
        objective.check(search.objectives, described["numbers"])
        workers.fit_in_memory(described["memory"], say)
        state = State(search, folder, say)
        if state.trials:
            say(f"going on: {len(state.ended())} trials have ended, {len(state.running())} were running")
        limits = Limits(trials, until)
        with table.Screen(limits) as screen:
            whole = drive.search(state, workers, limits, Recorder(state, screen).show)
        outcome.write_tables(state)
        privacy.write(folder)
        if not whole:
            say("the time is up: running trials have checkpoints, and the same command goes on with them")
        winner, report = outcome.ship(state, workers)
    found = outcome.summary(state, winner, report)
    from tfapp.tune import page

    page.write(state, found)
    return found, privacy.told(folder / outcome.BEST, report, found.get("privacy"))


class Recorder:
    """Keeps the files of a search up to date while it is shown."""

    def __init__(self, state: State, screen: table.Screen):
        self._screen = screen
        self._written = {trial.id for trial in state.ended()}

    def show(self, state: State, busy: Mapping[Worker, Task]) -> None:
        self._screen.show(state, busy)
        new = [trial for trial in state.ended() if trial.id not in self._written]
        for trial in new:
            outcome.write_hparams(state, trial)
        if new:
            outcome.write_tables(state)
        self._written |= {trial.id for trial in new}


def lines(found: Mapping[str, Any]) -> list[str]:
    """What was found, for a person."""
    best = found["best"]
    told = ", ".join(f"{count} {status}" for status, count in found["statuses"].items())
    validation = ", ".join(f"{name} {value:.4g}" for name, value in best["validation"].items())
    looks = found["test_looks"]
    return [
        f"trials      {found['trials']}: {told}",
        f"best        trial {best['trial']}: {table.settings(best['values'])}",
        f"validation  {validation}",
        *([f"luck        {found['luck']['words']}"] if found["luck"] else []),
        *([f"pareto      trials {', '.join(map(str, found['pareto']))}"] if found["pareto"] else []),
        *([f"privacy     {words.of_search(found['privacy'])}"] if found.get("privacy") else []),
        *([f"test        looked at {looks} times, by the winner of each time the search went on"] if looks > 1 else []),
        f"settings    {found['folder']}{os.sep}best.yaml",
        f"page        {found['folder']}{os.sep}report.html",
    ]
