"""Weight averaging: evaluate and ship a moving average of the weights, which is less noisy than the last step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tfapp.settings import Settings

if TYPE_CHECKING:
    from tfapp.job import Job


class Average(Settings):
    """Exponential moving average of the trainable weights (Polyak and Juditsky 1992; Tarvainen and Valpola 2017).

    Validation, the best epoch and the exported model use the average; training goes on from the raw weights.
    """

    shorthand: ClassVar[str | None] = "momentum"

    momentum: float = Field(
        0.99, gt=0, lt=1, description="share of the old average kept each step; 0.99 averages about 100 steps"
    )

    def apply(self, job: Job) -> Job:
        """The job with an averaging optimizer and the callback that swaps average and weights around validation."""
        from tfapp.callbacks.swap import SwapAverage
        from tfapp.optimizers import changed

        optimizer = changed(job.optimizer, use_ema=True, ema_momentum=self.momentum)
        return replace(job, optimizer=optimizer, callbacks=(SwapAverage(), *job.callbacks))
