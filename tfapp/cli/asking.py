"""From the words of a command line to a checked plan: what `train` and `validate` share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from tfapp import recipe as recipes
from tfapp.errors import Usage
from tfapp.recipe import Recipe

if TYPE_CHECKING:
    from tfapp.plan import Plan

Layer = tuple[str, Mapping[str, Any]]

words = click.argument("words", nargs=-1, metavar="[RECIPE] [KEY=VALUE]...")
files = click.option(
    "-c", "--config", "files", multiple=True, metavar="FILE", help="YAML file of settings; repeatable, last wins."
)
seed = click.option("--seed", type=click.IntRange(0), help="Short for runtime.seed=N.")
steps = click.option("--steps", type=click.IntRange(1), help="Stop after so many steps; short for fit.steps=N.")


def ask(
    words: Sequence[str], files: Sequence[str], seed: int | None, steps: int | None
) -> tuple[Recipe, ModuleType, Plan, Plan]:
    """The recipe, its module, the plan that was asked for, and the recipe's own plan for comparison.

    Raises:
      Usage: no recipe, unknown keys, wrong types. Refused: the settings don't go together.
    """
    from tfapp import conflicts, plan

    recipe, module, own, asked = layers(words, files, seed, steps)
    resolved = plan.resolve(recipe.word, module.Config, [own, *asked])
    conflicts.check(resolved)
    return recipe, module, resolved, plan.resolve(recipe.word, module.Config, [own])


def layers(
    words: Sequence[str], files: Sequence[str], seed: int | None, steps: int | None
) -> tuple[Recipe, ModuleType, Layer, list[Layer]]:
    """The recipe, its module, the layer of its defaults, and those over it in their order: files, environment, words.

    Raises:
      Usage: no recipe, or what cannot be read.
    """
    from tfapp import plan

    named, words = (words[0], words[1:]) if words and "=" not in words[0] else (None, words)
    read = [(path, plan.from_file(path)) for path in files]
    named = named or next((layer["recipe"] for _, layer in reversed(read) if "recipe" in layer), None)
    if not isinstance(named, str):
        raise Usage("which recipe? as tfapp train digits\nlist them: tfapp recipes")
    recipe = recipes.find(named)
    module = recipes.load(recipe)
    own = ("the recipe's defaults", recipes.defaults(module))
    asked: list[Layer] = [
        *read,
        ("environment", plan.from_environment(os.environ)),
        ("command line", plan.from_words(words)),
        ("command line", {"runtime.seed": seed} if seed is not None else {}),
        ("command line", {"fit.steps": steps} if steps is not None else {}),
    ]
    return recipe, module, own, asked


def say(line: str) -> None:
    """Speak to the person at the terminal; standard output is for results."""
    click.echo(line, err=True)
