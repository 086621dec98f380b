"""tfapp new: a recipe of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from tfapp import recipe as recipes
from tfapp.errors import Usage


@click.command()
@click.argument("name")
@click.option("--like", default="digits", show_default=True, metavar="RECIPE", help="The recipe to copy.")
def command(name: str, like: str) -> None:
    """Write a working copy of a recipe to NAME.py in this folder, to change.

    \b
      tfapp new mine --like digits
      tfapp train ./mine.py
    """
    path = Path(name if name.endswith(".py") else f"{name}.py")
    if not path.stem.isidentifier():
        raise Usage(f"{path.stem!r} cannot name a recipe: it becomes a Python module\nuse letters, digits and _")
    written = recipes.write_copy(recipes.find(like), path)
    word = written if written.is_absolute() else f"./{written}"
    click.echo(f"wrote {written}, a copy of {like}\ntrain it: tfapp train {word}")
