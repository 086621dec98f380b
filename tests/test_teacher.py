"""A teacher is found as a run or a SavedModel, and one that cannot teach this student is told before any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.teachers import teacher_of
from tfapp import export
from tfapp import teacher as teachers
from tfapp.data.examples import Data, Examples
from tfapp.errors import Missing, Refused
from tfapp.run import Run
from tfapp.teacher import Teacher

pytestmark = pytest.mark.moderate

SMALL = str(Path(__file__).parent / "fixtures" / "small.py")
RAW = tf.TensorSpec([None, 6, 6, 1], tf.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run of the small recipe; not to be changed."""
    return teacher_of(tmp_path_factory.mktemp("teacher") / "run", SMALL)


def data(**facts: Any) -> Data:
    labels = np.zeros(4, np.float32 if facts.get("task") == "regression" else np.int64)
    part = Examples(np.zeros((4, 6, 6, 1), np.float32), labels)
    return Data(
        part, part, part, **{"task": "classification", "kind": "image", "classes": ("one", "two", "three"), **facts}
    )


def known(folder: Path, **facts: Any) -> Teacher:
    """A teacher of which only data.json is looked at."""
    folder.mkdir()
    (folder / "data.json").write_text(
        json.dumps({"task": "classification", "classes": ["one", "two", "three"], "target": "label", **facts})
    )
    return Teacher("big", folder / "model", Run(folder))


def test_a_run_is_found_by_folder_and_by_name_and_a_saved_model_by_its_folder(run, runs_root) -> None:
    assert teachers.find(str(run)).saved == run / "model"
    runs_root.mkdir()
    (runs_root / "big").symlink_to(run)
    assert teachers.find("big").run == Run(runs_root / "big")
    bare = teachers.find(str(run / "model"))
    assert bare.run is None and bare.saved == run / "model"
    assert bare.digest == teachers.find(str(run / "model")).digest != teachers.find(str(run)).digest


def test_no_teacher_and_one_that_is_not_finished_are_told(runs_root) -> None:
    with pytest.raises(Missing, match="distill.teacher=nothing: no run 'nothing'"):
        teachers.find("nothing")
    young = Run(runs_root / "young")
    young.file("").mkdir(parents=True)
    young.file("plan.yaml").write_text("recipe: small\n")
    young.note(status="stopped")
    with pytest.raises(Missing, match="young is not finished .it is stopped.(.|\n)*go on with it"):
        teachers.find("young")


def test_classes_in_another_order_are_put_in_the_students(run, tmp_path) -> None:
    assert teachers.order(known(tmp_path / "same"), data()) is None
    turned = data(classes=("three", "one", "two"))
    assert teachers.order(known(tmp_path / "turned"), turned) == [2, 0, 1]
    images = np.random.default_rng(0).normal(size=(5, 6, 6, 1)).astype("float32")
    answers = teachers.load([teachers.find(str(run))], turned, RAW)(tf.constant(images))["outputs"]
    np.testing.assert_allclose(np.exp(answers), export.load(run)(images)[:, [2, 0, 1]], rtol=1e-5)


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        ({"task": "regression", "classes": []}, {}, "was trained for regression, and this recipe is classification"),
        ({"classes": ["one", "two"]}, {}, "knows other classes: it lacks 'three' .2 classes, here 3."),
        (
            {"classes": ["one", "two", "three", "four"]},
            {},
            "knows other classes: it has 'four' besides .4 classes, here 3.",
        ),
        (
            {"task": "regression", "classes": [], "target": "rent"},
            {"task": "regression", "classes": (), "target": "price"},
            "predicts 'rent', and this recipe 'price'",
        ),
        (
            {"task": "language", "classes": ["b", "a"]},
            {"task": "language", "classes": ("a", "b")},
            "has another vocabulary .2 tokens, here 2.",
        ),
    ],
)
def test_a_teacher_of_something_else_is_refused(tmp_path, theirs, ours, said) -> None:
    with pytest.raises(Refused, match=f"the teacher big {said}"):
        teachers.order(known(tmp_path / "run", **theirs), data(**ours))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (tf.TensorSpec([None, 8, 8, 1], tf.float32), r"float32 \[n, 6, 6, 1\], here float32 \[n, 8, 8, 1\]"),
        (tf.TensorSpec([None, 6, 6, 1], tf.uint8), r"float32 \[n, 6, 6, 1\], here uint8 \[n, 6, 6, 1\]"),
        ({"a": tf.TensorSpec([None, 1], tf.float32)}, "it wants 'inputs', which this recipe has not"),
    ],
)
def test_a_teacher_that_takes_other_features_is_refused(run, raw, said) -> None:
    with pytest.raises(Refused, match=f"takes other features: {said}"):
        teachers.load([teachers.find(str(run))], data(), raw)


def test_a_bare_saved_model_is_held_to_its_number_of_outputs_and_has_no_layers(run) -> None:
    bare = teachers.find(str(run / "model"))
    assert set(teachers.load([bare], data(), RAW)(tf.zeros([2, 6, 6, 1]))) == {"outputs"}
    with pytest.raises(Refused, match=r"gives \(3,\) an example, and this recipe needs \(2,\)"):
        teachers.load([bare], data(classes=("one", "two")), RAW)
    with pytest.raises(Refused, match="which has no layers to look into(.|\n)*take the run"):
        teachers.load_with_hints(bare, data(), RAW, {"conv2d": "conv2d"})


def test_a_saved_model_of_another_make_is_refused(tmp_path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path / "other"))
    with pytest.raises(Refused, match="no signature serving_default"):
        teachers.load([teachers.find(str(tmp_path / "other"))], data(), RAW)


def test_a_probability_of_nothing_has_a_finite_logarithm() -> None:
    told = teachers._told([tf.constant([[0.0, 1.0]]), tf.constant([[0.0, 1.0]])], data())
    assert np.isfinite(told).all() and float(told[0, 0]) < -80
