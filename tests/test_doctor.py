from __future__ import annotations

import errno
import sys
import tempfile
from pathlib import Path

import pytest

from tfapp import doctor, environment
from tfapp.doctor import Check

VERSIONS = dict.fromkeys(
    [*environment.NEEDED, "keras", *(n for names in environment.EXTRAS.values() for n in names)], "1.0"
)
VERSIONS |= {"tensorflow": "2.21.0", "tf_keras": "2.21.0", "keras": "3.12.0", "numpy": "1.26.4"}
MACHINE = {"cpu": "a cpu", "cpu_features": ["avx"], "cores": 2, "usable_cores": 2.0, "memory": 8 * 2**30}
TRIAL = {
    "import_seconds": 5.0,
    "first_step_seconds": 1.0,
    "examples_per_second": 5000,
    "accuracy": 0.93,
    "bytecode": True,
}


def states(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.state for check in checks}


def test_the_verdict_is_the_worst_state() -> None:
    ok, warning, broken = (Check("x", state, "") for state in ("ok", "warning", "broken"))
    assert doctor.verdict([ok]) == "ok"
    assert doctor.verdict([ok, warning]) == "warning"
    assert doctor.verdict([warning, broken, ok]) == "broken"


def test_whole_packages_are_well() -> None:
    assert set(states(doctor.packages(VERSIONS)).values()) == {"ok"}


def test_tf_keras_of_another_tensorflow_is_broken() -> None:
    assert states(doctor.packages(VERSIONS | {"tf_keras": "2.20.1"}))["TensorFlow"] == "broken"


def test_no_tensorflow_is_broken() -> None:
    checks = doctor.packages(VERSIONS | {"tensorflow": None, "tf_keras": None})
    assert states(checks)["TensorFlow"] == "broken"
    assert all(check.advice for check in checks if check.state == "broken")


def test_a_missing_extra_is_no_fault_and_says_what_brings_it() -> None:
    extra = next(c for c in doctor.packages(VERSIONS | {"keras-tuner": None}) if c.name == "extra tune")
    assert extra.state == "ok"
    assert "tfapp[tune]" in extra.advice


def test_numpy_2_is_broken() -> None:
    assert states(doctor.packages(VERSIONS | {"numpy": "2.1.0"}))["NumPy"] == "broken"


def test_another_python_is_broken() -> None:
    assert doctor.python("3.11.9", "p").state == "ok"
    assert doctor.python("3.12.1", "p").state == "broken"


def test_a_processor_without_avx_is_broken() -> None:
    assert doctor.cpu(MACHINE).state == "ok"
    assert doctor.cpu(MACHINE | {"cpu_features": ["fma"]}).state == "broken"
    assert doctor.cpu(MACHINE | {"cpu_features": []}).state == "ok"  # unknown, as on macOS


def test_a_folder_that_is_yet_to_be_made_is_judged_by_its_parent(tmp_path: Path) -> None:
    assert doctor.disk("runs", tmp_path / "not" / "yet", "").state == "ok"
    assert not (tmp_path / "not").exists()


def test_a_folder_that_cannot_be_written_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    check = doctor.disk("runs", tmp_path, "elsewhere")
    assert (check.state, check.advice) == ("broken", "elsewhere")
    assert "Read-only file system" in check.found


@pytest.mark.parametrize(
    ("features", "devices", "advised"),
    [
        (["avx"], [], "float32"),
        (["avx512_bf16"], [], "bfloat16"),
        (["avx"], [{"kind": "GPU", "compute_capability": "8.0"}], "bfloat16"),
        (["avx512_bf16"], [{"kind": "GPU", "compute_capability": "7.5"}], "float16"),
        (["avx512_bf16"], [{"kind": "GPU", "compute_capability": "6.1"}], "float32"),
        (["avx"], [{"kind": "TPU", "compute_capability": None}], "bfloat16"),
    ],
)
def test_the_precision_advised_is_one_that_the_hardware_has(features, devices, advised) -> None:
    check = doctor.precision(MACHINE | {"cpu_features": features}, {"accelerators": devices})
    assert check.found.split()[0].rstrip(":") == advised


def test_a_wrong_cluster_is_broken_and_none_is_well() -> None:
    assert doctor.cluster(None).state == "ok"
    assert doctor.cluster(environment.tf_config({"TF_CONFIG": "{"})).state == "broken"


def test_a_fit_that_did_not_learn_is_broken() -> None:
    assert doctor.fit(TRIAL).state == "ok"
    assert doctor.fit(TRIAL | {"accuracy": 0.1}).state == "broken"
    assert doctor.fit(TRIAL | {"accuracy": float("nan")}).state == "broken"


def test_a_slow_import_names_the_missing_bytecode() -> None:
    slow = TRIAL | {"import_seconds": 20.0}
    assert "busy" in doctor.fit(slow).advice
    assert "compileall -q /site" in doctor.fit(slow | {"bytecode": False, "folder": "/site"}).advice


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL"),
        ("import no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_a_crash_of_the_fit_is_a_finding(script, error, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{script}"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    trial = doctor.try_fit()
    assert error in trial["error"]
    assert trial["advice"]
    assert doctor.fit(trial).state == "broken"


def test_a_package_that_is_installed_and_does_not_import_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brittle.py").write_text("raise ImportError('first line\\nnumpy.core.multiarray failed to import')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(environment, "version", lambda package: None if package == "absent" else "1.0")
    found = doctor.not_imported(["json", "absent", "brittle"])
    assert found == {"brittle": "numpy.core.multiarray failed to import"}
    check = doctor.imports({"not_imported": found})
    assert check.state == "broken"
    assert "brittle: numpy.core.multiarray" in check.found
    assert doctor.imports({"not_imported": {}}).state == "ok"
