"""Quantisation-aware training: learn with the rounding that 8-bit arithmetic will do."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tfapp.settings import Settings

if TYPE_CHECKING:
    from tfapp.job import Job


class Quantize(Settings):
    """Fake quantisation of weights and activations to 8 bits (Jacob et al. 2018, arXiv:1712.05877), by TF-MOT.

    Layers that TF-MOT has no scheme for stay in float, and are named at the start. The trained model answers as the
    8-bit one will; `tfapp export --format tflite` writes that one. It has no `.keras` form.
    """

    shorthand: ClassVar[str | None] = "preserve"

    preserve: Literal["auto", "none", "sparsity", "clusters", "both"] = Field(
        "auto",
        description="what the weights have at the start and keep: their zeros, their shared values; auto: what is there",
    )
    layers: tuple[str, ...] = Field(("*",), description="patterns of the names of the layers to quantise")
    skip: tuple[str, ...] = Field((), description="patterns of the names of the layers to leave in float")

    def apply(self, job: Job) -> Job:
        """The job with a model that rounds as 8 bits do.

        Raises:
          Refused: TF-MOT can quantise none of its layers, or the weights have not what they are to preserve.
        """
        from tfapp import hold, quantized

        model, said = quantized.aware(job.model, self.layers, self.skip)
        with job.machine.strategy.scope():
            laws, kept = quantized.preserved(model, self.preserve)
        return replace(
            job,
            model=model,
            bind=(
                *job.bind,
                partial(quantized.follow, replicas=job.machine.replicas),
                partial(hold.after_each_step, laws=laws),
            ),
            unwrap=(*job.unwrap, quantized.forget_ranges),
            notes=(*job.notes, said, *kept),
        )
