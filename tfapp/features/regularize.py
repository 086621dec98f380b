"""Overfitting held back by the loss and the optimizer: L1, L2, weight decay, label smoothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field

from tfapp.errors import Refused
from tfapp.settings import Settings

if TYPE_CHECKING:
    from tfapp.job import Job


class Regularize(Settings):
    """Penalties on kernels (never on biases, normalisation or embeddings), and softer targets.

    Weight decay is decoupled from the gradient (Loshchilov and Hutter 2019, arXiv:1711.05101); label
    smoothing is Szegedy et al. 2016, arXiv:1512.00567.
    """

    l1: float = Field(0.0, ge=0, description="adds l1 · Σ|w| over the kernels to the loss")
    l2: float = Field(0.0, ge=0, description="adds l2 · Σw² over the kernels to the loss")
    weight_decay: float = Field(0.0, ge=0, description="each step also takes learning rate · weight_decay · w off w")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of each target spread evenly over the classes (training loss only)"
    )

    def apply(self, job: Job) -> Job:
        """The job with the penalties added to its model, optimizer and loss."""
        if self.l1 or self.l2:
            job = self._penalise(job)
        if self.weight_decay:
            job = replace(job, optimizer=self._decaying(job))
        if self.label_smoothing:
            job = replace(job, loss=self._smooth(job))
        return job

    def _penalise(self, job: Job) -> Job:
        """The penalty as one of `model.losses`, so that every training step sees it; lifted after training."""
        import tensorflow as tf
        import tf_keras as keras

        penalty = keras.regularizers.L1L2(self.l1, self.l2)
        kernels = [v for v in job.model.trainable_variables if "kernel" in v.name.split("/")[-1]]
        if not kernels:
            raise Refused(
                "regularize.l1 and l2 are penalties on kernels, and this recipe's model has none\nleave them out"
            )
        job.model.add_loss(lambda: tf.add_n([penalty(tf.cast(kernel, tf.float32)) for kernel in kernels]))

        def lift(model):
            model._callable_losses.clear()
            return model

        return replace(job, unwrap=(*job.unwrap, lift))

    def _decaying(self, job: Job):
        from tfapp.optimizers import changed

        own = job.optimizer.get_config().get("weight_decay")
        if own:
            raise Refused(
                f"regularize.weight_decay={self.weight_decay}, but the recipe's {type(job.optimizer).__name__} "
                f"already decays weights by {own}\nset one of them"
            )
        optimizer = changed(job.optimizer, weight_decay=self.weight_decay)
        optimizer.exclude_from_weight_decay(
            var_list=[v for v in job.model.trainable_variables if "kernel" not in v.name.split("/")[-1]]
        )
        return optimizer

    def _smooth(self, job: Job):
        import tf_keras as keras

        from tfapp.losses import SmoothedCrossentropy

        if not isinstance(job.loss, keras.losses.SparseCategoricalCrossentropy):
            raise Refused(
                f"regularize.label_smoothing={self.label_smoothing} softens class targets, but this recipe's loss is "
                f"{type(job.loss).__name__} on a {job.data.task} task\nleave it out: regularize.label_smoothing=0"
            )
        return SmoothedCrossentropy(job.data.outputs, self.label_smoothing)
