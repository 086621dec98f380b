"""What can be said of the image without an engine; tests/docker builds and runs it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[2]
DEVICES = ("cpu", "gpu", "tpu")

_spec = importlib.util.spec_from_file_location("requirements", CHECKOUT / "tools" / "docker" / "requirements.py")
assert _spec is not None and _spec.loader is not None
requirements = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(requirements)


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", CHECKOUT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_only_what_is_named_goes_into_a_build() -> None:
    lines = [line for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    named = [line.removeprefix("!") for line in lines if line.startswith("!")]
    assert all(list(CHECKOUT.glob(name)) for name in named)
    assert not {"tests", "docs", "runs", ".git"} & set(named)


@pytest.mark.parametrize("device", DEVICES)
def test_every_requirement_of_an_image_has_a_pin_within_its_range(device) -> None:
    pins = {canonicalize_name(name): version for name, version in requirements.pins(device).items()}
    for line in requirements.needs(device):
        asked = Requirement(line)
        assert asked.specifier.contains(pins[canonicalize_name(asked.name)]), line
    assert not {"pytest", "mypy", "ruff"} & {Requirement(line).name for line in requirements.needs(device)}
    assert pins["tensorflow"].split(".")[:2] == pins["tf-keras"].split(".")[:2]


@pytest.mark.parametrize("device", ["cpu", "tpu"])
def test_the_empty_tensorflow_requires_the_build_that_holds_its_modules(device, tmp_path) -> None:
    requirements.main(device, tmp_path)
    wheel = next(tmp_path.glob("*.whl"))
    pins = requirements.pins(device)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert all(".dist-info/" in name for name in names)
    assert f"Requires-Dist: tensorflow-{device}=={pins['tensorflow']}" in metadata
    assert f"tensorflow @ {wheel.as_uri()}" in (tmp_path / "constraints.txt").read_text()


def test_a_device_that_there_is_not_is_refused(tmp_path) -> None:
    script = CHECKOUT / "tools" / "docker" / "requirements.py"
    done = subprocess.run([sys.executable, script, "fpga", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "cpu|gpu|tpu" in done.stderr


def test_the_workers_of_the_compose_file_agree_about_the_cluster() -> None:
    import json

    services = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())["services"]
    configs = [json.loads(services[f"worker-{index}"]["environment"]["TF_CONFIG"]) for index in range(2)]
    assert configs[0]["cluster"] == configs[1]["cluster"] == {"worker": ["worker-0:2222", "worker-1:2222"]}
    assert [config["task"]["index"] for config in configs] == [0, 1]
