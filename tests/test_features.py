"""Features are applied in their order, change the job and nothing else, and are lifted after training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp import features
from tfapp import job as jobs
from tfapp.callbacks.swap import SwapAverage
from tfapp.cli import asking
from tfapp.errors import Refused, Usage
from tfapp.features import Average, Features, Regularize
from tfapp.job import Job
from tfapp.losses import SmoothedCrossentropy
from tfapp.runtime import Machine

SMALL = str(Path(__file__).parent / "fixtures" / "small.py")


@pytest.fixture
def job() -> Job:
    _, module, plan, _ = asking.ask([SMALL], [], None, None)
    return jobs.of(plan, module, module.data(plan.config), Machine(tf.distribute.get_strategy(), 1))


def test_none_is_on_unless_it_is_asked_for(job: Job) -> None:
    assert features.apply(job.plan, job) is job
    assert all(getattr(Features(), name) is None for name in Features.model_fields)


def test_all_are_applied_in_the_order_of_their_fields(job: Job, monkeypatch) -> None:
    called: list[str] = []
    kinds = [kind for field in Features.model_fields.values() for kind in get_args(field.annotation)[:1]]
    for kind in kinds:
        monkeypatch.setattr(kind, "apply", lambda self, job: called.append(type(self).__name__) or job)
    features.apply(Features.model_construct(**{kind.__name__.lower(): kind.model_construct() for kind in kinds}), job)
    assert called == [name.title() for name in Features.model_fields]


def test_the_average_is_kept_by_a_copy_of_the_optimizer_and_swapped_before_all_else(job: Job) -> None:
    found = Average(momentum=0.7).apply(replace(job, callbacks=(keras.callbacks.Callback(),)))
    assert found.optimizer.use_ema and found.optimizer.ema_momentum == 0.7 and not job.optimizer.use_ema
    assert isinstance(found.callbacks[0], SwapAverage) and len(found.callbacks) == 2


def test_the_penalty_is_on_kernels_alone_and_lifted_after_training(job: Job) -> None:
    found = Regularize(l1=0.5, l2=0.25).apply(job)
    for weight in found.model.trainable_variables:
        weight.assign(tf.fill(weight.shape, -2.0))
    kernels = sum(int(np.prod(v.shape)) for v in found.model.trainable_variables if "kernel" in v.name)
    assert float(tf.add_n(found.model.losses)) == pytest.approx(kernels * (0.5 * 2 + 0.25 * 4))
    assert len(found.unwrap) == 1 and found.unwrap[0](found.model).losses == []


def test_a_penalty_on_a_model_without_kernels_is_refused(job: Job) -> None:
    inputs = keras.Input((3,))
    bare = replace(job, model=keras.Model(inputs, keras.layers.LayerNormalization()(inputs)))
    with pytest.raises(Refused, match="this recipe's model has none\nleave them out"):
        Regularize(l2=0.1).apply(bare)


def test_weight_decay_leaves_out_what_is_no_kernel(job: Job) -> None:
    found = Regularize(weight_decay=0.1).apply(job)
    found.optimizer.build(found.model.trainable_variables)
    decayed = {v.name for v in found.model.trainable_variables if found.optimizer._use_weight_decay(v)}
    assert decayed and decayed == {v.name for v in found.model.trainable_variables if "kernel" in v.name}
    assert found.optimizer.weight_decay == 0.1


def test_a_second_weight_decay_is_refused(job: Job) -> None:
    own = replace(job, optimizer=keras.optimizers.AdamW(weight_decay=0.02))
    with pytest.raises(Refused, match="AdamW already decays weights by 0.02\nset one of them"):
        Regularize(weight_decay=0.1).apply(own)


def test_smoothing_takes_the_place_of_the_sparse_loss_and_is_refused_for_others(job: Job) -> None:
    smooth = Regularize(label_smoothing=0.1).apply(job).loss
    assert isinstance(smooth, SmoothedCrossentropy) and (smooth.classes, smooth.smoothing) == (3, 0.1)
    with pytest.raises(Refused, match="MeanSquaredError(.|\n)*regularize.label_smoothing=0"):
        Regularize(label_smoothing=0.1).apply(replace(job, loss=keras.losses.MeanSquaredError()))


def test_regularize_with_nothing_set_changes_nothing(job: Job) -> None:
    assert Regularize().apply(job) is job


def test_the_monitor_falls_back_to_the_training_s_own_loss_and_a_mistyped_one_is_refused(job: Job) -> None:
    assert job.monitor == "val_loss" and replace(job, validation=None).monitor == "loss"
    fit = job.plan.fit.model_copy(update={"monitor": "val_acuracy"})
    with pytest.raises(Usage, match="did you mean 'val_accuracy'"):
        _ = replace(job, plan=job.plan.model_copy(update={"fit": fit})).monitor
