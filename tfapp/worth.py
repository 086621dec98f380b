"""What a trained model is worth, measured on what ships: the exported model, loaded back from disk."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import tf_keras as keras

from tfapp import environment, export, report as pages
from tfapp.data.examples import Data, Examples
from tfapp.evaluate import calibration, classification, latency, regression
from tfapp.report.mistakes import worst
from tfapp.run import Run, now, write_text

if TYPE_CHECKING:
    from tfapp.job import Job
    from tfapp.train import Trained


def report(run: Run, recipe: ModuleType, job: Job, trained: Trained, model: keras.Model) -> dict[str, Any]:
    """Measure the exported model and write report.json and report.html; returns the report."""
    about = inspect.cleandoc(recipe.__doc__ or "")
    call = export.load(run.folder)
    measured = evaluate(call, job.data)
    whole = {
        "schema": 1,
        "recipe": Path(job.plan.recipe).stem,
        "title": about.partition("\n")[0],
        "about": about.partition("\n\n")[0],
        "status": "finished",
        "started": run.read("run.json").get("started", now()),
        "seconds": round(trained.seconds, 2),
        "task": job.data.task,
        "classes": list(job.data.classes),
        "target": job.data.target,
        "kind": job.data.kind,
        "data": summary(job.data),
        "history": trained.history,
        "best_epoch": trained.best_epoch,
        **measured,
        "model": layers(job.model),
        "sizes": {"savedmodel": latency.size(run.file("model")), "keras": latency.size(run.file("model.keras"))},
        "latency": {"savedmodel": speed(call, job.data)},
        "plan": job.plan.model_dump(mode="json"),
        "environment": environment.describe(),
    }
    return publish(run, whole)


def publish(run: Run, whole: dict[str, Any]) -> dict[str, Any]:
    """Write report.json and the page made from it."""
    run.write("report.json", whole)
    write_text(run.file("report.html"), pages.render(whole))
    return whole


def evaluate(call: Any, data: Data) -> dict[str, Any]:
    """The sections `evaluation`, `calibration` and `mistakes`, on the test part (validation where there is none)."""
    part = data.test if len(data.test) else data.validation
    if not len(part):
        return {}
    outputs = export.predict(call, part)
    if data.task == "regression":
        values = outputs[:, 0]
        measured = {"evaluation": regression.measure(part.labels, values)}
    else:
        measured = {"evaluation": classification.measure(part.labels, outputs, data.classes)}
        values = outputs
        if len(data.validation) and part is not data.validation:
            known = export.predict(call, data.validation)
            measured["calibration"] = calibration.measure(part.labels, outputs, data.validation.labels, known)
    measured["evaluation"]["part"] = "test" if part is data.test else "validation"
    measured["mistakes"] = worst(shown(part), part.labels, values, data.classes, data.kind)
    return measured


def shown(examples: Examples) -> Examples:
    """The examples with `load` as NumPy in, NumPy out, for pages that show them."""
    load = examples.load
    if load is None:
        return examples
    return replace(examples, load=lambda one: np.asarray(load(one)))


def speed(call: Any, data: Data) -> dict[str, Any]:
    """Latency of the exported model at batch sizes 1 and 32, on this machine."""

    def batch_for(size: int) -> Any:
        part = data.test if len(data.test) else data.train
        return next(iter(export.raw_batches(part.take(np.arange(size) % len(part)), size)))

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
        "trainable": int(sum(np.prod(w.shape) for w in model.trainable_weights)),
        "layers": [
            {
                "name": layer.name,
                "type": type(layer).__name__,
                "output": json.loads(json.dumps(getattr(layer, "output_shape", None), default=str)),
                "parameters": int(layer.count_params()),
            }
            for layer in model.layers
        ],
    }
