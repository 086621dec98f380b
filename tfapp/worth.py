"""What a trained model is worth, measured on what ships: the exported model, loaded back from disk."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import tf_keras as keras

from tfapp import environment, export, features, predict, tasks
from tfapp import plan as plans
from tfapp import recipe as recipes
from tfapp import report as pages
from tfapp.data.examples import Data
from tfapp.evaluate import latency
from tfapp.mesh import weights as parted
from tfapp.outputs import raw_batches
from tfapp.plan import Plan
from tfapp.private import ledger
from tfapp.run import Run, now, write_text, writing

if TYPE_CHECKING:
    from tfapp.job import Job
    from tfapp.train import Trained


def shipped(run: Run, recipe: ModuleType, job: Job, trained: Trained) -> dict[str, Any]:
    """Export a trained model into its run and measure what was exported; returns the report."""
    model = export.whole(job.preprocess, trained.model, job.data.task)
    export.save(model, run.folder)
    return report(run, recipe, job, trained, model)


def report(run: Run, recipe: ModuleType, job: Job, trained: Trained, model: keras.Model) -> dict[str, Any]:
    """Measure the exported model and write report.json and report.html; returns the report."""
    training = {
        "seconds": round(trained.seconds, 2),
        "history": trained.history,
        "best_epoch": trained.best_epoch,
        "model": layers(job.model),
        "profile": run.read("profile.json"),
    }
    return publish(run, {**measured(run, recipe, job.plan, job.data), **training})


def measured(run: Run, recipe: ModuleType, plan: Plan, data: Data) -> dict[str, Any]:
    """All of a report that the model as exported into the run tells, whatever trained it."""
    about = inspect.cleandoc(recipe.__doc__ or "")
    call = export.load(run.folder)
    return {
        "schema": 1,
        "recipe": Path(plan.recipe).stem,
        "title": about.partition("\n")[0],
        "about": about.partition("\n\n")[0].removeprefix(about.partition("\n")[0]).strip(),
        "status": "finished",
        "started": run.read("run.json").get("started", now()),
        "task": data.task,
        "classes": list(data.classes),
        "target": data.target,
        "kind": data.kind,
        "data": summary(data),
        **evaluate(call, data, run),
        "sizes": {
            form: latency.size(run.file(name))
            for form, name in (("savedmodel", "model"), ("keras", "model.keras"))
            if run.file(name).exists()
        },
        "latency": {"savedmodel": speed(call, data)},
        **spent(run),
        "plan": plan.model_dump(mode="json"),
        "environment": environment.describe(),
    }


def spent(run: Run) -> dict[str, Any]:
    """The report's section on privacy; {} where a run was not trained privately."""
    held = ledger.read(run.folder)
    return {"privacy": ledger.told(held)} if held else {}


def publish(run: Run, whole: dict[str, Any]) -> dict[str, Any]:
    """Write report.json and the page made from it."""
    run.write("report.json", whole)
    write_text(run.file("report.html"), pages.render(whole))
    return whole


def evaluate(call: Any, data: Data, run: Run) -> dict[str, Any]:
    """The task's sections (`evaluation` and what goes with it), on the test part (validation where there is none)."""
    part = data.test if len(data.test) else data.validation
    if not len(part):
        return {}
    measured, kept = tasks.of(data.task).measure(call, data, part)
    measured["evaluation"]["part"] = "test" if part is data.test else "validation"
    with writing(run.file("predictions.npz")) as file:
        np.savez(file, **kept)
    return measured


def speed(call: Any, data: Data) -> dict[str, Any]:
    """Latency of the exported model at batch sizes 1 and 32, on this machine."""

    def batch_for(size: int) -> Any:
        part = data.test if len(data.test) else data.train
        return next(iter(raw_batches(part.take(np.arange(size) % len(part)), size)))

    return latency.measure(call, batch_for)


def summary(data: Data) -> dict[str, Any]:
    """How many examples there were, and what was left out."""
    return {
        "train": len(data.train),
        "validation": len(data.validation),
        "test": len(data.test),
        "dropped": len(data.dropped),
        "dropped_examples": [{"name": one.name, "reason": one.reason} for one in data.dropped[:20]],
        "notes": list(data.notes),
    }


def layers(model: keras.Model) -> dict[str, Any]:
    """Parameters of the model, in all and by layer."""
    return {
        "parameters": int(model.count_params()),
        "trainable": _numbers(model.trainable_weights),
        "layers": [
            {
                "name": layer.name,
                "type": type(layer).__name__,
                "output": json.loads(json.dumps(getattr(layer, "output_shape", None), default=str)),
                "parameters": _numbers(layer.weights),
            }
            for layer in model.layers
        ],
    }


def _numbers(weights: Iterable[Any]) -> int:
    return sum(math.prod(parted.shape(weight)) for weight in weights)


def again(run: Run, path: Path | None, say: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure a finished run's model again; returns (the report, the new evaluation).

    Without a path: on the run's own test part, which its recipe splits off as it did in training. With one:
    on labelled data in the form of the training data; classes that the model never saw are left out and counted.
    """
    whole, facts = run.read("report.json"), run.read("data.json")
    call = export.load(run.folder)
    if path is None:
        whole.update(evaluate(call, data_of(run), run))
        return publish(run, whole), whole["evaluation"]
    measured = predict.score(call, facts, path, say)
    whole.setdefault("evaluations", {})[str(path)] = measured
    return publish(run, whole), measured


def data_of(run: Run) -> Data:
    """A run's data, read and split off by its recipe as in training.

    Raises:
      Expected: the recipe or its data is not where it was.
    """
    _, module, plan = asked_of(run)
    with recipes.at_work(module):
        return features.data(plan, module)


def asked_of(run: Run) -> tuple[recipes.Recipe, ModuleType, plans.Plan]:
    """What a run was asked for: its recipe, that recipe's module, and its plan.

    Raises:
      Expected: the recipe is not where it was, or does not take the plan any more.
    """
    recipe = recipes.find(run.plan()["recipe"])
    module = recipes.load(recipe)
    return recipe, module, plans.resolve(recipe.word, module.Config, [(str(run.file("plan.yaml")), run.plan())])


def artefact(run: Run, row: dict[str, Any]) -> dict[str, Any]:
    """Put what `shipped.measure` found into the run's report, in the place of an older row of that name."""
    whole = run.read("report.json")
    others = [one for one in whole.get("artefacts", []) if one.get("name") != row["name"]]
    return publish(run, {**whole, "artefacts": [*others, row]})
