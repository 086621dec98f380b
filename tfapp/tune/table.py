"""What a search shows while it runs: the best so far, what is running, how long it may take."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tfapp.report import words
from tfapp.tune.drive import Limits, Task
from tfapp.tune.state import SCORED, State, Trial
from tfapp.tune.workers import Worker

BEST = 5


class Screen:
    """A live table on a terminal; elsewhere a line for each trial that has ended. A context manager.

    Args:
      limits: to tell what is left.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self._console = Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._shown: set[str] | None = None
        self._began, self._before = time.monotonic(), 0

    def __enter__(self) -> Screen:
        if self._console.is_terminal:
            self._live = Live(Text("starting …"), console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, state: State, busy: Mapping[Worker, Task]) -> None:
        """Bring what is shown up to date."""
        ended = state.ended()
        if self._shown is None:
            self._shown = {trial.id for trial in ended}
            self._before = len(ended)
        if self._live is not None:
            self._live.update(
                Group(ranking(state), *(Text(_running(state, task)) for task in busy.values()), self._left(state))
            )
        else:
            for trial in ended:
                if trial.id not in self._shown:
                    print(line(state, trial), file=sys.stderr, flush=True)
        self._shown |= {trial.id for trial in ended}

    def _left(self, state: State) -> Text:
        """How far the search is, and about how long what is left will take."""
        ended = len(state.ended())
        each = (time.monotonic() - self._began) / max(1, ended - self._before)
        parts = [f"{ended} trials" if self._limits.trials is None else f"{ended} of {self._limits.trials} trials"]
        lefts = []
        if self._limits.trials is not None and ended > self._before:
            lefts.append(each * (self._limits.trials - ended))
        if self._limits.until is not None:
            lefts.append(self._limits.until - time.monotonic())
        if lefts:
            parts.append(f"{words.duration(max(0, min(lefts)))} left")
        return Text("  ".join(parts))


def ranking(state: State, most: int = BEST) -> Table:
    """The best trials with their scores and settings."""
    table = Table(box=None, pad_edge=False)
    names = [one.name for one in state.search.objectives]
    keys = list(dict.fromkeys(key for trial in state.trials.values() for key in trial.values))
    for column in ("trial", *names, "epochs", "time", *keys):
        table.add_column(column, justify="right", no_wrap=True)
    for trial in state.ranked()[:most]:
        table.add_row(
            str(int(trial.id)),
            *(f"{trial.scores[name]:.4g}" for name in names),
            str(trial.epochs),
            words.duration(trial.seconds),
            *(short(trial.values.get(key, "")) for key in keys),
        )
    return table


def line(state: State, trial: Trial) -> str:
    """A trial that has ended, as a line."""
    what = "  ".join(f"{name} {value:.4g}" for name, value in trial.scores.items())
    if trial.status not in SCORED or trial.reason:
        what = "  ".join(part for part in (what, f"{trial.status}: {trial.reason.partition(chr(10))[0]}") if part)
    ranked = state.ranked()
    best = "  (best so far)" if ranked and ranked[0] is trial and trial.whole else ""
    return f"trial {int(trial.id)}  {what}{best}  {settings(trial.values)}"


def settings(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={short(value)}" for key, value in values.items())


def short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _running(state: State, task: Task) -> str:
    first = state.search.objectives[0].name
    now = f"epoch {len(task.rows)}" if task.rows else "starting"
    if task.rows and first in task.rows[-1]:
        now += f", {first} {task.rows[-1][first]:.4g}"
    return f"running {int(task.trial.id)}: {now}  {settings(task.trial.values)}"
