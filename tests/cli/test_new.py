from __future__ import annotations

from pathlib import Path

import pytest

from tfapp.cli.main import main


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_copy_is_a_recipe_that_says_how_to_train_it(capsys):
    assert main(["new", "mine", "--like", "digits"]) == 0
    assert capsys.readouterr().out == "wrote mine.py, a copy of digits\ntrain it: tfapp train ./mine.py\n"
    assert "Run:    tfapp train ./mine.py\n" in Path("mine.py").read_text()
    assert main(["train", "./mine.py", "--dry-run"]) == 0


def test_a_copy_of_a_copy_names_itself():
    assert main(["new", "mine"]) == 0 and main(["new", "next", "--like", "./mine.py"]) == 0
    assert "Run:    tfapp train ./next.py\n" in Path("next.py").read_text()


def test_the_command_to_train_it_is_right_wherever_it_is(tmp_path, capsys):
    assert main(["new", str(tmp_path / "mine")]) == 0
    assert f"tfapp train {tmp_path}/mine.py\n" in capsys.readouterr().out


def test_a_file_that_is_there_is_left_as_it_is(capsys):
    Path("mine.py").write_text("mine")
    assert main(["new", "mine"]) == 2
    assert "exists already" in capsys.readouterr().err and Path("mine.py").read_text() == "mine"


@pytest.mark.parametrize("folder", ["nowhere", "file"])
def test_a_folder_that_is_none_is_named(folder, capsys):
    Path("file").touch()
    assert main(["new", f"{folder}/mine"]) == 5
    assert capsys.readouterr().err == f"error: no folder {folder} to write mine.py into\nmake it: mkdir -p '{folder}'\n"
