"""From a finished run to the smallest file that meets the targets."""

from __future__ import annotations

import hashlib
import math
import shutil
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from tfapp import conflicts, export, features, lite, probe, shipped, tasks, worth
from tfapp import plan as plans
from tfapp import recipe as recipes
from tfapp import run as runs
from tfapp.compress import guess, stages
from tfapp.compress.targets import COSTS, Target, missed
from tfapp.data.examples import Data
from tfapp.errors import Failed, Refused
from tfapp.evaluate import latency
from tfapp.features.prune import END
from tfapp.lite import exporting, flatbuffer
from tfapp.lite.asked import Asked as FileAsked
from tfapp.lite.converter import Scheme
from tfapp.recipe import Recipe
from tfapp.run import Run
from tfapp.train import train

Say = Callable[[str], None]
# The guess of a size is right to so much.
SLACK = 0.1


@dataclass(frozen=True)
class Asked:
    """What to do with a run.

    Attributes:
      pipeline: stages, in order. targets: what the result must be. epochs: of each fine-tuning stage; None: two fifths
      of what the run took. words: settings for the stages' plans; those of a stage's section are for that stage alone,
      and fix how strong it is.
    """

    pipeline: tuple[str, ...]
    targets: tuple[Target, ...] = ()
    epochs: int | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parent:
    """The run that is compressed, with its recipe and data.

    Attributes:
      pinned: how strong the stages are that the words say it of. measured: its float32 TFLite file on the validation part.
    """

    run: Run
    recipe: Recipe
    module: ModuleType
    plan: plans.Plan
    data: Data
    facts: Mapping[str, Any]
    pinned: Mapping[str, float]
    measured: Mapping[str, float]


@dataclass(frozen=True)
class Made:
    """What one level came to.

    Attributes:
      level: of stages.LEVELS. runs: of the stages that trained, in order. file: the TFLite file.
      measured: size, gzip and scores on the validation part. missed: the targets that it does not meet.
    """

    level: int
    runs: tuple[Run, ...]
    file: Path
    measured: Mapping[str, float]
    missed: tuple[Target, ...]


def compress(run: Run, asked: Asked, say: Say) -> tuple[dict[str, Any], Made]:
    """Compress a finished run into `RUN/compress/model.tflite`, the file measured on the test part in the run's report.

    Levels are chosen by guessed sizes and by scores on the validation part; the test part is looked at when all
    is decided. The same command again goes on where it was stopped.

    Returns:
      The run's report, and what was made at the level that was taken.

    Raises:
      Refused: no level can be small enough, a stage cannot work on this model, or the run has no validation part.
      Usage: a target that this model's task does not have.
    """
    parent = _opened(run, asked, say)
    missed(asked.targets, parent.measured, parent.measured)
    small = any(target.metric in COSTS for target in asked.targets)
    levels = _levels(parent, asked, small, say)
    tried: list[Made] = []
    while levels:
        # As gentle as the size allows; without a size, as strong as the score allows.
        place = 0 if small else len(levels) // 2
        tried.append(made := _at_level(parent, asked, levels[place], say))
        say(f"level {made.level}: {_told(made, parent)}")
        if not small:
            levels = levels[:place] if made.missed else levels[place + 1 :]
        elif not made.missed or not all(target.metric in COSTS for target in made.missed):
            break
        else:
            levels = levels[1:]
    # What meets all; else what is good, though too large; else what is small.
    taken = min(tried, key=lambda made: (bool(made.missed), not _good(made), made.measured["gzip"]))
    return _published(parent, asked, tried, taken, say), taken


def _good(made: Made) -> bool:
    return all(target.metric in COSTS for target in made.missed)


def _opened(run: Run, asked: Asked, say: Say) -> Parent:
    run.finished()
    if run.rounds:
        raise Refused(
            f"{run.folder} was trained with quantize, which is the last stage\n"
            "compress the run that it started from, or train without quantize"
        )
    recipe, module, plan = worth.asked_of(run)
    pinned = _pinned(module, recipe.word, asked.words)
    with recipes.at_work(module):
        data = features.data(plan, module)
    if not len(data.validation):
        raise Refused(
            f"{run.folder} has no validation part, by which a level could be chosen\n"
            "train it with one: split.validation=0.1"
        )
    parent = Parent(run, recipe, module, plan, data, run.read("data.json"), pinned, {})
    return replace(parent, measured=_measured(_written(run, "none", say), parent, ()))


def _levels(parent: Parent, asked: Asked, small: bool, say: Say) -> Sequence[int]:
    """The levels worth training, from the gentlest to the strongest.

    Raises:
      Refused: even the strongest would be too large.
    """
    sizes = [target for target in asked.targets if target.metric in ("size", "gzip")]
    strongest = _guessed(parent, asked, stages.LEVELS[-1]) if sizes else {}
    least = {metric: value * (1 - SLACK) for metric, value in strongest.items()}
    if lacking := missed(sizes, least, parent.measured):
        raise Refused(
            f"{', '.join(map(str, lacking))} is out of reach: the strongest level of {','.join(asked.pipeline)} comes to "
            f"about {_sizes(strongest)}\nadd a stage to --pipeline ({','.join(stages.STAGES)}), or aim higher"
        )
    middle = stages.COARSE[len(stages.COARSE) // 2]
    if not asked.targets or len(parent.pinned) == len(stages.strengths(asked.pipeline, middle, {})):
        return [middle]
    if not sizes:
        return stages.COARSE
    guesses = {stages.LEVELS[-1]: strongest}

    def enough(level: int) -> bool:
        guesses[level] = _guessed(parent, asked, level)
        return not missed(sizes, guesses[level], parent.measured)

    first = stages.LEVELS[bisect_left(stages.LEVELS[:-1], True, key=enough)]
    say(f"level {first} should come to {_sizes(guesses[first])}: training begins there")
    return stages.LEVELS[first - 1 :]


def _guessed(parent: Parent, asked: Asked, level: int) -> dict[str, int]:
    strengths = stages.strengths(asked.pipeline, level, parent.pinned)
    rounds, saved = "quantize" in asked.pipeline, parent.run.file("model")
    if "distill" not in strengths:
        return guess.size(parent.module, parent.plan, parent.data, saved, strengths, rounds)
    narrow = recipes.narrowed(parent.module, parent.plan.config, strengths["distill"])
    student = parent.plan.model_copy(update={"config": narrow})
    return guess.size(parent.module, student, parent.data, None, strengths, rounds)


def _at_level(parent: Parent, asked: Asked, level: int, say: Say) -> Made:
    """Train the stages at a level, one from the other, and write and measure the file."""
    strengths = stages.strengths(asked.pipeline, level, parent.pinned)
    done: list[Run] = []
    for stage, strength in strengths.items():
        say(f"— {stages.name(stage, strength)}")
        done.append(_trained(parent, asked, stage, strength, done, say))
    if "quantize" not in asked.pipeline:
        return _made(parent, asked, level, done, _written(_last(parent, done), "none", say))
    rounded = _rounded(parent, done, "int8", say)
    if rounded and not flatbuffer.facts(flatbuffer.read(rounded))["kept_in_float"]:
        return _made(parent, asked, level, done, rounded)
    # Rounding after training costs too much, or would leave layers in float.
    try:
        say("— quantize")
        aware = _trained(parent, asked, "quantize", None, done, say)
    except Refused as error:
        say(f"not trained with rounding: {str(error).splitlines()[0].removeprefix('quantize: ')}")
    else:
        learnt = _made(parent, asked, level, [*done, aware], _written(aware, "int8", say))
        if rounded is None or not learnt.missed:
            return learnt
    return _made(parent, asked, level, done, rounded or _written(_last(parent, done), "dynamic", say))


def _rounded(parent: Parent, done: Sequence[Run], scheme: Scheme, say: Say) -> Path | None:
    """The last stage's model quantised after training; None where that costs more than the usual tolerance."""
    try:
        return _written(_last(parent, done), scheme, say)
    except Failed as error:
        say(str(error).splitlines()[0])
        return None


def _last(parent: Parent, done: Sequence[Run]) -> Run:
    return done[-1] if done else parent.run


def _trained(parent: Parent, asked: Asked, stage: str, strength: float | None, done: Sequence[Run], say: Say) -> Run:
    """One stage as an ordinary run in the parent's folder; one that is there already is taken as it is."""
    before = done[-1] if done else parent.run
    took = len(parent.run.read("report.json").get("history", ())) or parent.plan.fit.epochs
    epochs = asked.epochs or (parent.plan.fit.epochs if stage == "distill" else max(2, math.ceil(0.4 * took)))
    layers: list[tuple[str, Mapping[str, Any]]] = [(str(before.file("plan.yaml")), before.plan())]
    if stage == "distill":
        student = recipes.narrowed(parent.module, parent.plan.config, strength or 1.0)
        layers.append(("the student", {"config": student.model_dump(mode="json")}))
    layers += [
        ("the stage", stages.settings(stage, strength, str(before.folder), str(parent.run.folder), epochs)),
        ("the stage", _at_once(asked.words) if stage == "prune" else {}),
        ("command line", plans.from_words(_words_of(stage, asked))),
    ]
    plan = plans.resolve(parent.recipe.word, parent.module.Config, layers)
    conflicts.check(plan)
    digest = hashlib.sha256(plan.model_dump_json().encode()).hexdigest()[:6]
    run = runs.begin(parent.run.file(f"compress/{stages.name(stage, strength)}-{digest}"), plan, parent.recipe.digest)
    if run.status == "finished" and not run.lacking:
        say(f"{run.folder} is trained already")
    else:
        train(plan, parent.module, run, say)
    return run


def _made(parent: Parent, asked: Asked, level: int, done: Sequence[Run], file: Path) -> Made:
    measured = _measured(file, parent, asked.targets)
    return Made(level, tuple(done), file, measured, tuple(missed(asked.targets, measured, parent.measured)))


def _written(run: Run, scheme: Scheme, say: Say) -> Path:
    """The run's model as a TFLite file; one that is there already is taken as it is."""
    path = run.file(f"exports/{scheme}/model.tflite")
    if not path.exists():
        exporting.write(run, path, FileAsked(scheme), say)
    return path


def _measured(file: Path, parent: Parent, targets: Sequence[Target]) -> dict[str, float]:
    """Size, scores on the validation part, and the latency where a target asks for it."""
    call, part, task = lite.load(file), parent.data.validation, tasks.of(parent.data.task)
    sizes = latency.size(file)
    given = shipped.answers(call, part, parent.facts)
    scores = task.judged(part.labels, given, parent.facts["classes"])["scores"]
    found = {"size": sizes["bytes"], "gzip": sizes["gzip_bytes"]} | {
        name: score["value"] for name, score in scores.items() if score["value"] is not None
    }
    if not targets or any(target.metric == "latency" for target in targets):
        found["latency"] = probe.measure(file, shipped.one(call, part), (1,))["latency"]["1"]["p50_ms"]
    return found


def _published(parent: Parent, asked: Asked, tried: Sequence[Made], taken: Made, say: Say) -> dict[str, Any]:
    """Put the file into `compress/`, measure every stage's on the test part, and tell the run's report."""
    folder = parent.run.file("compress")
    for source in (taken.file, taken.file.with_suffix(".preprocess")):
        if source.is_dir():
            with runs.writing_folder(folder / source.name) as aside:
                shutil.copytree(source, aside)
        elif source.exists():
            with runs.writing(folder / source.name) as file:
                file.write(source.read_bytes())
    part = parent.data.test if len(parent.data.test) else parent.data.validation
    known = shipped.answers(export.load(parent.run.folder), part, parent.facts)
    files = {"float32": _written(parent.run, "none", say)}
    files |= {run.folder.name.rpartition("-")[0]: _written(run, "none", say) for run in taken.runs if not run.rounds}
    files["compressed"] = folder / "model.tflite"
    say(f"measuring {len(files)} files on {len(part):,} examples")
    rows = [shipped.measure(path, part, known, parent.facts, name) for name, path in files.items()]
    whole = parent.run.read("report.json")
    # Those of another compression's stages are of files that this one did not make.
    others = [
        row
        for row in whole.get("artefacts", [])
        if row["name"] not in files and not row["path"].startswith(str(folder))
    ]
    whole["artefacts"] = [*others, *rows]
    whole["compression"] = {
        "pipeline": list(asked.pipeline),
        "targets": [str(target) for target in asked.targets],
        "score": tasks.of(parent.data.task).MAIN,
        "met": not taken.missed,
        "file": str(folder / "model.tflite"),
        "level": taken.level,
        "parent": dict(parent.measured),
        "tried": [
            {
                "level": made.level,
                "stages": [run.folder.name.rpartition("-")[0] for run in made.runs],
                "measured": dict(made.measured),
                "missed": [str(target) for target in made.missed],
            }
            for made in tried
        ],
    }
    return worth.publish(parent.run, whole)


def _at_once(words: Sequence[str]) -> dict[str, Any]:
    """What the words take back of the pruning stage: a pattern says how much by itself, and has no ramp to end."""
    pattern = any(word.startswith("prune.pattern=") for word in words)
    constant = "prune.schedule=constant" in words
    return {
        **({"prune.sparsity": None} if pattern else {}),
        **({"prune.end": END} if pattern or constant else {}),
    }


def _words_of(stage: str, asked: Asked) -> list[str]:
    """The words for one stage's plan: its own section's, and those of no stage's."""
    return [
        word
        for word in asked.words
        if (first := word.partition("=")[0].partition(".")[0]) == stage or first not in stages.STAGES
    ]


def _pinned(module: ModuleType, recipe: str, words: Sequence[str]) -> dict[str, float]:
    """How strong the stages are that the words say it of.

    Raises:
      Usage: a word that no plan takes.
    """
    planned = plans.resolve(recipe, module.Config, [("command line", plans.from_words(words))])
    found: dict[str, float] = {}
    if planned.prune and (planned.prune.sparsity or planned.prune.kept):
        found["prune"] = planned.prune.final
    if planned.cluster and any(word.partition("=")[0] in {"cluster", "cluster.clusters"} for word in words):
        found["cluster"] = planned.cluster.clusters
    return found


def _sizes(measured: Mapping[str, float]) -> str:
    return f"{measured['size'] / 1000:,.1f} kB ({measured['gzip'] / 1000:,.1f} kB gzipped)"


def _told(made: Made, parent: Parent) -> str:
    main = tasks.of(parent.data.task).MAIN
    missing = f"; misses {', '.join(map(str, made.missed))}" if made.missed else ""
    return (
        f"{_sizes(made.measured)}, validation {main} {made.measured[main]:.4f} "
        f"({made.measured[main] - parent.measured[main]:+.4f}){missing}"
    )
