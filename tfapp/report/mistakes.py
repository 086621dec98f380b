"""The errors that teach most: those the model was surest of, or that lie furthest off, as a person can see them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from tfapp.data.examples import Examples, Features, Kind

SMALLEST, LARGEST = 96, 192
TEXT_LENGTH = 280
ROW_COLUMNS = 64


def worst(
    examples: Examples,
    labels: np.ndarray,
    outputs: np.ndarray,
    classes: Sequence[str],
    kind: Kind,
    most: int = 24,
    decode: Callable[[Any], np.ndarray] | None = None,
) -> list[dict[str, Any]]:
    """The most confident wrong answers, or for regression (no classes) the largest errors, worst first.

    Args:
      examples: what was asked, n of them.
      labels: int [n] class numbers, or float [n] targets.
      outputs: float [n, K] probabilities, or float [n] or [n, 1] predictions.
      classes: names of the classes; empty for regression.
      kind: how an example is shown: as an image, a text, or a row.
      most: how many at most.
      decode: features of one example → what can be shown (an image array, say), for examples that are files.

    Returns:
      {name, label, predicted, confidence (0–1) | error (prediction − target), image (PNG data URI) | text | row}.
    """
    labels, outputs = np.asarray(labels), np.asarray(outputs)
    if len(classes):
        predicted = outputs.argmax(axis=1)
        confidence = outputs[np.arange(len(labels)), predicted]
        chosen = np.flatnonzero(predicted != labels)
        chosen = chosen[np.argsort(-confidence[chosen], kind="stable")][:most]
        said = [
            {
                "label": str(classes[labels[i]]),
                "predicted": str(classes[predicted[i]]),
                "confidence": float(confidence[i]),
            }
            for i in chosen
        ]
    else:
        outputs = outputs.reshape(len(labels)).astype(float)
        error = outputs - labels
        chosen = np.argsort(-np.abs(error), kind="stable")[:most]
        said = [
            {"label": float(labels[i]), "predicted": float(outputs[i]), "error": float(error[i])}
            for i in chosen
            if error[i] != 0
        ]
        chosen = chosen[: len(said)]
    shown = _show(examples.take(chosen), kind, decode)
    return [{"name": examples.name(int(i))} | what | how for i, what, how in zip(chosen, said, shown, strict=True)]


def worst_of(part: Examples, outputs: np.ndarray, classes: Sequence[str], kind: Kind) -> list[dict[str, Any]]:
    """`worst` of a part with its own labels, its files decoded as the model's input is."""
    load = part.load
    decode = None if load is None else lambda one: np.asarray(load(one))
    return worst(part, part.labels, outputs, classes, kind, decode=decode)


def _show(examples: Examples, kind: Kind, decode: Callable[[Any], np.ndarray] | None) -> list[dict[str, Any]]:
    """One of `image`, `text` or `row` for every example; nothing where it cannot be shown."""
    each = [_features(examples.features, i) for i in range(len(examples))]
    if decode is not None:
        each = [decode(features) for features in each]
    elif kind == "image" and examples.load is not None:
        return [{} for _ in each]
    if kind == "image":
        arrays = [np.asarray(next(iter(f.values())) if isinstance(f, Mapping) else f) for f in each]
        scale = _scale(arrays)
        return [{"image": _picture(array, *scale)} for array in arrays]
    if kind == "text":
        return [{"text": _short(" · ".join(_words(f)), TEXT_LENGTH)} for f in each]
    return [{"row": _row(features)} for features in each]


def _features(features: Features, index: int) -> Any:
    """The features of one example."""
    return {k: column[index] for k, column in features.items()} if isinstance(features, Mapping) else features[index]


def _scale(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    """The values of black and white, the same for all pictures: the usual range if they keep it, else their own."""
    if not arrays:
        return 0, 1
    if all(array.dtype == np.uint8 for array in arrays):
        return 0, 255
    values = np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if values.size else (0, 1)
    if low >= 0:
        low, high = 0, 1 if high <= 1 else 255 if 64 < high <= 255 else high
    return float(low), float(high if high > low else low + 1)


def _picture(array: np.ndarray, low: float, high: float) -> str:
    """An image array [h, w] or [h, w, 1, 3 or 4] as a PNG data URI, SMALLEST to LARGEST pixels long."""
    array = np.atleast_2d(np.squeeze(array, axis=-1) if array.ndim == 3 and array.shape[-1] == 1 else array)
    while array.ndim > 3:
        array = array[0]
    if array.ndim == 3 and array.shape[-1] not in (3, 4):
        array = array[..., 0]
    if array.dtype == bool:
        array = array.astype(np.uint8)
    values = np.nan_to_num((array.astype(np.float64) - low) / (high - low))
    image = Image.fromarray((values.clip(0, 1) * 255).round().astype(np.uint8))
    longest = max(image.size)
    if longest > LARGEST:
        image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    elif longest < SMALLEST:
        # Whole multiples keep every pixel a square.
        times = -(-SMALLEST // longest)
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _words(features: Any) -> list[str]:
    values = features.values() if isinstance(features, Mapping) else np.atleast_1d(features).ravel().tolist()
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]


def _short(text: str, length: int) -> str:
    """At most `length` characters, cut after a word."""
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    return text[: length - 2].rsplit(" ", 1)[0][: length - 2] + " …"


def _row(features: Any) -> dict[str, Any]:
    """Column → value, JSON-able, of at most ROW_COLUMNS columns."""
    if not isinstance(features, Mapping):
        features = {str(i): value for i, value in enumerate(np.asarray(features).ravel()[:ROW_COLUMNS])}
    return {str(key): _plain(value) for key, value in list(features.items())[:ROW_COLUMNS]}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.ravel().tolist() if value.size != 1 else value.item()
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float):
        # Seven digits are what float32 holds: 0.1 rather than 0.10000000149.
        return float(f"{value:.7g}") if np.isfinite(value) else None
    return value if isinstance(value, (int, bool)) or value is None else _short(str(value), 120)
