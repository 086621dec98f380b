from __future__ import annotations

import configparser
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tfapp import environment

CHECKOUT = Path(__file__).resolve().parent.parent


def names(requirements: str) -> set[str]:
    return {re.split(r"[<>=~!\[]", line)[0].strip().lower() for line in requirements.split("\n") if line.strip()}


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(CHECKOUT / "setup.cfg")
    return parser


def test_the_packages_it_knows_are_those_of_setup_cfg() -> None:
    cfg = setup_cfg()
    assert {name.lower() for name in environment.NEEDED} == names(cfg["options"]["install_requires"])
    for extra, packages in environment.EXTRAS.items():
        assert set(packages) == names(cfg["options.extras_require"][extra])


def test_what_is_known_without_tensorflow_is_json_and_imports_none() -> None:
    script = (
        "import json, sys; from tfapp import environment as e;"
        "print(json.dumps([e.versions(), e.machine(), e.threads(), e.tf_config(), e.commit()]));"
        "assert 'tensorflow' not in sys.modules and 'numpy' not in sys.modules"
    )
    versions, machine, *_ = json.loads(subprocess.check_output([sys.executable, "-c", script], text=True))
    assert versions["python"].startswith("3.")
    assert 0 < machine["usable_cores"] <= machine["cores"]
    assert 0 < machine["available_memory"] <= machine["memory"]


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert environment.version("tfapp-no-such-package") is None


def test_a_quota_of_the_container_counts_as_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    monkeypatch.setattr(environment, "_cgroups", lambda: [tmp_path])
    assert environment.usable_cores() == 0.5


def test_a_memory_limit_of_the_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text(f"{2**28}\n")
    (tmp_path / "memory.current").write_text(f"{2**27}\n")
    monkeypatch.setattr(environment, "_cgroups", lambda: [tmp_path])
    assert environment.memory() == (2**28, 2**27)


def test_files_that_the_container_has_read_are_memory_that_is_free(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "memory.max").write_text(f"{2**28}\n")
    (tmp_path / "memory.current").write_text(f"{2**27}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\nfile {2**27}\ninactive_file {2**26}\n")
    monkeypatch.setattr(environment, "_cgroups", lambda: [tmp_path])
    assert environment.free_memory() == 2**27 + 2**26


@pytest.mark.moderate
def test_the_peak_of_memory_is_this_process_s_own() -> None:
    # A child that begins with the peak of its parent would report the parent's gigabyte.
    script = "from tfapp import environment as e; b = bytearray(2**26); b[::4096] = b[::4096]; print(e.peak_memory())"
    held = bytearray(2**28)
    held[::4096] = b"1" * len(held[::4096])
    peak = int(subprocess.check_output([sys.executable, "-c", script], text=True))
    assert 2**26 < peak < 2**28 <= environment.peak_memory()


def test_no_limit_leaves_the_machine_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_cgroups", list)
    whole = environment.memory()[0], environment.usable_cores()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    monkeypatch.setattr(environment, "_cgroups", lambda: [tmp_path])
    assert (environment.memory()[0], environment.usable_cores()) == whole


def config(**task: object) -> dict[str, str]:
    cluster = {"worker": ["a:1", "b:1"]}
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0} | task})}


def test_a_valid_cluster_is_described() -> None:
    assert environment.tf_config(config(index=1)) == {"workers": 2, "type": "worker", "index": 1, "problem": None}


def test_no_cluster_is_none() -> None:
    assert environment.tf_config({}) is None
    assert environment.tf_config({"TF_CONFIG": " "}) is None


@pytest.mark.parametrize(("workers", "here"), [(["a:1", "a:2"], 2), (["a:1", "b:1", "a:2"], 2), (["a:1", "b:1"], 1)])
def test_workers_of_one_host_share_its_memory(workers: list[str], here: int) -> None:
    cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": 0}}
    assert environment.workers_here({"TF_CONFIG": json.dumps(cluster)}) == here
    assert environment.workers_here({}) == 1


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"TF_CONFIG": "{"}, "no valid JSON"),
        ({"TF_CONFIG": "[]"}, "right kind"),
        ({"TF_CONFIG": "{}"}, "'cluster' is missing"),
        ({"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}}'}, "'task' is missing"),
        (config(index=2), "has 2 of them"),
        (config(type="chief"), "only worker"),
        (
            {"TF_CONFIG": '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}'},
            "'a' is not host:port",
        ),
        (
            {"TF_CONFIG": '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}'},
            "one address",
        ),
    ],
)
def test_a_wrong_cluster_says_what_is_wrong(environ: dict[str, str], problem: str) -> None:
    described = environment.tf_config(environ)
    assert described is not None
    assert problem in described["problem"]


def test_the_commit_is_that_of_the_checkout() -> None:
    if not (CHECKOUT / ".git").exists():
        pytest.skip("not a git checkout")
    head = subprocess.check_output(["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"], text=True).strip()
    assert (environment.commit() or "").removesuffix("-dirty") == head


def test_outside_of_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_CHECKOUT", tmp_path)
    assert environment.commit() is None


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries give memory back by themselves, or never"
)
def test_freed_memory_is_given_back() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    blocks = [b"x" * 100_000 for _ in range(1000)]
    kept = blocks[-1]  # Above the others: the C library gives back by itself what lies at its end.
    del blocks
    before = resident()
    environment.give_back_memory()
    assert resident() < before - 50_000_000 and len(kept) == 100_000
