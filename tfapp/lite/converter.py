"""From a SavedModel to a TFLite file's content: in float, or quantised after training.

    none       float32 weights as they are
    dynamic    int8 weights; activations are quantised as they come, with no data seen beforehand
    float16    float16 weights, computed in float32: half the size, no speed
    int8       int8 weights and activations, their ranges taken from representative examples
    int16x8    int8 weights, int16 activations: nearer to float, and slow wherever there are no kernels for it

B. Jacob and others, «Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference»
(2018, arXiv:1712.05877); https://ai.google.dev/edge/litert/models/post_training_quantization. Nothing here knows of runs.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfapp.errors import Refused, Usage
from tfapp.lite.flatbuffer import before_weights, has_loop, operations, short
from tfapp.lite.interpreter import SIGNATURE, hushed
from tfapp.signature import argument

Scheme = Literal["none", "dynamic", "float16", "int8", "int16x8"]
SCHEMES: tuple[Scheme, ...] = ("none", "dynamic", "float16", "int8", "int16x8")
# Those that need to see data.
CALIBRATED = ("int8", "int16x8")
# Below this the ranges of activations are a guess.
FEWEST = 32
# How many of the representative examples the error of each layer is measured on.
DEBUGGED = 50

# Gives the representative examples anew at each call, one at a time: name of the input -> array [1, ...].
Representative = Callable[[], Iterable[Mapping[str, np.ndarray]]]


class Unconvertible(Refused):
    """TFLite has no operation for something in the model."""


@dataclass(frozen=True)
class LayerError:
    """How far one operation's quantised output is from its float output, both computed from the same inputs.

    Attributes:
      layer: short name. tensor: the full name of its output, by which `Calibrated.keeping` knows it.
      operation: as TFLite calls it.
      error: root mean square of the difference in steps of its scale; rounding alone gives 0.29 (1/√12).
    """

    layer: str
    tensor: str
    operation: str
    error: float


def convert(
    saved_model: Path,
    scheme: Scheme = "none",
    representative: Representative | None = None,
    io: Literal["float32", "int8"] = "float32",
) -> bytes:
    """The content of a TFLite file for a SavedModel with the signature serving_default.

    Args:
      saved_model: its folder. One with recurrent layers must take one example at a time: `export.saved_model(…, batch=1)`.
      scheme: one of SCHEMES.
      representative: for int8 and int16x8, at least FEWEST examples like those of training. A model that was trained
        quantisation-aware holds its ranges already: give none for int8.
      io: what float inputs and outputs are in an int8 file. int8 is for devices without floating point; inputs that
        are whole numbers anyway (pixels) stay as they are.

    Raises:
      Usage: no or too few representative examples. Unconvertible: TFLite lacks an operation of the model. Refused: it
        cannot be calibrated.
    """
    if io == "int8" and scheme != "int8":
        raise Usage(f"int8 inputs and outputs belong to an int8 model, not to {scheme}\nleave them float32")
    if scheme in CALIBRATED and representative is None and not (scheme == "int8" and trained_quantised(saved_model)):
        raise Usage(
            f"{scheme} needs representative examples to learn the ranges of activations\n"
            "give some, or take dynamic, which needs none"
        )
    if scheme == "int8" and representative is not None:
        return Calibrated(saved_model, representative, io).content
    if representative:
        _without_loops(saved_model, scheme)
    converter = _converter(saved_model, scheme, _checked(representative) if representative else None)
    if io == "int8":
        import tensorflow as tf

        converter.inference_input_type = converter.inference_output_type = tf.int8
    with hushed(), _told():
        return bytes(converter.convert())


def trained_quantised(saved_model: Path) -> bool:
    """Whether a SavedModel was trained quantisation-aware: it holds the ranges that int8 needs."""
    return b"FakeQuantWithMinMaxVars" in (saved_model / "saved_model.pb").read_bytes()


class Calibrated:
    """An int8 model that has seen its data, and can be written anew in milliseconds with some layers kept in float.

    Preprocessing inside the model stays in float, but where its inputs are to be int8.

    Args:
      saved_model, representative, io: as for `convert`.
    """

    def __init__(
        self, saved_model: Path, representative: Representative, io: Literal["float32", "int8"] = "float32"
    ) -> None:
        import tensorflow as tf

        _without_loops(saved_model, "int8")
        examples = _checked(representative)
        self._options = tf.lite.experimental.QuantizationDebugOptions
        self._whole = io == "int8"
        with hushed(), _told():
            # The debugger is the one way to leave layers out, and to calibrate once for many tries.
            self._debugger = tf.lite.experimental.QuantizationDebugger(
                converter=_converter(saved_model, "int8", examples),
                debug_dataset=self._few(examples),
                debug_options=self._options(fully_quantize=self._whole),
            )
        self._before = [] if self._whole else before_weights(self._debugger.calibrated_model)
        self.content = self.keeping(())

    def keeping(self, tensors: Sequence[str]) -> bytes:
        """The int8 file's content with the operations that give these tensors (`LayerError.tensor`) left in float."""
        options = self._options(fully_quantize=self._whole, denylisted_nodes=[*self._before, *tensors] or None)
        with hushed(), _told():
            self._debugger._debug_options = options  # The setter would build the debug model again.
            return bytes(self._debugger.get_nondebug_quantized_model())

    def operations(self) -> list[tuple[str, bool]]:
        """The tensor that each operation gives, in order, and whether the operation has weights."""
        return operations(self._debugger.calibrated_model)

    def errors(self) -> list[LayerError]:
        """The error that quantisation makes in each layer by itself, the worst first.

        Raises:
          Refused: the int8 model cannot be computed, as where a divisor is rounded to 0.
        """
        self._debugger._debug_options = self._options(fully_quantize=self._whole)
        with hushed():
            try:
                self._debugger.run()
            except RuntimeError as error:
                # Before the reason stand the statistics of the layers so far.
                reason = str(error).strip().splitlines()[-1]
                raise Refused(f"the int8 model cannot be computed: {reason[:200]}") from error
        table = StringIO()
        self._debugger.layer_statistics_dump(table)
        found = [
            LayerError(short(row["tensor_name"]), row["tensor_name"], row["op_name"], _steps(row))
            for row in csv.DictReader(StringIO(table.getvalue()))
        ]
        return sorted(found, key=lambda one: -one.error)

    def _few(self, examples: Representative) -> Callable[[], Iterator[list[np.ndarray]]]:
        """The debugger takes the inputs by their place in the model, not by name."""

        def few() -> Iterator[list[np.ndarray]]:
            details = self._debugger._quant_interpreter.get_input_details()
            names = [re.sub(rf"^{SIGNATURE}_|:\d+$", "", detail["name"]) for detail in details]
            for number, example in enumerate(examples()):
                if number == DEBUGGED:
                    return
                yield [_as_taken(example[name], detail) for name, detail in zip(names, details, strict=True)]

        return few


def _as_taken(values: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    from tfapp.lite.interpreter import stored

    return stored(values, dict(detail))


def _steps(row: Mapping[str, str]) -> float:
    scale, error = float(row["scale"]), float(row["mean_squared_error"]) ** 0.5
    return error / scale if scale else 0.0


def _checked(representative: Representative) -> Representative:
    """The same examples by the names of the signature, if there are enough of them."""
    count = sum(1 for _ in representative())
    if count < FEWEST:
        raise Usage(
            f"{count} representative examples are too few to know the ranges of activations: at least {FEWEST}\n"
            "give more (--representative 256), or take dynamic, which needs none"
        )

    def named() -> Iterator[dict[str, np.ndarray]]:
        for example in representative():
            yield {argument(name): np.asarray(values) for name, values in example.items()}

    return named


def _without_loops(saved_model: Path, scheme: Scheme) -> None:
    """Keep models with loops away from the converter's calibrator, which ends the process on them."""
    if recurrent(saved_model) and has_loop(convert(saved_model)):
        raise Refused(
            f"{scheme} wants to see the activations, and TFLite does not look into the loops of this model's recurrent "
            "layers (an LSTM's it does)\ntake --quantize dynamic or float16, which need no examples"
        )


def _converter(folder: Path, scheme: Scheme, representative: Representative | None) -> Any:
    import tensorflow as tf

    # Not from a Keras model: an input named by a keyword of Python would have no signature.
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[SIGNATURE])
    if scheme == "none":
        return converter
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if scheme == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if scheme in CALIBRATED and representative is not None:
        sets = tf.lite.OpsSet
        whole = {
            "int8": sets.TFLITE_BUILTINS_INT8,
            "int16x8": sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
        }
        converter.representative_dataset = representative
        # What has no integer form stays in float.
        converter.target_spec.supported_ops = [whole[scheme], sets.TFLITE_BUILTINS]
    return converter


@contextmanager
def _told() -> Iterator[None]:
    """The converter's pages of what it cannot do, as a line."""
    try:
        yield
    except Exception as error:  # noqa: BLE001, as the converter raises whatever its C++ side ran into
        lacking = sorted(set(re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", str(error))))
        if not lacking and "TensorListReserve" in str(error):
            lacking = ["recurrent layers that take batches of any size"]
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = f"TFLite has no {', '.join(lacking)}" if lacking else lines[0][:300]
        raise Unconvertible(
            f"this model does not become a TFLite file: {reason}\nexport it with --format savedmodel or keras"
        ) from error


def recurrent(saved_model: Path) -> bool:
    """Whether a SavedModel has recurrent layers: their loops keep lists whose shape TFLite must know beforehand."""
    return b"TensorListReserve" in (saved_model / "saved_model.pb").read_bytes()
