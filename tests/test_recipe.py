from __future__ import annotations

from pathlib import Path

import pytest

from tfapp import recipe as recipes
from tfapp.errors import Usage


def test_a_folder_of_one_s_own_is_looked_through_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text('"""Mine."""\n')
    (tmp_path / "_not_one.py").write_text("")
    with pytest.raises(Usage):
        recipes.find("mine")
    monkeypatch.setenv("TFAPP_RECIPES", str(tmp_path))
    assert recipes.find("mine").path == tmp_path / "mine.py"
    assert "_not_one" not in {recipe.word for recipe in recipes.listed()}


def test_tfapp_s_own_recipes_keep_their_names_and_no_folder_is_no_trouble(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "digits.py").write_text('"""Not the real one."""\n')
    monkeypatch.setenv("TFAPP_RECIPES", str(tmp_path))
    assert recipes.find("digits").path != tmp_path / "digits.py"
    monkeypatch.setenv("TFAPP_RECIPES", str(tmp_path / "nowhere"))
    assert recipes.find("digits").word == "digits"
