"""Something else in the place of an object's attributes for a while, past Keras's tracking of what is set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def in_for(thing: Any, **others: Any) -> Iterator[None]:
    """While this holds, the attributes are `others`; then they are as they were, whatever happened."""
    own = vars(thing)
    before = {name: own[name] for name in others if name in own}
    own.update(others)
    try:
        yield
    finally:
        for name in others:
            own.pop(name, None)
        own.update(before)
