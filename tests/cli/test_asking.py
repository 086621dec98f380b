"""From the words of a command line to a plan: which layer wins, and what is told when one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfapp.cli import asking
from tfapp.errors import Missing, Refused, Usage


def test_files_then_environment_then_words_then_the_short_options_win(tmp_path: Path, monkeypatch) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("fit: {epochs: 2, batch_size: 2, steps: 2, patience: 2}\nruntime: {seed: 2}\n")
    two.write_text("fit: {batch_size: 3, steps: 3, patience: 3}\nruntime: {seed: 3}\n")
    monkeypatch.setenv("TFAPP_FIT__STEPS", "4")
    monkeypatch.setenv("TFAPP_FIT__PATIENCE", "4")
    recipe, module, plan, own = asking.ask(
        ["digits", "fit.patience=5", "runtime.seed=5", "fit.jit=on"], [str(one), str(two)], 6, None
    )
    fit = plan.fit
    assert (fit.epochs, fit.batch_size, fit.steps, fit.patience, plan.runtime.seed) == (2, 3, 4, 5, 6)
    assert fit.jit is True and recipe.word == plan.recipe == own.recipe == "digits"
    assert module.Config() == own.config and own.fit.patience != 5


def test_the_recipe_may_stand_in_a_file_and_the_last_file_names_it(tmp_path: Path) -> None:
    for name in ("mnist", "digits"):
        (tmp_path / f"{name}.yaml").write_text(f"recipe: {name}\n")
    files = [str(tmp_path / "mnist.yaml"), str(tmp_path / "digits.yaml")]
    assert asking.ask(["fit.epochs=1"], files, None, 9)[2].recipe == "digits"
    assert asking.ask(["mnist"], files, None, None)[2].recipe == "mnist"


@pytest.mark.parametrize("text", ["", "recipe: 3\n", "recipe: null\n", "fit: {epochs: 1}\n"])
def test_no_recipe_at_all_is_asked_for(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(Usage, match="which recipe\\? as tfapp train digits"):
        asking.ask([], [str(tmp_path / "plan.yaml")], None, None)


def test_each_kind_of_mistake_ends_in_its_own_error(tmp_path: Path) -> None:
    for words, files, error in (
        (["digts"], [], Usage),
        (["digits", "fit.epoch=3"], [], Usage),
        (["digits", "more"], [], Usage),
        (["./none.py"], [], Missing),
        (["digits"], [str(tmp_path / "none.yaml")], Missing),
        (["digits", "fit.jit=on", "runtime.deterministic=on"], [], Refused),
    ):
        with pytest.raises(error):
            asking.ask(words, files, None, None)
