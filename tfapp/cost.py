"""What a plan would cost before anything is spent on it: memory, time and disk, from a few seconds of real steps.

It says all that `validate` says, by the same code, and measures what `validate` can only estimate.
"""

from __future__ import annotations

import math
import os
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tfapp import batch_size, conflicts, environment
from tfapp.batch_size import Found
from tfapp.errors import Missing, Refused
from tfapp.measure import Measuring
from tfapp.plan import Plan
from tfapp.report import words

if TYPE_CHECKING:
    from rich.console import RenderableType

# Networks that the all-reduce is told for, in bits a second.
NETWORKS = {"1 Gbit/s": 1e9, "10 Gbit/s": 1e10}

# What a gain must be to be called one: two measurements of one thing differ by half of it.
FASTER = 1.1


def estimate(plan: Plan, recipe: ModuleType, workers: int) -> dict[str, Any]:
    """Measure a plan's training steps on this machine; all that is known then, JSON-able.

    Args:
      workers: machines like this one that would train together; the batch is shared out among them.

    Returns:
      What `validate.describe` gives, and: workers, device, limit (bytes), base (bytes before the first step),
      measured ([{batch, memory, seconds, examples_per_second}], of one worker), failed (sizes that did not
      fit), batch_size {planned, used, auto, why, learning_rate} (global), bfloat16 (a row as measured, None where it was not
      tried), disk (bytes of all checkpoints that are kept) and costs, one for each number of workers (see `_costs`).

    Raises:
      Refused: the batch cannot be shared out, or the strategy has no workers. Missing: it does not fit.
    """
    if workers > 1 and (plan.runtime.mesh or plan.runtime.strategy not in ("auto", "multiworker")):
        asked = "runtime.mesh" if plan.runtime.mesh else f"runtime.strategy={plan.runtime.strategy}"
        raise Refused(
            f"--workers {workers} with {asked}, which is not planned for several workers\nleave {asked.partition('=')[0]} out"
        )
    planned = plan.fit.batch_size if isinstance(plan.fit.batch_size, int) else None
    with Measuring(plan, workers) as device:
        if planned is not None:
            batch_size.shareable(plan, device.replicas * workers)
        share = planned // workers if planned is not None else None
        found = batch_size.search_on(device, plan, share)
        if found.chosen is None:
            raise batch_size.nothing_fits(found, device)
        if share is not None and found.of(share) is None:
            raise _too_large(plan, found, device)
        used = share or found.chosen
        described = device.describe(used)
        base, validation = described.pop("base"), device.evaluate(used)
        described["plan"] = plan.model_dump(mode="json")
        described["batch"] |= {"global": used * workers, "replicas": device.replicas * workers}
        kind = device.kind
        told = {
            **described,
            "workers": workers,
            "device": device.kind,
            "limit": device.limit,
            "base": base,
            "measured": batch_size.rows(found),
            "failed": list(found.failed),
            "batch_size": {
                "planned": plan.fit.batch_size,
                "used": used * workers,
                "auto": found.chosen * workers,
                "why": batch_size.reason(found, device, workers),
                "learning_rate": batch_size.learning_rate(plan, recipe, used * workers),
            },
            # The last ones, the one being written, and the best weights apart.
            "disk": (plan.fit.checkpoint.keep + 1) * described["checkpoint"] + described["memory"]["weights"],
            "costs": [
                _costs(plan, described, found, validation, used, workers, count) for count in sorted({1, workers})
            ],
        }
    return {**told, "bfloat16": _in_bfloat16(plan, workers, used, kind)}


def _in_bfloat16(plan: Plan, workers: int, batch: int, kind: str) -> dict[str, Any] | None:
    """The planned step in bfloat16, where the device may be faster with it and the plan allows it."""
    runtime = plan.runtime.model_copy(update={"precision": "bfloat16"})
    other = plan.model_copy(update={"runtime": runtime})
    native = kind == "GPU" or environment.BFLOAT16 & set(environment.machine()["cpu_features"])
    if plan.runtime.precision != "float32" or not native or any(row.when(other) for row in conflicts.CONFLICTS):
        return None
    with Measuring(other, workers) as device:
        measured = device.train(batch)
    return batch_size.row(measured) if measured else None


def _too_large(plan: Plan, found: Found, device: Measuring) -> Missing:
    size, largest = batch_size.number(plan), found.measured[-1].batch * device.workers
    unit = device.workers * device.replicas * plan.fit.accumulate
    # With k times as many parts a batch takes about the memory of one k times smaller.
    parts = next((k for k in range(2, size + 1) if size % (unit * k) == 0 and size // k <= largest), None)
    in_parts = f"the same step in parts (fit.accumulate={parts * plan.fit.accumulate}), " if parts else ""
    return Missing(
        f"fit.batch_size={size} does not fit in {device.room}; {largest} does\n"
        f"use fit.batch_size={largest} or less, {in_parts}runtime.precision=bfloat16, smaller inputs, "
        "or recomputed activations (tf.recompute_grad in the recipe)"
    )


def _costs(
    plan: Plan, described: dict[str, Any], found: Found, validation: float, used: int, workers: int, count: int
) -> dict[str, Any]:
    """The whole training with `count` workers of the global batch that `workers` of them would use.

    Seconds are those of computing: what the network adds is told apart, as all_reduce_bytes: what each worker
    sends a step when gradients are summed around a ring (Patarasuk and Yuan 2009). seconds are None where a
    worker's share is a size beyond those that were measured.
    """
    size, parts = used * workers, plan.fit.accumulate
    share = size / count
    examples, held_out = described["data"]["train"], described["data"]["validation"]
    epoch_steps = math.ceil(examples / size)
    steps = min(plan.fit.steps or math.inf, plan.fit.epochs * epoch_steps)
    step = _seconds(found, share)
    costs: dict[str, Any] = {
        "workers": count,
        "batch": size,
        "batch_a_worker": share,
        "steps_an_epoch": epoch_steps,
        "steps": int(steps),
        "seconds_a_step": step,
        "all_reduce_bytes": round(described["memory"]["gradients"] * 2 * (count - 1) / count),
        "epoch_seconds": None,
        "seconds": None,
    }
    if step is not None:
        # A validation step was timed with the share of one of `workers`.
        evaluation = validation * workers / count * math.ceil(held_out / (size // parts))
        costs["epoch_seconds"] = epoch_steps * step + evaluation
        costs["seconds"] = steps * step + math.ceil(steps / epoch_steps) * evaluation
    return costs


def _seconds(found: Found, share: float) -> float | None:
    """Seconds of a step of so many examples: as measured, or on the line between its two neighbours."""
    below = max((one for one in found.measured if one.batch <= share), key=lambda one: one.batch, default=None)
    above = min((one for one in found.measured if one.batch >= share), key=lambda one: one.batch, default=None)
    if below is None or above is None:
        return None
    if below.batch == above.batch:
        return below.seconds
    return below.seconds + (above.seconds - below.seconds) * (share - below.batch) / (above.batch - below.batch)


def workers(asked: int | None) -> int:
    """How many workers to plan for: as asked, or as many as TF_CONFIG names."""
    cluster = environment.tf_config(os.environ)
    return asked or (cluster["workers"] if cluster else 0) or 1


def table(found: dict[str, Any]) -> RenderableType:
    """The sizes that were tried, for a person."""
    from rich.table import Table

    several, marks = found["workers"] > 1, found["batch_size"]
    per_replica = found["batch"]["replicas"] // found["workers"]
    shown = Table(box=None, pad_edge=False)
    for column in ("batch a worker" if several else "batch", "a replica", "memory", "a step", "examples/s"):
        shown.add_column(column, justify="right")
    shown.add_column("")
    for row in found["measured"]:
        notes = [name for name in ("used", "auto") if row["batch"] * found["workers"] == marks[name]]
        if marks["planned"] == "auto" and notes:
            notes = ["auto"]
        shown.add_row(
            f"{row['batch']:,}",
            f"{row['batch'] // per_replica:,}",
            words.size(row["memory"]),
            words.milliseconds(1000 * row["seconds"]),
            f"{row['examples_per_second']:,.0f}",
            " and ".join({"used": "your plan", "auto": "auto"}[name] for name in notes),
        )
    for size in sorted(found["failed"]):
        shown.add_row(f"{size:,}", f"{size // per_replica:,}", "does not fit", "", "", "")
    return shown


def lines(found: dict[str, Any]) -> list[str]:
    """What follows from them, for a person."""
    marks, model = found["batch_size"], found["model"]
    held = f"; {words.size(found['base'])} of it is there before the first step (TensorFlow, data, model)"
    takes = "takes" if marks["planned"] == "auto" else "would take"
    if found["plan"]["private"]:
        auto = f"a step fits with {marks['auto']:,} examples at once; with private.microbatch its batch may be larger"
    else:
        auto = f"fit.batch_size=auto {takes} {marks['auto']:,}: {marks['why']}"
    told = [
        f"parameters: {model['parameters']:,} ({model['trainable']:,} trainable)",
        "memory: the peak of " + (f"the whole process{held}" if found["device"] == "CPU" else "a GPU"),
        auto,
    ]
    if marks["learning_rate"] and not found["plan"]["private"]:
        told.append(marks["learning_rate"])
    told += [_cost_line(one) for one in found["costs"]]
    if found["bfloat16"]:
        told.append(_precision_line(found))
    told.append(
        f"checkpoint: {words.size(found['checkpoint'])}; {words.size(found['disk'])} of disk with those that are kept"
    )
    told.append("an estimate from a few seconds of steps; start, checkpoints, export and report come on top")
    return told


def _precision_line(found: dict[str, Any]) -> str:
    other = found["bfloat16"]
    planned = next(row for row in found["measured"] if row["batch"] == other["batch"])
    ratio = planned["seconds"] / other["seconds"]
    takes = (
        f"{words.milliseconds(1000 * other['seconds'])} a step of {other['batch']:,} and {words.size(other['memory'])}"
    )
    if ratio < FASTER:
        return f"runtime.precision=bfloat16 would be no faster: {takes}"
    return f"runtime.precision=bfloat16 would take {takes}, {ratio:.2f} times as fast; its results are others: compare them"


def _cost_line(cost: dict[str, Any]) -> str:
    several = cost["workers"] > 1
    who = f"{cost['workers']} workers like this machine" if several else "this machine"
    what = f"{who}: {cost['steps']:,} steps of {cost['batch']:,} at most, {cost['steps_an_epoch']:,} an epoch"
    if cost["seconds"] is None:
        return f"{what}; {cost['batch']:,} at once was not measured here"
    time = f"{words.duration(cost['epoch_seconds'])} an epoch, {words.duration(cost['seconds'])} in all"
    if not several:
        return f"{what}; about {time}"
    sent = cost["all_reduce_bytes"]
    network = ", ".join(
        f"{words.milliseconds(8000 * sent / speed)} a step at {name}" for name, speed in NETWORKS.items()
    )
    return f"{what}; about {time} of computing, and {words.size(sent)} to send a worker and step ({network})"
