"""Whole searches of the small recipe, through the command line."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.tune.searches import SMALL
from tfapp.cli.main import main
from tfapp.tune import workers
from tfapp.tune.workers import Worker

pytestmark = pytest.mark.e2e
RATE = "learning_rate=log:1e-3..1e-1"


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "trials.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def numbers(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", encoding="utf-8", newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def told(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def tuned(folder: Path, *words: str) -> int:
    return main(["tune", SMALL, *words, "--folder", str(folder)])


def test_a_search_leaves_its_trials_its_best_settings_a_finished_run_and_a_page(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "search"
    words = [RATE, "dropout=choice:0.1,0.3", "fit.epochs=2", "--trials", "2", "--objective", "accuracy", "--json"]
    assert tuned(folder, *words) == 0
    found = json.loads(capsys.readouterr().out)
    rows = table(folder)
    assert [row["status"] for row in rows] == ["finished", "finished"]
    best = max(rows, key=lambda row: float(row["val_accuracy"]))
    assert found["best"]["validation"]["val_accuracy"] == float(best["val_accuracy"])
    assert found["test_looks"] == 1 and 0 <= found["best"]["test"]["accuracy"] <= 1
    # A trial is an ordinary run that has not seen the test part; the best one is a finished run.
    trial = folder / best["run"]
    assert (trial / "plan.yaml").exists() and not (trial / "predictions.npz").exists()
    assert not (trial / "report.json").exists()
    assert json.loads((folder / "best" / "report.json").read_text())["evaluation"]["part"] == "test"
    assert yaml.safe_load((folder / "best.yaml").read_text()) == yaml.safe_load(
        (folder / "best" / "plan.yaml").read_text()
    )
    assert numbers(trial) == numbers(folder / "best")
    page = (folder / "report.html").read_text()
    assert "<svg" in page and "http" not in page.replace("http://www.w3.org", "")
    assert list((folder / "hparams").glob("0000/events*"))
    # The same command again does nothing anew.
    before = (folder / "journal.jsonl").read_bytes()
    assert tuned(folder, *words) == 0
    assert (folder / "journal.jsonl").read_bytes() == before


@pytest.mark.slow
def test_a_trial_that_survives_all_halvings_is_the_ordinary_training_of_its_plan(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    assert tuned(folder, RATE, "fit.epochs=4", "fit.schedule=cosine", "--algorithm", "hyperband") == 0
    rows = table(folder)
    survivors = [row for row in rows if row["status"] == "finished" and row["run"] != f"trials/{int(row['trial']):04d}"]
    assert survivors and any(row["status"] == "paused" for row in rows)
    run = folder / survivors[0]["run"]
    assert main(["train", "-c", str(run / "plan.yaml"), "--run", str(tmp_path / "plain")]) == 0
    assert numbers(run) == numbers(tmp_path / "plain")


@pytest.mark.slow
def test_a_search_killed_at_any_moment_ends_in_the_same_trials(tmp_path: Path) -> None:
    words = [RATE, "dropout=float:0..0.5", "fit.epochs=30", "fit.checkpoint.every_epochs=5", "--trials", "4"]
    assert tuned(tmp_path / "whole", *words) == 0
    folder = tmp_path / "cut"
    command = [sys.executable, "-m", "tfapp", "tune", SMALL, *words, "--folder", str(folder)]
    for moment in ("trials/0000/checkpoints/ckpt-*.index", "trials/0002/metrics.csv"):
        process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _wait_for(folder, moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    kept = ["trial", "status", "val_loss", "epochs", "learning_rate", "dropout"]
    assert [{k: row[k] for k in kept} for row in table(folder)] == [
        {k: row[k] for k in kept} for row in table(tmp_path / "whole")
    ]
    for number in range(4):
        run = f"trials/{number:04d}"
        assert numbers(folder / run) == numbers(tmp_path / "whole" / run)


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    command = [sys.executable, "-m", "tfapp", "tune", SMALL, RATE, "fit.epochs=5000", "--folder", str(folder)]
    process = subprocess.Popen(
        command,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background of a shell, it would be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    _wait_for(folder, "trials/0000/metrics.csv")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on" in said
    assert json.loads((folder / "trials/0000/run.json").read_text())["status"] == "stopped"
    assert list((folder / "trials/0000/checkpoints").glob("ckpt-*.index"))
    assert not _workers(process.pid)


@pytest.mark.slow
def test_a_worker_that_dies_costs_no_trial(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    command = [sys.executable, "-m", "tfapp", "tune", SMALL, RATE, "fit.epochs=60", "--trials", "4", "--parallel", "2"]
    process = subprocess.Popen(
        [*command, "--folder", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _wait_for(folder, "trials/0001/metrics.csv")
    os.kill(_workers(process.pid)[0], signal.SIGKILL)
    assert process.wait(timeout=240) == 0
    assert [row["status"] for row in table(folder)] == ["finished"] * 4
    assert "SIGKILL" in (folder / "journal.jsonl").read_text()


@pytest.mark.slow
def test_trials_that_fail_or_diverge_are_told_and_do_not_end_the_search(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        Path(SMALL)
        .read_text()
        .replace(
            "    x = keras.layers.Flatten()(x)",
            "    if config.dropout > 0.4:\n        raise RuntimeError('too much')\n    x = keras.layers.Flatten()(x)",
        )
    )
    folder = tmp_path / "search"
    words = ["dropout=choice:0.1,0.5", "learning_rate=choice:1e-2,1e30", "fit.epochs=3", "batch_norm=false"]
    assert main(["tune", str(own), *words, "--algorithm", "grid", "--folder", str(folder)]) == 0
    ended = {(float(row["dropout"]), float(row["learning_rate"])): row for row in table(folder)}
    assert ended[0.1, 0.01]["status"] == "finished"
    assert ended[0.1, 1e30]["status"] == "diverged"
    assert ended[0.5, 0.01]["status"] == "failed" and "too much" in ended[0.5, 0.01]["reason"]
    journal = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    # Tried once more.
    assert sum("failed" in event for event in journal) == 4


@pytest.mark.slow
def test_an_objective_that_the_run_does_not_produce_is_refused_before_a_trial(tmp_path: Path, capsys) -> None:
    assert tuned(tmp_path / "search", RATE, "--objective", "acuracy") == 2
    assert "did you mean 'accuracy'" in capsys.readouterr().err
    assert not (tmp_path / "search" / "trials").exists()


@pytest.mark.slow
def test_the_same_search_twice_gives_the_same_trials_and_scores(tmp_path: Path) -> None:
    words = [RATE, "dropout=float:0..0.5", "--trials", "4", "--seed", "5", "--folds", "2"]
    for name in ("a", "b"):
        assert tuned(tmp_path / name, *words) == 0
    assert told(table(tmp_path / "a")) == told(table(tmp_path / "b"))
    assert json.loads((tmp_path / "a" / "best" / "report.json").read_text())["plan"]["config"]["split"]["folds"] is None


@pytest.mark.slow
def test_fifty_trials_take_no_more_memory_than_ten(tmp_path: Path) -> None:
    import psutil

    folder = tmp_path / "search"
    command = [
        sys.executable,
        "-m",
        "tfapp",
        "tune",
        SMALL,
        RATE,
        "fit.epochs=1",
        "--trials",
        "50",
        "--algorithm",
        "random",
    ]
    process = subprocess.Popen(
        [*command, "--folder", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    held: dict[int, int] = {}
    while process.poll() is None:
        done = len(list(folder.glob("trials/*/validation.npz")))
        for pid in _workers(process.pid):
            held[done] = psutil.Process(pid).memory_info().rss
        time.sleep(0.2)
    assert process.returncode == 0
    early = max(size for done, size in held.items() if 5 <= done <= 10)
    late = max(size for done, size in held.items() if done >= 45)
    # What TensorFlow's own side keeps, 2 to 4 MB a trial; the process is renewed after fifty.
    assert late < early + 130e6


@pytest.mark.slow
def test_a_host_that_cannot_be_reached_costs_no_trial(tmp_path: Path, capsys) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\n[ $1 = gone ] && { echo "no route to gone" >&2; exit 255; }\nexec sh -c "$2"\n')
    ssh.chmod(0o755)
    words = [RATE, "fit.epochs=2", "--trials", "3", "--ssh", str(ssh)]
    folder = tmp_path / "search"
    assert main(["tune", SMALL, *words, "--hosts", "here,gone", "--folder", str(folder)]) == 0
    assert [row["status"] for row in table(folder)] == ["finished"] * 3
    assert "gone/0 is given up: ssh to gone ended with «no route to gone»" in capsys.readouterr().err
    assert main(["tune", SMALL, *words, "--hosts", "gone", "--folder", str(tmp_path / "other")]) == 1
    assert "ssh to gone ended with «no route to gone»" in capsys.readouterr().err


@pytest.mark.slow
def test_a_process_that_is_renewed_changes_nothing_of_the_results(tmp_path: Path, monkeypatch) -> None:
    words = [RATE, "dropout=float:0..0.5", "fit.epochs=2", "--trials", "5"]
    assert tuned(tmp_path / "one", *words) == 0
    ended: list[int] = []
    gone = Worker.gone

    def noted(self: Worker) -> str:
        assert self._process is not None
        ended.append(self._process.pid)
        return gone(self)

    monkeypatch.setattr(workers, "LIFE", 2)
    monkeypatch.setattr(Worker, "gone", noted)
    assert tuned(tmp_path / "renewed", *words) == 0
    # Of five trials the third and the fifth have new processes.
    assert len(set(ended)) == 3
    assert told(table(tmp_path / "renewed")) == told(table(tmp_path / "one"))
    for number in range(5):
        run = f"trials/{number:04d}"
        assert numbers(tmp_path / "renewed" / run) == numbers(tmp_path / "one" / run)
    assert numbers(tmp_path / "renewed" / "best") == numbers(tmp_path / "one" / "best")


def _wait_for(folder: Path, pattern: str, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not list(folder.glob(pattern)):
        assert time.monotonic() < until, f"no {pattern}"
        time.sleep(0.05)


def _wait_until_gone(pids: list[int]) -> None:
    import psutil

    until = time.monotonic() + 20
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
        assert time.monotonic() < until
        time.sleep(0.1)


def _workers(parent: int, module: str = "tfapp.tune.worker") -> list[int]:
    """The processes that run trials for this one."""
    import psutil

    try:
        children = psutil.Process(parent).children(recursive=True)
        return [child.pid for child in children if module in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.slow
def test_auto_makes_one_model_of_raw_rows_within_its_time(tmp_path: Path, capsys) -> None:
    from sklearn.datasets import load_iris

    source = load_iris(as_frame=True)
    flowers = tmp_path / "flowers.csv"
    source.data.assign(kind=source.target_names[source.target]).to_csv(flowers, index=False)
    folder = tmp_path / "auto"
    words = ["fit.epochs=10", "--budget", "90s", "--folder", str(folder), "--json"]
    assert main(["auto", str(flowers), "--target", "kind", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["part"] == "test" and found["scores"]["accuracy"]["value"] > 0.7
    report = json.loads((folder / "best" / "report.json").read_text())
    assert sum(member["weight"] for member in report["ensemble"]) == pytest.approx(1)
    # The same command again looks at the test part no more, and starts nothing; less time makes no other model.
    before = (folder / "journal.jsonl").read_bytes(), (folder / "best" / "report.json").stat().st_mtime_ns
    assert found["test_looks"] == 1
    for budget in ("90s", "30s"):
        assert main(["auto", str(flowers), "--target", "kind", *words, "--budget", budget]) == 0
        told = capsys.readouterr()
        assert json.loads(told.out) == found and "finished; a larger --budget searches on" in told.err
    assert before == ((folder / "journal.jsonl").read_bytes(), (folder / "best" / "report.json").stat().st_mtime_ns)
    # Killed while it was measured: the same model, and no other look.
    shutil.rmtree(folder / "best")
    assert main(["auto", str(flowers), "--target", "kind", *words]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["accuracy"]["value"] == found["scores"]["accuracy"]["value"]
    assert (folder / "journal.jsonl").read_bytes() == before[0]
    rows = tmp_path / "new.csv"
    source.data.head(3).to_csv(rows, index=False)
    assert main(["predict", str(folder / "best"), str(rows)]) == 0
    assert "setosa" in capsys.readouterr().out


@pytest.mark.slow
def test_a_budget_ends_a_search_in_time_with_the_best_so_far_exported(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    began = time.monotonic()
    assert tuned(folder, RATE, "fit.epochs=100000", "--budget", "60s") == 0
    assert time.monotonic() - began < 75
    assert (folder / "best" / "model").is_dir()
    plan = yaml.safe_load((folder / "best" / "plan.yaml").read_text())
    assert 0 < plan["fit"]["steps"] < 100000
    assert [row["status"] for row in table(folder)] == ["running"]


@pytest.mark.slow
def test_trials_of_two_workers_each_score_as_those_of_one(tmp_path: Path) -> None:
    words = ["digits", RATE, "fit.epochs=2", "--trials", "2"]
    for name, more in (("one", []), ("two", ["--workers", "2"])):
        assert main(["tune", *words, *more, "--folder", str(tmp_path / name)]) == 0
    one, two = table(tmp_path / "one"), table(tmp_path / "two")
    assert [row["learning_rate"] for row in one] == [row["learning_rate"] for row in two]
    assert [float(row["val_loss"]) for row in one] == pytest.approx([float(row["val_loss"]) for row in two], rel=1e-3)
    for run in ("trials/0000", "best"):
        environment = json.loads((tmp_path / "two" / run / "environment.json").read_text())
        assert environment and len(list((tmp_path / "two" / run / "logs").glob("worker-*.log"))) == 2
    assert json.loads((tmp_path / "two" / "best" / "report.json").read_text())["evaluation"]["part"] == "test"
    assert not list((tmp_path / "two" / "logs").glob("*.json"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trial_of_two_workers_goes_on_after_kills_of_the_search_and_of_a_worker(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    words = [RATE, "fit.epochs=40", "fit.checkpoint.every_epochs=3", "--trials", "1", "--workers", "2"]
    command = [sys.executable, "-m", "tfapp", "tune", SMALL, *words, "--folder", str(folder)]
    trial = folder / "trials" / "0000"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _wait_for(trial, "checkpoints/ckpt-*.index", 240)
    trainers = _workers(process.pid, "tfapp.launch.worker")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(trainers) == 2
    _wait_until_gone(trainers)
    before = len(numbers(trial))
    assert 3 <= before < 30
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 240
    while len(numbers(trial)) < before + 4:
        assert time.monotonic() < until
        time.sleep(0.02)
    # All of its workers start again from the checkpoint, and the search knows nothing of it.
    os.kill(_workers(process.pid, "tfapp.launch.worker")[-1], signal.SIGKILL)
    assert process.wait(timeout=400) == 0
    assert "starting again from the last checkpoint" in (folder / "logs" / "worker-0.log").read_text()
    assert "failed" not in (folder / "journal.jsonl").read_text()
    plain = ["-c", str(trial / "plan.yaml"), "--run", str(tmp_path / "plain"), "--workers", "2"]
    subprocess.run([sys.executable, "-m", "tfapp", "train", *plain], check=True, capture_output=True)
    assert numbers(trial) == numbers(tmp_path / "plain")


@pytest.mark.slow
def test_ctrl_c_stops_all_workers_of_a_trial_with_a_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    words = [RATE, "fit.epochs=100000", "--workers", "2", "--folder", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tfapp", "tune", SMALL, *words],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    _wait_for(folder, "trials/0000/metrics.csv", 240)
    trainers = _workers(process.pid, "tfapp.launch.worker")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 130 and "the same command goes on" in said
    assert json.loads((folder / "trials/0000/run.json").read_text())["status"] == "stopped"
    assert list((folder / "trials/0000/checkpoints").glob("ckpt-*.index"))
    assert len(trainers) == 2
    _wait_until_gone(trainers)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_halving_pauses_the_workers_of_a_trial_after_as_many_epochs(tmp_path: Path) -> None:
    words = ["learning_rate=choice:1e-2,2e-2", "fit.epochs=3", "--algorithm", "hyperband", "--trials", "4"]
    for name, more in (("one", []), ("two", ["--workers", "2"])):
        assert tuned(tmp_path / name, *words, *more) == 0
    kept = ["trial", "status", "epochs", "run"]
    one, two = ([{k: row[k] for k in kept} for row in table(tmp_path / name)] for name in ("one", "two"))
    assert one == two and "paused" in {row["status"] for row in two}
