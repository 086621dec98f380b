"""The process that runs trials, one after another, with TensorFlow imported once.

`python -m tfapp.tune.worker` answers questions on standard input, a line of JSON each; `workers.py` asks them. It
ends at once when whoever asks has gone: a run goes on from its checkpoint whenever it is ended.

    {"describe": plan}                      → {"numbers": [loss, val_loss, …], "task": …, "memory": bytes}
    {"train": {plan, folder, until, costs}} → {"epochs": [{…}]} after each, answered by {"pause": reason or null}; then
                                              {"ended": finished | paused | diverged | failed | stopped, …}
    {"ship": {plan, folder}}                → {"report": {…}} of the exported model, test part included
    {"export": {plan, folder}}              → {"seconds": …}; the same without looking at the test part
    {"combine": {plan, members, folder, looks}} → {"report": {…}} of the mean of exported models, [[folder, weight], …]
    anything                                → {"cannot": reason, "error": name} where its share of the machine is not there
    {"halt": true}                          → while it trains: write a checkpoint; {"ended": "stopped"}
    {"stop": true}                          → at any time: write a checkpoint and end the process
"""

from __future__ import annotations

import gc
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tfapp import errors
from tfapp import recipe as recipes
from tfapp.launch import share, signs
from tfapp.plan import Plan, schema

if TYPE_CHECKING:
    from tfapp.job import Job
    from tfapp.run import Run
    from tfapp.train import Trained

Tell = Callable[[dict[str, Any]], None]
# As `tfapp.train.train` takes it: shown the numbers of all epochs so far, answers with the reason to pause.
Watch = Callable[[Sequence[Mapping[str, float]]], str | None]


def main() -> None:
    """Answer until told to stop, or until nobody asks any more."""
    tell = answering()
    try:
        if share.VARIABLE in os.environ:
            share.take(os.environ[share.VARIABLE])
    except errors.Expected as error:
        tell({"cannot": str(error), "error": type(error).__name__})
        return
    questions: queue.Queue[dict[str, Any]] = queue.Queue()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(errors.Preempted.exit_code))
    threading.Thread(target=_listen, args=(questions, stopping), daemon=True).start()
    _import_tensorflow()
    while not stopping.is_set():
        ((what, about),) = questions.get().items()
        if what == "pause":
            continue  # Meant for a training that had ended by itself.
        tell(_answered(what, about, tell, questions))
        forget()
        if not gc.get_freeze_count():
            # What is loaded by now stays: the collector, called after each trial, need not look at it again.
            gc.freeze()


def answering() -> Tell:
    """What sends an answer, a line of JSON on standard output; from now on nothing else gets there."""
    # What a recipe prints must not get between the answers; Ctrl-C is for the process that asks.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def tell(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    return tell


def _listen(questions: queue.Queue[dict[str, Any]], stopping: threading.Event) -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        if "stop" in asked or "halt" in asked:
            # A training has its own way out, with a checkpoint, also where it waits for an answer; between trainings
            # the process just ends.
            if "stop" in asked:
                stopping.set()
            questions.put({"pause": "the search stops"})
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            questions.put(asked)
    # Whoever asked has died: a trial must not be trained here and, when the search goes on, elsewhere.
    os._exit(1)


def _import_tensorflow() -> None:
    from tfapp.runtime import import_tensorflow

    import_tensorflow()


def forget() -> None:
    """Give back what a trial took: fifty trials take no more memory than one."""
    import tf_keras as keras

    keras.backend.clear_session()
    gc.collect()
    _dismantle()
    gc.collect()
    _trim()


def _dismantle() -> None:
    """Take apart the traced steps of models that are gone, which Python cannot collect: 4 MB a trial.

    A graph and its operations, which live in C++, hold each other; TensorFlow takes them apart with their function, but
    not where they hold a loop, as the step of several steps an execution does.
    """
    from tensorflow.python.framework.func_graph import FuncGraph, dismantle_func_graph

    # Not isinstance: a weak reference to a graph calls itself one.
    graphs = [one for one in gc.get_objects() if issubclass(type(one), FuncGraph)]
    for graph in [one for one in graphs if _of_step(one)]:
        if hasattr(graph, "_function_captures"):  # Else it has been taken apart before.
            dismantle_func_graph(graph)
        # Its inputs and outputs hold it too; what it holds is a dict that only the collector can see.
        for held in gc.get_referents(graph):
            if isinstance(held, dict):
                held.clear()


def _of_step(graph: Any) -> bool:
    """Whether a graph is Keras's training or validation step, or lies within one."""
    while graph is not None:
        if getattr(graph, "name", "").startswith(("train_function", "test_function")):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def _trim() -> None:
    """Hand freed memory back to the system, where the C library keeps it (glibc)."""
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _answered(what: str, about: Any, tell: Tell, questions: queue.Queue[dict[str, Any]]) -> dict[str, Any]:
    """The last answer to a question; an error is one too."""
    told = 0

    def watch(rows: Sequence[Mapping[str, float]]) -> str | None:
        nonlocal told
        if why := until(about["until"])(rows):
            return why
        tell({"epochs": [dict(row) for row in rows[told:]]})
        told = len(rows)
        return questions.get()["pause"]

    try:
        return answer(what, about, watch)
    except (errors.Preempted, SystemExit) as stopped:
        # In a training or, before and after it, wherever the signal came.
        return {"ended": "stopped", "reason": str(stopped)}
    except errors.Expected as error:
        return failed(error)
    except Exception as error:  # noqa: BLE001, as one trial's defect must not end the search
        traceback.print_exc()
        return {"ended": "failed", "reason": f"{type(error).__name__}: {error}"[:1000], "error": None}


def failed(error: errors.Expected) -> dict[str, Any]:
    """An expected error as an answer."""
    return {"ended": "failed", "reason": str(error), "error": type(error).__name__}


def until(epochs: int | None) -> Watch:
    """A watch that pauses a training after so many epochs; None: never."""

    def watch(rows: Sequence[Mapping[str, float]]) -> str | None:
        return f"trained for {len(rows)} epochs" if epochs is not None and len(rows) >= epochs else None

    return watch


def answer(what: str, about: Any, watch: Watch) -> dict[str, Any]:
    """Do what a question asks; in a job of many workers, with the others, and the chief's answer counts.

    Args:
      what, about: the question. watch: sees the epochs of a training.

    Raises:
      Expected: what a user can mend. Preempted: stopped, with a checkpoint. Exception: a defect, the recipe's say.
    """
    if what == "describe":
        return describe(*_loaded(about))
    if what == "ship":
        return {"report": ship(*_loaded(about["plan"]), Path(about["folder"]))}
    if what == "export":
        return {"seconds": export_only(*_loaded(about["plan"]), Path(about["folder"]))}
    if what == "combine":
        return {"report": combine(*_loaded(about["plan"]), about["members"], Path(about["folder"]), about["looks"])}
    return train(*_loaded(about["plan"]), Path(about["folder"]), watch, about["until"], about["costs"])


def _loaded(asked: Mapping[str, Any]) -> tuple[Plan, ModuleType, str]:
    recipe = recipes.find(asked["recipe"])
    module = recipes.load(recipe)
    return schema(module.Config).model_validate(asked), module, recipe.digest


def describe(plan: Plan, module: ModuleType, _: str) -> dict[str, Any]:
    """What a run of this plan writes every epoch, found by making its data and model; nothing is trained."""
    from tfapp import environment, features
    from tfapp import job as jobs

    with plan.runtime.enter() as machine, recipes.at_work(module):
        data = features.data(plan, module)
        with machine.strategy.scope():
            job = features.apply(plan, jobs.of(plan, module, data, machine))
    names = ["loss", *(getattr(metric, "name", metric) for metric in job.metrics)]
    names += [f"val_{name}" for name in names] if job.validation else []
    return {"numbers": names, "task": data.task, "classes": list(data.classes), "memory": environment.peak_memory()}


def train(
    plan: Plan,
    module: ModuleType,
    digest: str,
    folder: Path,
    watch: Watch,
    until: int | None,
    costs: Sequence[str],
) -> dict[str, Any]:
    """Train one run of a trial, from its checkpoint if it has one, and measure it on the validation part alone.

    Args:
      folder: the run's. watch: as `tfapp.train.train` takes it.
      until: epochs after which it pauses; those beyond do not count, where it has been trained further.
      costs: of objective.COSTS, what to measure of the trained model.

    Returns:
      ended, rows (the numbers of each epoch), best_epoch (from 1), seconds, and the costs by name.
    """
    from tfapp import run as runs
    from tfapp.train import train

    run = runs.begin(folder, plan, digest)
    signs.tell(run=str(folder))

    def finish(run: Run, recipe: ModuleType, job: Job, trained: Trained) -> dict[str, Any]:
        keep_validation(run, job, trained)
        return {
            "rows": trained.history,
            "best_epoch": trained.best_epoch,
            "seconds": trained.seconds,
            **_costs(costs, run, job, trained),
        }

    try:
        return {"ended": "finished", **train(plan, module, run, _silent, watch, finish)}
    except errors.Paused as paused:
        return {"ended": "paused", "reason": str(paused), **so_far(run, until)}
    except errors.Diverged as diverged:
        return {"ended": "diverged", "reason": str(diverged), "rows": []}


def _silent(line: str) -> None:
    """The search shows what its trials do."""


def so_far(run: Run, until: int | None) -> dict[str, Any]:
    """The numbers of a paused run, as far as they count."""
    rows = run.metrics()[:until]
    return {"rows": rows, "best_epoch": None, "seconds": sum(row["seconds"] for row in rows)}


def keep_validation(run: Run, job: Job, trained: Trained) -> None:
    """Write what the model says of each validation example, by which trials are compared: validation.npz.

    Only where an example has one answer: a language model's do not fit in memory.
    """
    import numpy as np

    from tfapp import export, outputs
    from tfapp.run import writing

    part = job.data.validation
    if not len(part) or job.data.task == "language":
        return
    model = export.whole(job.preprocess, trained.model, job.data.task)
    answers = outputs.predict(lambda features: model(features, training=False).numpy(), part)
    with writing(run.file("validation.npz")) as file:
        np.savez(file, labels=part.labels, outputs=answers.astype(np.float32))


def _costs(names: Sequence[str], run: Run, job: Job, trained: Trained) -> dict[str, float]:
    """What the model costs, of these: latency and size are those of the exported model."""
    from tfapp import export, worth
    from tfapp.evaluate import latency

    found: dict[str, float] = {}
    if {"latency_ms", "size_kb"} & set(names):
        export.save(export.whole(job.preprocess, trained.model, job.data.task), run.folder)
        found["size_kb"] = latency.size(run.file("model"))["bytes"] / 1000
    if "latency_ms" in names:
        found["latency_ms"] = worth.speed(export.load(run.folder), job.data)["1"]["p50_ms"]
    if "parameters" in names:
        found["parameters"] = float(trained.model.count_params())
    return found


def ship(plan: Plan, module: ModuleType, digest: str, folder: Path) -> dict[str, Any]:
    """Finish a run as `tfapp train` does: train what is left, export, measure with the test part, report."""
    from tfapp import run as runs
    from tfapp.train import train

    run = runs.begin(folder, plan, digest)
    signs.tell(run=str(folder))
    return train(plan, module, run, _silent)


def export_only(plan: Plan, module: ModuleType, digest: str, folder: Path) -> float:
    """Train what is left of a run and export its model; returns the seconds of its training."""
    from tfapp import export
    from tfapp import run as runs
    from tfapp.train import train

    def finish(run: Run, recipe: ModuleType, job: Job, trained: Trained) -> dict[str, Any]:
        export.save(export.whole(job.preprocess, trained.model, job.data.task), run.folder)
        return {"seconds": trained.seconds}

    return train(plan, module, runs.begin(folder, plan, digest), _silent, lambda rows: None, finish)["seconds"]


def combine(
    plan: Plan, module: ModuleType, digest: str, members: Sequence[tuple[str, float]], folder: Path, looks: int
) -> dict[str, Any]:
    """Make one model of exported ones, from raw features to the weighted mean of their answers, and measure it.

    Args:
      looks: how often the test part has been looked at, this time counted; told in the report as `test_looks`.
    """
    from tfapp import export, features, worth
    from tfapp import run as runs
    from tfapp.tune import ensemble

    run = runs.begin(folder, plan, digest)
    with plan.runtime.enter() as machine, run.recorded(machine), recipes.at_work(module):
        data = features.data(plan, module)
        run.describe(data)
        model = ensemble.joined([(export.load_keras(Path(path, "model.keras")), weight) for path, weight in members])
        export.save(model, folder)
        told = [{"model": Path(path).name, "weight": weight} for path, weight in members]
        report = worth.measured(run, module, plan, data)
        return worth.publish(run, {**report, "ensemble": told, "test_looks": looks, "model": worth.layers(model)})


if __name__ == "__main__":
    main()
