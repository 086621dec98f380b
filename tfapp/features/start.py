"""Where the weights begin: those of another run instead of random ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tfapp.settings import Settings

if TYPE_CHECKING:
    from tfapp.job import Job
    from tfapp.run import Run


class Start(Settings):
    """Fine-tuning: go on from the weights that another run of the same architecture ended with."""

    shorthand: ClassVar[str | None] = "run"

    run: str = Field("", description="a finished run, by name or folder, whose model has the same layers")
    learning_rate: float = Field(
        0.1,
        gt=0,
        le=1,
        description="the recipe's learning rate is multiplied by this: trained weights want small steps",
    )

    def rests_on(self) -> dict[str, str]:
        """The run that it begins with, and a digest of its model.

        Raises:
          Missing: it is not there, or not finished.
        """
        return {f"the run {self.run}": self._found().digest} if self.run else {}

    def _found(self) -> Run:
        from tfapp.run import find

        run = find(self.run)
        run.finished()
        return run

    def apply(self, job: Job) -> Job:
        """The job with the run's weights in its model and a smaller learning rate.

        Raises:
          Missing: no such run, or it is not finished. Refused: its model is another one, with the first difference.
        """
        from tfapp import weights
        from tfapp.optimizers import slower

        run = self._found()
        weights.take(run.file("model"), job.preprocess, job.model, job.data.task)
        said = f"start: the weights of {run.folder}, at {self.learning_rate:g} of the recipe's learning rate"
        return replace(job, optimizer=slower(job.optimizer, self.learning_rate), notes=(*job.notes, said))
