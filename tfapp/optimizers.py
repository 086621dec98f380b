"""Optimizers as values: a changed copy instead of settings poked into a live one."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfapp.errors import Refused
from tfapp.plan import Fit


def changed(optimizer: Any, **settings: Any) -> Any:
    """A copy of an optimizer that is not built yet, with some of its settings replaced.

    Raises:
      Refused: the optimizer has no such setting (a legacy one, say).
    """
    config = optimizer.get_config()
    unknown = settings.keys() - config.keys()
    if unknown:
        raise Refused(
            f"the recipe's optimizer {type(optimizer).__name__} has no {', '.join(sorted(unknown))}\n"
            "use one of tf_keras.optimizers (Adam, AdamW, SGD, …; not tf_keras.optimizers.legacy)"
        )
    held = optimizer._learning_rate
    if isinstance(held, keras.optimizers.schedules.LearningRateSchedule) and "learning_rate" not in settings:
        config["learning_rate"] = held  # The config holds a description of it.
    copy = type(optimizer).from_config({**config, **settings})
    # What is left out of weight decay is not part of the config.
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_names"):
        if hasattr(optimizer, name):
            setattr(copy, name, getattr(optimizer, name))
    return copy


def slower(optimizer: Any, factor: float) -> Any:
    """A copy of an optimizer that is not built yet, whose learning rate, schedule and all, is `factor` times as high.

    Raises:
      Refused: it has a schedule of its own kind.
    """
    rate = optimizer._learning_rate
    if isinstance(rate, Schedule):
        return changed(optimizer, learning_rate=Schedule(**{**rate.get_config(), "peak": rate.peak * factor}))
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        raise Refused(
            "the recipe's optimizer brings a learning-rate schedule of its own, which cannot be made slower\n"
            "give the optimizer a plain learning rate, and the plan a fit.schedule"
        )
    return changed(optimizer, learning_rate=float(optimizer.get_config()["learning_rate"]) * factor)


def planned(optimizer: Any, fit: Fit, steps_per_epoch: int, total_steps: int) -> Any:
    """The recipe's optimizer with the plan's gradient clipping and learning-rate schedule laid over it.

    Raises:
      Refused: the recipe's optimizer has a schedule of its own and the plan asks for another.
    """
    settings: dict[str, Any] = {}
    if fit.clip_norm:
        settings |= {"global_clipnorm": fit.clip_norm, "clipnorm": None, "clipvalue": None}
    if fit.clip_value:
        settings |= {"clipvalue": fit.clip_value, "clipnorm": None, "global_clipnorm": None}
    schedule = fit.schedule
    if schedule.kind != "plateau" and (schedule.kind != "constant" or schedule.warmup):
        peak = optimizer.get_config()["learning_rate"]
        if not isinstance(peak, float | np.floating):
            raise Refused(
                f"fit.schedule.kind={schedule.kind}, but the recipe's optimizer brings a learning-rate schedule of its "
                "own\nleave fit.schedule out, or give the optimizer a plain learning rate"
            )
        settings["learning_rate"] = Schedule(
            schedule.kind, float(peak), schedule.final, round(schedule.warmup * steps_per_epoch), total_steps
        )
    return changed(optimizer, **settings) if settings else optimizer


def clip_whole_gradients(model: keras.Model) -> None:
    """Let a compiled model's optimizer clip the gradients that it applies.

    An embedding's gradient comes in a row for every use of a token, and Keras takes the norm before it has summed the
    rows of one token: too large or too small a norm, and another one for each way of parting the batch.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if any(getattr(optimizer, name, None) for name in ("clipnorm", "global_clipnorm", "clipvalue")):
        clip, summed = optimizer._clip_gradients, optimizer._deduplicate_sparse_grad
        optimizer._clip_gradients = lambda gradients: clip(summed(gradients))


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then constant, cosine (Loshchilov and Hutter 2017), linear or exponential decay.

    Args:
      kind: constant, cosine, linear or exponential.
      peak: learning rate after the warm-up.
      final: the last learning rate as a share of the peak, in [0, 1].
      warmup: steps of linear rise.
      total: steps of the whole run.
    """

    def __init__(self, kind: str, peak: float, final: float, warmup: int, total: int):
        self.kind, self.peak, self.final, self.warmup, self.total = kind, peak, final, warmup, total

    def __call__(self, step):
        step = tf.cast(step, tf.float32)
        done = tf.clip_by_value((step - self.warmup) / max(1, self.total - self.warmup), 0.0, 1.0)
        share = {
            "constant": lambda: tf.ones_like(done),
            "cosine": lambda: self.final + (1 - self.final) * 0.5 * (1 + tf.cos(3.141592653589793 * done)),
            "linear": lambda: 1 - (1 - self.final) * done,
            "exponential": lambda: self.final**done,
        }[self.kind]()
        return self.peak * share * tf.minimum(1.0, (step + 1) / (self.warmup + 1))

    def get_config(self):
        return {
            "kind": self.kind,
            "peak": self.peak,
            "final": self.final,
            "warmup": self.warmup,
            "total": self.total,
        }
