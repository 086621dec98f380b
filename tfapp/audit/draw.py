"""Which rows an audit is about, and which of them a training of its sees: all of it functions of a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tfapp import tasks
from tfapp.data.examples import Data, Examples
from tfapp.errors import Refused

# What is drawn by one seed must not hang together.
_POOL, _SHADOW, _CANARY, _LIE, _COIN = range(5)


@dataclass(frozen=True)
class Pool:
    """The rows that are guessed about: as many members as others, so that guessing blindly is right half of the time.

    Attributes:
      members: rows of the training part, int64 [m], ascending. others: rows of the test part, int64 [m], ascending.
    """

    members: np.ndarray
    others: np.ndarray

    def __len__(self) -> int:
        return len(self.members)


def pool(data: Data, seed: int, seen: np.ndarray | None = None) -> Pool:
    """As many rows of both parts as the smaller one has, drawn at random.

    Args:
      seen: rows of the training part that the run was trained on; None: all.

    Raises:
      Refused: there is no test part.
    """
    if not len(data.test):
        raise Refused(
            "there is no test part, and so no row that is known not to have been trained on\n"
            "train with one: split.test=0.2, or whatever gives your recipe's data one"
        )
    rows = np.arange(len(data.train)) if seen is None else seen
    size = min(len(rows), len(data.test))
    random = _random(seed, _POOL)
    return Pool(np.sort(random.permutation(rows)[:size]), np.sort(random.permutation(len(data.test))[:size]))


def examples(data: Data, pool: Pool) -> Examples:
    """The pool's members, and after them the others."""
    return joined(data.train.take(pool.members), data.test.take(pool.others))


def inside(size: int, number: int, seed: int) -> np.ndarray:
    """Which of `size` audited rows, an even number, a shadow run is trained on: half of them, bool [size].

    Of 2k and 2k + 1 one has what the other has not, so that each row is in as many shadows as not.
    """
    half = np.zeros(size, bool)
    half[_random(seed, _SHADOW, number // 2).permutation(size)[: size // 2]] = True
    return half if number % 2 == 0 else ~half


def shadowed(data: Data, number: int, seed: int) -> Data:
    """The data of a shadow run: half of the pool, and all other training rows; what is left of the pool is its test part.

    Raises:
      Refused: there is no test part.
    """
    chosen = pool(data, seed)
    whole = joined(data.train, data.test)
    audited = np.concatenate([chosen.members, len(data.train) + chosen.others])
    into = inside(len(audited), number, seed)
    rest = np.setdiff1d(np.arange(len(data.train)), chosen.members)
    train = np.sort(np.concatenate([rest, audited[into]]))
    return replace(data, train=whole.take(train), test=whole.take(np.sort(audited[~into])))


@dataclass(frozen=True)
class Canaries:
    """The training rows that are canaries, int64 [m], and whether each counts, bool [m]."""

    rows: np.ndarray
    included: np.ndarray


def canaries(data: Data, count: int, seed: int) -> Canaries:
    """Rows drawn at random, and a fair coin for each.

    Raises:
      Refused: there are not so many training rows.
    """
    n = len(data.train)
    if count > n:
        raise Refused(
            f"{count:,} canaries are more than the {n:,} training rows\ntake fewer: --canaries {n // 10 or n}"
        )
    rows = np.sort(_random(seed, _CANARY).permutation(n)[:count])
    return Canaries(rows, _random(seed, _COIN).random(count) < 0.5)


def with_canaries(data: Data, count: int, seed: int) -> Data:
    """The data with false rows in the place of true ones; those that do not count keep their place, with weight 0.

    So the number of rows, the share of a batch in them and all noise that hangs on it are those of the run that is
    audited, whatever the coins say.

    Raises:
      Refused: there are not so many training rows.
    """
    drawn = canaries(data, count, seed)
    train = tasks.of(data.task).falsified(data.train, drawn.rows, data.outputs, _random(seed, _LIE))
    weights = np.ones(len(train), np.float32) if train.weights is None else train.weights.copy()
    weights[drawn.rows] = drawn.included
    return replace(data, train=replace(train, weights=weights))


def joined(first: Examples, second: Examples) -> Examples:
    """The rows of one part, and after them those of another part of the same data."""
    if isinstance(first.features, Mapping):
        assert isinstance(second.features, Mapping)
        features = {name: np.concatenate([first.features[name], second.features[name]]) for name in first.features}
    else:
        features = np.concatenate([first.features, second.features])  # type: ignore[assignment]
    return Examples(
        features,
        np.concatenate([first.labels, second.labels]),
        np.array([part.name(i) for part in (first, second) for i in range(len(part))], object),
        _weights(first, second),
        first.load,
    )


def _weights(first: Examples, second: Examples) -> np.ndarray | None:
    if first.weights is None and second.weights is None:
        return None
    parts = (first, second)
    return np.concatenate([np.ones(len(p), np.float32) if p.weights is None else p.weights for p in parts])


def _random(*seeds: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seeds))
