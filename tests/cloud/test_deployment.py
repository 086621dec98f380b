"""Whole stories against a cloud of one machine: real processes, real shells, a `gcloud` that costs nothing."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cloud import fakes
from tfapp.cli.main import main
from tfapp.cloud import deployment

GPU = ["--gpu", "nvidia-l4", "--zone", "us-central1-a"]
TPU = ["--tpu", "v5litepod-8", "--zone", "us-west4-a", "--spot"]
TRAIN = ["cloud", "train", "digits", "fit.epochs=2", *GPU, "--poll", "0.1"]

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cloud"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{fakes.install(folder)}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_CLOUD", str(folder))
    return folder


def verbs(folder: Path) -> list[str]:
    """The calls of gcloud that change something."""
    changing = {"create", "delete", "start"}
    return [
        next(word for word in words if word in changing)
        for words in fakes.calls(folder, "gcloud")
        if changing & {*words}
    ]


def test_a_run_is_trained_there_and_comes_back_and_nothing_is_left(cloud, runs_root, capsys) -> None:
    assert main(TRAIN) == 0
    assert verbs(cloud) == ["create", "delete"]
    assert (runs_root / "digits" / "plan.yaml").exists()
    assert not (cloud / "machine").exists() and deployment.every() == []
    assert "tfapp-digits is deleted" in capsys.readouterr().err


@pytest.mark.parametrize(
    "where", [GPU, [*GPU, "--spot", "--iap", "--project", "p"], TPU, [*TPU, "--bucket", "gs://b/runs"]]
)
def test_a_dry_run_prints_exactly_what_runs_and_runs_nothing(cloud, capsys, where) -> None:
    words = ["cloud", "train", "digits", "fit.epochs=2", *where, "--poll", "0.1"]
    assert main([*words, "--dry-run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert fakes.calls(cloud) == [] and deployment.every() == []
    (cloud / "states").write_text("exited 0")
    assert main(words) == 0
    pipelines = [part for line in printed for part in split(shlex.split(line))]
    assert sorted(pipelines) == sorted(top(cloud))


def split(words: list[str]) -> list[list[str]]:
    """The programs of a printed pipeline, but for those that are real in the test."""
    text = "\0".join(words).split("\0|\0")
    programs = [part.split("\0") for part in text]
    return [program for program in programs if program[0] in ("gcloud", "docker")]


def top(folder: Path) -> list[list[str]]:
    """What was called from here: Docker's other calls were made «on the machine», by a shell."""
    mine = [["docker", "image", "inspect"], ["docker", "save"]]
    found = fakes.calls(folder)
    here = [words for words in found if words[0] == "gcloud" and words[1] != "storage"]
    here += [words for words in found if any(words[: len(own)] == own for own in mine)][::1]
    # The machine's own look at its image is one of them.
    inspected = [words for words in here if words[:3] == mine[0]]
    if inspected:
        here.remove(inspected[-1])
    return here


def test_words_of_the_user_reach_the_training_as_they_are(cloud, tmp_path) -> None:
    recipe = tmp_path / "mine.py"
    recipe.write_text((Path(__file__).parents[2] / "recipes" / "tabular.py").read_text())
    nasty = 'data=it\'s $(touch /tmp/tfapp-was-here); `id` "x" *.csv'
    assert main(["cloud", "train", str(recipe), nasty, *GPU, "--poll", "0.1"]) == 0
    run = next(words for words in fakes.calls(cloud, "docker") if words[1] == "run")
    assert run[run.index("train") :] == ["train", "/recipes/mine.py", nasty, "--run", "/runs/mine"]
    assert (cloud / "home" / "tfapp" / "mine-0" / "recipes" / "mine.py").read_text() == recipe.read_text()
    assert not Path("/tmp/tfapp-was-here").exists()


def test_secrets_are_on_no_command_line_and_in_no_run(cloud, tmp_path, runs_root) -> None:
    (tmp_path / "env").write_text("API_TOKEN=hush-1234\n")
    assert main([*TRAIN, "--env-file", str(tmp_path / "env"), "--keep"]) == 0
    assert "hush-1234" not in (cloud / "calls").read_text()
    kept = cloud / "home" / "tfapp" / "digits-0" / "env"
    assert kept.read_text() == "API_TOKEN=hush-1234\n" and kept.stat().st_mode & 0o077 == 0
    assert not [path for path in runs_root.rglob("*") if path.is_file() and "hush" in path.read_text()]


def test_a_training_that_fails_ends_in_its_code_and_the_machine_is_deleted(cloud, capsys) -> None:
    (cloud / "states").write_text("exited 4")
    assert main(TRAIN) == 4
    assert verbs(cloud)[-1] == "delete" and not (cloud / "machine").exists()
    assert "the training ended with 4" in capsys.readouterr().err


def test_without_docker_there_the_machine_is_deleted_too(cloud, capsys) -> None:
    (cloud / "nodocker").write_text("1")
    assert main(TRAIN) == 5
    assert "Docker cannot be used on tfapp-digits" in capsys.readouterr().err
    assert verbs(cloud) == ["create", "delete"]


def test_keep_leaves_the_machine_and_says_so_and_down_ends_it(cloud, capsys) -> None:
    assert main([*TRAIN, "--keep", "--hourly", "2"]) == 0
    told = capsys.readouterr().err
    assert "STILL THERE: tfapp-digits (g2-standard-4) in us-central1-a" in told
    assert "48.00 for each day more" in told
    assert "gcloud compute instances delete tfapp-digits --zone=us-central1-a --quiet" in told
    assert main(["cloud", "status", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert (row["machine"], row["state"], row["training"]) == ("tfapp-digits", "RUNNING", "exited (0)")
    assert main(["cloud", "fetch", "digits"]) == 0
    assert main(["cloud", "down", "digits"]) == 0
    assert not (cloud / "machine").exists() and deployment.every() == []


def test_up_then_train_uses_the_machine_that_is_there(cloud) -> None:
    assert main(["cloud", "up", "big", *GPU]) == 0
    assert main(["cloud", "train", "digits", "--name", "big", "--poll", "0.1"]) == 0
    assert verbs(cloud) == ["create", "delete"]


@pytest.mark.slow
def test_a_machine_that_cannot_be_deleted_is_told_with_its_price_and_the_command(cloud, capsys) -> None:
    (cloud / "undeletable").write_text("1")
    assert main(TRAIN) == 1
    told = capsys.readouterr().err
    assert "could not be deleted" in told and "STILL THERE: tfapp-digits" in told and "price: https://" in told
    assert "delete it: gcloud compute instances delete tfapp-digits" in told
    (cloud / "undeletable").unlink()
    assert main(["cloud", "down", "digits"]) == 0
    assert not (cloud / "machine").exists()


@pytest.mark.parametrize(
    ("refusal", "advice"),
    [
        ("ERROR: (gcloud) Quota 'NVIDIA_L4_GPUS' exceeded. Limit: 0.0 in region us-central1.", "ask for more quota"),
        ("ERROR: (gcloud) The zone does not have enough resources available", "another --zone"),
    ],
)
def test_no_quota_and_no_capacity_are_told_and_leave_nothing(cloud, capsys, refusal, advice) -> None:
    (cloud / "refuse").write_text(refusal)
    assert main(TRAIN) == 5
    told = capsys.readouterr().err
    assert refusal in told and advice in told and "nothing was left behind" in told
    assert deployment.every() == []


def test_a_machine_that_is_somebody_else_s_is_left_alone(cloud, capsys) -> None:
    (cloud / "machine").write_text("RUNNING")
    assert main(TRAIN) == 2
    assert "not made from here" in capsys.readouterr().err
    assert verbs(cloud) == []


def test_without_gcloud_it_says_where_to_get_it(cloud, capsys, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(TRAIN) == 5
    assert "gcloud is not on the PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["digits", "fit.epoch=2", *GPU], 2, "fit.epochs"),
        (["digits"], 2, "--gpu TYPE"),
        (["digits", "--gpu", "nvidia-l4"], 5, "--zone"),
        (["digits", "--tpu", "v5litepod-256", "--zone", "z"], 3, "use --tpu v5litepod-8"),
        (["digits", "--tpu", "v9-8", "--zone", "z"], 2, "is no TPU type"),
        (["digits", "--gpu", "nvidia-l4:3", "--zone", "z"], 2, "1, 2, 4, 8"),
        (["digits", "--host", "-oProxyCommand=x"], 2, "is no machine"),
        (["digits", "--host", "a", "--spot"], 2, "--spot and --host"),
        (["digits", *GPU, "--name", "Big One"], 2, "small letters"),
    ],
)
def test_bad_words_are_told_before_anything_is_made(cloud, capsys, words, code, said) -> None:
    assert main(["cloud", "train", *words]) == code
    assert said in capsys.readouterr().err
    assert fakes.calls(cloud) == []


def test_a_spot_machine_that_was_taken_away_is_started_again_and_the_run_goes_on(cloud, capsys) -> None:
    (cloud / "states").write_text("running 0\ntaken away\nrunning 0\nexited 0")
    assert main([*TRAIN, "--spot"]) == 0
    assert verbs(cloud) == ["create", "start", "delete"]
    # Docker itself starts the container with the machine.
    assert [words[1] for words in fakes.calls(cloud, "docker")].count("run") == 1
    assert "was taken away (TERMINATED); starting it again" in capsys.readouterr().err


@pytest.mark.slow
def test_a_spot_tpu_is_made_again_and_gets_its_run_back(cloud, runs_root) -> None:
    (cloud / "preempted").write_text("PREEMPTED")
    (cloud / "states").write_text("taken away\nexited 0")
    (runs_root / "digits").mkdir(parents=True)
    (runs_root / "digits" / "plan.yaml").write_text("recipe: digits\n")
    assert main(["cloud", "train", "digits", *TPU, "--poll", "0.1"]) == 0
    assert verbs(cloud) == ["create", "delete", "create", "delete"]
    started = [words for words in fakes.calls(cloud, "docker") if words[1] == "run"]
    assert len(started) == 2 and started[0][-3] == "runtime.strategy=tpu" and "--privileged" in started[0]


@pytest.mark.slow
def test_a_run_that_cannot_be_brought_back_is_kept_on_the_disk_alone(cloud, capsys) -> None:
    (cloud / "unfetchable").write_text("1")
    assert main(TRAIN) == 1
    deleted = [words for words in fakes.calls(cloud, "gcloud") if "delete" in words]
    assert "--keep-disks=boot" in deleted[0]
    told = capsys.readouterr().err
    assert "gcloud compute disks delete tfapp-digits --zone=us-central1-a" in told


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_ends_the_training_brings_the_run_back_and_deletes_the_machine(cloud, runs_root, number, code) -> None:
    (cloud / "states").write_text("running 0")
    process = subprocess.Popen([sys.executable, "-m", "tfapp", *TRAIN], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not (cloud / "states").read_text() == "running 0" or ["container"] not in [
        w[1:2] for w in fakes.calls(cloud)
    ]:
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code, told
    assert (cloud / "stopped").exists() and (runs_root / "digits" / "plan.yaml").exists()
    assert verbs(cloud) == ["create", "delete"]


def test_a_run_that_is_finished_here_is_not_sent(cloud, runs_root, capsys) -> None:
    (runs_root / "digits").mkdir(parents=True)
    (runs_root / "digits" / "run.json").write_text('{"status": "finished"}')
    assert main(TRAIN) == 2
    assert "finished already" in capsys.readouterr().err and fakes.calls(cloud) == []


@pytest.mark.slow
def test_ctrl_c_while_google_makes_the_machine_waits_for_it_and_deletes_it(cloud) -> None:
    (cloud / "slow").write_text("3")
    process = subprocess.Popen([sys.executable, "-m", "tfapp", *TRAIN], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while "create" not in verbs(cloud):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert verbs(cloud) == ["create", "delete"] and not (cloud / "machine").exists()
    assert deployment.every() == []


def test_a_name_that_is_another_machine_s_is_not_given_away(cloud, capsys) -> None:
    assert main(["cloud", "up", "digits", *GPU]) == 0
    assert main(["cloud", "train", "digits", "--gpu", "nvidia-l4", "--zone", "europe-west4-a"]) == 2
    assert "take it down first" in capsys.readouterr().err
    assert verbs(cloud) == ["create"]
    assert main([*TRAIN]) == 0
    assert verbs(cloud) == ["create", "delete"]
