"""What was asked of a TFLite file, checked before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfapp.errors import Usage
from tfapp.lite.converter import FEWEST, Scheme


@dataclass(frozen=True)
class Asked:
    """How a TFLite file is to be.

    Attributes:
      quantize: one of SCHEMES of `lite.converter`.
      representative: training examples that int8 and int16x8 learn the ranges of activations from; at least 32.
      io: what float inputs and outputs of an int8 file are.
      tolerance: how much worse than the float model a calibrated file may be on the validation part: percentage points of
        accuracy; of regression and language, percent of the error. What is beyond costs int8 its worst layers.
    """

    quantize: Scheme = "none"
    representative: int = 256
    io: Literal["float32", "int8"] = "float32"
    tolerance: float = 0.5

    def __post_init__(self) -> None:
        if self.representative < FEWEST:
            raise Usage(
                f"--representative {self.representative} is too few to know the ranges of activations: "
                f"at least {FEWEST}\nleave it out for 256"
            )

    @property
    def file(self) -> str:
        """The usual name of such a file."""
        scheme = "" if self.quantize == "none" else f".{self.quantize}"
        return f"model{scheme}{'.int8io' if self.io == 'int8' else ''}.tflite"
