"""Clustering: let many weights share few values, so that the model packs into less."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tfapp.settings import Settings

if TYPE_CHECKING:
    from tfapp.job import Job


class Cluster(Settings):
    """Weight sharing by k-means (Han, Mao and Dally 2016, arXiv:1510.00149).

    At the beginning of an epoch each kernel's weights are given to clusters by k-means++; from then on the weights of
    a cluster move as one, by the mean of what the optimizer would do to each. Weights that are zero stay zero and
    are a cluster of their own, so a pruned model stays sparse. Validation, the best epoch and early stopping wait
    for it. Any layer's kernel can be clustered, and the trained model is plain.
    """

    shorthand: ClassVar[str | None] = "clusters"

    clusters: int = Field(16, ge=2, le=255, description="values that each kernel ends with, zero included")
    begin: float = Field(
        0.5, ge=0, lt=1, description="where weights are clustered, as a share of the run's epochs (at an epoch's start)"
    )
    layers: tuple[str, ...] = Field(("*",), description="patterns of the names of the layers to cluster")
    skip: tuple[str, ...] = Field((), description="patterns of the names of the layers to leave alone")

    def apply(self, job: Job) -> Job:
        """The job whose kernels share their values from the planned epoch on.

        Raises:
          Refused: a pattern fits no layer.
        """
        from tfapp import kernels, sharing
        from tfapp.callbacks.cluster import Cluster as AtEpoch

        found = kernels.chosen(job.model, self.layers, self.skip, "cluster")
        with job.machine.strategy.scope():
            shared = [sharing.Shared(kernel.weight) for kernel in found]
        epochs = -(-job.total_steps // len(job.train))
        first = int(self.begin * epochs)
        said = (
            f"cluster: {len(found)} kernels ({kernels.share(found, job.model):.1%} of the parameters) to "
            f"{self.clusters} values each, from epoch {first + 1} on"
        )
        return replace(
            job,
            bind=(*job.bind, partial(sharing.install, shared=shared)),
            callbacks=(AtEpoch(shared, self.clusters, first, job.plan.runtime.seed), *job.callbacks),
            settled=max(job.settled, first * len(job.train) + 1),
            notes=(*job.notes, said),
        )
