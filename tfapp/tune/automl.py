"""From raw data to one model in a given time: search, take the best few together, train them on all, measure once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfapp import run as runs
from tfapp.errors import Refused
from tfapp.launch.places import Ssh, here
from tfapp.plan import Plan
from tfapp.run import Run
from tfapp.runtime import import_tensorflow
from tfapp.settings import Split
from tfapp.tune import drive, ensemble, outcome, table
from tfapp.tune.drive import Limits, run_folder
from tfapp.tune.go import KEPT, Recorder
from tfapp.tune.search import Search
from tfapp.tune.state import State
from tfapp.tune.workers import Workers

# Of the time that is not kept for the end, so much is for the search; the rest trains the chosen ones on all.
SEARCHING = 0.6
DEFAULT = "default"


def auto(search: Search, folder: Path, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Make the model in best/ within so many seconds; returns its report, with the members under `ensemble`.

    The recipe's own settings are tried first, then the search's. The test part is looked at once, by the model of all.

    Args:
      folder: opened by `search.begin` and held.

    Raises:
      Refused: the recipe is trained privately. Expected: the plan cannot be trained at all.
    """
    if getattr(search.plan({}), "private", None) is not None:
        raise Refused(
            "tfapp auto joins several trainings, some of them on validation examples too, and keeps no ledger of them all\n"
            "search with tfapp tune, which does"
        )
    began = time.monotonic()
    end = began + seconds - min(KEPT, seconds / 3)
    with Workers(here(1), folder / "logs", Ssh()) as workers:
        workers.all[0].start()
        import_tensorflow()
        own = search.plan({})
        say("training with the recipe's own settings")
        known = {DEFAULT: workers.train(own.model_dump(mode="json"), folder / DEFAULT)}
        state = State(search, folder, say)
        limits = Limits(None, began + SEARCHING * (end - began))
        with table.Screen(limits) as screen:
            drive.search(state, workers, limits, Recorder(state, screen).show)
        outcome.write_tables(state)
        candidates, plans = {DEFAULT: folder / DEFAULT}, {DEFAULT: own}
        for trial in state.ranked():
            if trial.whole:
                candidates[trial.id], plans[trial.id] = run_folder(state, trial, ""), search.plan(trial.values)
                known[trial.id] = trial.results[0]
        weights, loss = _chosen(candidates)
        told = ", ".join(f"{_name(name)} {weight:.2f}" for name, weight in weights.items())
        say(f"the best together, by greedy selection: {told}; validation loss {loss:.4g}")
        members = _members(workers, folder, weights, candidates, plans, known, end, say)
        best = folder / outcome.BEST
        shutil.rmtree(best, ignore_errors=True)
        plan = plans[next(iter(weights))]
        asked = {"plan": plan.model_dump(mode="json"), "members": members, "folder": str(best.absolute())}
        return workers.once({"combine": asked})["report"]


def _name(name: str) -> str:
    return "the recipe's own settings" if name == DEFAULT else f"trial {int(name)}"


def _chosen(candidates: dict[str, Path]) -> tuple[dict[str, float], float]:
    """Weights of the best trials together, by what they said of the validation examples."""
    held = {}
    for name, folder in candidates.items():
        with np.load(folder / "validation.npz", allow_pickle=False) as file:
            held[name] = file["labels"], file["outputs"]
    return ensemble.select(held[DEFAULT][0], {name: outputs for name, (_, outputs) in held.items()})


def _members(
    workers: Workers,
    folder: Path,
    weights: dict[str, float],
    candidates: dict[str, Path],
    plans: dict[str, Plan],
    known: dict[str, dict[str, Any]],
    end: float,
    say: Callable[[str], None],
) -> list[tuple[str, float]]:
    """The exported models with their weights: trained anew on training and validation examples while there is time."""
    found = []
    for name, weight in weights.items():
        run = Run(folder / "members" / name)
        plan, result = plans[name], known[name]
        # As long as the trial until its best epoch, on a little more data, and something for the export.
        needs = 1.3 * result["seconds"] * (result["best_epoch"] or len(result["rows"])) / len(result["rows"]) + 5
        whole = _on_all(plan, result["best_epoch"] or len(result["rows"]))
        shutil.rmtree(run.folder, ignore_errors=True)
        if whole is not None and time.monotonic() + needs < end:
            say(f"training {_name(name)} anew, on training and validation examples")
            plan = whole
        else:
            runs.make_folder(run.folder.parent)
            shutil.copytree(candidates[name], run.folder)
        workers.once({"export": {"plan": plan.model_dump(mode="json"), "folder": str(run.folder.absolute())}})
        found.append((str(run.folder.absolute()), weight))
    return found


def _on_all(plan: Plan, epochs: int) -> Plan | None:
    """The plan without a validation part, for so many epochs; None where the recipe does not part the examples."""
    split = getattr(plan.config, "split", None)
    if not isinstance(split, Split) or not split.validation:
        return None
    fit = {"epochs": epochs, "patience": None, "restore_best": False, "monitor": "loss", "mode": "min"}
    config = plan.config.model_copy(update={"split": split.model_copy(update={"validation": 0.0})})
    return plan.model_copy(update={"config": config, "fit": plan.fit.model_copy(update=fit)})
