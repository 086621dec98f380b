"""`fit.batch_size=auto`: the batch size that suits the device, found by measuring, decided once for a run.

The search knows no device: it asks a function what a batch costs, so that it can be read and tested alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tfapp.errors import Expected, Missing, Refused
from tfapp.plan import Plan

if TYPE_CHECKING:
    from tfapp.measure import Measuring
    from tfapp.run import Run
    from tfapp.runtime import Machine

SECONDS = 120.0
# Where the doubling begins: smaller batches waste any device, and are tried only where this one does not fit.
FIRST = 16
# A doubling that brings less than this is none: two measurements of one thing differ by as much.
GAIN = 1.05
FILE = "batch_size.json"


@dataclass(frozen=True)
class Measured:
    """What a training step of one batch size took.

    Attributes:
      batch: examples a step, on this worker.
      memory: bytes: the peak of the whole process on a CPU, of the device on a GPU.
      seconds: of one step, data included.
    """

    batch: int
    memory: int
    seconds: float

    @property
    def rate(self) -> float:
        """Examples a second."""
        return self.batch / self.seconds


@dataclass(frozen=True)
class Found:
    """What a search saw and what follows from it.

    Attributes:
      measured: the sizes that fit, smallest first; failed: those that did not, in the order tried.
      chosen: the answer, None where nothing fits.
      why: what ended it: memory, rate (larger batches bring no more examples a second), examples (there
        are no more) or time.
    """

    measured: tuple[Measured, ...]
    failed: tuple[int, ...]
    chosen: int | None
    why: str

    def of(self, batch: int) -> Measured | None:
        """What was measured at one size."""
        return next((one for one in self.measured if one.batch == batch), None)


def first(unit: int, most: int, planned: int | None = None) -> int:
    """Where to begin doubling: near FIRST, a multiple of unit, and so that a planned size is met on the way."""
    size = unit
    while size < FIRST:
        size *= 2
    if planned is not None:
        size = planned
        while size % (2 * unit) == 0 and size >= 2 * FIRST:
            size //= 2
    return min(size, most)


def search(
    measure: Callable[[int], Measured | None], unit: int, most: int, planned: int | None = None, fast: float = GAIN
) -> Found:
    """The smallest batch that is about as fast as any that fits; where memory ends first, the largest that fits.

    Doubles until a batch does not fit or two doublings in a row bring no more examples a second, then, if
    memory was what ended a rise, bisects to an eighth of the answer (or to `unit`, if that is more). About
    log2(most / FIRST) + 4 measurements.

    Args:
      measure: what a batch takes, None if it does not fit; raises TimeoutError when there is no time left.
      unit: replicas × fit.accumulate of this worker: a batch is a multiple of it.
      most: the largest batch to think of, a multiple of unit.
      planned: a size that must be measured whatever came before.
      fast: a batch is as fast as another within this factor.
    """
    fitting: list[Measured] = []
    failed: list[int] = []

    def fits(batch: int) -> bool:
        one = measure(batch)
        if one is None:
            failed.append(batch)
        else:
            fitting.append(one)
        return one is not None

    batch, why = first(unit, most, planned), "rate"
    try:
        while fits(batch):
            if batch == most:
                why = "examples"
                break
            if batch >= (planned or 0) and _flat(fitting, fast):
                break
            batch = min(2 * batch, most)
        else:
            why = "memory"
            while not fitting or _fastest(fitting, fast).batch == max(fitting, key=_batch).batch:
                low = max((one.batch for one in fitting), default=0)
                step = max(unit, low // 8 // unit * unit)
                if min(failed) - low <= step:
                    break
                fits(low + max(step, (min(failed) - low) // 2 // step * step))
    except TimeoutError:
        why = "time"
    fitting.sort(key=_batch)
    if not fitting:
        return Found((), tuple(failed), None, why)
    chosen = _fastest(fitting, fast)
    if chosen.batch < fitting[-1].batch:
        why = "rate"
    return Found(tuple(fitting), tuple(failed), chosen.batch, why)


def _batch(one: Measured) -> int:
    return one.batch


def _flat(fitting: list[Measured], fast: float) -> bool:
    """Whether the last two doublings were in vain."""
    before = fitting[:-2]
    return bool(before) and max(one.rate for one in fitting[-2:]) < fast * max(one.rate for one in before)


def _fastest(fitting: list[Measured], fast: float) -> Measured:
    """The smallest of the sizes that are about as fast as the fastest."""
    best = max(one.rate for one in fitting)
    return min((one for one in fitting if one.rate * fast >= best), key=_batch)


def settled(plan: Plan, size: int) -> Plan:
    """The plan with its batch size as a number."""
    return plan.model_copy(update={"fit": plan.fit.model_copy(update={"batch_size": size})})


def number(plan: Plan) -> int:
    """The plan's global batch size, once it is settled."""
    size = plan.fit.batch_size
    if not isinstance(size, int):
        raise TypeError("fit.batch_size=auto was not settled before it was used")
    return size


def shareable(plan: Plan, replicas: int) -> None:
    """Refuse a global batch that replicas and parts cannot share out evenly.

    Raises:
      Refused: with the nearest sizes that can be.
    """
    size, parts = number(plan), plan.fit.accumulate
    shares = replicas * parts
    if size % shares:
        below, above = size // shares * shares, (size // shares + 1) * shares
        each = f", each in {parts} parts" if parts > 1 else ""
        raise Refused(
            f"fit.batch_size={size} is global and cannot be shared out evenly among {replicas} "
            f"replica{'s' if replicas > 1 else ''}{each}\nuse fit.batch_size={above}"
            + (f" or {below}" if below else "")
        )


def settle(plan: Plan, recipe: ModuleType, run: Run, machine: Machine, say: Callable[[str], None]) -> Plan:
    """The plan with a number for `auto`, the same on every worker: as this run was begun, or measured now.

    The chief decides and writes batch_size.json and the run's plan.yaml. Every worker must call it.

    Raises:
      Missing: no batch fits in memory. Expected: what the recipe's data or model say against being measured.
    """
    if isinstance(plan.fit.batch_size, int):
        return plan
    failure: Expected | None = None
    size = 0
    if machine.chief:
        try:
            size = _decide(plan, recipe, run, machine, say)
        except Expected as error:
            failure = error
    # Without an answer of the chief (0) the others would wait for one.
    size = machine.agree(size)
    if failure is not None:
        raise failure
    if not size:
        raise Missing("fit.batch_size=auto: worker 0 found no batch size\nits log says why")
    return settled(plan, size)


def _decide(plan: Plan, recipe: ModuleType, run: Run, machine: Machine, say: Callable[[str], None]) -> int:
    from tfapp.run import write_text

    held = run.read(FILE)
    if not held:
        say("fit.batch_size=auto: measuring training steps in a process of their own …")
        held = _measured(plan, recipe, machine)
        run.write(FILE, held)
        say(f"fit.batch_size={held['chosen']}: {held['why']}")
        if remark := learning_rate(plan, recipe, held["chosen"]):
            say(remark)
    else:
        say(f"fit.batch_size={held['chosen']}, as measured when this run began")
    # After the file that says whose answer it is: a kill between the two leaves a plan that still says auto.
    write_text(run.file("plan.yaml"), settled(plan, held["chosen"]).to_yaml())
    return int(held["chosen"])


def _measured(plan: Plan, recipe: ModuleType, machine: Machine) -> dict[str, Any]:
    from tfapp import environment, measure

    began = time.monotonic()
    with measure.Measuring(plan, machine.workers, environment.workers_here()) as device:
        found = search_on(device, plan)
        if found.chosen is None:
            raise nothing_fits(found, device)
        return {
            "asked": "auto",
            "chosen": found.chosen * machine.workers,
            "why": reason(found, device, machine.workers),
            "workers": machine.workers,
            "device": device.kind,
            "measured": rows(found),
            "failed": list(found.failed),
            "limit": device.limit,
            "seconds": round(time.monotonic() - began, 1),
        }


def search_on(device: Measuring, plan: Plan, planned: int | None = None) -> Found:
    """Search with real steps, for about SECONDS; sizes are those of one worker.

    What was planned, and the first size, are measured however long that takes: there must be an answer.
    """
    unit = device.replicas * plan.fit.accumulate
    most = max(device.training // device.workers // unit * unit, unit, planned or 0)
    until = time.monotonic() + SECONDS

    def measure(batch: int) -> Measured | None:
        patient = batch <= max(planned or 0, first(unit, most, planned))
        left = until - time.monotonic()
        if left <= 0 and not patient:
            raise TimeoutError
        return device.train(batch, None if patient else left)

    return search(measure, unit, most, planned)


def rows(found: Found) -> list[dict[str, Any]]:
    """The measured sizes, JSON-able."""
    return [row(one) for one in found.measured]


def row(one: Measured) -> dict[str, Any]:
    """One of them."""
    return {
        "batch": one.batch,
        "memory": one.memory,
        "seconds": round(one.seconds, 6),
        "examples_per_second": round(one.rate, 1),
    }


def reason(found: Found, device: Measuring, workers: int = 1) -> str:
    """Why the answer is what it is, for a person."""
    from tfapp.report import words

    assert found.chosen is not None
    chosen = found.of(found.chosen)
    assert chosen is not None
    each = " a worker" if workers > 1 else ""
    told = f"{chosen.batch}{each} takes {words.size(chosen.memory)} and trains {chosen.rate:,.0f} examples a second"
    if found.why == "memory":
        return f"{told}; {min(found.failed)} does not fit in {device.room}"
    if found.why == "rate":
        other = max((one for one in found.measured if one.batch > chosen.batch), key=lambda one: one.rate)
        return f"{told}; larger is no faster ({other.batch}: {other.rate:,.0f}) and takes fewer steps an epoch"
    if found.why == "examples":
        return f"{told}; there are not enough examples for a larger batch"
    return f"{told}; the largest that could be tried in {SECONDS:.0f} s"


def learning_rate(plan: Plan, recipe: ModuleType, size: int) -> str | None:
    """What a batch size other than the recipe's leaves to the user: the learning rate."""
    from tfapp import plan as plans
    from tfapp import recipe as recipes

    own = plans.resolve(plan.recipe, recipe.Config, [("the recipe's defaults", recipes.defaults(recipe))])
    if own.fit.batch_size == size:
        return None
    return (
        f"the learning rate is left as it is: the recipe's is meant for batches of {own.fit.batch_size}, "
        f"and batches of {size} may want another"
    )


def nothing_fits(found: Found, device: Measuring) -> Missing:
    """The error for a plan of which no batch fits, with the ways out."""
    smallest = min(found.failed, default=device.replicas)
    return Missing(
        f"a training step of {smallest} example{'s' if smallest > 1 else ''} does not fit in {device.room}\n"
        "take less: runtime.precision=bfloat16, smaller inputs or layers, recomputed activations "
        "(tf.recompute_grad in the recipe), or a larger machine"
    )
