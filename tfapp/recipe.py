"""What a recipe is, and how one is found, listed, loaded and copied.

A recipe is one Python module that defines

    Config                         a `Settings`: typed, all defaulted, every field described
    data(config)                   -> Data: the examples in three parts
    model(config, inputs, data)    -> keras.Model from `inputs` (preprocessed features) to logits or values
    training(config, data)         -> Training: optimizer, loss, metrics

and, where it likes,

    preprocess(config, data)       -> keras.Model from raw features to `inputs`, adapted on data.train alone
    augment(config)                -> function (features of one example, seed int32[2]) -> features
    defaults                       = {"fit": {"epochs": 20}}: the plan's own settings that suit this recipe
    space(hp, config)              -> Config: for tuning

Its docstring says how to run it, what it costs, what score to expect and where the data comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfapp.settings import Settings, Split

__all__ = ["Settings", "Split", "Training"]


@dataclass(frozen=True)
class Training:
    """How a recipe's model learns.

    Attributes:
      optimizer: a tf_keras optimizer with a plain learning rate; the plan may lay a schedule over it.
      loss: a tf_keras loss *object* on logits (from_logits=True) or values.
      metrics: tf_keras metrics shown while training; they get example weights.
    """

    optimizer: Any
    loss: Any
    metrics: Sequence[Any] = ()
