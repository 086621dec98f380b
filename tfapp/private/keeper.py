"""Writes down, as a private training goes, what it has given away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
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
        if begun := self.to_write():
            begun()

    def on_train_end(self, logs: Any = None) -> None:
        if self._folder is not None:
            ledger.write(self._folder, ledger.taken(self._planned, self._steps))

    def to_write(self) -> Callable[[], object] | None:
        """What writes down how many steps are taken, with the ε of all that are planned; comes with every checkpoint.

        The ε of just these steps takes a second to find, and is written at the end.
        """
        if self._folder is None:
            return None
        return partial(ledger.write, self._folder, replace(self._whole, steps=self._steps))

    @property
    def _steps(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def state(self) -> dict[str, Any]:
        """Nothing: the optimizer counts the steps."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing to go on with."""
