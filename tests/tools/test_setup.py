"""tools/setup with a stand-in for uv, which makes a venv and notes what it was asked to install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent.parent
UV = """#!/usr/bin/env bash
echo "uv $*" >>"$UV_CALLS"
case "$1 $2" in
  "python find") echo "$REAL_PYTHON" ;;
  "venv --allow-existing")
    mkdir -p "${@: -1}/bin"
    printf '#!/bin/sh\\nexec "%s" "$@"\\n' "$REAL_PYTHON" >"${@: -1}/bin/python"
    chmod +x "${@: -1}/bin/python"
    ;;
  "pip install") sleep "${UV_SECONDS:-0}"; echo "resolved nothing"; exit "${UV_STATUS:-0}" ;;
esac
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the scripts are for bash")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout, with a space in its path, and `uv` on the PATH."""
    root = tmp_path / "a checkout"
    (root / "tools").mkdir(parents=True)
    for name in ("setup.cfg", "setup.py", "tools/setup", "tools/tfapp", "tools/constraints.txt"):
        shutil.copy(CHECKOUT / name, root / name)
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "uv").write_text(UV)
    (binaries / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("REAL_PYTHON", sys.executable)
    monkeypatch.setenv("TFAPP_PYTHON", sys.executable)
    monkeypatch.setenv("UV_CALLS", str(tmp_path / "calls"))
    return root


def start(root: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [root / "tools" / "setup"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        process_group=0,
    )


def setup(root: Path, **environment: str) -> tuple[int, str]:
    process = start(root, **environment)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def installs() -> list[str]:
    calls = Path(os.environ["UV_CALLS"])
    return (
        [line for line in calls.read_text().splitlines() if line.startswith("uv pip install")] if calls.exists() else []
    )


def test_it_installs_the_pins_then_the_checkout_with_bytecode(checkout: Path) -> None:
    status, err = setup(checkout)
    assert status == 0
    assert err.splitlines()[-1].startswith("tools/setup: ready after")
    pins, project = installs()
    assert pins.endswith(f"--compile-bytecode -r {checkout}/tools/constraints.txt")
    assert project.endswith(f"--no-deps --no-build-isolation --editable {checkout}")


def test_a_second_call_does_nothing_and_says_nothing(checkout: Path) -> None:
    setup(checkout)
    assert setup(checkout) == (0, "")
    assert len(installs()) == 2


def test_new_pins_are_installed_into_the_environment_that_is_there(checkout: Path) -> None:
    setup(checkout)
    (checkout / ".venv" / "kept").touch()
    with (checkout / "tools" / "constraints.txt").open("a") as pins:
        pins.write("extra-package==1\n")
    status, err = setup(checkout)
    assert (status, len(installs())) == (0, 4)
    assert "up to date" in err
    assert (checkout / ".venv" / "kept").exists()


def test_a_failure_shows_the_end_of_the_log_and_leaves_nothing_that_counts(checkout: Path) -> None:
    status, err = setup(checkout, UV_STATUS="3")
    assert status == 5
    assert "resolved nothing" in err
    assert len(installs()) == 1, "it must stop at the step that failed"
    assert setup(checkout)[0] == 0
    assert len(installs()) == 3


@pytest.mark.moderate
def test_an_interrupted_set_up_is_begun_anew(checkout: Path) -> None:
    process = start(checkout, UV_SECONDS="60")
    while not installs():
        assert process.poll() is None
    os.killpg(process.pid, 9)
    process.communicate()
    (checkout / ".venv" / "half").touch()
    assert setup(checkout)[0] == 0
    assert not (checkout / ".venv" / "half").exists()


@pytest.mark.moderate
def test_of_two_at_once_one_waits_and_neither_installs_again(checkout: Path) -> None:
    first = start(checkout, UV_SECONDS="1")
    while not installs():
        assert first.poll() is None
    status, err = setup(checkout)
    assert (status, first.wait()) == (0, 0)
    assert "waiting" in err
    assert len(installs()) == 2
    first.communicate()


def test_a_checkout_that_was_moved_is_set_up_again(checkout: Path) -> None:
    setup(checkout)
    moved = checkout.rename(checkout.with_name("moved"))
    assert setup(moved)[0] == 0
    assert len(installs()) == 4


def test_without_python_3_11_it_says_what_to_install(checkout: Path) -> None:
    status, err = setup(checkout, TFAPP_PYTHON="/no/such/python3.11")
    assert status == 5
    assert "Python 3.11 is needed" in err
    assert "uv python install 3.11" in err
    assert not (checkout / ".venv").exists()


def test_an_environment_of_the_user_s_own_is_not_touched(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "mine").touch()
    status, err = setup(checkout)
    assert status == 5
    assert "move it away" in err
    assert [path.name for path in (checkout / ".venv").iterdir()] == ["mine"]


def test_tfapp_runs_where_the_user_is_through_a_link_too(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(checkout / "tools" / "tfapp")
    # A module of the user's that would break every import, were it looked for first.
    (tmp_path / "click.py").write_text("raise SystemExit('the wrong click')")
    done = subprocess.run([tmp_path / "link", "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tfapp ")


def test_every_requirement_has_a_pin_within_its_range() -> None:
    from configparser import ConfigParser

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (CHECKOUT / "tools" / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    cfg = ConfigParser()
    cfg.read(CHECKOUT / "setup.cfg")
    texts = [
        cfg["options"]["install_requires"],
        *(text for key, text in cfg["options.extras_require"].items() if key != "all"),
    ]
    for line in "\n".join(texts).split():
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), line
    assert {"setuptools", "wheel"} <= set(pins)


def test_every_file_of_the_app_that_is_no_module_is_shipped() -> None:
    from configparser import ConfigParser

    cfg = ConfigParser()
    cfg.read(CHECKOUT / "setup.cfg")
    app = CHECKOUT / "tfapp"
    shipped = {path for pattern in cfg["options.package_data"]["tfapp"].split() for path in app.glob(pattern)}
    others = {path for path in app.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others - shipped == set()


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for top in ("tfapp", "recipes") for path in (CHECKOUT / top).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []
