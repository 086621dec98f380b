"""Predictions are a row an example, as CSV or JSON lines."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfapp import export, predict, tasks
from tfapp.errors import Missing
from tfapp.run import Run

CLASSES = {"task": "classification", "target": "kind", "classes": ["a", 'b "x",y'], "kind": "array"}


def rows(outputs: list[list[float]], facts: dict) -> list[dict]:
    """The rows of a task whose model gives its features back."""
    features = np.array(outputs, np.float32)
    return tasks.of(facts["task"]).rows(np.asarray, features, ["one", "two"][: len(features)], facts)


def test_a_class_is_the_likeliest_with_all_probabilities_beside_it() -> None:
    assert rows([[0.25, 0.75]], CLASSES) == [{"name": "one", "kind": 'b "x",y', "p(a)": 0.25, 'p(b "x",y)': 0.75}]


def test_a_value_is_a_plain_number_and_a_target_called_name_does_not_hide_the_example_s() -> None:
    facts = {"task": "regression", "target": "price"}
    assert rows([[2.5], [0.1]], facts) == [{"name": "one", "price": 2.5}, {"name": "two", "price": 0.1}]
    assert rows([[2.5]], {**facts, "target": "name"}) == [{"name": "one", "predicted name": 2.5}]


def test_csv_and_json_lines_read_back_whatever_is_in_a_name() -> None:
    rows = [{"name": 'a "b",\nc', "kind": "ÿ"}, {"name": "", "kind": "x"}]
    assert list(csv.DictReader(io.StringIO(predict.csv_text(rows)))) == rows
    assert [json.loads(line) for line in predict.json_lines(rows).splitlines()] == rows


@pytest.mark.moderate
def test_files_go_through_the_run_s_exported_model(tmp_path: Path) -> None:
    inputs = keras.Input((2,), name="inputs")
    export.save(keras.Model(inputs, keras.layers.Softmax()(inputs)), tmp_path)
    run = Run(tmp_path)
    run.write("data.json", {**CLASSES, "reader": {"shape": [2], "dtype": "float32"}})
    np.save(tmp_path / "new.npy", np.array([[1, 0], [0, 1], [0, 3]], np.float32))
    rows, dropped = predict.files(run, [str(tmp_path / "new.npy")])
    assert [row["kind"] for row in rows] == ["a", 'b "x",y', 'b "x",y'] and dropped == []
    assert rows[0]["p(a)"] == pytest.approx(float(tf.nn.softmax([1.0, 0.0])[0]), abs=1e-5)
    np.save(tmp_path / "none.npy", np.zeros((0, 2), np.float32))
    with pytest.raises(Missing, match="no example could be read from"):
        predict.files(run, [str(tmp_path / "none.npy")])
