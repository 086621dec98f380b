"""What a search leaves: trials.csv, best.yaml, TensorBoard's HParams, the winner's finished run and the page."""

from __future__ import annotations

import csv
import io
import shutil
from typing import Any

from tfapp import run as runs
from tfapp.errors import Failed
from tfapp.plan import Plan
from tfapp.private import ledger
from tfapp.run import Run, write_text, writing_folder
from tfapp.tune import noise, objective, privacy
from tfapp.tune.drive import run_folder
from tfapp.tune.search import FILE
from tfapp.tune.state import State, Trial
from tfapp.tune.workers import Workers

BEST = "best"


def write_tables(state: State) -> None:
    """Write trials.csv, and best.yaml where there is a best: whole, after each trial."""
    text = io.StringIO()
    keys = list(dict.fromkeys(key for trial in state.trials.values() for key in trial.values))
    names = [one.name for one in state.search.objectives]
    front = set(front_of(state))
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["trial", "status", *names, "pareto", "epochs", "seconds", *keys, "run", "reason"])
    for trial in state.trials.values():
        table.writerow(
            [
                int(trial.id),
                trial.status,
                *(trial.scores.get(name, "") for name in names),
                "yes" if trial.id in front else "",
                trial.epochs,
                round(trial.seconds, 2),
                *(trial.values.get(key, "") for key in keys),
                f"trials/{trial.folder}",
                trial.reason.partition("\n")[0],
            ]
        )
    write_text(state.folder / "trials.csv", text.getvalue())
    ranked = state.ranked()
    if ranked:
        write_text(state.folder / "best.yaml", state.search.plan(ranked[0].values).to_yaml())


def front_of(state: State) -> list[str]:
    """The ids of the trials that none beats in every objective; of one objective nobody needs a front."""
    if len(state.search.objectives) < 2:
        return []
    names = [one.name for one in state.search.objectives]
    scored = {trial.id: [trial.scores[name] for name in names] for trial in state.ranked()}
    return objective.pareto(state.search.objectives, scored)


def ship(state: State, workers: Workers) -> tuple[Trial, dict[str, Any]]:
    """Finish the winner's run in best/: exported, and measured on the test part; returns it with its report.

    The run of the best trial is taken as it is; where trials have several runs, one is trained as planned. Where no
    trial was trained to its end, the best so far is taken as far as it has come.

    Raises:
      Failed: no trial has a score.
    """
    ranked = state.ranked() or _unfinished(state)
    if not ranked:
        raise Failed(
            f"no trial of {state.folder} has a score yet\n"
            "give it more time: the same command goes on; trials.csv says how the trials ended"
        )
    winner = ranked[0]
    best = Run(state.folder / BEST)
    if state.shipped and state.shipped[-1] == winner.id and best.status == "finished" and not best.lacking:
        return winner, best.read("report.json")
    state.ship(winner)
    (name, plan), *more = state.search.runs(winner.values)
    if more:
        plan = state.search.plan(winner.values)
        shutil.rmtree(best.folder, ignore_errors=True)
    else:
        with writing_folder(best.folder) as aside:
            shutil.copytree(run_folder(state, winner, name), aside)
        if not winner.whole:
            plan = _as_far_as(plan, best)
    answer = workers.once({"ship": {"plan": plan.model_dump(mode="json"), "folder": str(best.folder.absolute())}})
    return winner, answer["report"]


def _unfinished(state: State) -> list[Trial]:
    """Running trials by what they have reached, best first; only those that a checkpoint can be made a model of."""
    first = state.search.objectives[0]
    if first.is_cost:
        return []
    found = []
    for trial in state.running():
        run = Run(run_folder(state, trial, state.search.runs(trial.values)[0][0]))
        rows = run.metrics()
        if rows and run.file("checkpoints").is_dir():
            trial.scores = {first.name: first.best(row[first.name] for row in rows)}
            found.append(trial)
    return sorted(found, key=lambda trial: trial.scores[first.name], reverse=first.more)


def _as_far_as(plan: Plan, run: Run) -> Plan:
    """The plan of a training that ends where the run's checkpoint is; the run's own is changed to it."""
    from tfapp.callbacks.checkpoint import numbers

    there = numbers(run.file("checkpoints"))
    if not there:
        return plan
    cut = plan.model_copy(update={"fit": plan.fit.model_copy(update={"steps": there[0]})})
    if plan.private and (held := ledger.read(run.folder)):
        # For fewer steps another noise would be found than these steps had.
        noise = {"epsilon": None, "noise_multiplier": held.noise_multiplier}
        cut = cut.model_copy(update={"private": plan.private.model_copy(update=noise)})
    write_text(run.file("plan.yaml"), cut.to_yaml())
    return cut


def luck(state: State) -> dict[str, Any] | None:
    """`noise.lead` of the winner; None where fewer than two trials were trained to their end."""
    whole = [trial for trial in state.ranked() if trial.whole]
    if len(whole) < 2:
        return None
    first = state.search.objectives[0]
    values = [trial.scores[first.name] for trial in whole]
    chosen = [whole[0], whole[1], whole[len(whole) // 2]]
    files = [run_folder(state, trial, "") / "validation.npz" for trial in chosen]
    added = noise.examples(first, files)
    scored = [
        noise.Scored([state.score(result)[first.name] for result in trial.results], each)
        for trial, each in zip(chosen, added, strict=True)
    ]
    return noise.lead(first, values, *scored)


def write_hparams(state: State, trial: Trial) -> None:
    """A trial's settings and scores as TensorBoard's HParams shows them: tensorboard --logdir FOLDER/hparams."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    with tf.summary.create_file_writer(str(state.folder / "hparams" / trial.id)).as_default():
        api.hparams(dict(trial.values), trial_id=trial.id)
        for name, value in trial.scores.items():
            tf.summary.scalar(name, value, step=trial.epochs)


def summary(state: State, winner: Trial, report: dict[str, Any]) -> dict[str, Any]:
    """What the search found, JSON-able; kept in search.json too."""
    found = {
        "folder": str(state.folder),
        "trials": len(state.trials),
        "statuses": {s: n for s in STATUSES if (n := sum(t.status == s for t in state.trials.values()))},
        "best": {
            "trial": int(winner.id),
            "values": winner.values,
            "validation": winner.scores,
            "test": {name: score["value"] for name, score in report.get("evaluation", {}).get("scores", {}).items()},
            "run": str(state.folder / BEST),
        },
        "luck": luck(state),
        "pareto": [int(id) for id in front_of(state)],
        "test_looks": len(state.shipped),
    }
    if spent := privacy.write(state.folder):
        found["privacy"] = spent
    held = Run(state.folder)
    held.write(FILE, {**held.read(FILE), "found": found, "finished": runs.now()})
    return found


STATUSES = ("finished", "paused", "stopped", "same", "diverged", "failed", "running")
