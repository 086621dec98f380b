"""The user's own split: which part each example was given to, whatever word says so."""

from __future__ import annotations

import numpy as np

from tfapp.data.examples import Examples, Task
from tfapp.data.lines import Lines
from tfapp.data.splits import leak_notes, split_rest
from tfapp.errors import Missing, Usage, nearest
from tfapp.settings import Split

WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def named(words: np.ndarray, names: np.ndarray | Lines) -> np.ndarray:
    """train, validation or test for each word of a split column; object array of str.

    Raises:
      Usage: a word that names no part, with the example it stands at.
    """
    known = {word: WORDS.get(str(word).strip().lower(), "") for word in set(words)}
    parts = np.array([known[word] for word in words], dtype=object)
    wrong = np.flatnonzero(parts == "")
    if len(wrong):
        word = str(words[wrong[0]])
        raise Usage(f"the split column says {word!r} at {names[wrong[0]]}\n{nearest(word, WORDS)}")
    return parts


def share_out(
    examples: Examples, parts: np.ndarray, settings: Split, task: Task, groups: np.ndarray | None = None
) -> tuple[tuple[Examples, Examples, Examples], tuple[str, ...]]:
    """The three parts, as given where they were given, and notes on examples that two of them share.

    Args:
      parts: train, validation, test, or "" (the user gave it to none: it may be trained on); shape [n].
      groups: ids of examples that stay together when parts are split off the rest; shape [n].
    """
    rest = np.flatnonzero(~np.isin(parts, ["validation", "test"]))
    if not len(rest):
        raise Missing("no example is left to train on: all were given to validation or test")
    validation, test = (np.flatnonzero(parts == part) for part in ("validation", "test"))
    whole = split_rest(
        examples.take(rest),
        settings,
        task,
        None if groups is None else groups[rest],
        validation=examples.take(validation) if len(validation) else None,
        test=examples.take(test) if len(test) else None,
    )
    return whole, leak_notes(*whole) if len(rest) < len(examples) else ()
