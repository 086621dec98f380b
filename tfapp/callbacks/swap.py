"""Evaluate the averaged weights and train on the raw ones."""

from __future__ import annotations

from typing import Any

import tf_keras as keras

from tfapp.mesh.weights import components


class SwapAverage(keras.callbacks.Callback):
    """Exchanges the weights with their moving average around validation and the end of each epoch.

    The values are exchanged, not copied, so nothing is lost when a checkpoint is written meanwhile.
    """

    _supports_tf_logs = True

    def __init__(self) -> None:
        super().__init__()
        self._averaged = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._hold(averaged=False)

    def on_test_begin(self, logs: Any = None) -> None:
        self._hold(averaged=True)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._hold(averaged=True)

    def state(self) -> dict[str, Any]:
        return {"averaged": self._averaged}

    def restore(self, state: dict[str, Any]) -> None:
        self._averaged = state["averaged"]

    def _hold(self, averaged: bool) -> None:
        if averaged == self._averaged:
            return
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        for weight in self.model.trainable_variables:
            average = optimizer._model_variables_moving_average[optimizer._index_dict[optimizer._var_key(weight)]]
            for here, there in zip(components(weight), components(average), strict=True):
                raw, mean = here.numpy(), there.numpy()
                here.assign(mean)
                there.assign(raw)
        self._averaged = averaged
