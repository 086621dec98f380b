"""An audit of a finished run from its beginning to its end: the straight line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tfapp import batch_size, conflicts, export, features, tasks, worth
from tfapp import recipe as recipes
from tfapp.audit import bound, draw, lira, membership, rates
from tfapp.audit.trainings import Training, train
from tfapp.data import splits
from tfapp.data.examples import Data, Examples
from tfapp.data.pipeline import Batches
from tfapp.errors import Failed, GateFailed, Missing, Refused
from tfapp.features.audit import Audit
from tfapp.plan import Plan
from tfapp.private import accounting, ledger
from tfapp.private.ledger import Ledger
from tfapp.recipe import Recipe
from tfapp.report import figures
from tfapp.run import Run, write_text, writing
from tfapp.verify import last_step

Say = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """How thorough an audit is.

    Attributes:
      shadows: trained for the likelihood-ratio attack, an even number from 4, or 0.
      canaries: for the lower bound on ε, or 0. parallel: trainings at once. seed: of all lots.
    """

    shadows: int = 0
    canaries: int = 0
    parallel: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Subject:
    """The run that is audited, with its recipe, its data, and what is proved of it.

    Attributes:
      call: its exported model. ledger: its privacy.json, None where it was not trained privately. delta: the ledger's, or
      the largest power of ten below 1 / n.
    """

    run: Run
    recipe: Recipe
    module: ModuleType
    plan: Plan
    data: Data
    call: Any
    ledger: Ledger | None
    delta: float

    def answers(self, examples: Examples, call: Any = None) -> np.ndarray:
        """What the model, or that of another run of this recipe, answers."""
        return tasks.of(self.data.task).answers(call or self.call, examples)

    def statistic(self, examples: Examples, call: Any = None) -> np.ndarray:
        """The number by which trainings are compared, float64 [n]: the log odds of the right class, or its kin."""
        return tasks.of(self.data.task).evidence(examples.labels, self.answers(examples, call))[:, 0]


def audit(run: Run, asked: Asked, say: Say) -> dict[str, Any]:
    """Audit a finished run into `RUN/audit/` and its report; returns what `audit.json` holds.

    The same command again goes on where it was stopped, and trains nothing twice.

    Raises:
      Missing: the run is not finished, or its data is not what it was trained on. Refused: it has no test part, or too
      little data for what is asked. Expected: what a training of the audit met.
    """
    subject = opened(run)
    seen = _seen(subject)
    _check(subject, asked, seen)
    rows = draw.pool(subject.data, asked.seed, seen)
    say(f"{len(rows):,} rows that it was trained on against {len(rows):,} of its test part, which it was not")
    found: dict[str, Any] = {
        "delta": subject.delta,
        "seed": asked.seed,
        "rows": {"members": len(rows), "others": len(rows), "training": len(subject.data.train)},
    }
    wanted = _shadows(subject, asked) + _canaries(subject, asked)
    if wanted:
        train(wanted, subject.recipe.digest, asked.parallel, run.file("audit/logs"), say)
    found |= _membership(subject, asked, rows, wanted)
    if asked.canaries:
        found["canaries"] = _bounded(subject, asked, wanted[-1])
    found["proved"] = _proved(subject)
    return _published(subject, found)


def opened(run: Run) -> Subject:
    """The run with all that its audit looks at.

    Raises:
      Missing: it is not finished; its data is gone, or is not what it was trained on. Expected: its data cannot be read.
    """
    run.finished()
    recipe, module, plan = worth.asked_of(run)
    with recipes.at_work(module):
        data = features.data(plan, module)
    _check_data(run, data)
    proved = ledger.read(run.folder)
    delta = proved.delta if proved else accounting.default_delta(len(data.train))
    return Subject(run, recipe, module, plan, data, export.load(run.folder), proved, delta)


def _check_data(run: Run, data: Data) -> None:
    """Make sure that these are the rows that the run was trained on: an audit on others would find nothing, and say so."""
    known = run.read("report.json").get("data", {})
    there = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    changes = [f"{part} {known[part]:,} → {n:,}" for part, n in there.items() if known.get(part, n) != n]
    digest = run.read("run.json").get("data_sha256")
    if changes or (digest is not None and digest != splits.digest(data)):
        told = f" ({', '.join(changes)})" if changes else ""
        raise Missing(
            f"the data of {run.folder} has changed since it was trained{told}\n"
            "put it back as it was, or train again on what there is: an audit must know who was trained on"
        )


def _seen(subject: Subject) -> np.ndarray | None:
    """The training rows that the run was trained on, where it ended within its first epoch; None: all."""
    data, fit = subject.data, subject.plan.fit
    batches = Batches(data.train, batch_size.number(subject.plan), subject.plan.runtime.seed, fit.shuffle)
    counted = data.train.weights is None or bool(np.all(data.train.weights))
    steps = min(last_step(subject.run.folder), len(batches))
    if steps >= len(batches) and counted:
        return None
    rows = np.unique(np.concatenate([batches.seen(step) for step in range(steps)]))
    return rows if data.train.weights is None else rows[data.train.weights[rows] > 0]


def _check(subject: Subject, asked: Asked, seen: np.ndarray | None) -> None:
    """Refuse what could not be audited before anything is trained for it."""
    if not (asked.shadows or asked.canaries):
        return
    if subject.plan.audit is not None:
        raise Refused(f"{subject.run.folder} is itself a training of an audit\naudit the run that it was made for")
    if subject.run.read("run.json").get("recipe_sha256") != subject.recipe.digest:
        raise Refused(
            f"the recipe's file has changed since {subject.run.folder} was trained, and other runs would be of another "
            "recipe\nput it back as it was, or train again"
        )
    if asked.canaries:
        draw.canaries(subject.data, asked.canaries, asked.seed)
    if asked.shadows and seen is not None:
        raise Refused(
            f"{subject.run.folder} was trained on {len(seen):,} of {len(subject.data.train):,} training rows only, and "
            "shadows would be trained on others\ntrain it for an epoch or more, or leave --shadows out"
        )


def _shadows(subject: Subject, asked: Asked) -> list[Training]:
    return [
        _training(subject, f"shadows/{asked.seed}-{number:03}", Audit(shadow=number, seed=asked.seed))
        for number in range(asked.shadows)
    ]


def _canaries(subject: Subject, asked: Asked) -> list[Training]:
    if not asked.canaries:
        return []
    name = f"canaries/{asked.seed}-{asked.canaries}"
    return [_training(subject, name, Audit(canaries=asked.canaries, seed=asked.seed))]


def _training(subject: Subject, name: str, of_it: Audit) -> Training:
    plan = subject.plan.model_copy(update={"audit": of_it})
    if plan.runtime.strategy == "multiworker":
        # One process an own run: many workers and one give the same weights.
        alone = plan.runtime.model_copy(update={"strategy": "auto", "replicas": None})
        plan = plan.model_copy(update={"runtime": alone})
    conflicts.check(plan)
    return Training(Run(subject.run.file(f"audit/{name}")), plan)


def _membership(subject: Subject, asked: Asked, rows: draw.Pool, trained: list[Training]) -> dict[str, Any]:
    """Every attack on the audited rows; the scores themselves go to scores.npz."""
    task, audited, m = tasks.of(subject.data.task), draw.examples(subject.data, rows), len(rows)
    answers = subject.answers(audited)
    evidence = task.evidence(audited.labels, answers)
    bad = ~np.isfinite(evidence).all(axis=1)
    if bad.any():
        raise Failed(
            f"the model answers NaN or infinity for {bad.sum()} of {len(bad)} rows\nlook for too large a learning rate"
        )
    scores = {**task.signals(audited.labels, answers), "logistic": membership.logistic(evidence, m, asked.seed)}
    if asked.shadows:
        said = np.stack([_said(subject, one, audited, "shadow.npz") for one in trained[: asked.shadows]])
        inside = np.stack([draw.inside(2 * m, number, asked.seed) for number in range(asked.shadows)])
        scores["lira"] = lira.likelihood_ratio(evidence[:, 0], said, inside)
    _keep(subject.run.file("audit/scores.npz"), member=np.arange(2 * m) < m, **scores)
    found: dict[str, Any] = {"attacks": membership.attacked(scores, m, subject.delta), "shadows": asked.shadows}
    if subject.data.task == "classification":
        values, names = scores[membership.MAIN], subject.data.classes
        of_each = rates.by_class(audited.labels, values[:m], values[m:], names)
        found["by_class"] = {"attack": membership.MAIN, "rows": of_each}
    return found


def _said(subject: Subject, one: Training, examples: Examples, name: str) -> np.ndarray:
    """The statistic of another run's model, kept in its folder: a model is asked once."""
    path = one.run.file(name)
    if path.exists() and path.stat().st_mtime >= one.run.file("model/saved_model.pb").stat().st_mtime:
        with np.load(path) as held:
            if len(held["statistic"]) == len(examples):
                return held["statistic"]
    statistic = subject.statistic(examples, export.load(one.run.folder))
    _keep(path, statistic=statistic)
    return statistic


def _keep(path: Path, **arrays: np.ndarray) -> None:
    with writing(path) as file:
        np.savez(file, **arrays)


def _bounded(subject: Subject, asked: Asked, one: Training) -> dict[str, Any]:
    """The lower bound on ε that the canaries give, and the upper one that is proved of the run that had them."""
    drawn = draw.canaries(subject.data, asked.canaries, asked.seed)
    false = draw.with_canaries(subject.data, asked.canaries, asked.seed).train.take(drawn.rows)
    said = _said(subject, one, false, "canaries.npz")
    if not np.isfinite(said).all():
        raise Failed(f"the model of {one.run.folder} answers NaN or infinity\nlook for too large a learning rate")
    # What the audited run, which knows nothing of the coins, says of the same rows tells how hard each is: that helps
    # where little is learnt by heart.
    scores = {"answer": said, "gain": said - subject.statistic(false)}
    proved = ledger.read(one.run.folder)
    _check_same(subject, one, proved)
    return {
        "canaries": asked.canaries,
        "included": int(drawn.included.sum()),
        "delta": subject.delta,
        **bound.from_canaries(scores, drawn.included, subject.delta),
        "upper": _upper(proved),
        "run": str(one.run.folder),
    }


def _upper(proved: Ledger | None) -> float | None:
    """ε that no attack on a training can exceed; None where none is proved.

    The least that is proved by any accountant. A known key proves as much to who does not use it, as these attacks do not.
    """
    least = min(proved.epsilon.values()) if proved else math.inf
    return least if math.isfinite(least) else None


def _check_same(subject: Subject, one: Training, proved: Ledger | None) -> None:
    """Make sure that the run with canaries is private in the way in which the audited one is."""
    for key in ("noise_multiplier", "sampling", "q", "delta", "planned_steps", "clip_norm", "clip_quantile"):
        own, other = (getattr(held, key, None) for held in (subject.ledger, proved))
        if own != other:
            raise Failed(
                f"the run with canaries, {one.run.folder}, is not private as {subject.run.folder} is: "
                f"{key} {own} → {other}\nthis is a defect: please report it"
            )


def _proved(subject: Subject) -> dict[str, Any] | None:
    proved = subject.ledger
    return {"epsilon": _upper(proved), "delta": proved.delta, "insecure_key": proved.insecure} if proved else None


def _published(subject: Subject, found: dict[str, Any]) -> dict[str, Any]:
    """Write audit.json, the figure, and the section of the run's report."""
    run = subject.run
    run.write("audit/audit.json", found)
    write_text(run.file("audit/roc.svg"), figures.alone(figures.attacks(found["attacks"]).svg))
    worth.publish(run, {**run.read("report.json"), "audit": found})
    return found


def gate(found: Mapping[str, Any]) -> None:
    """Hold what was audited to what is proved.

    Raises:
      GateFailed: more is known to have leaked than can have leaked.
    """
    told = found.get("canaries") or {}
    lower, upper = told.get("epsilon"), told.get("upper")
    if upper is not None and lower > upper:
        raise GateFailed(
            f"AUDIT FAILED: the canaries show that ε is at least {lower:.4g}, and at most {upper:.4g} is proved (δ = "
            f"{told['delta']:g})\none of the two is wrong, by a chance of 5 % the first: trust neither this run's ε nor "
            f"others' until the defect is found\nsee {told['run']}; try once more with another --seed"
        )
