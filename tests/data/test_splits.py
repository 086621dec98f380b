from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfapp.data import splits
from tfapp.data.examples import Examples
from tfapp.errors import Usage
from tfapp.settings import Split


def numbered(labels) -> Examples:
    labels = np.asarray(labels)
    return Examples(np.arange(len(labels), dtype=np.float32)[:, None], labels)


def ids(part: Examples) -> list[int]:
    return part.features[:, 0].astype(int).tolist()


def test_every_class_keeps_its_share_in_every_part():
    train, validation, test = splits.split(numbered([0] * 900 + [1] * 100), Split(), "classification")
    assert [np.bincount(part.labels).tolist() for part in (train, validation, test)] == [[720, 80], [90, 10], [90, 10]]


def test_the_parts_are_disjoint_whole_and_in_the_original_order():
    parts = [ids(part) for part in splits.split(numbered([0, 1] * 50), Split(), "classification")]
    assert sorted(i for part in parts for i in part) == list(range(100))
    assert all(part == sorted(part) for part in parts)


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    examples = numbered([0, 1] * 50)
    first, again, other = (
        ids(splits.split(examples, Split(seed=seed), "classification")[2]) for seed in (2**40, 2**40, 1)
    )
    assert first == again != other


def test_the_split_hangs_on_the_order_of_the_examples_and_not_on_what_they_hold():
    paths = [
        Examples(
            np.array([f"{home}/{i}" for i in range(100)], object), np.arange(100) % 2, np.arange(100).astype(object)
        )
        for home in ("/here", "/elsewhere")
    ]
    here, elsewhere = (splits.split(one, Split(), "classification", np.arange(100) // 2) for one in paths)
    assert [list(part.names) for part in here] == [list(part.names) for part in elsewhere]


def test_equal_examples_stay_in_one_part():
    features = np.repeat(np.arange(50, dtype=np.float32), 4)[:, None]
    parts = splits.split(Examples(features, np.zeros(200, np.int64)), Split(), "classification")
    seen = [set(ids(part)) for part in parts]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_groups_stay_in_one_part_and_are_tied_by_equal_content():
    features = np.arange(90, dtype=np.float32)[:, None]
    features[3] = features[0]  # an example of group 1 is a copy of one of group 0
    groups = np.array([f"patient {i // 3}" for i in range(90)])
    part_of = {}
    for which, part in enumerate(splits.split(Examples(features, np.zeros(90), groups), Split(), "regression", groups)):
        part_of |= {name: {which} | part_of.get(name, set()) for name in part.names}
    assert all(len(parts) == 1 for parts in part_of.values())
    assert part_of["patient 0"] == part_of["patient 1"]


def test_text_columns_and_missing_values_count_as_content():
    features = {
        "word": np.array(["a", "b", "a", None] * 30, object),
        "number": np.array([1, 2, 1, np.nan] * 30, np.float32),
    }
    keys = splits.content(Examples(features, np.zeros(120)))
    assert len(set(keys.tolist())) == 3
    assert keys[0] == keys[2] != keys[1]


def test_a_class_too_rare_for_every_part_is_kept_for_training():
    train, validation, test = splits.split(numbered([0] * 50 + [1] * 50 + [2]), Split(), "classification")
    assert 2 in train.labels and 2 not in validation.labels and 2 not in test.labels


def test_a_heap_of_equal_examples_larger_than_a_part_goes_to_training():
    features = np.concatenate([np.zeros(100), np.arange(1, 101)]).astype(np.float32)[:, None]
    for seed in range(20):
        train, _, test = splits.split(Examples(features, np.zeros(200)), Split(seed=seed), "regression")
        assert 0 in train.features and len(test) == 20


def test_stratify_on_names_the_class_that_has_too_few():
    with pytest.raises(Usage, match=r"class 'rare' has 1 different"):
        splits.split(numbered([0] * 50 + [1]), Split(stratify="on"), "classification", classes=("often", "rare"))


def test_stratify_on_says_when_a_part_is_smaller_than_the_number_of_classes():
    with pytest.raises(Usage, match="cannot hold all 10 classes"):
        splits.split(numbered(list(range(10)) * 3), Split(stratify="on"), "classification")


def test_stratify_on_is_refused_for_regression():
    with pytest.raises(Usage, match="regression has none"):
        splits.split(numbered([0.5] * 10), Split(stratify="on"), "regression")


def test_a_share_of_zero_gives_an_empty_part():
    train, validation, test = splits.split(numbered([0, 1] * 5), Split(validation=0, test=0), "classification")
    assert (len(train), len(validation), len(test)) == (10, 0, 0)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_examples_for_three_parts_leave_training_first(count):
    train, _, _ = splits.split(numbered([0] * count), Split(), "classification")
    assert len(train) == min(count, 1)


def test_only_what_the_user_did_not_give_is_split_off():
    rest, given_test = numbered([0, 1] * 50), numbered([0, 1])
    train, validation, test = splits.split_rest(rest, Split(), "classification", test=given_test)
    assert test is given_test and (len(train), len(validation)) == (90, 10)
    train, validation, test = splits.split_rest(rest, Split(), "classification", test=given_test, validation=given_test)
    assert len(train) == 100 and validation is given_test


def test_examples_shared_by_given_parts_are_counted_and_kept():
    train, test = numbered([0] * 10), numbered([0] * 3)
    (note,) = splits.leak_notes(train, train.take(np.array([], int)), test)
    assert "3 of 3 test examples are also in the training part" in note
    apart = tuple(np.arange(n) + 100 * i for i, n in enumerate((10, 0, 3)))
    assert splits.leak_notes(train, train.take(np.array([], int)), test, groups=apart) == ()


def test_a_hundred_thousand_rows_are_split_in_about_a_second():
    examples = Examples(np.random.default_rng(0).random((100_000, 30), np.float32), np.arange(100_000) % 7)
    splits.split(examples.take(np.arange(100)), Split(), "classification")  # imports scikit-learn
    start = time.perf_counter()
    splits.split(examples, Split(), "classification")
    assert time.perf_counter() - start < 5


@pytest.mark.moderate
@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3), st.integers(0, 9)), max_size=60),
    validation=st.sampled_from([0.0, 0.1, 0.4]),
    test=st.sampled_from([0.0, 0.2, 0.5]),
    seed=st.integers(0, 2**70),
    task=st.sampled_from(["classification", "regression"]),
    grouped=st.booleans(),
)
def test_no_split_ever_leaks_loses_or_starves(rows, validation, test, seed, task, grouped):
    content, labels, groups = (
        (np.array(column, np.int64) for column in zip(*rows, strict=True)) if rows else [np.zeros(0, np.int64)] * 3
    )
    names = np.array([str(i) for i in range(len(rows))], object)
    examples = Examples(content[:, None], labels, names)
    shares = Split(validation=validation, test=test, seed=seed)
    parts = splits.split(examples, shares, task, groups if grouped else None)
    assert sorted(int(name) for part in parts for name in part.names) == list(range(len(rows)))
    for key in (content, groups) if grouped else (content,):
        seen = [set(key[part.names.astype(int)].tolist()) for part in parts]
        assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    if len(set(content.tolist())) >= 3 and not grouped:
        assert len(parts[0]) and bool(len(parts[1])) == bool(validation) and bool(len(parts[2])) == bool(test)


def test_each_example_that_is_not_for_the_test_is_validated_in_exactly_one_fold() -> None:
    examples = numbered([0] * 60 + [1] * 40)
    folds = [splits.split(examples, Split(test=0.2, folds=4, fold=fold), "classification") for fold in range(4)]
    test = ids(splits.split(examples, Split(test=0.2), "classification")[2])
    assert all(ids(fold[2]) == test for fold in folds)
    seen = sorted(number for _, validation, _ in folds for number in ids(validation))
    assert seen == sorted(set(range(100)) - set(test))
    for train, validation, _ in folds:
        assert len(validation) == 20 and not set(ids(train)) & set(ids(validation))
        assert int((validation.labels == 0).sum()) == 12


def test_folds_beside_a_given_validation_part_are_refused() -> None:
    given = numbered([0, 1] * 5)
    with pytest.raises(Usage, match="a validation part is given"):
        splits.split_rest(numbered([0, 1] * 50), Split(folds=5), "classification", validation=given)


@given(st.lists(st.integers(0, 5), min_size=20, max_size=60), st.integers(0, 2**31), st.floats(0.2, 0.7))
def test_a_stratified_draw_is_scikit_learn_s_and_leaves_its_generator_alike(classes, seed, share):
    from sklearn.model_selection import train_test_split

    strata = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, *classes])
    count = max(6, int(share * len(strata)))
    ours, theirs = (np.random.RandomState(seed) for _ in range(2))
    _, wanted = train_test_split(np.arange(len(strata)), test_size=count, random_state=theirs, stratify=strata)
    assert np.array_equal(splits._stratified(strata, count, ours), wanted)
    assert ours.randint(2**31) == theirs.randint(2**31)


@given(st.integers(2, 200), st.integers(0, 2**31), st.floats(0, 0.999))
def test_a_draw_without_classes_is_scikit_learn_s(size, seed, share):
    from sklearn.model_selection import train_test_split

    pool, count = np.arange(3, 3 + size), 1 + int(share * (size - 1))
    ours, theirs = (np.random.RandomState(seed) for _ in range(2))
    drawn = splits._pick(pool, count, None, ours, False)
    assert np.array_equal(drawn, train_test_split(pool, test_size=count, random_state=theirs)[1])


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", "float64"])
def test_numbers_are_hashed_as_pandas_hashes_them(dtype):
    from pandas.util import hash_array

    column = np.array([0, 1, 0.5, 2, 100, 0], dtype)
    assert np.array_equal(splits._hash(column), hash_array(column))
    assert column.tolist() == np.array([0, 1, 0.5, 2, 100, 0], dtype).tolist()
