"""Whether the gradient of each example of a model can be told apart, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

import tf_keras as keras

from tfapp.private.clipping import calls


@dataclass(frozen=True)
class Examined:
    """What `clipped` will do with a model.

    Attributes:
      fast: names of the layers with a rule.
      slow: (name, class, why) of those that are taken example by example.
    """

    fast: list[str]
    slow: list[tuple[str, str, str]]

    def said(self) -> list[str]:
        """Lines for the terminal."""
        return [f"{name} ({kind}): {why}" for name, kind, why in self.slow]


def examine(model: keras.Model) -> Examined:
    """The layers of a model with a rule and those without."""
    units = calls.of_classes(model)
    fast = [unit.layer.name for unit in units if unit.why is None]
    return Examined(fast, [(u.layer.name, type(u.layer).__name__, u.why) for u in units if u.why is not None])
