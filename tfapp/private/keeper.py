"""Writes down, as a private training goes, what it has given away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import tf_keras as keras

from tfapp.private import ledger
from tfapp.private.ledger import Ledger


class Keeper(keras.callbacks.Callback):
    """Keeps the run's ledger: before the first step, with every checkpoint, and after the last step.

    A step that a kill undid and that is taken again draws the same batch and the same noise, so it counts once.

    Args:
      planned: the ledger of the whole training. folder: the run's; None on workers that write nothing.
    """

    _supports_tf_logs = True

    def __init__(self, planned: Ledger, folder: Path | None):
        super().__init__()
        self._planned, self._folder = planned, folder
        self._whole = ledger.taken(planned, planned.planned_steps) if folder else planned

    def on_train_begin(self, logs: Any = None) -> None:
        self.write()

    def on_train_end(self, logs: Any = None) -> None:
        self._keep(ledger.taken(self._planned, self._steps))

    def write(self) -> None:
        """Write down how many steps are taken, with the ε of all that are planned; called with every checkpoint.

        The ε of just these steps takes a second to find, and is written at the end or at an orderly stop.
        """
        self._keep(replace(self._whole, steps=self._steps))

    @property
    def _steps(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def _keep(self, held: Ledger) -> None:
        if self._folder is not None:
            ledger.write(self._folder, held)

    def state(self) -> dict[str, Any]:
        """Nothing: the optimizer counts the steps."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing to go on with."""
