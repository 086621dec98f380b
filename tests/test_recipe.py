from __future__ import annotations

from pathlib import Path

import pytest

from tfapp import recipe as recipes
from tfapp.cli.main import main
from tfapp.errors import Failed, Missing, Usage

SMALL = (Path(__file__).parent / "fixtures" / "small.py").read_text()


def loaded(path: Path, text: str):
    path.write_text(text)
    return recipes.load(recipes.find(str(path)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (\n", ":1 cannot be loaded: SyntaxError"),
        ("\n\n1 / 0\n", ":3 cannot be loaded: ZeroDivisionError: division by zero"),
        ("import no_such_package\n", ":1 cannot be loaded: ModuleNotFoundError"),
        ("x = '\0'\n", "cannot be loaded: SyntaxError"),
        ("raise SystemExit(0)\n", "cannot be loaded: SystemExit"),
    ],
)
def test_a_file_that_does_not_run_is_told_with_its_line(tmp_path, text, said, capsys):
    (tmp_path / "mine.py").write_text(text)
    assert main(["train", str(tmp_path / "mine.py")]) == 1
    first, *more = capsys.readouterr().err.splitlines()
    assert said in first and not more


def test_a_file_without_the_parts_of_a_recipe_names_them(tmp_path):
    with pytest.raises(Usage, match="does not define Config, data, model, training"):
        loaded(tmp_path / "mine.py", "")


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
        loaded(tmp_path / "mine.py", f"from tfapp.recipe import Settings\n{config}{parts}")


def test_an_error_in_its_code_is_told_with_its_line_and_other_errors_are_not(tmp_path):
    module = loaded(tmp_path / "mine.py", SMALL.replace("def data(config):", "def data(config):\n    {}['x']"))
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
    module = loaded(tmp_path / "mine.py", text)
    with pytest.raises(AttributeError), recipes.at_work(module):
        module.data(module.Config())


def test_of_an_error_that_goes_on_for_a_page_the_gist_is_told(tmp_path):
    module = loaded(tmp_path / "mine.py", SMALL)
    with pytest.raises(Failed, match="mine.py:5 failed: ValueError: shapes differ\n"), recipes.at_work(module):
        raise ValueError(f'in user code:\n\n    File "{module.__file__}", line 5, in f\n        x\n\n    shapes differ')
