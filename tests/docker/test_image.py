"""The image and the compose file for real: `tools/test --docker`. Skipped where no Docker engine answers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud import sshd

CHECKOUT = Path(__file__).resolve().parents[2]
IMAGE = "tfapp:tested"
# Nobody in the image has this number, and nobody owns anything there.
USER = "4321:4321"

pytestmark = [
    pytest.mark.docker,
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not shutil.which("docker")
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0,
        reason="no Docker engine answers (docker info)",
    ),
]


def docker(*words: str, code: int | None = 0, **rest) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False, **rest)
    assert code is None or done.returncode == code, (
        f"{words}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    )
    return done


def build(folder: Path, *words: str) -> str:
    """Build as the README says; the build's own words. The host's network serves engines that have no other."""
    return docker("build", "--progress", "plain", "--network", "host", "-t", IMAGE, *words, str(folder)).stderr


@pytest.fixture(scope="module")
def image() -> str:
    build(CHECKOUT, "--build-arg", "DEVICE=cpu")
    return IMAGE


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "mounted"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    return folder


def ordinary(runs: Path, *options: str, user: str = USER) -> list[str]:
    """`docker run` as an ordinary user on a read-only root."""
    return [
        "run", "--network", "none", "--user", user, "--read-only", "--tmpfs", "/tmp", "-v", f"{runs}:/runs", *options
    ]  # fmt: skip


@pytest.fixture
def container(image: str) -> Iterator[str]:
    name = "tfapp-tested"
    docker("rm", "--force", name, code=None)
    yield name
    docker("rm", "--force", name, code=None)


def wait_until(true, seconds: float = 180) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.2)


def test_the_image_is_as_small_as_it_was_promised_and_runs_as_a_numbered_user(image) -> None:
    facts = json.loads(docker("image", "inspect", image).stdout)[0]
    assert facts["Size"] <= 2.0e9
    config = facts["Config"]
    assert re.fullmatch(r"\d+:\d+", config["User"]) and config["User"][0] != "0"
    assert config["Entrypoint"] == ["tfapp"] and set(config["Volumes"]) == {"/data", "/runs"}
    assert config["Labels"]["org.opencontainers.image.title"] == "tfapp"
    assert "NVIDIA_VISIBLE_DEVICES=all" in config["Env"]


def test_its_own_smoke_test_passes_for_an_ordinary_user_on_a_read_only_root(image, runs) -> None:
    smoke = CHECKOUT / "tools" / "docker" / "smoke.py"
    mounted = ("--rm", "-v", f"{smoke}:/smoke.py:ro", "--entrypoint", "python")
    done = docker(*ordinary(runs, *mounted), image, "/smoke.py")
    assert "ready to train" in done.stdout and "no bytecode" not in done.stdout


def test_an_edit_of_the_source_rebuilds_no_dependency(image, tmp_path) -> None:
    copy = tmp_path / "checkout"
    shutil.copytree(CHECKOUT, copy, ignore=shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "runs"))
    with (copy / "tfapp" / "__main__.py").open("a") as file:
        file.write("# edited\n")
    log = build(copy, "-t", "tfapp:edited")
    step = re.search(r"^(#\d+) .*pip .* install --compile -r requirements.txt", log, re.M)
    assert step and f"{step[1]} CACHED" in log, log[-3000:]


def test_sigterm_half_way_writes_a_checkpoint_and_the_same_command_goes_on(image, runs, container) -> None:
    words = ["train", "digits", "fit.epochs=100", "fit.patience=100"]
    docker(*ordinary(runs, "--name", container, "--detach"), image, *words)

    def half_way() -> bool:
        running = docker("inspect", "--format", "{{.State.Running}}", container).stdout.strip()
        assert running == "true", docker("logs", container).stderr
        found = [*runs.glob("*/metrics.csv")]
        return bool(found) and len(found[0].read_text().splitlines()) > 5

    wait_until(half_way)
    table = next(runs.glob("*/metrics.csv"))
    docker("stop", "--time", "60", container)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", container).stdout.strip() == "143"
    assert "the same command goes on from there" in docker("logs", container).stderr
    half = len(table.read_text().splitlines())
    assert half < 100 and list(table.parent.glob("checkpoints/ckpt-*.index"))
    docker("start", "--attach", container)
    assert "going on with" in docker("logs", container).stderr
    rows = table.read_text().splitlines()
    assert len(rows) == 101 and (table.parent / "report.html").exists()
    assert (table.stat().st_uid, table.stat().st_gid) == (4321, 4321)


@pytest.mark.parametrize("seconds", [0.7, 3.0])
def test_sigterm_while_it_starts_ends_it_at_once(image, runs, container, seconds) -> None:
    """As the first process of its container, where Python by itself would not hear it."""
    docker(*ordinary(runs, "--name", container, "--detach"), image, "train", "digits")
    time.sleep(seconds)
    began = time.monotonic()
    docker("stop", "--time", "60", container)
    assert time.monotonic() - began < 30
    assert docker("inspect", "--format", "{{.State.ExitCode}}", container).stdout.strip() == "143"


def test_a_recipe_mounted_from_outside_trains_by_path_and_by_name(image, runs, tmp_path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text((CHECKOUT / "recipes" / "digits.py").read_text().replace("12, ", "12, "))
    mounted = ("--rm", "-v", f"{mine}:/recipes/mine.py:ro")
    for word in ("/recipes/mine.py", "mine"):
        done = docker(
            *ordinary(runs, *mounted),
            image,
            "train",
            word,
            "fit.epochs=2",
            "--run",
            f"/runs/{Path(word).stem}-{len(word)}",
        )
        assert "unseen examples right" in done.stdout
    assert "mine" in docker(*ordinary(runs, *mounted), image, "recipes").stdout


def test_a_run_folder_of_somebody_else_is_told_in_one_message_before_the_training(image, runs) -> None:
    docker(*ordinary(runs, "--rm"), image, "train", "digits", "fit.epochs=1", "--run", "/runs/theirs")
    for words in (
        ["train", "digits", "fit.epochs=1", "--run", "/runs/theirs"],
        ["export", "/runs/theirs", "--format", "keras"],
    ):
        done = docker(*ordinary(runs, "--rm", user="5678:5678"), image, *words, code=5)
        assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr, done.stderr
        assert "/runs/theirs" in done.stderr


def test_two_workers_of_the_compose_file_end_with_the_same_weights(image) -> None:
    project = "tfapp-tested"
    env = {
        **os.environ,
        "IMAGE": image,
        "RUN": "two",
        "WORDS": "fit.epochs=4 fit.checkpoint.every_epochs=1",
        "COMPOSE_PROJECT_NAME": project,
    }
    env |= {"TENSORBOARD_PORT": str(sshd.free_port())}

    def compose(*words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        return docker("compose", "--file", str(CHECKOUT / "compose.yaml"), *words, code=code, env=env)

    compose("down", "--volumes", code=None)
    try:
        compose("up", "--no-build", "--detach", "worker-0", "worker-1", "tensorboard")
        for worker in ("worker-0", "worker-1"):
            wait_until(lambda worker=worker: compose("ps", "--status", "exited", "--quiet", worker).stdout.strip(), 400)
        told = compose("logs").stdout
        for worker in ("worker-0", "worker-1"):
            number = compose("ps", "--all", "--quiet", worker).stdout.strip()
            assert docker("inspect", "--format", "{{.State.ExitCode}}", number).stdout.strip() == "0", told

        def inside(code: str) -> str:
            return compose("exec", "tensorboard", "python", "-c", code).stdout

        logs = [inside(f"print(open('/runs/two/logs/worker-{i}.log').read())").split() for i in range(2)]
        assert logs[0][-2] == "sha256" and logs[0][-1] == logs[1][-1] and len(logs[0][-1]) == 64
        reading = "import urllib.request as u; print(u.urlopen('http://localhost:6006/data/runs').read().decode())"
        assert "two/tensorboard/train" in inside(reading)
        compose("run", "--rm", "export")
        listed = inside("import os; print(sorted(os.listdir('/runs/serving/two/1')))")
        assert "saved_model.pb" in listed
        assert "tensorflow/serving" in compose("--profile", "serving", "config").stdout
    finally:
        compose("down", "--volumes", "--remove-orphans", code=None)


def test_two_workers_by_ssh_train_one_run_that_comes_back(image, tmp_path, runs_root, capfd) -> None:
    """Real sshd, real containers; both workers are this machine."""
    from tfapp.cli.main import main

    engine = {name: os.environ[name] for name in ("PATH", "DOCKER_HOST") if name in os.environ}
    with sshd.serving(tmp_path / "ssh", engine) as (address, config):
        words = [
            "cloud",
            "train",
            "digits",
            "fit.epochs=4",
            "fit.checkpoint.every_epochs=1",
            "--name",
            "by-ssh",
            "--image",
            image,
            "--poll",
            "2",
        ]
        words += ["--ssh-config", str(config), "--port", str(sshd.free_port() % 30000 + 20000)]
        assert main([*words, "--host", address, "--host", address]) == 0, capfd.readouterr().err
    report = json.loads((runs_root / "by-ssh" / "report.json").read_text())
    assert report["status"] == "finished"
    assert docker("ps", "--all", "--quiet", "--filter", "name=tfapp-by-ssh").stdout == ""
