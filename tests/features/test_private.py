"""Private training, through the doors that the command line uses."""

from __future__ import annotations

import csv
import json
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.test_train import fitted
from tfapp import features
from tfapp import job as jobs
from tfapp import recipe as recipes
from tfapp.cli import asking
from tfapp.cli.main import main
from tfapp.errors import Interrupted, Preempted, Refused
from tfapp.private import ledger
from tfapp.runtime import Machine

SMALL = str(Path(__file__).parents[1] / "fixtures" / "small.py")
pytestmark = pytest.mark.moderate

PRIVATE = ["private.noise_multiplier=1", "batch_norm=false"]


def job_of(*words: str, module: types.ModuleType | None = None) -> jobs.Job:
    _, small, plan, _ = asking.ask([SMALL, *words], [], None, None)
    module = module or small
    machine = Machine(tf.distribute.get_strategy(), 1)
    return features.apply(plan, jobs.of(plan, module, module.data(plan.config), machine))


def changed(**parts) -> types.ModuleType:
    """The small recipe with other parts."""
    module = recipes.load(recipes.find(SMALL))
    return types.SimpleNamespace(**{**vars(module), **parts})  # type: ignore[return-value]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished private run."""
    folder = tmp_path_factory.mktemp("runs") / "private"
    assert main(["train", SMALL, "private=3", "batch_norm=false", "--run", str(folder)]) == 0
    return folder


def test_a_budget_is_kept_to_and_written_down(finished: Path) -> None:
    held = ledger.read(finished)
    assert held is not None and held.steps == held.planned_steps == 12
    assert 2.9 < held.spent <= 3 and held.delta == 1e-2
    assert held.key == {"source": "operating system"}
    assert (finished / "private.key").stat().st_mode & 0o777 == 0o600


def test_nothing_of_the_training_examples_is_written_without_noise(finished: Path) -> None:
    with open(finished / "metrics.csv") as file:
        assert next(csv.reader(file)) == ["epoch", "val_loss", "val_accuracy", "learning_rate", "seconds"]
    assert " loss " not in (finished / "logs" / "worker-0.log").read_text()
    assert "loss" not in json.loads((finished / "report.json").read_text())["history"][0]


def test_the_key_is_neither_in_the_plan_nor_in_the_report(finished: Path) -> None:
    key = (finished / "private.key").read_text().strip()
    for name in ("plan.yaml", "run.json", "privacy.json", "report.json", "report.html", "environment.json"):
        assert key not in (finished / name).read_text()


def test_another_run_draws_other_noise(finished: Path, tmp_path: Path) -> None:
    words = ["train", SMALL, "private=3", "batch_norm=false", "--run", str(tmp_path / "again")]
    assert main(words) == 0
    one, other = (np.load(folder / "predictions.npz")["outputs"] for folder in (finished, tmp_path / "again"))
    assert not np.allclose(one, other)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["private=0"], 2, "greater than 0"),
        (["private=3", "private.delta=0"], 2, "greater than 0"),
        (["private=3", "private.delta=0.5"], 3, "1 / 54"),
        (["private=3", "fit.batch_size=64"], 3, "fit.batch_size=54"),
        (["private=1e-4", "private.delta=1e-9"], 3, "no noise"),
        (["private=3", "private.noise_multiplier=1"], 3, "give one of them"),
        (["private=3", "private.clip_norm=0"], 2, "above 0"),
        (["private=3", "private.clip_quantile=0.7"], 2, "clip_norm=adaptive"),
        (["private=3", "private.clip_norm=adaptive", "private.count_noise=0.01"], 3, "count"),
        (["private=3", "fit.monitor=loss"], 3, "has no noise"),
        (["private=3", "split.validation=0"], 3, "validation part"),
    ],
)
def test_what_can_not_be_is_refused_before_training(words, code, said, tmp_path, capsys) -> None:
    folder = tmp_path / "run"
    assert main(["train", SMALL, "batch_norm=false", *words, "--run", str(folder)]) == code
    assert said in capsys.readouterr().err
    assert not list(folder.glob("checkpoints/*"))


def test_batch_statistics_are_refused_and_the_way_out_is_one_word(capsys, tmp_path) -> None:
    assert main(["train", SMALL, "private=3", "--run", str(tmp_path / "run")]) == 3
    assert "private.replace_batchnorm=true" in capsys.readouterr().err
    job = job_of("private=3", "private.replace_batchnorm=true")
    assert any("GroupNormalization in the place of batch_normalization" in note for note in job.notes)


def test_preprocessing_that_learns_from_the_rows_is_refused_unless_it_is_said_to_be_public() -> None:
    import tf_keras as keras

    def preprocess(config, data):
        layer = keras.layers.Normalization(axis=None)
        layer.adapt(data.train.features)
        return keras.Sequential([keras.Input((6, 6, 1)), layer])

    learning = changed(preprocess=preprocess)
    with pytest.raises(Refused, match="public_preprocess=true"):
        job_of(*PRIVATE, module=learning)
    job_of(*PRIVATE, "private.public_preprocess=true", module=learning)


def test_a_layer_that_mixes_examples_is_refused_by_name() -> None:
    import tf_keras as keras

    def model(config, inputs, data):
        x = keras.layers.Flatten()(inputs)
        x = keras.layers.Lambda(lambda rows: rows - tf.reduce_mean(rows, 0), name="centred")(x)
        return keras.Model(inputs, keras.layers.Dense(data.outputs)(x))

    with pytest.raises(Refused, match="centred"):
        job_of(*PRIVATE, module=changed(model=model))


@pytest.mark.slow
def test_a_run_that_saw_the_examples_without_privacy_is_no_beginning(finished: Path, tmp_path: Path, capsys) -> None:
    plain = tmp_path / "plain"
    assert main(["train", SMALL, "batch_norm=false", "--run", str(plain)]) == 0
    words = ["train", SMALL, *PRIVATE]
    assert main([*words, f"start={plain}", "--run", str(tmp_path / "one")]) == 3
    assert "without privacy" in capsys.readouterr().err
    assert main([*words, f"start={finished}", "--run", str(tmp_path / "two")]) == 0
    both, first = ledger.read(tmp_path / "two"), ledger.read(finished)
    assert both is not None and first is not None
    assert len(both.parents) == 1 and both.spent > first.spent
    assert main(["train", SMALL, "batch_norm=false", "n=60", "--run", str(tmp_path / "public")]) == 0
    assert main([*words, f"start={tmp_path / 'public'}", "--run", str(tmp_path / "three")]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [["private.clip_norm=adaptive", "average=0.6", "prune=0.5"], ["private.sampling=shuffle", "private.microbatch=3"]],
)
def test_a_stop_and_a_resume_leave_weights_and_ledger_as_if_nothing_had_happened(more, tmp_path, monkeypatch) -> None:
    words = [*PRIVATE, *more, "private.insecure_key=test", "fit.steps_per_execution=1"]
    whole = fitted(tmp_path / "whole", *words)
    with monkeypatch.context() as patch, pytest.raises((Interrupted, Preempted)):
        fitted(tmp_path / "halved", *words, stop_at=5, monkeypatch=patch)
    stopped = ledger.read(tmp_path / "halved")
    # Until a run ends, the ε of all that is planned stands beside the steps taken.
    assert stopped is not None and stopped.steps == 5 and stopped.spent == stopped.planned_epsilon["pld"]
    halved = fitted(tmp_path / "halved", *words)
    assert all(np.array_equal(one, other) for one, other in zip(whole[0], halved[0], strict=True))
    assert whole[1] == halved[1]
    assert ledger.read(tmp_path / "whole") == ledger.read(tmp_path / "halved")
    kept = ledger.read(tmp_path / "whole")
    assert kept is not None and kept.steps == 12 and kept.insecure


@pytest.mark.slow
def test_two_real_workers_train_what_one_does(tmp_path: Path) -> None:
    words = ["train", SMALL, *PRIVATE, "private.insecure_key=test"]
    assert main([*words, "--run", str(tmp_path / "one")]) == 0
    assert main([*words, "--workers", "2", "--run", str(tmp_path / "two")]) == 0
    one, two = (np.load(tmp_path / name / "predictions.npz")["outputs"] for name in ("one", "two"))
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    assert ledger.read(tmp_path / "one") == ledger.read(tmp_path / "two")


@pytest.mark.slow
def test_two_real_workers_share_the_operating_systems_key(tmp_path: Path) -> None:
    assert main(["train", SMALL, *PRIVATE, "--workers", "2", "--run", str(tmp_path / "two")]) == 0
    held = ledger.read(tmp_path / "two")
    assert held is not None and held.steps == 12 and held.key == {"source": "operating system"}
