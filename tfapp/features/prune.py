"""Pruning: set the weights that matter least to zero while the others learn to do without them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from tfapp.errors import Refused
from tfapp.settings import Settings

if TYPE_CHECKING:
    from tfapp.job import Job
    from tfapp.kernels import Kernel

SPARSITY = 0.8
END = 0.7


class Prune(Settings):
    """Magnitude pruning on a ramp (Zhu and Gupta 2017, arXiv:1710.01878), or n:m (Zhou et al. 2021, arXiv:2102.04010).

    The schedules and the masks are TF-MOT's; they are applied by `hold` inside the training step instead of by its
    wrappers, so every layer's kernel can be pruned and the trained model is plain. What the mask is, the weights
    themselves say: they are zero. Validation, the best epoch and early stopping wait for the end of the ramp.
    """

    shorthand: ClassVar[str | None] = "sparsity"

    sparsity: float | None = Field(
        None, gt=0, lt=1, description=f"share of each kernel's weights that ends as zero; nothing: {SPARSITY}"
    )
    pattern: str = Field(
        "unstructured",
        description="unstructured; or n:m, as 2:4: at most n of m weights in a row that are summed up stay",
    )
    schedule: Literal["polynomial", "constant"] = Field(
        "polynomial", description="polynomial: a ramp of third degree from begin to end; constant: all at begin"
    )
    begin: float = Field(0.0, ge=0, lt=1, description="where pruning begins, as a share of the run's steps")
    end: float = Field(END, gt=0, le=1, description="where the ramp ends, as a share of the run's steps")
    frequency: int | None = Field(
        None, ge=1, description="steps between two looks at what to prune; nothing: the ramp in at most 40"
    )
    layers: tuple[str, ...] = Field(("*",), description="patterns of the names of the layers to prune")
    skip: tuple[str, ...] = Field((), description="patterns of the names of the layers to leave alone")

    @model_validator(mode="after")
    def _one_meaning(self) -> Prune:
        if self.pattern != "unstructured":
            found = re.fullmatch(r"(\d+):(\d+)", self.pattern)
            if not found or not 0 < int(found[1]) < int(found[2]):
                raise ValueError(f"pattern is unstructured, or n:m with 0 < n < m, as 2:4; not {self.pattern!r}")
            if self.sparsity is not None:
                raise ValueError(f"pattern={self.pattern} says how much is pruned: leave sparsity out")
        at_once = self.kept is not None or self.schedule == "constant"
        if at_once and (self.end != END or self.frequency is not None):
            how = "schedule=constant" if self.kept is None else f"pattern={self.pattern}"
            raise ValueError(f"{how} prunes at once, at begin: leave end and frequency out")
        if not at_once and self.begin >= self.end:
            raise ValueError(f"the ramp ends (end={self.end}) before it begins (begin={self.begin})")
        return self

    @property
    def kept(self) -> tuple[int, int] | None:
        """n and m of an n:m pattern: so many stay of so many."""
        if self.pattern == "unstructured":
            return None
        n, m = self.pattern.split(":")
        return int(n), int(m)

    @property
    def final(self) -> float:
        """The share of zeros in the end."""
        return 1 - self.kept[0] / self.kept[1] if self.kept else (self.sparsity or SPARSITY)

    def ramp(self, steps: int) -> tuple[int, int, int]:
        """(first step, last step, steps between) of a run of so many steps; the last is one of those looked at.

        Raises:
          Refused: the run has too few steps.
        """
        begin, end = max(1, round(self.begin * steps)), round(self.end * steps)
        if self.kept or self.schedule == "constant":
            return begin, begin, 1
        if end <= begin:
            raise Refused(
                f"prune: a run of {steps} steps has none for a ramp from {self.begin} to {self.end} of it\n"
                "train longer (fit.epochs), or prune at once: prune.schedule=constant"
            )
        every = self.frequency or max(1, (end - begin) // 40)
        return begin, begin + max(1, (end - begin) // every) * every, every

    def apply(self, job: Job) -> Job:
        """The job whose kernels lose their smallest weights step by step.

        Raises:
          Refused: a pattern fits no layer, or the run is too short.
        """
        from tfapp import hold, kernels

        pruned = self._long_enough(kernels.chosen(job.model, self.layers, self.skip, "prune"))
        begin, end, every = self.ramp(job.total_steps)
        laws = [(kernel.weight, self._law(kernel, begin, end, every)) for kernel in pruned]
        when = f"at step {begin:,}" if begin == end else f"from step {begin:,} to {end:,}, every {every:,}"
        share = kernels.share(pruned, job.model)
        said = f"prune: {len(pruned)} kernels ({share:.1%} of the parameters) to {self.final:.0%} zeros, {when}"
        return replace(
            job,
            bind=(*job.bind, partial(hold.after_each_step, laws=laws)),
            settled=max(job.settled, end),
            notes=(*job.notes, said),
        )

    def _long_enough(self, kernels: list[Kernel]) -> list[Kernel]:
        """Those whose rows hold a whole group of an n:m pattern; a first convolution on grey pixels has rows of one."""
        if not self.kept:
            return kernels
        found = [kernel for kernel in kernels if _row(kernel) >= self.kept[1]]
        if not found:
            raise Refused(f"prune.pattern={self.pattern}: no kernel has rows of {self.kept[1]}\nuse prune.sparsity")
        return found

    def _law(self, kernel: Kernel, begin: int, end: int, every: int) -> Any:
        import tensorflow as tf
        from tensorflow_model_optimization.python.core.sparsity.keras import (
            pruning_impl,
            pruning_schedule,
            pruning_utils,
        )

        if begin == end:
            schedule = pruning_schedule.ConstantSparsity(self.final, begin, end, every)
        else:
            schedule = pruning_schedule.PolynomialDecay(0.0, self.final, begin, end, frequency=every)

        def smallest_but(weight: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
            if self.kept:
                n, m = self.kept
                return _by_rows(kernel, weight, lambda rows: pruning_utils.generate_m_by_n_mask(rows, (m - n, m)))
            pruning = pruning_impl.Pruning(lambda: step, [], schedule, (1, 1), "AVG")
            return pruning._update_mask(weight)[1]

        def law(step: tf.Tensor, before: tf.Tensor, now: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
            # Zeros from before the ramp are not pruned ones: a kernel may begin as zeros.
            kept = tf.cast((before != 0) | (step <= begin), now.dtype)
            due = schedule(step)[0]
            mask = tf.cond(due, lambda: kept * tf.cast(smallest_but(now * kept, step), now.dtype), lambda: kept)
            return lambda weight: weight * mask

        return law


def _row(kernel: Kernel) -> int:
    return math.prod(kernel.weight.shape[axis] for axis in kernel.inward)


def _by_rows(kernel: Kernel, weight: Any, mask: Callable[[Any], Any]) -> Any:
    """A mask made of rows, each of the weights that are summed up into one number where they are called."""
    import tensorflow as tf

    axes = [axis for axis in range(weight.shape.rank) if axis not in kernel.inward]
    order = [*axes, *kernel.inward]
    turned = tf.transpose(weight, order)
    made = tf.reshape(mask(tf.reshape(turned, [-1, _row(kernel)])), turned.shape)
    return tf.transpose(made, [order.index(axis) for axis in range(len(order))])
