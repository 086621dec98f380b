"""What stands in a TFLite file, and what tfapp adds to it: facts for `predict`, and nothing written twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfapp.errors import Failed, Missing

# The name of our entry among the file's metadata.
ENTRY = b"tfapp"
TYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}


@dataclass(frozen=True)
class Weight:
    """One constant of a model that training has learned.

    Attributes:
      name: of its layer, as the file has it.
      values: as they are stored: float32, float16, or int8, int16, int32, int64 of a quantised model.
      zero: the stored number that means 0 (0 in a float model).
      kernel: whether it is a matrix or more; otherwise it is a bias or a scale.
    """

    name: str
    values: np.ndarray
    zero: int
    kernel: bool


def read(path: Path) -> bytes:
    """A TFLite file's content.

    Raises:
      Missing: it is not there. Failed: it is no TFLite file.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise Missing(f"there is no file {path}\nwrite one: tfapp export RUN --format tflite") from None
    if content[4:8] != b"TFL3":
        raise Failed(f"{path} is no TFLite file\nwrite one: tfapp export RUN --format tflite")
    return content


def facts(content: bytes) -> dict[str, Any]:
    """What `packed` put into a file; {} in a file that is not tfapp's."""
    try:
        model = schema.Model.GetRootAs(content, 0)
        for number in range(model.MetadataLength()):
            entry = model.Metadata(number)
            if entry.Name() == ENTRY:
                held = json.loads(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
                return held if isinstance(held, dict) else {}
    except Exception as error:  # noqa: BLE001, as a damaged file can make its reader raise anything
        raise _damaged(error) from error
    return {}


def packed(content: bytes, facts: Mapping[str, Any]) -> bytes:
    """The same model with facts (JSON-able) in its metadata, with short names, and with equal vectors written once.

    The converter writes a scale and a 64-bit zero point for each channel of each weight and again of its bias: in a
    small int8 network that is up to a tenth of the file, and most of it is zeros.
    """
    model = _opened(content)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.name = short(tensor.name)
    data = np.frombuffer(json.dumps(dict(facts), ensure_ascii=False).encode(), np.uint8)
    model.buffers[_entry(model).buffer].data = data
    builder = _Once(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def short(name: bytes | str) -> str:
    """A tensor's name without what all have in common: «conv2d_1/Conv2D».

    Of the operations that were fused into one, the last named is the one with the weights.
    """
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    parts = text.split(";")[-1].split("/")
    kept = [
        part for part in parts if not part.startswith(("StatefulPartitionedCall", "PartitionedCall", "tfapp_model"))
    ]
    return "/".join(kept[-3:] or parts[-1:])


def weights(content: bytes) -> list[Weight]:
    """The weights that ship, in the order of the file; one that several layers share counts once.

    What operations take as shapes, axes and indices (whole numbers that stand for themselves) is not among them.
    """
    model = _opened(content)
    found: dict[int, Weight] = {}
    for graph in model.subgraphs:
        users = {index: operator for operator in reversed(graph.operators or []) for index in operator.inputs}
        for index, tensor in enumerate(graph.tensors):
            values = _values(model.buffers[tensor.buffer].data, tensor)
            if values is None or tensor.buffer in found:
                continue
            name = short(tensor.name)
            if name.startswith(("tfl.", "arith.")) and index in users:
                name = short(graph.tensors[users[index].outputs[0]].name)
            kernel = _is_kernel(model, tensor)
            found[tensor.buffer] = Weight(name, values.reshape(_shape(tensor)), _zero(tensor), kernel)
    return list(found.values())


def has_loop(content: bytes) -> bool:
    """Whether a file has a loop, as recurrent layers have that TFLite knows no operation of their own for."""
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in _opened(content).operatorCodes]
    return schema.BuiltinOperator.WHILE in codes


def before_weights(content: bytes) -> list[str]:
    """The full names of what the operations before the first kernels give: preprocessing that nothing was learned for.

    In a quantised model they cost precision and save no bytes: raw columns of a table have ranges of their own, and one
    scale for all of them leaves nothing of the small ones.
    """
    model = _opened(content)
    graph = model.subgraphs[0]
    names: list[str] = []
    learned: set[int] = set()
    for operator in graph.operators:
        if _has_kernel(model, graph, operator) or learned.intersection(operator.inputs):
            learned.update(operator.outputs)
        else:
            names += [graph.tensors[index].name.decode() for index in operator.outputs]
    return names


def operations(content: bytes) -> list[tuple[str, bool]]:
    """The full name of what each operation gives, in order, and whether the operation has a kernel."""
    model = _opened(content)
    graph = model.subgraphs[0]
    return [
        (graph.tensors[index].name.decode(), _has_kernel(model, graph, operator))
        for operator in graph.operators
        for index in operator.outputs
    ]


def _has_kernel(model: Any, graph: Any, operator: Any) -> bool:
    return any(index >= 0 and _is_kernel(model, graph.tensors[index]) for index in operator.inputs)


class _Once(flatbuffers.Builder):
    """A builder that writes a vector or text that was there before as a reference to it."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802, flatbuffers' own name
        key = (x.dtype.str, x.tobytes())
        if key not in self._written:
            self._written[key] = self._aligned(x) if x.dtype == np.uint8 else super().CreateNumpyVector(x)
        return self._written[key]

    def CreateString(self, s: Any, encoding: str = "utf-8", errors: str = "strict") -> int:  # noqa: N802
        text = s if isinstance(s, bytes) else s.encode(encoding, errors)
        key = ("text", text)
        if key not in self._written:
            self._written[key] = super().CreateString(s, encoding, errors)
        return self._written[key]

    def _aligned(self, x: np.ndarray) -> int:
        """Weights begin at a multiple of 16, as the schema wants it and Python's builder alone does not do."""
        self.StartVector(1, x.size, 16)
        self.head -= x.size
        self.Bytes[self.head : self.head + x.size] = x.tobytes()
        return int(self.EndVector())


def _opened(content: bytes) -> Any:
    try:
        return schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    except Exception as error:  # noqa: BLE001, as a damaged file can make its reader raise anything
        raise _damaged(error) from error


def _damaged(error: Exception) -> Failed:
    return Failed(
        f"the TFLite file is damaged: {error or type(error).__name__}\nwrite it anew: tfapp export RUN --format tflite"
    )


def _entry(model: Any) -> Any:
    """Our entry among the metadata, with a buffer; a new one where there is none."""
    model.metadata = model.metadata or []
    for entry in model.metadata:
        if entry.name == ENTRY:
            return entry
    model.buffers.append(schema.BufferT())
    entry = schema.MetadataT()
    entry.name, entry.buffer = ENTRY, len(model.buffers) - 1
    model.metadata.append(entry)
    return entry


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in tensor.shape) if tensor.shape is not None else ()


def _is_kernel(model: Any, tensor: Any) -> bool:
    """Whether a tensor is a constant weight of more than one dimension; [1, 1, 1, 64] has one."""
    shape = _shape(tensor)
    return _values(model.buffers[tensor.buffer].data, tensor) is not None and int(np.prod(shape)) > max(
        shape, default=1
    )


def _values(data: Any, tensor: Any) -> np.ndarray | None:
    """A constant's numbers if it is a weight."""
    if data is None or not len(data):
        return None
    raw = np.asarray(data, np.uint8).tobytes()
    quantised = tensor.quantization is not None and tensor.quantization.scale is not None
    if tensor.type == schema.TensorType.INT4:
        pairs = np.frombuffer(raw, np.int8)
        # The first of two stands in the lower half; shifting left and back brings the sign along.
        halves = np.stack([(pairs << 4).astype(np.int8) >> 4, pairs >> 4], axis=1).ravel()
        return halves[: int(np.prod(tensor.shape))]
    kind = TYPES.get(tensor.type)
    if kind is None or (np.issubdtype(kind, np.integer) and not quantised):
        return None
    return np.frombuffer(raw, kind)


def _zero(tensor: Any) -> int:
    points = tensor.quantization.zeroPoint if tensor.quantization is not None else None
    return int(points[0]) if points is not None and len(points) else 0
