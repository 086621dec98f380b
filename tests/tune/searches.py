"""Searches of the tests' small recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfapp.cli import asking
from tfapp.tune import search, space
from tfapp.tune.search import Search

SMALL = str(Path(__file__).parent.parent / "fixtures" / "small.py")


def asked(words: list[str], recipe: str = SMALL, **how: Any) -> Search:
    """What `tfapp tune` makes of these words."""
    params, plain = space.parse(words)
    found, module, own, layers = asking.layers([recipe, *plain], [], None, None)
    return search.ask(found, module, [own, *layers], params, **how)
