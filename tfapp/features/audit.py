"""Trainings that an audit needs: the same plan, with lots drawn over which rows it sees (`tfapp audit`)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field

from tfapp.settings import Settings

if TYPE_CHECKING:
    from tfapp.data.examples import Data
    from tfapp.job import Job


class Audit(Settings):
    """One of an audit's trainings; `tfapp audit` writes these plans, and each of them is trained like any other.

    A shadow run (Shokri et al. 2017, arXiv:1610.05820) has as many training rows as the run that is audited, half of the
    audited rows among them. A run with canaries (Steinke et al. 2023, arXiv:2305.08846) has some rows with a wrong label, or
    with another target or other tokens than theirs, and a fair coin for each says whether it counts.
    """

    shadow: int | None = Field(
        None, ge=0, description="number of a shadow run; 2k and 2k + 1 share the audited rows out between them"
    )
    canaries: int | None = Field(
        None, ge=1, description="so many training rows with a wrong label, each of which counts or not by a fair coin"
    )
    seed: int = Field(0, ge=0, description="of the lots; independent of runtime.seed")

    def drawn(self, data: Data) -> Data:
        """The data that this training has.

        Raises:
          Refused: there is no test part, or more canaries than training rows.
        """
        from tfapp.audit import draw

        if self.canaries is not None:
            return draw.with_canaries(data, self.canaries, self.seed)
        return draw.shadowed(data, self.shadow or 0, self.seed)

    def apply(self, job: Job) -> Job:
        what = f"shadow {self.shadow}" if self.canaries is None else f"{self.canaries:,} canaries"
        return replace(job, notes=(*job.notes, f"a training for an audit: {what}, lots drawn with seed {self.seed}"))
