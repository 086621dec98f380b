"""report.html of a search: what was found, how sure it is, and which settings mattered."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from tfapp.report import words
from tfapp.report.sections import fill
from tfapp.run import write_text
from tfapp.tune import figures
from tfapp.tune.importance import importance
from tfapp.tune.outcome import front_of
from tfapp.tune.state import State, Trial
from tfapp.tune.table import line, settings, short

ROWS = 200


def write(state: State, found: Mapping[str, Any]) -> None:
    """Write report.html, self-contained, from a search's state and `outcome.summary`."""
    search = state.search
    ranked = state.ranked()
    best = ranked[0] if ranked else None
    values = {
        "recipe": search.recipe.word,
        "title": f"Search of {search.recipe.word}",
        "algorithm": search.algorithm,
        "objectives": search.objectives,
        "found": found,
        "best": settings(best.values) if best else "",
        "headline": _headline(found),
        "plots": _plots(state, ranked),
        "fronts": _fronts(state, ranked),
        "rows": [_row(state, trial) for trial in [*ranked, *(t for t in state.ended() if t not in ranked)][:ROWS]],
        "keys": _keys(state),
        "trials": len(state.trials),
        "lost": [line(state, trial) for trial in state.ended() if trial.status in ("failed", "diverged")][:20],
        "identity": search.identity(),
        "private": words.of_search(found["privacy"]) if found.get("privacy") else "",
    }
    write_text(state.folder / "report.html", str(fill("search.html", values)))


def _headline(found: Mapping[str, Any]) -> dict[str, str]:
    name, value = next(iter(found["best"]["validation"].items()))
    return {"number": words.number(value), "rest": f"{name} on the validation part, trial {found['best']['trial']}"}


def _keys(state: State) -> list[str]:
    return list(dict.fromkeys(key for trial in state.trials.values() for key in trial.values))


def _plots(state: State, ranked: list[Trial]) -> list[figures.Plot]:
    """History, parallel coordinates, importance: of trials with runs and scores of their own."""
    if not ranked:
        return []
    first = state.search.objectives[0]
    begun = sorted(ranked, key=lambda trial: trial.id)
    scores = [trial.scores[first.name] for trial in begun]
    plots = [figures.history(first, [int(t.id) for t in begun], scores, [t.whole for t in begun])]
    # What was ended early has been given less, which is no doing of its settings.
    whole = [trial for trial in begun if trial.whole] or begun
    scores = [trial.scores[first.name] for trial in whole]
    space = state.oracle.get_space()
    log = {hp.name for hp in space.space if getattr(hp, "sampling", "") == "log"}
    trials = [trial.values for trial in whole]
    if len(whole) > 1:
        keys = [key for key in _keys(state) if any(key in values for values in trials)]
        plots.append(figures.parallel(first, keys, trials, scores, log))
    shares = importance(space, trials, scores, state.search.seed)
    return [*plots, figures.bars(shares)] if shares else plots


def _fronts(state: State, ranked: list[Trial]) -> list[figures.Plot]:
    on_front = set(front_of(state))
    if not on_front:
        return []
    objectives, marked = state.search.objectives, [trial.id in on_front for trial in ranked]
    return [
        figures.front(a, b, [[t.scores[a.name], t.scores[b.name]] for t in ranked], marked, len(objectives) == 2)
        for a, b in combinations(objectives, 2)
    ]


def _row(state: State, trial: Trial) -> dict[str, Any]:
    return {
        "trial": int(trial.id),
        "status": trial.status,
        "scores": [trial.scores.get(one.name) for one in state.search.objectives],
        "epochs": trial.epochs,
        "time": words.duration(trial.seconds),
        "values": [short(trial.values.get(key, "")) for key in _keys(state)],
    }
