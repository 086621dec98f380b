"""What can be added to a training: one file a feature, one field here, one section in the plan.

A feature is a frozen group of settings with `apply(job) -> job`. `fit` knows none of them.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from pydantic import Field

from tfapp import recipe as recipes
from tfapp.features.audit import Audit
from tfapp.features.average import Average
from tfapp.features.cluster import Cluster
from tfapp.features.distill import Distill
from tfapp.features.private import Private
from tfapp.features.prune import Prune
from tfapp.features.quantize import Quantize
from tfapp.features.regularize import Regularize
from tfapp.features.start import Start
from tfapp.settings import Settings

if TYPE_CHECKING:
    from tfapp.data.examples import Data
    from tfapp.job import Job
    from tfapp.plan import Plan


class Features(Settings):
    """Every feature, in the order in which they are applied; none is on unless its section is given."""

    start: Start | None = Field(None, description="go on from another run's weights")
    private: Private | None = Field(None, description="differential privacy of the training examples (DP-SGD)")
    quantize: Quantize | None = Field(None, description="quantisation-aware training, 8 bits")
    prune: Prune | None = Field(None, description="zeros in place of the smallest weights")
    cluster: Cluster | None = Field(None, description="few values for many weights")
    regularize: Regularize | None = Field(None, description="L1, L2, weight decay, label smoothing")
    distill: Distill | None = Field(None, description="learn from a trained model beside the labels")
    average: Average | None = Field(None, description="moving average of the weights")
    audit: Audit | None = Field(None, description="a training that tfapp audit needs")


def data(plan: Plan, recipe: ModuleType) -> Data:
    """The data of a plan: its recipe's, with what a feature changes of it before anything is made of it.

    Raises:
      Failed: data() gave something else. Whatever data() raises.
    """
    made = recipes.data(recipe, plan.config)
    for name in Features.model_fields:
        feature = getattr(plan, name)
        made = feature.drawn(made) if hasattr(feature, "drawn") else made
    return made


def apply(features: Features, job: Job) -> Job:
    """The job with every feature that was asked for, in declared order."""
    for name in Features.model_fields:
        feature = getattr(features, name)
        job = feature.apply(job) if feature is not None else job
    return job


def rests_on(features: Features) -> dict[str, str]:
    """What outside of the plan decides a training's result, each with a digest of its files.

    Raises:
      Missing: it is not there.
    """
    asked = [getattr(features, name) for name in Features.model_fields]
    return {what: digest for one in asked if hasattr(one, "rests_on") for what, digest in one.rests_on().items()}
