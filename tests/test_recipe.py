"""Recipes are found by name, path and entry point, listed without being run, loaded and copied."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tfapp import recipe as recipes
from tfapp.cli.main import main
from tfapp.errors import Failed, Missing, Usage
from tfapp.recipe import Recipe

WHOLE = '''"""A recipe of one's own.

Run:    tfapp train mine
"""
from tfapp.recipe import Settings


class Config(Settings):
    units: int = 3


def data(config): ...
def model(config, inputs, data): ...
def training(config, data): ...
'''


def mine(folder: Path, text: str, name: str = "mine.py") -> Recipe:
    (folder / name).write_text(text)
    return recipes.find(str(folder / name))


# Finding ---------------------------------------------------------------------------------------------------------


def test_every_recipe_of_the_folder_is_listed_in_order_with_a_title() -> None:
    found = recipes.listed()
    names = [recipe.word for recipe in found]
    files = [path.stem for path in (Path(recipes.__file__).parent.parent / "recipes").glob("[!_]*.py")]
    assert names == sorted(files) and "digits" in names
    assert all(recipe.title.endswith(".") and f"tfapp train {recipe.word}" in recipe.about for recipe in found)


def test_a_mistyped_name_gets_the_nearest() -> None:
    with pytest.raises(Usage, match="did you mean 'digits'"):
        recipes.find("digit")


def test_a_recipe_is_found_by_its_path_and_named_by_it_from_wherever(tmp_path: Path, monkeypatch) -> None:
    found = mine(tmp_path, WHOLE)
    assert found.word == str(found.path) == str(tmp_path / "mine.py") and found.title == "A recipe of one's own."
    assert found.digest == hashlib.sha256(WHOLE.encode()).hexdigest()
    monkeypatch.chdir(tmp_path)
    assert recipes.find("mine.py") == recipes.find("./mine.py") == found
    monkeypatch.setenv("HOME", str(tmp_path))
    assert recipes.find("~/mine.py") == found


def test_a_path_without_a_file_is_missing_and_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="tfapp new mine --like digits"):
        recipes.find(str(tmp_path / "mine.py"))
    with pytest.raises(Missing, match="no recipe file"):
        recipes.find(f"{tmp_path}/")


def test_a_file_that_is_no_python_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(Usage, match="a recipe is a Python file"):
        recipes.find(str(tmp_path / "notes.txt"))


def test_a_file_that_cannot_be_read_as_python_is_still_listed(tmp_path: Path) -> None:
    for text in ("def", "x = 1\n", "\0"):
        assert mine(tmp_path, text).title in {"(cannot be read as Python)", ""}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with an installed package that brings recipes by entry points."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    (source / "theirs").mkdir()
    # Whoever runs this package's code is found out.
    (source / "theirs" / "__init__.py").write_text("raise SystemExit('a package was run')\n")
    (source / "theirs" / "good.py").write_text(WHOLE.replace("A recipe of one's own", "Theirs"))
    (source / "theirs" / "another").mkdir()
    (source / "theirs" / "another" / "__init__.py").write_text(WHOLE)
    (source / "lone.py").write_text(WHOLE)
    (source / "setup.cfg").write_text(
        "[metadata]\nname = theirs\nversion = 1\n"
        "[options]\npackages = theirs, theirs.another\npy_modules = lone\n"
        "[options.entry_points]\ntfapp.recipes =\n"
        "  theirs = theirs.good\n  another = theirs.another:ignored\n  lone = lone\n"
        "  gone = theirs.gone\n  nowhere = no_such_package.recipe\n  digits = theirs.good\n"
    )
    script = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=source, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin"}
    )
    # What an installer does with a wheel of plain Python.
    zipfile.ZipFile(source / "dist" / done.stdout.splitlines()[-1]).extractall(target)
    return target


@pytest.mark.e2e
def test_installed_recipes_are_listed_found_and_loaded_and_their_package_is_not_run(installed, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(installed))
    listed = {recipe.word: recipe for recipe in recipes.listed()}
    assert {"theirs", "another", "lone", "digits"} <= set(listed) and not {"gone", "nowhere"} & set(listed)
    assert listed["theirs"].path == installed / "theirs" / "good.py" and listed["theirs"].title == "Theirs."
    assert listed["another"].path == installed / "theirs" / "another" / "__init__.py"
    assert listed["lone"].path == installed / "lone.py"
    assert recipes.load(recipes.find("theirs")).Config().units == 3
    assert "theirs" not in sys.modules


@pytest.mark.e2e
def test_a_recipe_of_tfapp_s_own_is_never_replaced_by_an_installed_one(installed, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(installed))
    assert recipes.find("digits").path.parent.name == "recipes"


# Loading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n\ny = 1 / 0\n", "mine.py:3 cannot be loaded: ZeroDivisionError: division by zero"),
        ("def f():\n    raise KeyError('k')\n\n\nf()\n", "mine.py:2 cannot be loaded: KeyError"),
        ("import no_such_module\n", "mine.py:1 cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\nif x\n", "mine.py:2 cannot be loaded: SyntaxError"),
        ("raise SystemExit(0)\n", "mine.py:1 cannot be loaded: SystemExit: 0"),
        ("import json\n\njson.loads('{')\n", "mine.py:3 cannot be loaded: JSONDecodeError"),
        ("from tfapp.settings import Settings\nclass Config(Settings):\n    n: 'Nothing' = 3\nConfig()\n", "mine.py:4"),
    ],
)  # fmt: skip
def test_a_recipe_that_raises_is_told_with_its_own_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Failed) as caught:
        recipes.load(mine(tmp_path, text))
    assert said in str(caught.value)


def test_a_recipe_without_a_part_of_the_contract_is_told_which(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="does not define model, training\na recipe defines Config"):
        recipes.load(mine(tmp_path, WHOLE.partition("def model")[0]))


def test_a_loaded_recipe_brings_its_defaults_or_none(tmp_path: Path) -> None:
    assert recipes.defaults(recipes.load(mine(tmp_path, WHOLE))) == {}
    text = WHOLE + "\n\ndefaults = {'fit': {'epochs': 2}}\n"
    assert recipes.defaults(recipes.load(mine(tmp_path, text))) == {"fit": {"epochs": 2}}


def test_two_recipes_of_one_file_name_are_not_mixed_up(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
    one = recipes.load(mine(tmp_path / "1", WHOLE))
    two = recipes.load(mine(tmp_path / "2", WHOLE.replace("units: int = 3", "units: int = 4")))
    assert (one.Config().units, two.Config().units) == (3, 4)


SMALL = (Path(__file__).parent / "fixtures" / "small.py").read_text()


def loaded(folder: Path, text: str):
    return recipes.load(mine(folder, text))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("Config = 5", "Config is no Settings"),
        ("class Config: pass", "Config is no Settings"),
        ("class Config(Settings):\n    units: int", "units has no default"),
    ],
)
def test_a_config_that_is_no_settings_is_told(tmp_path, config, said):
    parts = "\ndef data(config): ...\ndef model(config, inputs, data): ...\ndef training(config, data): ...\n"
    with pytest.raises(Usage, match=said):
        loaded(tmp_path, f"from tfapp.recipe import Settings\n{config}{parts}")


def test_an_error_in_its_code_is_told_with_its_line_and_other_errors_are_not(tmp_path):
    module = loaded(tmp_path, SMALL.replace("def data(config):", "def data(config):\n    {}['x']"))
    line = SMALL.splitlines().index("def data(config):") + 2
    with pytest.raises(Failed, match=rf"mine.py:{line} failed: KeyError: 'x'\nsee the way there.*--debug"):
        with recipes.at_work(module):
            module.data(module.Config())
    with pytest.raises(ZeroDivisionError), recipes.at_work(module):
        _ = 1 / 0
    with pytest.raises(Missing, match="ours"), recipes.at_work(module):
        raise Missing("ours")


def test_an_error_of_tfapp_that_a_recipe_called_is_not_the_recipe_s(tmp_path):
    body = "def data(config):\n    return recipes_of_tfapp.find(5)\n    "
    text = SMALL.replace("def data(config):", body).replace(
        "import numpy", "from tfapp import recipe as recipes_of_tfapp\nimport numpy"
    )
    module = loaded(tmp_path, text)
    with pytest.raises(AttributeError), recipes.at_work(module):
        module.data(module.Config())


def test_of_an_error_that_goes_on_for_a_page_the_gist_is_told(tmp_path):
    module = loaded(tmp_path, SMALL)
    with pytest.raises(Failed, match="mine.py:5 failed: ValueError: shapes differ\n"), recipes.at_work(module):
        raise ValueError(f'in user code:\n\n    File "{module.__file__}", line 5, in f\n        x\n\n    shapes differ')


# Copying ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", recipes.listed(), ids=lambda recipe: recipe.word)
def test_a_copy_of_any_recipe_names_itself_and_loads(recipe: Recipe, tmp_path: Path) -> None:
    copy = recipes.find(str(recipes.write_copy(recipe, tmp_path / "my_own.py")))
    assert "tfapp train ./my_own.py" in copy.about and f"tfapp train {recipe.word}" not in copy.about
    assert recipes.load(copy).Config() is not None


def test_a_copy_never_replaces_a_file_and_needs_its_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("precious")
    with pytest.raises(Usage, match="exists already, and is left as it is"):
        recipes.write_copy(recipes.find("digits"), tmp_path / "mine.py")
    assert (tmp_path / "mine.py").read_text() == "precious"
    with pytest.raises(Missing, match="mkdir -p"):
        recipes.write_copy(recipes.find("digits"), tmp_path / "none" / "mine.py")


@pytest.mark.e2e
def test_a_new_recipe_would_train(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "mine", "--like", "digits"]) == 0
    assert "tfapp train ./mine.py" in capsys.readouterr().out
    assert main(["validate", "./mine.py"]) == 0
    assert "the plan is sound" in capsys.readouterr().out
    assert main(["new", "mine"]) == 2
    assert main(["new", "my-own"]) == 2
    assert main(["new", "none/mine"]) == 5


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
