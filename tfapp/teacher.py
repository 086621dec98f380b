"""Trained models that teach another: found, held against the student's data, and asked on raw features.

A teacher brings its own preprocessing, so all that it shares with the student is what the examples look like and what
is predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfapp import run as runs
from tfapp.errors import Missing, Refused
from tfapp.run import Run

if TYPE_CHECKING:
    from tfapp.data.examples import Data

# The smallest normal float32: what is less is no probability that training could learn from.
TINY = 1.1754944e-38

# From a batch of raw features to {"outputs": …, "hints": {student's layer: …}}.
Teach = Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class Teacher:
    """One teacher on disk.

    Attributes:
      word: what names it in the plan. saved: its SavedModel. run: the run that it belongs to, if it is one.
    """

    word: str
    saved: Path
    run: Run | None

    @property
    def digest(self) -> str:
        """SHA-256 over its files."""
        return self.run.digest if self.run else runs.digest(self.saved.rglob("*"))


def find(word: str) -> Teacher:
    """A teacher by its run (folder or name), or by the folder of its SavedModel. TensorFlow is not imported for that.

    Raises:
      Missing: it is neither, or the run is not finished.
    """
    folder = Path(word).expanduser()
    if (folder / "saved_model.pb").is_file():
        return Teacher(word, folder, None)
    try:
        run = runs.find(str(folder))
        run.finished()
    except Missing as error:
        raise Missing(f"distill.teacher={word}: {error}") from None
    return Teacher(word, run.file("model"), run)


def order(teacher: Teacher, data: Data) -> list[int] | None:
    """Where each of the student's classes is among the teacher's; None where they are in the same places.

    Of a SavedModel without a run only the number of its outputs is known, so its classes are taken as they come.

    Raises:
      Refused: it predicts something else.
    """
    if teacher.run is None:
        return None
    facts = teacher.run.read("data.json")
    if facts["task"] != data.task:
        raise Refused(
            f"the teacher {teacher.word} was trained for {facts['task']}, and this recipe is {data.task}\n"
            "take a teacher of the same task"
        )
    if data.task == "regression" and facts["target"] != data.target:
        raise Refused(
            f"the teacher {teacher.word} predicts {facts['target']!r}, and this recipe {data.target!r}\n"
            "take a teacher of the same target"
        )
    theirs, ours = list(facts["classes"]), list(data.classes)
    if theirs == ours:
        return None
    if data.task == "language":
        raise Refused(
            f"the teacher {teacher.word} has another vocabulary ({len(theirs):,} tokens, here {len(ours):,})\n"
            "take a teacher that was trained on the same data with the same tokens and vocabulary"
        )
    if set(theirs) != set(ours):
        other = next((f"it lacks {name!r}" for name in ours if name not in theirs), None)
        other = other or f"it has {next(name for name in theirs if name not in ours)!r} besides"
        raise Refused(
            f"the teacher {teacher.word} knows other classes: {other} ({len(theirs)} classes, here {len(ours)})\n"
            "take a teacher that was trained on the same classes"
        )
    return [theirs.index(name) for name in ours]


def load(teachers: Sequence[Teacher], data: Data, raw: Any) -> Teach:
    """The teachers as one function: the mean of their probabilities as logarithms (or of their values), float32.

    Args:
      raw: tf.TensorSpec of the student's raw features, or one a name.

    Raises:
      Refused: a teacher that predicts something else or takes other features. Failed: a file cannot be read.
    """
    from tfapp import export, tasks

    wanted = tasks.of(data.task).shape(data)
    asked = []
    for teacher in teachers:
        places, call = order(teacher, data), export.served(teacher.saved)
        _check_inputs(teacher, call.inputs, raw)
        if isinstance(call.outputs, dict):
            raise Refused(
                f"the teacher {teacher.word} gives {', '.join(call.outputs)}, not one answer an example\n"
                "take a SavedModel that tfapp wrote: a run's model/, or tfapp export RUN --format savedmodel"
            )
        given = tuple(call.outputs.shape[1:])
        if len(given) != len(wanted) or not call.outputs.shape[1:].is_compatible_with(wanted):
            raise Refused(
                f"the teacher {teacher.word} gives {given} an example, and this recipe needs {wanted}\n"
                "take a teacher that was trained on the same classes"
            )
        asked.append((_picked(call, call.inputs), places))

    def teach(features: Any) -> dict[str, Any]:
        return {"outputs": _told([_placed(call(features), places) for call, places in asked], data)}

    return teach


def load_with_hints(
    teacher: Teacher, data: Data, raw: Any, hints: Mapping[str, str]
) -> tuple[Teach, dict[str, tuple[int | None, ...]]]:
    """The teacher as `load` gives it, which also tells what its layers give, float32; and their shapes.

    Args:
      hints: names of the teacher's layers, by the name of the student's layer that is to follow each.

    Raises:
      Refused: as `load`; no such layer; a SavedModel without a run, in which no layer can be found.
    """
    import tensorflow as tf

    from tfapp import export, taps

    places = order(teacher, data)
    if teacher.run is None:
        raise Refused(
            f"distill.hints with the SavedModel {teacher.word}, which has no layers to look into\n"
            "take the run that it came from as the teacher, or leave the hints out"
        )
    model = export.load_keras(teacher.run.file("model.keras"))
    _check_inputs(teacher, model.input, raw)
    layers = {ours: taps.find(model, theirs, "distill.hints") for ours, theirs in hints.items()}
    heard = taps.Taps(layers)
    call = _picked(lambda features: model(features, training=False), model.input)

    def teach(features: Any) -> dict[str, Any]:
        outputs = _told([_placed(call(features), places)], data)
        return {"outputs": outputs, "hints": {name: tf.cast(heard.heard(name), tf.float32) for name in layers}}

    return teach, {name: tuple(layer.output_shape[1:]) for name, layer in layers.items()}


def _check_inputs(teacher: Teacher, inputs: Any, raw: Any) -> None:
    theirs = inputs if isinstance(inputs, dict) else {"inputs": inputs}
    ours = raw if isinstance(raw, dict) else {"inputs": raw}
    for name, spec in theirs.items():
        if name not in ours:
            raise Refused(
                f"the teacher {teacher.word} takes other features: it wants {name!r}, which this recipe has not\n"
                "take a teacher that was trained on the same features"
            )
        own = ours[name]
        if spec.dtype != own.dtype or not spec.shape[1:].is_compatible_with(own.shape[1:]):
            raise Refused(
                f"the teacher {teacher.word} takes other features: {_spelled(name, spec)}, here {_spelled('', own)}\n"
                "take a teacher that was trained on the same features (size, columns, length)"
            )


def _spelled(name: str, spec: Any) -> str:
    shape = ", ".join(["n", *("any" if size is None else str(size) for size in spec.shape[1:])])
    return " ".join(filter(None, [name if name != "inputs" else "", spec.dtype.name, f"[{shape}]"]))


def _picked(call: Callable[[Any], Any], inputs: Any) -> Callable[[Any], Any]:
    """The call with those features alone that it takes: a table's teacher may look at fewer columns."""
    if not isinstance(inputs, dict):
        return call
    return lambda features: call({name: features[name] for name in inputs})


def _placed(outputs: Any, places: list[int] | None) -> Any:
    import tensorflow as tf

    return outputs if places is None else tf.gather(outputs, places, axis=-1)


def _told(outputs: list[Any], data: Data) -> Any:
    """The mean over the teachers: log-probabilities, which are logits of the same softmax, or values."""
    import tensorflow as tf

    mean = tf.cast(outputs[0] if len(outputs) == 1 else tf.add_n(outputs) / len(outputs), tf.float32)
    return mean if data.task == "regression" else tf.math.log(tf.maximum(mean, TINY))
