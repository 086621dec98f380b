"""Whole runs of a tiny recipe, through the same doors that the command line uses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tfapp import environment, verify
from tfapp.cli import asking
from tfapp.cli.main import main

SMALL = str(Path(__file__).parent / "fixtures" / "small.py")
EVERYTHING = [
    "average.momentum=0.6",
    "regularize.l2=0.001",
    "regularize.label_smoothing=0.1",
    "fit.class_weight=balanced",
    "fit.patience=3",
    "fit.schedule=plateau",
    "fit.schedule.patience=1",
    "fit.epochs=4",
]

PRESSED = ["average=0.6", "prune=0.6", "prune.end=0.3", "cluster=8", "cluster.begin=0.4"]

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run of the small recipe."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert main(["train", SMALL, "--run", str(folder)]) == 0
    return folder


def fitted(folder: Path, *words: str, stop_at: int | None = None, monkeypatch=None, recipe: str = SMALL, say=print):
    """Fit without report: (weights, history), or the exception that stopped it at a step."""
    from tfapp import features, run, train
    from tfapp import job as jobs

    found, module, plan, _ = asking.ask([recipe, *words], [], None, None)
    opened = run.begin(folder, plan, found.digest)
    with plan.runtime.enter() as machine:
        data = module.data(plan.config)
        with machine.strategy.scope():
            job = features.apply(plan, jobs.of(plan, module, data, machine, folder))
        if stop_at is not None:
            real = train.StopOnSignal._stop_if_asked

            def stop(self):
                if self._checkpoint.step >= stop_at:
                    self._came = signal.SIGTERM
                real(self)

            monkeypatch.setattr(train.StopOnSignal, "_stop_if_asked", stop)
        trained = train.fit(job, opened, say)
    history = [{key: value for key, value in row.items() if key != "seconds"} for row in trained.history]
    return trained.model.get_weights(), history


def test_a_run_directory_holds_what_it_promises(finished: Path) -> None:
    promised = (
        "plan.yaml run.json environment.json data.json metrics.csv dropped.csv model.keras report.json report.html"
    )
    for name in [
        *promised.split(),
        "model/saved_model.pb",
        "tensorboard/train",
        "logs/worker-0.log",
        "predictions.npz",
    ]:
        assert (finished / name).exists(), name
    assert json.loads((finished / "run.json").read_text())["status"] == "finished"
    report = json.loads((finished / "report.json").read_text())
    assert report["evaluation"]["n"] == 18 and report["evaluation"]["part"] == "test"
    assert not [path for path in finished.rglob("*") if path.name.endswith((".part", ".old"))]


def test_the_same_command_on_a_finished_run_trains_nothing_anew(finished: Path, capsys) -> None:
    before = (finished / "model.keras").stat().st_mtime_ns
    assert main(["train", SMALL, "--run", str(finished)]) == 0
    assert "finished" in capsys.readouterr().err
    assert (finished / "model.keras").stat().st_mtime_ns == before


def test_another_plan_in_the_same_folder_is_refused_with_the_difference(finished: Path, capsys) -> None:
    assert main(["train", SMALL, "fit.epochs=7", "--run", str(finished)]) == 2
    assert "fit.epochs: 3 → 7" in capsys.readouterr().err


def test_a_saved_plan_reproduces_the_run_to_the_bit(finished: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert main(["train", "-c", str(finished / "plan.yaml"), "--run", str(again)]) == 0
    first, second = np.load(finished / "predictions.npz"), np.load(again / "predictions.npz")
    assert np.array_equal(first["outputs"], second["outputs"])


def test_fresh_sets_the_old_run_aside_and_deletes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert main(["train", SMALL, "--steps", "2", "--run", str(folder)]) == 0
    assert main(["train", SMALL, "--steps", "3", "--run", str(folder), "--fresh"]) == 0
    assert (tmp_path / "run.old-1" / "report.html").exists() and (folder / "report.html").exists()


def test_a_gate_that_is_missed_ends_in_4(finished: Path) -> None:
    assert main(["train", SMALL, "--run", str(finished), "--gate", "accuracy>=1.01"]) == 4
    assert main(["train", SMALL, "--run", str(finished), "--gate", "log_loss<100"]) == 0
    assert main(["train", SMALL, "--run", str(finished), "--gate", "acuracy>0"]) == 2


def test_evaluating_again_gives_the_same_scores(finished: Path, capsys) -> None:
    before = json.loads((finished / "report.json").read_text())["evaluation"]["scores"]
    assert main(["evaluate", str(finished), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == before


@pytest.mark.parametrize("kind", ["savedmodel", "keras", "tflite"])
def test_an_export_gives_the_run_s_own_outputs(finished: Path, tmp_path: Path, kind: str, capsys) -> None:
    words = ["export", str(finished), "--format", kind, "--output", str(tmp_path / f"m.{kind}"), "--no-measure"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["max_difference"] < 1e-5
    assert main(words) == 2


def test_predicting_an_array_gives_a_row_an_example(finished: Path, tmp_path: Path, capsys) -> None:
    np.save(tmp_path / "new.npy", np.zeros((2, 6, 6, 1), np.float32))
    assert main(["predict", str(finished), str(tmp_path / "new.npy")]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "name,label,p(one),p(two),p(three)" and len(rows) == 2
    assert sum(map(float, rows[0].split(",")[2:])) == pytest.approx(1, abs=1e-5)


def test_a_run_that_is_not_finished_has_no_model(tmp_path: Path, capsys) -> None:
    (tmp_path / "plan.yaml").write_text("recipe: digits\n")
    assert main(["predict", str(tmp_path), "x.npy"]) == 5
    assert "not finished" in capsys.readouterr().err


def test_comparing_a_run_with_another_says_what_changed(finished: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "other"
    assert main(["train", SMALL, "flip=false", "--run", str(other)]) == 0
    capsys.readouterr()
    assert main(["compare", str(finished), str(other), "--json", "--html", str(tmp_path / "c.html")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["changes"]["other"] == ["config.flip: True → False"] and result["pairs"][0]["n"] == 18
    assert (tmp_path / "c.html").read_text().startswith("<!DOCTYPE html>")


def test_validate_describes_and_trains_nothing(runs_root: Path, capsys) -> None:
    assert main(["validate", SMALL, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["batch"]["per_replica"] == 16 and found["model"]["parameters"] == 251
    assert not runs_root.exists()


@pytest.mark.parametrize(
    "words",
    [
        [],
        EVERYTHING,
        pytest.param(PRESSED, marks=pytest.mark.slow),
        pytest.param(["quantize=true"], marks=pytest.mark.slow),
    ],
    ids=["plain", "with everything", "pressed", "rounded"],
)
@pytest.mark.parametrize("stop_at", [2, 4, 6])
def test_a_training_stopped_and_gone_on_with_is_the_same_to_the_bit(tmp_path, monkeypatch, words, stop_at) -> None:
    from tfapp.errors import Preempted

    words = ["fit.steps_per_execution=1", *words]
    whole = fitted(tmp_path / "whole", *words)
    with monkeypatch.context() as patch, pytest.raises(Preempted, match=f"step {stop_at}"):
        fitted(tmp_path / "cut", *words, stop_at=stop_at, monkeypatch=patch)
    resumed = fitted(tmp_path / "cut", *words)
    assert all(np.array_equal(a, b) for a, b in zip(whole[0], resumed[0], strict=True))
    assert whole[1] == resumed[1]


@pytest.mark.parametrize(
    "words",
    [
        ["fit.steps=5", "fit.checkpoint.every_steps=1"],
        ["fit.epochs=20", "fit.patience=1", "fit.min_delta=0.5", "fit.checkpoint.every_epochs=1", "average=0.6"],
    ],
    ids=["inside an epoch", "by early stopping"],
)
def test_a_training_that_was_killed_after_its_last_checkpoint_ends_as_if_nothing_had_been(
    tmp_path, monkeypatch, words
) -> None:
    from tfapp import train, verify

    def fit_but_not_mark(self, complete=False, real=train.Checkpoint.save):
        if complete:
            self.wait()
            raise KeyboardInterrupt
        real(self)

    words = ["fit.steps_per_execution=1", *words]
    whole = fitted(tmp_path / "whole", *words)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train.Checkpoint, "save", fit_but_not_mark)
        fitted(tmp_path / "cut", *words)
    resumed = fitted(tmp_path / "cut", *words)
    assert all(np.array_equal(a, b) for a, b in zip(whole[0], resumed[0], strict=True)) and whole[1] == resumed[1]
    assert verify.differences(tmp_path / "whole", tmp_path / "cut") == []


def test_results_do_not_depend_on_the_steps_per_execution(tmp_path) -> None:
    one = fitted(tmp_path / "one", "fit.steps_per_execution=1")
    many = fitted(tmp_path / "many", "fit.steps_per_execution=4")
    assert all(np.array_equal(a, b) for a, b in zip(one[0], many[0], strict=True)) and one[1] == many[1]


def test_steps_end_the_run_after_exactly_that_many(tmp_path) -> None:
    fitted(tmp_path / "run", "fit.steps=5", "fit.epochs=9")
    assert (tmp_path / "run" / "checkpoints" / "ckpt-5.index").exists()


def test_a_nan_stops_the_training_and_names_the_example(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "run"
    assert (
        main(["train", SMALL, "bad_row=0", "config.split.validation=0", "config.split.test=0", "--run", str(folder)])
        == 1
    )
    told = capsys.readouterr().err
    assert "the loss became nan in epoch 1" in told and "hold NaN or infinity" in told
    assert json.loads((folder / "diverged.json").read_text())["examples_with_nan_or_inf"]
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"


def test_half_precision_trains_with_the_softmax_in_float32(tmp_path: Path) -> None:
    import tensorflow as tf

    from tfapp import export

    for precision, *words in (["bfloat16"], ["float16", "batch_norm=false", "fit.accumulate=2"]):
        folder = tmp_path / precision
        assert main(["train", SMALL, f"runtime.precision={precision}", *words, "--run", str(folder)]) == 0
        model = export.load_keras(folder / "model.keras")
        assert model.output.dtype == tf.float32
        assert {weight.dtype for weight in model.trainable_weights} == {tf.float32}


def test_sigterm_writes_a_checkpoint_and_ends_in_143_and_the_same_command_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [sys.executable, "-m", "tfapp", "train", SMALL, "fit.epochs=2000", "fit.steps=4000", "--run", str(folder)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (folder / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 143, told
    assert "the same command goes on from there" in told
    assert list((folder / "checkpoints").glob("ckpt-*.index"))
    assert json.loads((folder / "run.json").read_text())["status"] == "stopped"
    rows = len((folder / "metrics.csv").read_text().splitlines())
    assert main(words[3:]) == 0
    assert len((folder / "metrics.csv").read_text().splitlines()) > rows


def test_sigterm_while_the_report_is_made_leaves_the_rest_to_the_same_command(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [sys.executable, "-m", "tfapp", "train", SMALL, "--run", str(folder)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while not (folder / "model" / "saved_model.pb").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 143, told
    assert json.loads((folder / "run.json").read_text())["status"] == "stopped"
    assert main(words[3:]) == 0
    assert json.loads((folder / "report.json").read_text())["evaluation"]["n"] == 18


def cluster_of(count: int, words: list[str]) -> list[subprocess.Popen[str]]:
    """The processes of a MultiWorkerMirrored job on loopback."""
    import socket
    from contextlib import ExitStack

    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        cluster = {"worker": [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tfapp", *words],
            env={**os.environ, "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})},
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]


@pytest.mark.parametrize(
    "words",
    [
        [],
        pytest.param(PRESSED, marks=pytest.mark.slow),
        pytest.param(["quantize=true"], marks=pytest.mark.slow),
    ],
    ids=["plain", "pressed", "rounded"],
)
def test_two_workers_train_what_one_does(tmp_path: Path, words: list[str]) -> None:
    """Real processes under MultiWorkerMirroredStrategy on loopback."""
    workers = cluster_of(2, ["train", SMALL, *words, "--run", str(tmp_path / "two")])
    told = [worker.communicate(timeout=200)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], told
    assert main(["train", SMALL, *words, "--run", str(tmp_path / "one")]) == 0
    one, two = (np.load(tmp_path / name / "predictions.npz")["outputs"] for name in ("one", "two"))
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.slow
def test_an_automatic_batch_size_is_found_once_and_is_the_run_s_from_then_on(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "auto"
    words = ["train", SMALL, "fit.batch_size=auto"]
    assert main([*words, "--run", str(folder), "--steps", "2"]) == 0
    told = capsys.readouterr().err
    found = json.loads((folder / "batch_size.json").read_text())
    assert f"fit.batch_size={found['chosen']}: " in told
    assert ("learning rate is left as it is" in told) == (found["chosen"] != 16)
    assert f"batch_size: {found['chosen']}\n" in (folder / "plan.yaml").read_text()
    # What the report tells of is what was trained.
    assert json.loads((folder / "report.json").read_text())["plan"]["fit"]["batch_size"] == found["chosen"]
    assert main([*words, "--run", str(folder), "--steps", "2"]) == 0
    assert "has this run finished" in capsys.readouterr().err
    # A run that was cut off goes on with its answer, measured or not.
    begun = tmp_path / "begun"
    (begun / "logs").mkdir(parents=True)
    for name in ("plan.yaml", "run.json", "batch_size.json"):
        (begun / name).write_bytes((folder / name).read_bytes())
    (begun / "run.json").write_text((begun / "run.json").read_text().replace("finished", "stopped"))
    (begun / "batch_size.json").write_text(json.dumps({**found, "chosen": 24}))
    assert main([*words, "--run", str(begun), "--steps", "2"]) == 0
    assert "fit.batch_size=24, as measured when this run began" in capsys.readouterr().err
    # The saved plan alone is enough, and measures nothing anew.
    again = tmp_path / "again"
    assert main(["train", "-c", str(folder / "plan.yaml"), "--run", str(again)]) == 0
    assert not (again / "batch_size.json").exists()
    first, second = (np.load(run / "predictions.npz")["outputs"] for run in (folder, again))
    assert np.array_equal(first, second)


@pytest.mark.slow
def test_without_room_for_any_batch_a_training_ends_in_5_and_may_try_again(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(environment, "free_memory", lambda: 2**27)
    assert main(["train", SMALL, "fit.batch_size=auto", "--run", str(tmp_path / "run")]) == 5
    assert "alone do not fit in 107 MB of memory" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    assert "batch_size: auto\n" in (tmp_path / "run" / "plan.yaml").read_text()


@pytest.mark.slow
def test_two_workers_take_the_chief_s_batch_size(tmp_path: Path) -> None:
    folder = tmp_path / "two"
    # Not by the clock: workers whose clocks differ would not save at the same step.
    words = ["fit.batch_size=auto", "fit.checkpoint.every_epochs=1"]
    workers = cluster_of(2, ["train", SMALL, *words, "--run", str(folder)])
    told = [worker.communicate(timeout=400)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], told
    found = json.loads((folder / "batch_size.json").read_text())
    assert found["workers"] == 2 and found["chosen"] in {2 * row["batch"] for row in found["measured"]}
    # The first one speaks for all.
    assert f"global batch {found['chosen']} (2 replicas × {found['chosen'] // 2})" in told[0]


def test_a_training_begins_without_what_only_its_report_needs() -> None:
    program = "import sys, tfapp.train; assert not {'matplotlib', 'sklearn', 'jinja2'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_no_automatic_setting_changes_a_bit_in_deterministic_mode(tmp_path: Path) -> None:
    """But for fit.fused, which is automatic where an optimizer allows it, and says that it rounds otherwise."""
    by_hand = ["", "fit.jit=false", "fit.gather=queue", "fit.gather=step", "fit.steps_per_execution=1"]
    runs = [str(tmp_path / str(number)) for number in range(len(by_hand))]
    words = ["runtime.deterministic=true", "flip=false"]
    commands = [
        ["train", SMALL, *words, *([word] if word else []), "--run", run]
        for word, run in zip(by_hand, runs, strict=True)
    ]
    # In a process of its own: what it sets in TensorFlow stays set.
    program = f"from tfapp.cli.main import main; assert not any(main(words) for words in {commands!r})"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert [verify.differences(tmp_path / "0", Path(run)) for run in runs[1:]] == [[]] * (len(runs) - 1)
    # The comparison sees what it should: another seed differs.
    assert main(["train", SMALL, *words[1:], "runtime.seed=1", "--run", str(tmp_path / "other")]) == 0
    assert verify.differences(tmp_path / "0", tmp_path / "other")
