from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tfapp.errors import Missing, Usage
from tfapp.launch import places, share, signs
from tfapp.launch.places import Place, Ssh


def test_a_host_that_is_named_twice_gets_two_workers() -> None:
    assert places.on_hosts(["a", "me@b", "a"]) == (Place("a", 0, 2), Place("me@b", 0, 1), Place("a", 1, 2))
    assert Place("me@b", 0, 1).name == "b"


def test_a_hostfile_names_hosts_slots_and_comments(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("# ours\na slots=2\n\nb  # old\n")
    assert [place.host for place in places.from_hostfile(tmp_path / "hosts")] == ["a", "a", "b"]
    (tmp_path / "hosts").write_text("a slots=x\n")
    with pytest.raises(Usage, match="a line is a host"):
        places.from_hostfile(tmp_path / "hosts")


@pytest.mark.moderate
def test_ports_are_distinct_and_below_the_system_s_own() -> None:
    found = places.ports(places.here(50))
    assert len(set(found)) == 50 and all(20000 <= port < 32000 for port in found)
    assert places.ports(places.on_hosts(["a", "b", "a"]), 2222) == [2222, 2222, 2223]


def test_every_word_reaches_a_host_s_shell_unchanged(tmp_path: Path, monkeypatch) -> None:
    words = ["train", "it's.py", 'a="b c"', "$HOME", "x;y", "", "ü"]
    monkeypatch.setenv("TFAPP_FIT__EPOCHS", "2 && false")
    monkeypatch.setattr(places, "remote", sys.modules[__name__])
    line = places.over_ssh(words, {"TF_CONFIG": '{"a": "b"}'}, Ssh(python="printf '%s\\n'", folder=tmp_path))
    shown = "import os, sys; print(repr((os.getcwd(), sys.argv[3:], os.environ['TFAPP_FIT__EPOCHS'], os.environ['TF_CONFIG'])))"
    line = line.replace(shlex.quote("printf '%s\\n'"), f"{shlex.quote(sys.executable)} -c {shlex.quote(shown)}")
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr((os.path.realpath(tmp_path), words, "2 && false", '{"a": "b"}'))


def test_cores_are_shared_out_without_a_rest() -> None:
    assert [share.portion(range(5), number, 2) for number in range(2)] == [[0, 1], [2, 3, 4]]
    assert [share.portion([0, 1], number, 3) for number in range(3)] == [[0], [1], [0]]


def test_gpus_are_shared_out_and_too_few_are_refused(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    share.check(4)
    share.take("1/2")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "6,7"
    with pytest.raises(Missing, match="3 workers on this machine, but it has 2 GPUs"):
        share.take("0/3")


def test_the_devices_of_nvidia_s_driver_are_counted(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert share.gpus(tmp_path) == ["0", "1"]


def test_signs_are_taken_out_of_what_a_person_sees() -> None:
    assert signs.read('half a line\x1e{"step": 3}') == ("half a line", {"step": 3})
    assert signs.read("a plain line") == ("a plain line", {})
    assert signs.read("\x1ebroken") == ("", {})


def test_beside_servers_the_workers_alone_share_the_machine_out() -> None:
    found = places.around_servers(2, 1)
    assert found == (Place(None, 0, 1, False), Place(None, 0, 2), Place(None, 1, 2), Place(None, 0, 1, False))
    assert len(set(places.ports(found))) == 4
