"""Where a search is: its trials and its algorithm, made by the events of its journal and by nothing else.

What happens is an event first, and each event changes the state in one way, when it happens and when the journal is
played back: a search that goes on is in the state in which it was left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfapp.tune import oracles
from tfapp.tune.journal import Journal
from tfapp.tune.objective import Objective
from tfapp.tune.search import Search
from tfapp.tune.space import Value

JOURNAL = "journal.jsonl"
# How often a trial that failed is tried.
TRIES = 2
# How trials end that have been scored.
SCORED = ("finished", "paused", "stopped", "same")


@dataclass
class Trial:
    """One trial.

    Attributes:
      id: its number, as Keras Tuner gives it. values: its settings.
      folder: of its runs, under trials/; one that goes on with another's training shares it.
      until: epochs after which it pauses; None: trained whole.
      results: of its runs that have ended, in the order of `Search.runs`; each has `ended` and `rows`.
      status: running, or how it ended: finished; paused after `until` epochs; stopped as hopeless; same as another;
        diverged; failed.
      scores: objective → value, the mean of its runs. reason: why it ended before its time.
      failures: how often it failed.
    """

    id: str
    values: dict[str, Value]
    folder: str
    until: int | None
    results: list[dict[str, Any]] = field(default_factory=list)
    status: str = "running"
    scores: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    failures: int = 0
    twin: str | None = None

    @property
    def whole(self) -> bool:
        """Whether it was trained to its end, with runs of its own."""
        return self.status == "finished"

    @property
    def seconds(self) -> float:
        return sum(result.get("seconds", 0.0) for result in self.results)

    @property
    def epochs(self) -> int:
        return max((len(result["rows"]) for result in self.results), default=0)


class State:
    """The trials of a search and its algorithm.

    Args:
      search: as it was asked for. folder: where its journal is, which is played back.
      say: takes a line that is worth showing.
    """

    def __init__(self, search: Search, folder: Path, say: Any = print):
        self.search, self.folder, self.say = search, folder, say
        self.trials: dict[str, Trial] = {}
        self.shipped: list[Mapping[str, Any]] = []
        self._journal = Journal(folder / JOURNAL)
        events = self._journal.read()
        known = {event["begin"]: event["values"] for event in events if "begin" in event}
        epochs = search.plan({}).fit.epochs
        self._epochs = epochs
        hp = search.hyperparameters()
        self.oracle = oracles.make(search.algorithm, hp, search.objectives, search.seed, epochs, known)
        self._kt: dict[str, Any] = {}
        self.drifted = False
        for event in events:
            if "begin" in event:
                self._draw()
            self._apply(event)
        if self.drifted:
            say("some trials would now be drawn otherwise (other versions of libraries?); the search goes on from them")

    # ------------------------------------------------------------------------------------------------ what happens

    def begin(self) -> Trial | None:
        """The next trial; None if the algorithm has none, for now or for good."""
        kt = self._draw()
        if kt is None:
            return None
        values = {key: value for key, value in kt.hyperparameters.values.items() if not key.startswith("tuner/")}
        special = kt.hyperparameters.values
        parent = special.get("tuner/trial_id")
        until = special.get("tuner/epochs")
        until = None if until is None or until >= self._epochs else int(until)
        folder = self.trials[parent].folder if parent else kt.trial_id
        twin = None if parent else self._twin(values, until)
        self._note(begin=kt.trial_id, values=values, folder=folder, until=until, twin=twin)
        return self.trials[kt.trial_id]

    def ran(self, trial: Trial, result: Mapping[str, Any]) -> None:
        """One run of a trial has ended, as `worker.train` told."""
        self._note(ran=trial.id, result=dict(result))

    def failed(self, trial: Trial, reason: str) -> None:
        """A trial failed; it may be tried again."""
        self._note(failed=trial.id, reason=reason)

    def end(self, trial: Trial, status: str, reason: str = "") -> None:
        """A trial has ended for good, and those that were waiting for it as its twins."""
        scores = self._scores(trial) if status in SCORED else {}
        if not all(map(math.isfinite, scores.values())):
            status, reason, scores = "diverged", f"its score is {next(iter(scores.values()))}", {}
        self._note(end=trial.id, status=status, reason=reason, scores=scores)
        for other in [other for other in self.trials.values() if other.twin == trial.id and other.status == "running"]:
            self.follow(other)

    def follow(self, trial: Trial) -> None:
        """End a trial as its twin has ended."""
        twin = self.trials[str(trial.twin)]
        status = "same" if twin.status in SCORED else twin.status
        reason = f"the same settings as trial {int(twin.id)}"
        self._note(end=trial.id, status=status, reason=reason, scores=twin.scores)

    def ship(self, what: str, about: Mapping[str, Any] | None = None) -> None:
        """The test part is about to be looked at, by the model of this name; what else is to be known of it later."""
        self._note(shipped=what, **({"about": dict(about)} if about else {}))

    def keep(self, seconds: float) -> None:
        """A search of so many seconds more has found no other model to look at."""
        self._note(kept=seconds)

    # ------------------------------------------------------------------------------------------------ what is so

    def running(self) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.status == "running"]

    def ended(self) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.status != "running"]

    def ranked(self) -> list[Trial]:
        """Trials with runs of their own and a score, best first; those trained whole before those that were not."""
        first = self.search.objectives[0]
        scored = [trial for trial in self.trials.values() if trial.scores and trial.status in SCORED[:3]]
        return sorted(
            scored, key=lambda t: (not t.whole, -t.scores[first.name] if first.more else t.scores[first.name], t.id)
        )

    def others(self, trial: Trial, run: int) -> list[Sequence[Mapping[str, float]]]:
        """The numbers of the same run of other trials, for the stopper."""
        return [
            other.results[run]["rows"]
            for other in self.ended()
            if other is not trial and other.status in SCORED and len(other.results) > run
        ]

    def score(self, result: Mapping[str, Any]) -> dict[str, float]:
        """What a run is scored by: its numbers at the epoch whose weights are kept, and its costs."""
        return {one.name: _value(one, self.search.objectives[0], result) for one in self.search.objectives}

    # ------------------------------------------------------------------------------------------------ how it changes

    def _note(self, **event: Any) -> None:
        self._apply(self._journal.add(**event))

    def _apply(self, event: Mapping[str, Any]) -> None:
        kind, id = next(iter(event.items()))
        if kind == "begin":
            self._begun(event)
        elif kind == "ran":
            self.trials[id].results.append(event["result"])
        elif kind == "failed":
            self.trials[id].failures += 1
            self.trials[id].reason = event["reason"]
        elif kind == "end":
            self._over(self.trials[id], event)
        elif kind == "shipped":
            self.shipped.append(event)

    def _draw(self) -> Any:
        """Keras Tuner's next trial, None if there is none."""
        # A name of its own: the Oracle gives a tuner that asks twice the same trial again.
        kt = self.oracle.create_trial(f"tuner-{len(self.trials)}")
        if kt.status != "RUNNING":
            return None
        self._kt[kt.trial_id] = kt
        return kt

    def _begun(self, event: Mapping[str, Any]) -> None:
        id, values = event["begin"], dict(event["values"])
        kt = self._kt.get(id)
        if kt is not None:
            drawn = {key: value for key, value in kt.hyperparameters.values.items() if not key.startswith("tuner/")}
            if drawn != values:
                self.drifted = True
                kt.hyperparameters.values.update(values)
        self.trials[id] = Trial(id, values, event["folder"], event["until"], twin=event["twin"])

    def _over(self, trial: Trial, event: Mapping[str, Any]) -> None:
        trial.status, trial.reason, trial.scores = event["status"], event["reason"], event["scores"]
        told = trial.scores
        if not told and trial.status == "diverged":
            told = self._worst()
        kt = self._kt.pop(trial.id, None)
        if kt is None:
            return
        if told:
            self.oracle.update_trial(trial.id, told)
        kt.status = "COMPLETED" if told else "FAILED"
        self.oracle.end_trial(kt)

    def _worst(self) -> dict[str, float]:
        """The worst of every objective so far; nothing where no trial has a score yet."""
        scored = [trial.scores for trial in self.trials.values() if trial.scores]
        return {one.name: one.worst(s[one.name] for s in scored) for one in self.search.objectives if scored}

    def _scores(self, trial: Trial) -> dict[str, float]:
        runs = [self.score(result) for result in trial.results]
        return {one.name: math.fsum(run[one.name] for run in runs) / len(runs) for one in self.search.objectives}

    def _twin(self, values: Mapping[str, Value], until: int | None) -> str | None:
        return next((t.id for t in self.trials.values() if t.values == values and t.until == until), None)


def _value(one: Objective, first: Objective, result: Mapping[str, Any]) -> float:
    if one.is_cost:
        return float(result[one.name])
    rows = result["rows"]
    if result.get("best_epoch"):
        row = rows[result["best_epoch"] - 1]
    elif result["ended"] == "paused" and not first.is_cost:
        row = (max if first.more else min)(rows, key=lambda row: row[first.name])
    else:
        row = rows[-1]
    return float(row[one.name])
