"""A finished run as a TFLite file: quantised on its training data, held to its float model on its validation part."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from tfapp import export, probe, shipped, tasks, worth
from tfapp.data.examples import Data, Examples
from tfapp.errors import Failed, Missing, Refused, Usage
from tfapp.lite import converter, flatbuffer, interpreter
from tfapp.lite.asked import Asked
from tfapp.lite.converter import Calibrated, LayerError, Representative, Unconvertible
from tfapp.outputs import raw_batches
from tfapp.run import Run, make_folder, writing, writing_folder

SEED = 0
TRIED = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Made:
    """A file's content and how it came about.

    Attributes:
      content: of the TFLite file, without facts.
      kept: operations of an int8 model that are left in float.
      errors: what quantisation does to each layer, the worst first; only where layers had to be kept.
      lost: by how much it is worse than the float model on the validation part; None where that was not looked at.
    """

    content: bytes
    kept: tuple[LayerError, ...] = ()
    errors: tuple[LayerError, ...] = ()
    lost: float | None = None


@dataclass(frozen=True)
class _Source:
    """A run, opened: what is read only when it is needed, and once."""

    run: Run
    facts: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def call(self) -> Any:
        return export.load(self.run.folder)

    @cached_property
    def data(self) -> Data:
        return worth.data_of(self.run)


def write(run: Run, path: Path, asked: Asked, say: Any) -> dict[str, Any]:
    """Write a finished run's model as a TFLite file, with what `predict` needs inside, and check the written file.

    Preprocessing stays inside where TFLite has the operations for it. That of texts and categories becomes a SavedModel
    beside the file, NAME.preprocess; the two belong together.

    Returns:
      `path`, `bytes`, `checked` (how many random inputs) and `max_difference` of the outputs from the run's own on them;
      `preprocess`, `kept_in_float`, `layer_errors` and `lost` where there are such.

    Raises:
      Usage: there is something already, or too little data. Refused: TFLite cannot hold the model, or it crashes; or
        another scheme than int8 was asked of a run that was trained for that.
      Failed: int8 does not come within the tolerance.
    """
    if path.suffix != ".tflite":
        raise Usage(f"{path} would not be known for a TFLite file\nend its name in .tflite")
    beside = path.with_suffix(".preprocess")
    for there in (path, beside):
        if there.exists():
            raise Usage(f"{there} exists already, and is left as it is\nwrite elsewhere with --output")
    asked = settled(run, asked)
    source = _Source(run, run.read("data.json"))
    sample = export.sample(source.call.inputs, 16)
    with tempfile.TemporaryDirectory() as place:
        made, before = _made(source, asked, Path(place), say)
        told = _facts(source.facts, run, asked, made, beside.name if before else None)
        content = flatbuffer.packed(made.content, told)
        make_folder(path.parent)
        if before:
            with writing_folder(beside) as aside:
                shutil.copytree(before, aside)
        with writing(path) as file:
            file.write(content)
    difference = float(np.max(np.abs(interpreter.load(path)(sample) - source.call(sample))))
    return {
        "path": str(path),
        "bytes": len(content),
        "checked": 16,
        "max_difference": difference,
        **({"preprocess": str(beside)} if before else {}),
        **({"kept_in_float": [one.layer for one in made.kept]} if made.kept else {}),
        **({"layer_errors": [_row(one) for one in made.errors]} if made.errors else {}),
        **({"lost": made.lost} if made.lost is not None else {}),
    }


def settled(run: Run, asked: Asked) -> Asked:
    """The same, or int8 where the run was trained for that: its ranges are in the model already.

    Raises:
      Refused: another scheme was asked of such a run.
    """
    if not converter.trained_quantised(run.file("model")) or asked.quantize == "int8":
        return asked
    if asked.quantize == "none":
        return replace(asked, quantize="int8")
    raise Refused(
        f"{run.folder} was trained quantisation-aware, for int8, and --quantize {asked.quantize} would round it anew\n"
        "leave --quantize out"
    )


def measured(run: Run, path: Path, name: str, seconds: float = 1.0) -> dict[str, Any]:
    """What an exported file or SavedModel is worth on the run's test part, as a row of its report.

    `seconds` go into the latency at each number of threads.

    Raises:
      Expected: the run's data is not where it was.
    """
    source = _Source(run, run.read("data.json"))
    part, of = (source.data.test, "test") if len(source.data.test) else (source.data.validation, "validation")
    if not len(part):
        raise Missing("the run has neither a test nor a validation part\ngive it a share, as in config.split.test=0.1")
    parent = shipped.answers(source.call, part, source.facts)
    row = {**shipped.measure(path, part, parent, source.facts, name, seconds=seconds), "part": of}
    worth.artefact(run, row)
    return row


def _made(source: _Source, asked: Asked, place: Path, say: Any) -> tuple[Made, Path | None]:
    """The file, and the folder with the preprocessing where that must stand beside it."""
    if not any(spec.dtype == tf.string for spec in tf.nest.flatten(source.call.inputs)):
        try:
            return _quantised(source, _whole(source.run, place), None, asked, place, say), None
        except Unconvertible as refusal:
            # Perhaps it is only the preprocessing that TFLite lacks operations for.
            apart = _apart(source.run, place)
            if apart is None:
                raise
            say(f"the preprocessing goes beside the file: {str(refusal).partition(chr(10))[0]}")
    else:
        apart = _apart(source.run, place)
        if apart is None:
            raise Refused(
                "this model takes strings itself, and TFLite has no operations on them\n"
                "export it with --format savedmodel or keras, or move the lookups to the recipe's preprocess()"
            )
    before, rest = apart
    return _quantised(source, rest, before, asked, place, say), before


def _whole(run: Run, place: Path) -> Path:
    """The run's SavedModel; of recurrent layers one in `place` that takes one example at a time."""
    if not converter.recurrent(run.file("model")):
        return run.file("model")
    export.saved_model(export.load_keras(run.file("model.keras")), place / "single", batch=1)
    return place / "single"


def _apart(run: Run, place: Path) -> tuple[Path, Path] | None:
    """The run's preprocessing and the rest of its model as SavedModels in `place`."""
    if run.rounds:
        if not run.file("parts").exists():
            return None
        shutil.copytree(run.file("parts"), place, dirs_exist_ok=True)
        return place / "before", place / "rest"
    parts = export.parts(export.load_keras(run.file("model.keras")))
    if parts is None:
        return None
    folders = place / "before", place / "rest"
    export.saved_model(parts[0], folders[0])
    export.saved_model(parts[1], folders[1], batch=1 if converter.recurrent(run.file("model")) else None)
    return folders


def _quantised(source: _Source, model: Path, before: Path | None, asked: Asked, place: Path, say: Any) -> Made:
    trial = _Trial(source, export.load_saved(before) if before else None, place / f"model.{asked.quantize}.tflite")
    if asked.quantize not in converter.CALIBRATED or converter.trained_quantised(model):
        return Made(trial.run(converter.convert(model, asked.quantize, io=asked.io)))
    examples = _representative(source.data.train, asked.representative, trial.prepared)
    if asked.quantize == "int16x8":
        return _within(trial, converter.convert(model, "int16x8", examples), None, asked, say)
    calibrated = Calibrated(model, examples, asked.io)
    return _within(trial, calibrated.content, calibrated, asked, say)


def _representative(train: Examples, count: int, prepared: Any) -> Representative:
    """Training examples, drawn evenly at random, as the converted model takes them."""
    if len(train) < converter.FEWEST:
        raise Usage(
            f"{len(train)} training examples are too few to know the ranges of activations: at least "
            f"{converter.FEWEST}\ntake --quantize dynamic, which needs none"
        )
    chosen = train.take(np.random.default_rng(SEED).permutation(len(train))[:count])

    def examples() -> Iterator[Mapping[str, np.ndarray]]:
        for batch in raw_batches(chosen, 1):
            given = prepared(batch) if prepared else batch
            named = given if isinstance(given, dict) else {"inputs": given}
            yield {name: np.asarray(values) for name, values in named.items()}

    return examples


@dataclass(frozen=True)
class _Trial:
    """How a file would do: whether it runs, and what it loses on the validation part.

    Attributes:
      prepared: the preprocessing that stands beside the file, as a function. file: where to try it.
    """

    source: _Source
    prepared: Any
    file: Path

    @cached_property
    def parent(self) -> np.ndarray:
        return self.task.answers(self.source.call, self.source.data.validation)

    @property
    def task(self) -> ModuleType:
        return tasks.of(self.source.facts["task"])

    def run(self, content: bytes) -> bytes:
        """The content, after it has answered in a process of its own: what LiteRT cannot run may end the process.

        Raises:
          Refused: it did not.
        """
        self.file.write_bytes(content)
        try:
            takes = interpreter.of_content(content, name=self.file.name).takes
        except Failed as error:
            reason = str(error).partition("\n")[0]
            raise Refused(f"{reason}\ntake another scheme: --quantize dynamic, or none for float32") from error
        sample = export.sample(self.source.call.inputs, 1)
        given = self.prepared(sample) if self.prepared else sample
        probe.measure(self.file, interpreter.fed(takes, given), threads=(1,), seconds=0)
        return content

    def lost(self, content: bytes) -> float:
        """How much worse than the run's model it is; infinitely so where it does not run."""
        known = self.source.data.validation
        try:
            call = interpreter.of_content(self.run(content))
            if not len(known):
                return 0.0
            given = self.task.answers((lambda raw: call(self.prepared(raw))) if self.prepared else call, known)
        except (Refused, Failed):
            return math.inf
        return float(self.task.lost(known.labels, self.parent, given))


def _within(trial: _Trial, content: bytes, calibrated: Calibrated | None, asked: Asked, say: Any) -> Made:
    """The content if it comes within the tolerance on the validation part, or int8 with its worst layers in float.

    Raises:
      Failed: it does not. Refused: it cannot be run at all.
    """
    known = len(trial.source.data.validation)
    if not known:
        say("there is no validation part: what quantisation costs is not looked at before writing")
    first = trial.lost(content)
    if first <= asked.tolerance:
        return Made(content, lost=first if known else None)
    told = (
        f"{asked.quantize} loses {first:.2f} {trial.task.LOST} on {known:,} validation examples"
        if math.isfinite(first)
        else f"LiteRT cannot run the {asked.quantize} model as it is"
    )
    if calibrated is None:
        trial.run(content)
        raise Failed(
            f"{told}, and at most {asked.tolerance:g} is allowed\n"
            "take int8, which can keep layers in float, or dynamic; or allow more: --tolerance"
        )
    say(f"{told}: looking for the layers that cost it")
    try:
        errors = tuple(calibrated.errors())
    except Refused as refusal:
        say(str(refusal))
        errors = ()
    for kept in _candidates(calibrated, errors):
        content = calibrated.keeping([one.tensor for one in kept])
        now = trial.lost(content)
        say(f"with {len(kept)} operations in float: " + (f"{now:.2f}" if math.isfinite(now) else "it does not run"))
        if now <= asked.tolerance:
            return Made(content, kept, errors, now if known else None)
    raise Failed(
        f"{told}, and no choice of layers in float comes within {asked.tolerance:g}\n"
        "take --quantize dynamic or float16, allow more with --tolerance, or train it quantisation-aware"
    )


def _candidates(calibrated: Calibrated, errors: tuple[LayerError, ...]) -> Iterator[tuple[LayerError, ...]]:
    """What to keep in float, few by few: the worst layers (where that is unknown, the first), then all without weights."""
    known = {one.tensor: one for one in errors}
    every = [
        (known.get(name, LayerError(flatbuffer.short(name), name, "", math.nan)), has_weights)
        for name, has_weights in calibrated.operations()
    ]
    order = errors or tuple(one for one, has_weights in every if has_weights)
    yield from (order[:count] for count in sorted({min(count, len(order) // 2) for count in TRIED} - {0}))
    yield tuple(one for one, has_weights in every if not has_weights)


def _facts(facts: Mapping[str, Any], run: Run, asked: Asked, made: Made, preprocess: str | None) -> dict[str, Any]:
    """What stands in the file: all that reading new files and naming its answers needs, and how it was made."""
    return {
        "schema": 1,
        **facts,
        "run": run.folder.resolve().name,
        "scheme": asked.quantize,
        "kept_in_float": [one.layer for one in made.kept],
        "preprocess": preprocess,
    }


def _row(one: LayerError) -> dict[str, Any]:
    return {"layer": one.layer, "operation": one.operation, "error": round(one.error, 4)}
