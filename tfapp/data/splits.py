"""Sharing examples out among training, validation and test so that a score means what it says.

Seeded, stratified by class, and without leaks: examples with equal content, or of the same group (a
patient, a file and its copies), never end in two parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b, sha256

import numpy as np

from tfapp.data.examples import Data, Examples, Task
from tfapp.errors import Usage
from tfapp.settings import Split

Parts = tuple[Examples, Examples, Examples]
TRAIN, VALIDATION, TEST = 0, 1, 2
# Rows hashed at a time: a hash is an object of 41 bytes until it is one of 8.
_PORTION = 65_536


def split(
    examples: Examples,
    settings: Split,
    task: Task,
    groups: np.ndarray | None = None,
    *,
    classes: Sequence[str] = (),
) -> Parts:
    """Training, validation and test, each in the order of `examples`.

    A share above 0 gets at least one example wherever there are enough different ones. A group much larger than the
    smallest part, and a class with too few examples for every part, go to training whole.

    Args:
      examples: to be shared out; equal features stay together.
      settings: the shares of all examples, the seed, and whether each class keeps its share.
      task: regression is never stratified.
      groups: an id for each example, integers or strings, shape [n]; equal ids stay together.
      classes: names of the class numbers, for messages.

    Raises:
      Usage: `stratify` is on and a class has too few examples, or there are no classes.
    """
    if groups is not None and len(groups) != len(examples):
        raise ValueError(f"{len(groups)} groups for {len(examples)} examples")
    part = _draw(_group_numbers(examples, groups), examples.labels, settings, task, classes)
    train, validation, test = (examples.take(np.flatnonzero(part == which)) for which in (TRAIN, VALIDATION, TEST))
    return train, validation, test


def split_rest(
    rest: Examples,
    settings: Split,
    task: Task,
    groups: np.ndarray | None = None,
    *,
    validation: Examples | None = None,
    test: Examples | None = None,
    classes: Sequence[str] = (),
) -> Parts:
    """The three parts when the user gave some of them: only what was not given is split off `rest`.

    The shares are of `rest`; given parts come back as they are.

    Raises:
      Usage: a validation part is given and folds are asked for; and as `split`.
    """
    if validation is not None and settings.folds:
        raise Usage("split.folds parts the examples anew, but a validation part is given\nleave one of the two out")
    given = {"validation": validation, "test": test}
    settings = settings.model_copy(update={name: 0.0 for name, part in given.items() if part is not None})
    train, new_validation, new_test = split(rest, settings, task, groups, classes=classes)
    return train, new_validation if validation is None else validation, new_test if test is None else test


def leak_notes(
    train: Examples,
    validation: Examples,
    test: Examples,
    groups: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> tuple[str, ...]:
    """A line for every pair of user-given parts that share equal examples; nothing is removed.

    Args:
      groups: ids of the examples of the three parts, where equal features do not tell equal content (file paths).
    """
    keys = groups if groups is not None else tuple(content(part) for part in (train, validation, test))
    pairs = ((VALIDATION, TRAIN), (TEST, TRAIN), (TEST, VALIDATION))
    names = ("training", "validation", "test")
    notes = []
    for part, other in pairs:
        count = int(np.isin(keys[part], keys[other]).sum())
        if count:
            notes.append(
                f"leak: {count:,} of {len(keys[part]):,} {names[part]} examples are also in the {names[other]} part "
                "(kept as given; scores may be too good)"
            )
    return tuple(notes)


def content(examples: Examples) -> np.ndarray:
    """A number for what an example's features hold: equal features, equal number. uint64, shape [n]."""
    features = examples.features if isinstance(examples.features, Mapping) else {"": examples.features}
    total = np.zeros(len(examples), np.uint64)
    for name in sorted(features):
        total = total * np.uint64(0x9E3779B97F4A7C15) + _hash(features[name])
    return total


def digest(data: Data) -> str:
    """SHA-256 over all examples of all parts and their labels, by which it is seen whether data are what they were.

    Examples that are loaded from files count by their names, not by what is in the files.
    """
    whole = sha256()
    for part in (data.train, data.validation, data.test):
        if part.load is None:
            whole.update(content(part).tobytes())
        else:
            whole.update("\0".join(part.name(i) for i in range(len(part))).encode())
        whole.update(np.ascontiguousarray(part.labels).tobytes())
    return whole.hexdigest()


def _hash(column: np.ndarray) -> np.ndarray:
    """uint64 of each row of an array of any shape [n, ...] and dtype."""
    if column.ndim == 1:
        numbers = column.dtype.kind in "biuf" and column.dtype.itemsize <= 8
        return _hash_numbers(column) if numbers else _hash_texts(column)
    if column.dtype == object:
        cells = column.reshape(len(column), int(np.prod(column.shape[1:])))
        return content(Examples({str(i): cells[:, i] for i in range(cells.shape[1])}, np.zeros(len(cells))))
    if column.size == 0:
        return np.zeros(len(column), np.uint64)
    rows = np.ascontiguousarray(column).reshape(len(column), -1).view(np.uint8)
    hashes = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), _PORTION):
        some = (blake2b(row, digest_size=8).digest() for row in rows[start : start + _PORTION])
        hashes[start : start + _PORTION] = np.frombuffer(b"".join(some), np.uint64)
    return hashes


def _hash_numbers(column: np.ndarray) -> np.ndarray:
    """The bits, mixed: what pandas' hash_array gives for numbers, without the 0.15 s and 100 MB that pandas takes to load."""
    mixed = column.view(f"u{column.dtype.itemsize}").astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _hash_texts(column: np.ndarray) -> np.ndarray:
    """Of what each cell is in words, by which None counts as a text. It is the same in every process, as Python's own hash is not."""
    texts = list(map(str, column))
    hashes = {text: blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in set(texts)}
    return np.frombuffer(b"".join(map(hashes.__getitem__, texts)), np.uint64)


def _group_numbers(examples: Examples, groups: np.ndarray | None) -> np.ndarray:
    """A number 0, 1, … for each example, equal for those that must stay together by content or by group."""
    _, same = np.unique(content(examples), return_inverse=True)
    if groups is None or len(same) == 0:
        return same
    # An example ties its content to its group; whatever hangs together stays together.
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    if len(np.unique(same * (group.max() + 1) + group)) == same.max() + 1:
        return group  # Equal contents are of one group already, as copies of a file are.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes = same.max() + 1 + group.max() + 1
    ties = coo_array((np.ones(len(same), np.int8), (same, same.max() + 1 + group)), shape=(nodes, nodes))
    _, component = connected_components(ties, directed=False)
    return component[same]


def _by_first_appearance(number: np.ndarray) -> np.ndarray:
    """The groups renumbered in the order of the examples.

    The draw must not hang on hashes: those of file paths change with the folder that the files lie in.
    """
    first = _first(number)
    new = np.zeros(len(number), bool)
    new[first] = True
    return (np.cumsum(new) - 1)[first][number]


def _first(number: np.ndarray) -> np.ndarray:
    """The index of the first example of each number from 0 on; 0 for a number that no example has."""
    first = np.zeros(number.max(initial=0) + 1, np.int64)
    first[number[::-1]] = np.arange(len(number))[::-1]  # Of several, the last one stays.
    return first


def _draw(number: np.ndarray, labels: np.ndarray, settings: Split, task: Task, classes: Sequence[str]) -> np.ndarray:
    """The part of each example, int8, shape [n], drawn group by group."""
    shares = {which: share for which, share in ((TEST, settings.test), (VALIDATION, settings.validation)) if share}
    if not (shares or settings.folds) or len(number) == 0:
        return np.zeros(len(number), np.int8)
    number = _by_first_appearance(number)
    sizes = np.bincount(number)
    strata = _strata(labels[_first(number)], settings, task, len(shares) + 1, classes)
    wanted = {which: max(1, int(share * len(number) + 0.5)) for which, share in shares.items()}
    part_of_group = np.zeros(len(sizes), np.int8)
    if wanted:
        _draw_shares(part_of_group, wanted, sizes, strata, settings)
    if settings.folds:
        # The test part is what it is without folds: a search by folds has never seen the final test.
        rest = np.flatnonzero(part_of_group != TEST)
        part_of_group[rest] = TRAIN
        part_of_group[_fold(rest, None if strata is None else strata[rest], settings)] = VALIDATION
    return part_of_group[number]


def _draw_shares(
    part_of_group: np.ndarray, wanted: dict[int, int], sizes: np.ndarray, strata: np.ndarray | None, settings: Split
) -> None:
    """Give so many examples, in groups of these sizes, to each wanted part."""
    movable = (sizes == 1) | (sizes <= 1.5 * min(wanted.values()))
    if strata is not None:
        movable &= (np.bincount(strata) > len(wanted))[strata]
    if movable.sum() <= len(wanted):
        movable[:] = True

    pool = np.flatnonzero(movable)
    keep = 0 if len(pool) < len(sizes) else 1
    # A generator of its own: a seed of any size, and the second draw goes on where the first stopped.
    random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(settings.seed)))
    mean_size = sizes[pool].mean()
    for left, (which, size) in zip(reversed(range(len(wanted))), wanted.items(), strict=True):
        count = min(max(1, int(size / mean_size + 0.5)), len(pool) - left - keep)
        if count <= 0:
            continue
        drawn = _pick(pool, count, None if strata is None else strata[pool], random, settings.stratify == "on")
        part_of_group[drawn] = which
        pool = np.setdiff1d(pool, drawn)


def _fold(pool: np.ndarray, strata: np.ndarray | None, settings: Split) -> np.ndarray:
    """The members of `pool` that are the validation part of this fold; each is in exactly one fold."""
    from sklearn.model_selection import KFold, StratifiedKFold

    folds = settings.folds
    if folds is None or len(pool) < folds:
        raise Usage(f"{folds} folds of {len(pool)} different example(s) are impossible\ntake fewer: split.folds=2")
    # Stratified only where every fold can have every class.
    stratified = strata is not None and np.unique(strata, return_counts=True)[1].min() >= folds
    kind = StratifiedKFold if stratified else KFold
    parting = kind(folds, shuffle=True, random_state=settings.seed % 2**32).split(pool, strata if stratified else None)
    return pool[list(parting)[settings.fold][1]]


def _strata(labels: np.ndarray, settings: Split, task: Task, parts: int, names: Sequence[str]) -> np.ndarray | None:
    """The number of the class of each group, where each class is to keep its share; None where it is not."""
    if settings.stratify == "off":
        return None
    if task == "regression":
        if settings.stratify == "on":
            raise Usage("stratify=on keeps the share of each class, and regression has none\ntry stratify=auto")
        return None
    classes, counts = np.unique(labels, return_counts=True)
    if settings.stratify == "on" and counts.min() < parts:
        rarest = int(classes[counts.argmin()])
        raise Usage(
            f"stratify=on is impossible: class {names[rarest] if names else rarest!r} has {counts.min()} different "
            f"example(s), {parts} parts need at least {parts}\ntry stratify=auto, or leave the class out"
        )
    # As small as they can be: they are sorted and looked up several times.
    return labels.astype(np.min_scalar_type(labels.max()))


def _pick(
    pool: np.ndarray, count: int, strata: np.ndarray | None, random: np.random.RandomState, must_stratify: bool
) -> np.ndarray:
    """`count` members of `pool`, each class by its share where that can be done: those of scikit-learn's train_test_split."""
    if count >= len(pool):
        return pool
    if strata is not None:
        # A class that the first draw left with one member stays where it is: in training.
        sizes = np.bincount(strata)
        shared = (sizes > 1)[strata]
        if (sizes > 1).sum() <= min(count, shared.sum() - count):
            return pool[shared][_stratified(strata[shared], count, random)]
        if must_stratify:
            raise Usage(
                f"stratify=on is impossible: a part of {count} example(s) cannot hold all {np.count_nonzero(sizes)} classes\n"
                "try stratify=auto, or a larger share"
            )
    return pool[random.permutation(len(pool))[:count]]


def _stratified(strata: np.ndarray, count: int, random: np.random.RandomState) -> np.ndarray:
    """The indices that train_test_split(test_size=count, stratify=strata) draws for its test part, and its draws with them.

    That makes Python lists of all indices, 1.2 GB for ten million, and takes 0.5 s and 70 MB to load.
    """
    sizes = np.bincount(strata)
    sizes = sizes[sizes > 0]
    members = np.split(np.argsort(strata, kind="stable"), np.cumsum(sizes)[:-1])
    rest = _shares(sizes, len(strata) - count, random)
    taken = _shares(sizes - rest, count, random)
    kept, drawn = [], []
    for of, most, few in zip(members, rest, taken, strict=True):
        shuffled = of[random.permutation(len(of))]
        kept.append(shuffled[:most])
        drawn.append(shuffled[most : most + few])
    random.permutation(sum(map(len, kept)))
    return random.permutation(np.concatenate(drawn))


def _shares(sizes: np.ndarray, count: int, random: np.random.RandomState) -> np.ndarray:
    """How many of each class are among `count`: its share, rounded; the largest remainders up, equal ones by lot."""
    exact = sizes / sizes.sum() * count
    shares = np.floor(exact)
    remainders = exact - shares
    for value in np.unique(remainders)[::-1]:
        missing = int(count - shares.sum())
        if missing <= 0:
            break
        (classes,) = np.where(remainders == value)
        shares[random.choice(classes, size=min(len(classes), missing), replace=False)] += 1
    return shares.astype(int)
