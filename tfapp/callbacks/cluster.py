"""Give the weights to clusters, at the beginning of the epoch that the plan names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tf_keras as keras

from tfapp import hold
from tfapp.sharing import Shared


class Cluster(keras.callbacks.Callback):
    """Finds the clusters once, from the weights that there are then.

    Args:
      shared: the kernels, whose state a checkpoint holds.
      clusters: values of each kernel, zero included.
      first: the epoch, from 0.
      seed: of k-means++.
    """

    _supports_tf_logs = True

    def __init__(self, shared: Sequence[Shared], clusters: int, first: int, seed: int):
        super().__init__()
        self._shared, self._clusters, self._first, self._seed = shared, clusters, first, seed

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch < self._first:
            return
        for one in self._shared:
            # A kernel that is nothing but zeros has yet to begin.
            if not one.on.numpy() and one.weight.numpy().any():
                centred = one.fit(self._clusters, self._seed)
                for variable in (one.weight, *hold.averages(self.model.optimizer, one.weight)):
                    variable.assign(centred)
