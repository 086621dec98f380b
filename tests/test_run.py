"""Run folders in every state that a disk, a kill or a person can leave them in. Nothing here needs TensorFlow."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tfapp import run as runs
from tfapp.cli.main import main
from tfapp.errors import Missing, Usage
from tfapp.plan import resolve
from tfapp.run import Run
from tfapp.settings import Settings


class Config(Settings):
    units: int = 3


PLAN = resolve("some", Config, [])
DIGEST = "0" * 64


@pytest.fixture
def run(runs_root: Path) -> Run:
    return runs.begin(runs_root / "some", PLAN, DIGEST)


@pytest.mark.parametrize("name", ["run.json", "report.json", "data.json"])
@pytest.mark.parametrize("content", [b"", b'{"status": "fin', b"[1]", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_damaged_file_is_named_with_the_way_to_have_it_anew(run, name, content):
    run.file(name).write_bytes(content)
    with pytest.raises(Missing, match=rf"(?s){name} is damaged: .*remove it.*tfapp train -c .*plan.yaml --run"):
        run.read(name)


@pytest.mark.parametrize("content", [b"", b"fit: [1", b"\xff\xfe\x00", b"- 1", b"fit: {}", b"recipe: 5"])
def test_a_damaged_plan_is_told_and_set_aside_with_fresh(run, content):
    run.file("plan.yaml").write_bytes(content)
    with pytest.raises(Missing, match=r"(?s)plan.yaml is damaged.*--run .*some --fresh"):
        runs.begin(run.folder, PLAN, DIGEST)
    assert runs.begin(run.folder, PLAN, DIGEST, fresh=True).plan()["recipe"] == "some"
    assert (run.folder.parent / "some.old-1" / "plan.yaml").read_bytes() == content


def test_one_damaged_run_does_not_hide_the_others(run, runs_root, capsys):
    runs.begin(runs_root / "other", PLAN, DIGEST)
    run.file("run.json").write_text("{")
    assert main(["runs", "--json"]) == 0
    status = {row["run"]: row["status"] for row in json.loads(capsys.readouterr().out)}
    assert status == {"some": "damaged", "other": "new"}


def test_a_finished_run_that_lost_its_model_says_so_and_how_to_have_it_anew(run):
    run.note(status="finished")
    for name in ("data.json", "model.keras", "report.json"):
        run.write(name, {})
    with pytest.raises(Missing, match=r"(?s)has lost its model\ngo on with it: tfapp train -c"):
        run.finished()
    run.file("model").mkdir()
    run.finished()


@pytest.mark.parametrize("way", ["the folder itself", "a folder above it"])
def test_a_run_cannot_be_where_a_file_is(tmp_path, way):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(Usage, match="is a file|cannot make the folder"):
        runs.begin(file if way == "the folder itself" else file / "run", PLAN, DIGEST)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("words", [["runs"], ["train", "digits"], ["predict", "digits", "x.png"], ["report", "digits"]])
def test_runs_that_should_be_kept_in_a_file_are_refused(tmp_path, words, monkeypatch, capsys):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("TFAPP_RUNS", str(tmp_path / "file"))
    assert main(words) == 2
    assert "is a file, and runs are kept in a folder\n" in capsys.readouterr().err


def test_fresh_sets_only_runs_aside(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(Usage, match="is not empty and is no run"):
        runs.begin(tmp_path / "photos", PLAN, DIGEST, fresh=True)
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_fresh_leaves_a_run_alone_while_a_process_is_at_it(run):
    with runs.held(run), pytest.raises(Usage, match="another process is training"):
        runs.begin(run.folder, PLAN, DIGEST, fresh=True)
    assert run.file("plan.yaml").exists()


def test_what_a_killed_process_left_half_written_is_swept_up_by_the_next(run):
    class Machine:
        chief = True

    kept = ["checkpoints/ckpt-5.index", "checkpoints/best.npz", "model/saved_model.pb", "report.json", ".lock"]
    left = [
        *(".model.99.part/variables/x", ".model.99.old/saved_model.pb", ".model.part.keras", ".report.json.99.part"),
        *("checkpoints/.best.npz.99.part", "checkpoints/ckpt-6_temp/part-0", "checkpoints/ckpt-6.data.tempstate12"),
    ]
    for name in kept + left:
        run.file(name).parent.mkdir(parents=True, exist_ok=True)
        run.file(name).touch()
    with run.recorded(Machine()):
        pass
    assert all(run.file(name).exists() for name in kept)
    assert not [name for name in left if run.file(name).exists()]


def test_an_error_of_the_disk_names_the_file_that_was_to_be_written(tmp_path):
    with pytest.raises(OSError) as caught, runs.writing(tmp_path / "metrics.csv") as file:
        raise OSError(28, os.strerror(28))
    assert file.closed and caught.value.filename == str(tmp_path / "metrics.csv")
    assert not list(tmp_path.iterdir())


def test_what_is_written_through_a_file_is_refused_and_leaves_it_as_it_was(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Usage, match="cannot make the folder"):
        runs.write_text(tmp_path / "file" / "table.csv", "x")
    assert (tmp_path / "file").read_text() == "mine"
