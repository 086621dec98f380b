"""A run directory appears whole, belongs to one plan and one process, and is found again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import Field

from tfapp import plan, run
from tfapp.cli.main import main
from tfapp.data.examples import Data, Dropped, Examples
from tfapp.errors import Interrupted, Missing, Preempted, Usage
from tfapp.run import Run
from tfapp.settings import Settings


class Config(Settings):
    units: int = Field(8, ge=1)


def planned(*words: str) -> plan.Plan:
    return plan.resolve("mine", Config, [("words", plan.from_words(words))])


def begun(folder: Path, *words: str, digest: str = "abc", fresh: bool = False) -> Run:
    return run.begin(folder, planned(*words), digest, fresh)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


# Writing ---------------------------------------------------------------------------------------------------------


def test_a_file_is_there_when_it_is_whole_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    with run.writing(path) as file:
        file.write(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half" and files(tmp_path) == {"file"}


def test_what_fails_in_the_middle_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = run.write_text(tmp_path / "file", "old")
    with pytest.raises(ZeroDivisionError), run.writing(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_text() == "old" and files(tmp_path) == {"file"}


def test_a_folder_replaces_the_one_that_was_there_or_leaves_it(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with run.writing_folder(tmp_path / "model") as aside:
            aside.mkdir()
            (aside / text).write_text(text)
        assert os.listdir(tmp_path) == ["model"] and os.listdir(tmp_path / "model") == [text]
    with pytest.raises(ZeroDivisionError), run.writing_folder(tmp_path / "model") as aside:
        aside.mkdir()
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["model"] and os.listdir(tmp_path / "model") == ["two"]


SCRIPT = """
import os, resource, signal, sys
from pathlib import Path
from tfapp import run
here = Path(sys.argv[1])

resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # The disk is full after that.
try:
    run.write_text(here / "full", "x" * 100_000)
except OSError:
    print("full", flush=True)

with run.held(run.Run(here)):
    print("held", flush=True)
    with run.writing(here / "kept") as file:
        file.write(b"new" * 3000)
        file.flush()
        print("half", flush=True)
        signal.pause()
"""


@pytest.mark.e2e
def test_a_full_disk_and_a_kill_leave_no_half_file_and_no_second_process_comes_in(tmp_path: Path) -> None:
    kept = run.write_text(tmp_path / "kept", "old")
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert [process.stdout.readline().strip() for _ in range(3)] == ["full", "held", "half"]
    assert not (tmp_path / "full").exists()
    with pytest.raises(Usage, match="another process is training in"), run.held(Run(tmp_path)):
        pass
    with pytest.raises(Usage, match="is not empty and is no run"):
        begun(tmp_path, fresh=True)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    assert kept.read_text() == "old"
    assert {name for name in files(tmp_path) if not name.startswith(".")} == {"kept"}
    with run.held(Run(tmp_path)):
        pass  # The kill has freed it.


def test_a_damaged_json_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"half":')
    with pytest.raises(Missing, match="report.json is damaged"):
        Run(tmp_path).read("report.json")
    assert Run(tmp_path).read("data.json") == {}


# Opening ---------------------------------------------------------------------------------------------------------


def test_a_new_run_holds_its_plan_and_when_it_began(tmp_path: Path) -> None:
    opened = begun(tmp_path / "a" / "run", "units=3")
    assert opened.plan() == planned("units=3").model_dump(mode="json")
    facts = opened.read("run.json")
    assert (facts["status"], facts["recipe_sha256"]) == ("new", "abc") and facts["started"].endswith("+00:00")


def test_the_same_plan_goes_on_with_the_run_and_changes_nothing(tmp_path: Path) -> None:
    opened = begun(tmp_path / "run", "units=3")
    opened.note(status="stopped")
    assert begun(tmp_path / "run", "units=3") == opened
    assert opened.status == "stopped"


def test_another_plan_is_refused_with_what_differs_and_the_ways_out(tmp_path: Path) -> None:
    begun(tmp_path / "run")
    with pytest.raises(Usage) as caught:
        begun(tmp_path / "run", "units=3", "fit.epochs=7")
    assert "config.units: 8 → 3; fit.epochs: 10 → 7\n" in str(caught.value) and "--fresh" in str(caught.value)
    many = ["units=3", "fit.epochs=7", "fit.jit=on", "fit.patience=2", "runtime.seed=1"]
    with pytest.raises(Usage, match=" …\n"):
        begun(tmp_path / "run", *many)


def test_a_recipe_that_has_changed_is_refused(tmp_path: Path) -> None:
    begun(tmp_path / "run")
    with pytest.raises(Usage, match="the recipe's file has changed since this run began"):
        begun(tmp_path / "run", digest="another")


def test_a_folder_of_other_things_is_no_run_and_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(Usage, match="is not empty and is no run"):
        begun(tmp_path)
    assert files(tmp_path) == {"thesis.tex"}
    with pytest.raises(Usage, match="is a file, and a run is a folder"):
        begun(tmp_path / "thesis.tex")
    with pytest.raises(Usage, match="is a file, and a run is a folder"):
        begun(tmp_path / "thesis.tex", fresh=True)


def test_an_empty_folder_and_one_with_another_worker_s_half_file_will_do(tmp_path: Path) -> None:
    (tmp_path / ".plan.yaml.77.part").touch()
    assert begun(tmp_path).file("plan.yaml").exists()


def test_fresh_sets_aside_under_a_new_number_and_deletes_nothing(tmp_path: Path, monkeypatch) -> None:
    for number in range(3):
        begun(tmp_path / "run", f"units={number + 1}", fresh=True).write("mark.json", {"number": number})
    marks = {path.parent.name: json.loads(path.read_text())["number"] for path in tmp_path.rglob("mark.json")}
    assert marks == {"run.old-1": 0, "run.old-2": 1, "run": 2}
    monkeypatch.chdir(tmp_path / "run")
    begun(Path("."), fresh=True)
    assert (tmp_path / "run.old-3" / "mark.json").exists()


# How it goes -----------------------------------------------------------------------------------------------------


CHIEF, OTHER = SimpleNamespace(chief=True, worker=0), SimpleNamespace(chief=False, worker=1)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "finished"),
        (Interrupted("i"), "stopped"),
        (Preempted("p"), "stopped"),
        (KeyboardInterrupt(), "stopped"),
        (ValueError("first\nsecond"), "failed"),
    ],
)
def test_how_a_run_went_is_noted(tmp_path: Path, error: BaseException | None, status: str, monkeypatch) -> None:
    monkeypatch.setattr(run.environment, "describe", dict)
    opened = begun(tmp_path)
    try:
        with opened.recorded(CHIEF):
            assert opened.status == "running"
            if error is not None:
                raise error
    except BaseException as raised:
        assert raised is error
    assert opened.status == status
    assert opened.read("run.json").get("reason") == ("first" if status == "failed" else None)
    with run.held(opened):
        pass


def test_a_worker_that_is_not_the_first_notes_nothing(tmp_path: Path) -> None:
    opened = begun(tmp_path)
    with opened.recorded(OTHER):
        assert opened.status == "new"
    assert opened.log(OTHER).name == "worker-1.log"
    assert not (tmp_path / "environment.json").exists()


def test_what_the_data_is_and_what_was_left_out_are_written(tmp_path: Path) -> None:
    part = Examples(np.zeros((2, 3)), np.array([0, 1]))
    dropped = (Dropped('a "b",c.png', "truncated\nfile"),)
    data = Data(part, part, part, "classification", "image", ("x", "ÿ"), "kind", {"height": 3}, dropped)
    Run(tmp_path).describe(data)
    facts = Run(tmp_path).read("data.json")
    assert facts == {
        "task": "classification", "kind": "image", "classes": ["x", "ÿ"], "target": "kind", "reader": {"height": 3}
    }  # fmt: skip
    import csv

    with open(tmp_path / "dropped.csv", newline="") as file:
        assert list(csv.reader(file)) == [["name", "reason"], ['a "b",c.png', "truncated\nfile"]]


def test_an_unfinished_run_says_how_to_go_on(tmp_path: Path) -> None:
    opened = begun(tmp_path)
    with pytest.raises(Missing, match=r"is not finished \(it is new\)(.|\n)*tfapp train -c .*plan.yaml --run"):
        opened.finished()


# Finding ---------------------------------------------------------------------------------------------------------


def test_a_plan_has_one_place_and_another_plan_another(runs_root: Path) -> None:
    own, other = planned(), planned("fit.epochs=3")
    assert run.place(own, own) == runs_root / "mine"
    assert run.place(other, own) == run.place(planned("fit.epochs=3"), own) != run.place(planned("units=3"), own)
    assert run.place(other, own).name.startswith("mine-")
    by_path = own.model_copy(update={"recipe": "/home/me/mine.py"})
    assert run.place(by_path, by_path) == runs_root / "mine"


def test_runs_are_under_the_current_folder_unless_the_environment_says_where(monkeypatch) -> None:
    monkeypatch.delenv("TFAPP_RUNS")
    assert run.root() == Path("runs")
    monkeypatch.setenv("TFAPP_RUNS", "")
    assert run.root() == Path("runs")


def test_a_run_is_found_by_its_folder_and_by_its_name_and_a_mistyped_one_gets_the_nearest(runs_root: Path) -> None:
    with pytest.raises(Missing, match="train one: tfapp train digits"):
        run.find("digits")
    begun(runs_root / "digits-abc")
    assert run.find("digits-abc") == run.find(str(runs_root / "digits-abc"))
    with pytest.raises(Missing, match="did you mean 'digits-abc'"):
        run.find("digit-abc")
    with pytest.raises(Missing, match="is not a run: it has no plan.yaml"):
        Run(runs_root).plan()


def test_all_runs_are_listed_newest_first(runs_root: Path) -> None:
    assert run.every() == []
    for day in (2, 1, 3):
        begun(runs_root / str(day)).note(started=f"2024-01-0{day}T00:00:00+00:00")
    assert [one.folder.name for one in run.every()] == ["3", "2", "1"]


def test_the_time_is_in_utc_whatever_the_zone(monkeypatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        assert run.now().startswith(time.strftime("%Y-%m-%dT%H:", time.gmtime()))
    finally:
        monkeypatch.undo()
        time.tzset()


# Root may write everywhere, so the process gives that right away.
DROP = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]


@pytest.mark.e2e
@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere")
@pytest.mark.parametrize("locked", ["", "checkpoints"])
def test_a_folder_that_may_not_be_written_is_told_before_anything_is_trained(tmp_path: Path, locked) -> None:
    small = str(Path(__file__).parent / "fixtures" / "small.py")
    (tmp_path / "run" / locked).mkdir(parents=True)
    (tmp_path / "run" / locked).chmod(0o555)
    words = [sys.executable, "-m", "tfapp", "train", small, "--run", str(tmp_path / "run")]
    done = subprocess.run(
        [*(DROP if os.geteuid() == 0 else []), *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 5, done.stderr
    told = done.stderr.splitlines()
    assert told[0].startswith(f"error: {tmp_path / 'run' / locked}") and "may not write there" in told[0]
    assert "--run FOLDER" in told[1] and len(told) == 2


@pytest.mark.parametrize("problem", [SystemExit(143), KeyboardInterrupt()])
def test_a_run_that_is_ended_from_outside_is_noted_as_stopped(tmp_path: Path, problem, monkeypatch) -> None:
    from tfapp import environment
    from tfapp.runtime import Machine

    monkeypatch.setattr(environment, "describe", dict)
    with pytest.raises(type(problem)), Run(tmp_path).recorded(Machine(None, 1)):
        raise problem
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "stopped"


# What a disk, a kill or a person can leave ------------------------------------------------------------------------


@pytest.fixture
def opened(runs_root: Path) -> Run:
    return begun(runs_root / "some")


@pytest.mark.parametrize("name", ["run.json", "report.json", "data.json"])
@pytest.mark.parametrize("content", [b"", b'{"status": "fin', b"[1]", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_damaged_file_is_named_with_the_way_to_have_it_anew(opened, name, content):
    opened.file(name).write_bytes(content)
    with pytest.raises(Missing, match=rf"(?s){name} is damaged: .*remove it.*tfapp train -c .*plan.yaml --run"):
        opened.read(name)


@pytest.mark.parametrize("content", [b"", b"fit: [1", b"\xff\xfe\x00", b"- 1", b"fit: {}", b"recipe: 5"])
def test_a_damaged_plan_is_told_and_set_aside_with_fresh(opened, content):
    opened.file("plan.yaml").write_bytes(content)
    with pytest.raises(Missing, match=r"(?s)plan.yaml is damaged.*--run .*some --fresh"):
        begun(opened.folder)
    assert begun(opened.folder, fresh=True).plan()["recipe"] == "mine"
    assert (opened.folder.parent / "some.old-1" / "plan.yaml").read_bytes() == content


def test_one_damaged_run_does_not_hide_the_others(opened, runs_root, capsys):
    begun(runs_root / "other")
    opened.file("run.json").write_text("{")
    assert main(["runs", "--json"]) == 0
    status = {row["run"]: row["status"] for row in json.loads(capsys.readouterr().out)}
    assert status == {"some": "damaged", "other": "new"}


def test_a_finished_run_that_lost_its_model_says_so_and_how_to_have_it_anew(opened):
    opened.note(status="finished")
    for name in ("data.json", "model.keras", "report.json"):
        opened.write(name, {})
    with pytest.raises(Missing, match=r"(?s)has lost its model\ngo on with it: tfapp train -c"):
        opened.finished()
    opened.file("model").mkdir()
    opened.finished()


@pytest.mark.parametrize("way", ["the folder itself", "a folder above it"])
def test_a_run_cannot_be_where_a_file_is(tmp_path, way):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(Usage, match="is a file|cannot make the folder"):
        begun(file if way == "the folder itself" else file / "run")
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
        begun(tmp_path / "photos", fresh=True)
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_fresh_leaves_a_run_alone_while_a_process_is_at_it(opened):
    with run.held(opened), pytest.raises(Usage, match="another process is training"):
        begun(opened.folder, fresh=True)
    assert opened.file("plan.yaml").exists()


def test_what_a_killed_process_left_half_written_is_swept_up_by_the_next(opened):
    kept = ["checkpoints/ckpt-5.index", "checkpoints/best.npz", "model/saved_model.pb", "report.json", ".lock"]
    left = [
        *(".model.99.part/variables/x", ".model.99.old/saved_model.pb", ".model.part.keras", ".report.json.99.part"),
        *("checkpoints/.best.npz.99.part", "checkpoints/ckpt-6_temp/part-0", "checkpoints/ckpt-6.data.tempstate12"),
    ]
    for name in kept + left:
        opened.file(name).parent.mkdir(parents=True, exist_ok=True)
        opened.file(name).touch()
    with opened.recorded(CHIEF):
        pass
    assert all(opened.file(name).exists() for name in kept)
    assert not [name for name in left if opened.file(name).exists()]


def test_an_error_of_the_disk_names_the_file_that_was_to_be_written(tmp_path):
    with pytest.raises(OSError) as caught, run.writing(tmp_path / "metrics.csv") as file:
        raise OSError(28, os.strerror(28))
    assert file.closed and caught.value.filename == str(tmp_path / "metrics.csv")
    assert not list(tmp_path.iterdir())


def test_what_is_written_through_a_file_is_refused_and_leaves_it_as_it_was(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Usage, match="cannot make the folder"):
        run.write_text(tmp_path / "file" / "table.csv", "x")
    assert (tmp_path / "file").read_text() == "mine"
