"""Distillation: a small model learns from the answers of a trained one, beside the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from tfapp.errors import Refused
from tfapp.settings import Settings

if TYPE_CHECKING:
    import tf_keras as keras

    from tfapp.job import Job
    from tfapp.taps import Taps
    from tfapp.teacher import Teach, Teacher


class Distill(Settings):
    """A teacher's answers as soft targets (Hinton et al. 2015, arXiv:1503.02531), and its layers as hints.

    The loss is (1 - alpha) · own + alpha · T² · KL(teacher ‖ student), both softened by the temperature T; in regression
    the last term is alpha · (student - teacher)². Hints add hint_weight · the mean squared difference of two layers
    (FitNets, Romero et al. 2015, arXiv:1412.6550). Each example weighs in all terms what it weighs in the loss.
    """

    shorthand: ClassVar[str | None] = "teacher"

    teacher: list[str] = Field([], description="finished runs, or folders of SavedModels; the mean of several teaches")
    alpha: float = Field(0.5, ge=0, le=1, description="weight of the teacher's answers; the labels have the rest")
    temperature: float = Field(2.0, gt=0, description="how far the teacher's and the student's answers are softened")
    hints: dict[str, str] = Field({}, description="layer of this model -> layer of the teacher that it is to follow")
    hint_weight: float = Field(1.0, gt=0, description="weight of the hints beside the rest of the loss")
    cache: bool | Literal["auto"] = Field(
        "auto", description="ask the teacher once for all examples; auto: where they fit in memory and never change"
    )

    def rests_on(self) -> dict[str, str]:
        """The teachers, each with a digest of its files.

        Raises:
          Missing: one is not there, or not finished.
        """
        from tfapp import teacher

        return {f"the teacher {word}": teacher.find(word).digest for word in self.teacher}

    def apply(self, job: Job) -> Job:
        """The job with the teacher's answers beside its examples and the teacher's term in its loss.

        Raises:
          Missing: no such teacher. Refused: it predicts something else, takes other features or lacks a layer.
        """
        from tfapp import teacher

        teachers = [teacher.find(word) for word in self.teacher]
        if job.data.task == "regression" and self.temperature != type(self)().temperature:
            raise Refused(
                f"distill.temperature={self.temperature} softens probabilities, and a regression has none\nleave it out"
            )
        # Out of the strategy's scope, where the teacher's variables would be copied to every replica.
        teach, shapes = _outside(lambda: self._load(teachers, job))
        following = self._following(job, shapes)
        cached = self._cached(job, shapes)
        if cached:
            answers = _outside(lambda: _all(teach, job))
            train = replace(job.train, beside={"teacher": answers})
        else:
            teach, _ = self._load(teachers, job)
            whole = job.preprocess if job.preprocess.model is not None else None
            train = replace(job.train, examples=job.data.train, transform=whole, raw=True)
        said = "its answers are kept" if cached else "it answers each batch"
        note = (
            f"learning from {', '.join(self.teacher)} (alpha {self.alpha:g}, temperature {self.temperature:g}); {said}"
        )
        return replace(
            job,
            data=replace(job.data, notes=(*job.data.notes, note)),
            train=train,
            bind=(*job.bind, lambda model: self._bind(model, job.data.task, teach, following)),
            unwrap=(*job.unwrap, following.lift),
        )

    def _load(self, teachers: list[Teacher], job: Job) -> tuple[Teach, dict[str, tuple[int | None, ...]]]:
        from tfapp import teacher

        if not self.hints:
            return teacher.load(teachers, job.data, job.preprocess.raw), {}
        if len(teachers) > 1:
            raise Refused(
                f"distill.hints with {len(teachers)} teachers: whose layers?\nname one teacher, or leave the hints out"
            )
        return teacher.load_with_hints(teachers[0], job.data, job.preprocess.raw, self.hints)

    def _following(self, job: Job, shapes: dict[str, tuple[int | None, ...]]) -> Following:
        """The student's layers, with a projection to the teacher's width where theirs is another."""
        import tf_keras as keras

        from tfapp import taps

        projections: dict[str, keras.layers.Layer] = {}
        for name, theirs in shapes.items():
            ours = taps.find(job.model, name, "distill.hints").output_shape[1:]
            if ours[:-1] != theirs[:-1] or not theirs:
                raise Refused(
                    f"distill.hints: {name!r} gives {tuple(ours)} an example and the teacher's {self.hints[name]!r} "
                    f"{tuple(theirs)}\nonly the last size may be another: take layers of the same height and width"
                )
            if ours[-1] != theirs[-1]:
                # On the last axis, so on images it is a 1×1 convolution. In float32, as the loss is.
                projections[name] = keras.layers.Dense(theirs[-1], dtype="float32", name=f"follow_{name}")
                projections[name].build((None, ours[-1]))
        if projections:
            # Part of the model while it trains: its optimizer and its checkpoints are to know them.
            job.model.hint_projections = projections
        return Following(tuple(shapes), projections)

    def _cached(self, job: Job, shapes: dict[str, tuple[int | None, ...]]) -> bool:
        """Whether the teacher is asked beforehand; the same on every worker."""
        import numpy as np
        import tensorflow as tf

        from tfapp import environment, tasks

        if self.cache is True and job.train.augment is not None:
            raise Refused(
                "distill.cache=true with augmentation: the student would see other examples than the teacher answered for\n"
                "leave distill.cache out (the teacher answers each batch), or turn the recipe's augmentation off"
            )
        sizes = [tasks.of(job.data.task).shape(job.data), *shapes.values()]
        if self.cache == "auto":
            room = environment.free_memory() // 4
            known = all(size is not None for shape in sizes for size in shape)
            needed = 4 * len(job.data.train) * sum(int(np.prod([size or 1 for size in shape])) for shape in sizes)
            # Workers with different memory must not go different ways: what one loads, all load together.
            online = job.machine.any(job.train.augment is not None or not known or needed > room)
        else:
            online = not self.cache
        if online and job.compiled and any(s.dtype == tf.string for s in tf.nest.flatten(job.preprocess.raw)):
            raise Refused(
                "a teacher that answers each batch of texts or categories, in a step that XLA compiles (fit.jit=true, "
                "or a TPU): XLA has no strings\nkeep the answers with distill.cache=true, or leave fit.jit out"
            )
        return not online

    def _bind(self, model: keras.Model, task: str, teach: Teach, following: Following) -> None:
        """Let a compiled model add the teacher's term to the loss of batches that bring its answers, or ask for them.

        What is reported as `loss` stays the plain loss, so that it can be held against `val_loss`.
        """
        from types import MethodType

        import tensorflow as tf
        from tf_keras.src.engine.compile_utils import match_dtype_and_rank

        plain, own, heard = model.compute_loss, model.loss, following.listen(model)

        def compute_loss(self_: keras.Model, x: Any, y: Any, y_pred: Any, weights: Any) -> Any:
            loss = plain(x, y, y_pred, weights)
            if "teacher" in weights:
                answers = weights["teacher"]
            elif "raw" in weights:
                # Nothing of the teacher is trained, and what it computed is not kept for a gradient.
                answers = tf.nest.map_structure(tf.stop_gradient, teach(weights["raw"]))
            else:
                return loss
            rows = self.alpha * self._difference(task, answers["outputs"], y_pred)
            for name, theirs in answers.get("hints", {}).items():
                rows += self.hint_weight * _mean_of_rows(tf.square(following.projected(heard, name) - theirs))
            taught = tf.reduce_mean(rows * weights["loss"])
            # As Keras does it: targets of shape [n] are beside values of shape [n, 1].
            matched = match_dtype_and_rank(y, y_pred, weights["loss"])
            given_up = self.alpha * own(*matched[:2], sample_weight=matched[2])
            return loss + (taught - given_up) / tf.distribute.get_strategy().num_replicas_in_sync

        model.compute_loss = MethodType(compute_loss, model)

    def _difference(self, task: str, theirs: Any, ours: Any) -> Any:
        """How far the student is from the teacher: float32 [n]."""
        import tensorflow as tf

        if task == "regression":
            return _mean_of_rows(tf.square(ours - theirs))
        theirs = tf.nn.log_softmax(theirs / self.temperature)
        ours = tf.nn.log_softmax(ours / self.temperature)
        return self.temperature**2 * _mean_of_rows(tf.reduce_sum(tf.exp(theirs) * (theirs - ours), axis=-1))


@dataclass(frozen=True)
class Following:
    """The student's layers that follow the teacher's.

    Attributes:
      names: of these layers. projections: to the teacher's width, for those that have another.
    """

    names: tuple[str, ...]
    projections: dict[str, keras.layers.Layer]

    def listen(self, model: keras.Model) -> Taps | None:
        """Listen to the layers of the model that trains, until it is lifted."""
        from tfapp import taps

        if not self.names:
            return None
        model.hint_taps = taps.Taps({name: taps.find(model, name, "distill.hints") for name in self.names})
        return model.hint_taps

    def projected(self, heard: Taps | None, name: str) -> Any:
        """What a layer gave, float32, as wide as the teacher's."""
        import tensorflow as tf

        assert heard is not None
        outputs = tf.cast(heard.heard(name), tf.float32)
        return self.projections[name](outputs) if name in self.projections else outputs

    def lift(self, model: keras.Model) -> keras.Model:
        """Take off the trained model what only its training needed."""
        if "hint_taps" in vars(model):
            model.hint_taps.lift()
            del model.hint_taps
        if self.projections:
            del model.hint_projections
        return model


def _mean_of_rows(values: Any) -> Any:
    """The mean over everything but the rows: [n, …] -> [n]."""
    import tensorflow as tf

    return tf.reduce_mean(tf.reshape(values, [tf.shape(values)[0], -1]), axis=1)


def _all(teach: Teach, job: Job) -> dict[str, Any]:
    """The teacher's answers for all training examples, as arrays."""
    import numpy as np
    import tensorflow as tf

    from tfapp import outputs

    ask = tf.function(teach, reduce_retracing=True)
    parts = [tf.nest.map_structure(np.asarray, ask(batch)) for batch in outputs.raw_batches(job.data.train, 256)]
    return tf.nest.map_structure(lambda *part: np.concatenate(part), *parts)


def _outside(work: Callable[[], Any]) -> Any:
    """Done outside the scope of the strategy, which holds for a thread."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()
