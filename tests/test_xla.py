"""XLA is tried where that may pay, leaves no trace, and stays what the run was begun with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.test_job import ONE, made
from tests.test_train import fitted
from tfapp import xla
from tfapp.runtime import Machine


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has every training try XLA, and find it so many times as fast as it must be."""

    def always(wins: bool) -> None:
        monkeypatch.setattr(xla, "SHARE", float("inf"))
        monkeypatch.setattr(xla, "GAIN", 0 if wins else float("inf"))
        monkeypatch.setattr(xla, "_convolves", lambda model: False)

    return always


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one[0], other[0], strict=True)) and one[1] == other[1]


def held(folder: Path) -> dict[str, Any]:
    return json.loads((folder / xla.FILE).read_text())


@pytest.mark.e2e
@pytest.mark.parametrize("words", [[], ["flip=false", "fit.gather=step", "average=0.6", "regularize.l2=0.001"]])
def test_a_trial_leaves_no_trace(tmp_path: Path, tried: Any, words: list[str]) -> None:
    tried(wins=False)
    after = fitted(tmp_path / "auto", *words)
    assert not held(tmp_path / "auto")["chosen"] and held(tmp_path / "auto")["xla"] > 0
    assert same(after, fitted(tmp_path / "without", *words, "fit.jit=false"))
    assert not (tmp_path / "without" / xla.FILE).exists()


@pytest.mark.e2e
def test_what_was_chosen_is_what_fit_jit_asks_for_and_is_kept_by_a_run_that_goes_on(
    tmp_path: Path, tried: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tfapp.errors import Preempted

    tried(wins=True)
    words = ["flip=false", "fit.gather=step"]
    chosen = fitted(tmp_path / "auto", *words)
    assert held(tmp_path / "auto")["chosen"]
    assert same(chosen, fitted(tmp_path / "with", *words, "fit.jit=true"))
    assert not same(chosen, fitted(tmp_path / "without", *words, "fit.jit=false"))
    with monkeypatch.context() as patched, pytest.raises(Preempted):
        fitted(tmp_path / "stopped", *words, stop_at=5, monkeypatch=patched)
    # It would choose otherwise now.
    tried(wins=False)
    assert same(chosen, fitted(tmp_path / "stopped", *words))


@pytest.mark.e2e
def test_a_trial_that_ended_its_process_is_not_tried_again(tmp_path: Path, tried: Any, monkeypatch: Any) -> None:
    tried(wins=True)

    def killed(*_: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(xla, "_tried", killed)
        fitted(tmp_path / "run")
    fitted(tmp_path / "run")
    assert held(tmp_path / "run") == {"chosen": False, "why": "its trial was cut short"}


@pytest.mark.e2e
def test_a_short_training_tries_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xla, "_convolves", lambda model: False)
    fitted(tmp_path / "run")
    assert held(tmp_path / "run")["why"] == "too short a training to try" and "compiled" not in held(tmp_path / "run")


@pytest.mark.moderate
def test_it_is_out_of_the_question_where_it_is_refused_or_known_to_lose() -> None:
    whys = [
        xla.out_of_question(made(*words))
        for words in ([], ["runtime.deterministic=true"], ["private=3"], ["fit.jit=false"])
    ]
    assert whys[0] == whys[3] == "convolutions are faster by oneDNN" and whys[1] == "runtime.deterministic"
    assert whys[2] is not None and whys[2].startswith("private steps")
    several = made(machine=Machine(ONE.strategy, 2))
    assert xla.out_of_question(several) == "on one device alone it is tried"


@pytest.mark.moderate
def test_layers_in_layers_that_convolve_are_found() -> None:
    inner = keras.Sequential([keras.layers.SeparableConv1D(2, 3)])
    assert xla._convolves(keras.Sequential([keras.Sequential([inner])]))
    assert not xla._convolves(keras.Sequential([keras.layers.Dense(2), keras.layers.LSTM(2)]))


@pytest.mark.moderate
def test_what_xla_cannot_compile_is_trained_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xla, "SHARE", float("inf"))

    class ByPython(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return tf.ensure_shape(tf.py_function(lambda y: y * 2, [x], tf.float32), x.shape)

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1), ByPython()])
    model.compile("sgd", "mse", steps_per_execution=2)
    data = tf.data.Dataset.from_tensors((tf.ones([4, 3]), tf.ones([4, 1]))).repeat()
    found = xla._tried(model, data, 10**6)
    assert not found["chosen"] and found["why"] == "XLA cannot compile this step" and not model.jit_compile
    assert np.isfinite(model.fit(data, steps_per_epoch=2, verbose=0).history["loss"]).all()


def test_xla_s_loops_are_as_wide_as_its_products_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for before, after in [("", xla.WIDTH), ("--xla_dump_to=there", f"{xla.WIDTH} --xla_dump_to=there")]:
        monkeypatch.setenv("XLA_FLAGS", before)
        xla.widen()
        xla.widen()
        assert os.environ["XLA_FLAGS"] == after
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_prefer_vector_width=128")
    xla.widen()
    assert "512" not in os.environ["XLA_FLAGS"]
