"""Whether a training waits for its data: a source that is slow, a model that is slow, real fits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.test_images import picture, save
from tests.test_train import SMALL, fitted
from tfapp import environment
from tfapp.callbacks import waiting

SLOW = """
import importlib.util, sys, time
import tensorflow as tf, tf_keras as keras

spec = importlib.util.spec_from_file_location("small_of_tests", {small!r})
small = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = small
spec.loader.exec_module(small)
Config, data, preprocess, training, defaults = small.Config, small.data, small.preprocess, small.training, small.defaults

def slowly(x, seconds):
    def work(value):
        time.sleep(seconds)
        return value
    return tf.ensure_shape(tf.numpy_function(work, [x], x.dtype), x.shape)

def augment(config):
    return lambda image, seed: slowly(image, {example})

class Slow(keras.layers.Layer):
    def call(self, x):
        return x + 0 * tf.stop_gradient(slowly(x, {batch}))

def model(config, inputs, data):
    x = Slow()(inputs) if {batch} else inputs
    return keras.Model(inputs, keras.layers.Dense(data.outputs)(keras.layers.Flatten()(x)))
"""

pytestmark = pytest.mark.e2e


def trained(folder: Path, example: float, batch: float, monkeypatch, *words: str) -> tuple[list[str], dict]:
    """What was said while training, and waiting.json; `example` and `batch` are the seconds that making and training take."""
    monkeypatch.setattr(waiting, "SECONDS", 0.5)
    monkeypatch.setattr(waiting, "BATCHES", 20)
    recipe = folder / "slow.py"
    recipe.write_text(SLOW.format(small=SMALL, example=example, batch=batch))
    said: list[str] = []
    fitted(folder / "run", "n=400", "fit.epochs=6", *words, recipe=str(recipe), say=said.append)
    path = folder / "run" / "waiting.json"
    return [line for line in said if "input-bound" in line], json.loads(path.read_text()) if path.exists() else {}


@pytest.mark.parametrize("steps", ["1", "5"])
def test_a_slow_source_is_told_once_with_its_share_and_a_remedy(tmp_path: Path, steps: str, monkeypatch) -> None:
    said, found = trained(tmp_path, 0.004, 0, monkeypatch, f"fit.steps_per_execution={steps}")
    assert len(said) == 1 and "of the time no batch is ready; cores are idle" in said[0]
    assert 0.5 < found["workers"][0]["waited"] <= 1 and "idle" in found["remedy"]


def test_a_slow_model_is_no_matter_of_the_input(tmp_path: Path, monkeypatch) -> None:
    said, found = trained(tmp_path, 0.0005, 0.03, monkeypatch, "fit.steps_per_execution=5")
    assert not said and "remedy" not in found and found["workers"][0]["waited"] < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("pixels", "filters", "limit"), [(900, 1, True), (150, 64, False)])
def test_decoding_that_takes_the_cores_is_told_unless_the_model_takes_more(
    tmp_path: Path, pixels: int, filters: int, limit: bool, monkeypatch
) -> None:
    monkeypatch.setattr(environment, "free_memory", lambda: 0)
    # Whatever else runs on this machine.
    monkeypatch.setattr(waiting, "BUSY", 0.01)
    monkeypatch.setattr(waiting, "SECONDS", 0.2)
    for i in range(40):
        save(tmp_path / "photos" / "ab"[i % 2] / f"{i}.jpg", picture(pixels, 4 * pixels // 3, i))
    said: list[str] = []
    still = [f"augment.{name}=0" for name in ("shift", "rotation", "zoom", "brightness")]
    words = [
        f"folder={tmp_path / 'photos'}",
        f"filters={filters}",
        "units=4",
        "size=32",
        "fit.batch_size=4",
        "fit.epochs=12",
    ]
    fitted(tmp_path / "run", *words, *still, recipe="image_folder", say=said.append)
    assert len([line for line in said if "of the processor's time; its files" in line]) == limit
    found = json.loads((tmp_path / "run" / "waiting.json").read_text())
    assert (found["workers"][0]["loading"] > 0.5) is limit
    assert ("tfapp data shard" in found.get("remedy", "")) is limit


@pytest.mark.slow
@pytest.mark.parametrize(("example", "batch", "epochs", "limit"), [(0.004, 0, 8, True), (0.0005, 0.03, 3, False)])
def test_two_replicas_say_the_same_in_a_real_run(
    tmp_path: Path, example: float, batch: float, epochs: int, limit: bool
) -> None:
    recipe, run = tmp_path / "slow.py", tmp_path / "run"
    recipe.write_text(SLOW.format(small=SMALL, example=example, batch=batch))
    # The export of such a layer may fail; the training is over by then.
    words = ["n=1000", f"fit.epochs={epochs}", "runtime.strategy=mirrored", "runtime.replicas=2", "--run", str(run)]
    done = subprocess.run([sys.executable, "-m", "tfapp", "train", str(recipe), *words], capture_output=True, text=True)
    assert done.stderr.count("of the time no batch is ready") == limit, done.stderr[-3000:]
    assert ("remedy" in json.loads((run / "waiting.json").read_text())) is limit


@pytest.mark.slow
def test_where_operations_must_be_deterministic_nothing_is_measured(tmp_path: Path) -> None:
    words = ["train", SMALL, "runtime.deterministic=true", "fit.epochs=3", "--run", str(tmp_path / "run")]
    subprocess.run([sys.executable, "-m", "tfapp", *words], check=True)
    assert not (tmp_path / "run" / "waiting.json").exists()
