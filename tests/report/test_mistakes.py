import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from tfapp.data.examples import Examples
from tfapp.report.mistakes import worst


def picture(mistake):
    return Image.open(io.BytesIO(base64.b64decode(mistake["image"].removeprefix("data:image/png;base64,"))))


def wrong(examples, kind, **options):
    """The mistakes of a model that is wrong about everything, surest of the first."""
    n = len(examples)
    sure = np.linspace(0.9, 0.6, n)
    outputs = np.stack([1 - sure, sure], axis=1)
    return worst(examples, np.zeros(n, int), outputs, ["cat", "dog"], kind, **options)


def test_the_surest_wrong_answers_come_first_and_right_ones_not_at_all():
    labels = np.array([0, 1, 0, 1])
    outputs = np.array([[0.4, 0.6], [0.1, 0.9], [0.05, 0.95], [0.7, 0.3]])
    examples = Examples(np.arange(8.0).reshape(4, 2), labels, names=np.array(["a", "b", "c", "d"], object))
    found = worst(examples, labels, outputs, ["cat", "dog"], "array", most=2)
    assert [(m["name"], m["label"], m["predicted"], m["confidence"]) for m in found] == [
        ("c", "cat", "dog", 0.95),
        ("d", "dog", "cat", 0.7),
    ]
    assert found[0]["row"] == {"0": 4.0, "1": 5.0}


def test_regression_shows_the_largest_errors_of_either_sign():
    examples = Examples({"x": np.arange(4.0)}, np.zeros(4, np.float32))
    found = worst(examples, examples.labels, np.array([[1.0], [-3.0], [0.0], [2.0]]), (), "table")
    assert [m["error"] for m in found] == [-3.0, 2.0, 1.0]
    assert found[0] == {"name": "1", "label": 0.0, "predicted": -3.0, "error": -3.0, "row": {"x": 1.0}}


@pytest.mark.parametrize(
    "shape", [(8, 8), (8, 8, 1), (8, 8, 3), (8, 8, 4), (8, 8, 2), (32, 20, 3), (500, 300, 3), (1, 5)]
)
@pytest.mark.parametrize("values", ["uint8", "0–1", "0–16", "0–255", "-1–1", "nan", "equal", "bool"])
def test_an_image_array_of_any_shape_and_range_becomes_a_small_png(shape, values):
    random = np.random.default_rng(0).random((2, *shape))
    arrays = {
        "uint8": (random * 255).astype(np.uint8), "0–1": random, "0–16": (random * 16).astype(np.float32),
        "0–255": random * 255, "-1–1": random * 2 - 1, "nan": random * np.nan, "equal": random * 0 + 7, "bool": random > 0.5,
    }  # fmt: skip
    found = wrong(Examples(arrays[values], np.zeros(2, int)), "image")
    assert len(found) == 2
    assert 96 <= max(picture(found[0]).size) <= 192


def test_tiny_images_grow_in_whole_pixels_and_keep_their_range():
    checkers = np.indices((2, 8, 8)).sum(0) % 2 * 16.0
    grown = np.asarray(picture(wrong(Examples(checkers, np.zeros(2, int)), "image")[0]))
    assert grown.shape == (96, 96)
    assert (grown[:12, :12] == 0).all() and (grown[:12, 12:24] == 255).all()


def test_files_are_shown_through_decode_and_without_it_named_only():
    examples = Examples(
        {"path": np.array(["a.png", "b.png"], object)}, np.zeros(2, int), load=lambda features: features
    )
    assert "image" not in wrong(examples, "image")[0]
    shown = wrong(examples, "image", decode=lambda features: np.full((4, 4, 3), len(features["path"]), np.uint8))
    assert picture(shown[0]).size == (96, 96)


def test_texts_are_shortened_after_a_word():
    lines = np.array([b"caf\xc3\xa9 " * 200, "short <b>text</b>"], object)
    found = wrong(Examples(lines, np.zeros(2, int)), "text")
    assert len(found[0]["text"]) <= 280 and found[0]["text"].endswith("café …")
    assert found[1]["text"] == "short <b>text</b>"
    assert wrong(Examples({"text": lines}, np.zeros(2, int)), "text") == found


def test_rows_are_json_whatever_their_columns_hold():
    columns = {
        "age": np.array([37], np.float32), "share": np.array([0.1], np.float32), "job": np.array(["clerk"], object),
        "missing": np.array([np.nan]), "bytes": np.array([b"x"], object), "vector": np.ones((1, 3)),
    }  # fmt: skip
    row = wrong(Examples(columns, np.zeros(1, int)), "table")[0]["row"]
    assert row == {"age": 37, "share": 0.1, "job": "clerk", "missing": None, "bytes": "x", "vector": "[1.0, 1.0, 1.0]"}
    json.dumps(row, allow_nan=False)


def test_a_flawless_model_has_no_mistakes():
    examples = Examples(np.zeros((2, 8, 8)), np.array([0, 1]))
    assert worst(examples, examples.labels, np.eye(2), ["a", "b"], "image") == []
