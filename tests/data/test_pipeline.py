"""A step's number alone decides its batch, whatever the replicas and wherever training began."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfapp.data.examples import Examples
from tfapp.data.pipeline import Batches
from tfapp.runtime import Machine

Step = tuple[Any, np.ndarray, dict[str, np.ndarray]]


def numbered(n: int, **more: Any) -> Examples:
    """Examples whose feature is their number, in three classes."""
    return Examples(np.arange(n, dtype=np.float32), np.arange(n) % 3, **more)


def steps(batches: Batches, count: int, start: int = 0, **share: int) -> list[Step]:
    return list(batches.dataset(start, **share).take(count).as_numpy_iterator())


def joined(parts: list[Any]) -> Any:
    return tf.nest.map_structure(lambda *values: np.concatenate(values), *parts)


def same(one: Any, other: Any) -> bool:
    pairs = zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def seeds(features: Any, seed: Any) -> Any:
    """An augmentation that shows what it was given."""
    return tf.concat([[tf.cast(features, tf.int32)], seed], 0)


few = settings(max_examples=6)
sizes = st.integers(1, 40)
kinds = st.fixed_dictionaries(
    {
        "shuffle": st.booleans(),
        "seed": st.integers(0, 2**31 - 1),
        "exact_mean": st.booleans(),
        "class_weights": st.sampled_from([None, np.array([0.5, 1, 3], np.float32)]),
        "augment": st.sampled_from([None, seeds]),
        "transform": st.sampled_from([None, lambda features: features + 1]),
    }
)


@pytest.mark.moderate
@few
@given(sizes, st.integers(1, 17), st.booleans(), st.integers(0, 2**31 - 1), st.integers(0, 3))
def test_every_example_comes_exactly_once_an_epoch(n: int, size: int, shuffle: bool, seed: int, epoch: int) -> None:
    batches = Batches(numbered(n), size, seed, shuffle)
    found = joined(steps(batches, len(batches), epoch * len(batches)))
    features, labels, weights = found
    real = weights["metrics"] > 0
    assert sorted(features[real]) == list(range(n))
    assert len(features) == len(batches) * size
    assert np.array_equal(labels, features.astype(int) % 3)
    assert shuffle or np.array_equal(features[real], np.arange(n))
    # The filling is at the end of the epoch and counts nowhere.
    assert np.all(real[:n]) and not np.any(real[n:]) and not np.any(weights["loss"][n:])


@pytest.mark.moderate
@few
@given(sizes, st.integers(1, 9), kinds, st.integers(0, 30))
def test_going_on_from_a_step_is_running_from_the_start_and_skipping(n: int, size: int, kind: dict, start: int) -> None:
    batches = Batches(numbered(n), size, **kind)
    assert same(steps(batches, 3, start), steps(batches, start + 3)[start:])


@pytest.mark.moderate
@few
@given(sizes, st.integers(1, 17), kinds, st.integers(0, 50), st.integers(1, 4))
def test_every_so_many_th_step_is_what_it_is_among_all(n: int, size: int, kind: dict, start: int, every: int) -> None:
    batches = Batches(numbered(n), size, **kind)
    assert all(map(same, steps(batches, 3, start, every=every), steps(batches, 3 * every, start)[::every]))


@pytest.mark.moderate
@few
@given(sizes, st.integers(1, 4), st.sampled_from([(1, 2), (2, 1), (2, 2), (3, 1), (1, 4)]), kinds, st.integers(0, 9))
def test_the_replicas_shares_put_together_are_the_global_batch(
    n: int, rows: int, cluster: tuple[int, int], kind: dict, start: int
) -> None:
    here, workers = cluster
    batches = Batches(numbered(n), rows * here * workers, **kind)
    whole = steps(batches, 2, start)
    shares = [
        steps(batches, 2 * here, start, replicas=here, offset=worker * here, of=here * workers)
        for worker in range(workers)
    ]
    for step in range(2):
        parts = [share[step * here + replica] for share in shares for replica in range(here)]
        assert same(joined(parts), whole[step])


@pytest.mark.moderate
@few
@given(sizes, st.integers(1, 9), st.booleans(), st.sampled_from([None, np.array([0.5, 1, 3], np.float32)]))
def test_keras_s_mean_over_the_rows_of_a_training_batch_is_the_mean_over_the_real_ones(
    n: int, size: int, weighted: bool, class_weights: np.ndarray | None
) -> None:
    own = np.random.default_rng(n).random(n).astype(np.float32) if weighted else None
    batches = Batches(numbered(n, weights=own), size, 5, True, class_weights=class_weights)
    for step, (features, labels, weights) in enumerate(steps(batches, len(batches))):
        row = features.astype(int)
        loss = np.cos(features)
        real = np.arange(size) < min(size, n - step * size)
        factor = (1 if own is None else own[row]) * (1 if class_weights is None else class_weights[labels])
        assert (weights["loss"] * loss).sum() / size == pytest.approx((factor * loss)[real].mean(), rel=1e-4, abs=1e-6)
        assert np.allclose(weights["metrics"], real * (1 if own is None else own[row]))


@pytest.mark.moderate
@few
@given(sizes, st.integers(1, 9))
def test_in_evaluation_the_mean_of_the_steps_losses_is_the_mean_over_all_examples(n: int, size: int) -> None:
    batches = Batches(numbered(n), size, exact_mean=True)
    losses = [
        (weights["loss"] * np.cos(features)).sum() / size for features, _, weights in steps(batches, len(batches))
    ]
    assert np.mean(losses) == pytest.approx(np.cos(np.arange(n)).mean(), abs=1e-5)


@pytest.mark.moderate
def test_an_epoch_has_an_order_of_its_own_and_another_seed_another() -> None:
    def order(seed: int, epoch: int) -> list[float]:
        batches = Batches(numbered(50), 10, seed, True)
        return list(joined(steps(batches, 5, epoch * 5))[0])

    orders = [order(0, 0), order(0, 1), order(1, 0), order(1, 1), order(2**31 - 1, 0)]
    assert all(one != other for i, one in enumerate(orders) for other in [*orders[:i], list(range(50))])
    assert order(0, 0) == orders[0]


def test_the_order_is_as_random_as_chance() -> None:
    """Neighbours in a shuffled order lie close together before it no more often than by chance, nor in their own place."""
    n, epochs = 1000, 8
    batches = Batches(numbered(n), n, 3, True)
    orders = np.array([batches.indices(epoch)[0].numpy() for epoch in range(epochs)])
    near = np.mean(np.abs(np.diff(orders, axis=1)) < 20)
    assert near == pytest.approx(0.0376, abs=0.008)
    assert np.sum(orders == np.arange(n)) < 25  # One an epoch is expected.
    assert np.abs(np.corrcoef(orders)[~np.eye(epochs, dtype=bool)]).max() < 0.15


def test_the_order_reaches_beyond_what_an_int32_counts() -> None:
    batches = Batches(numbered(10), 4, 0, True)
    far = 3 * 2**33
    assert sorted(joined(steps(batches, 3, far))[0][:10]) == list(range(10))


@pytest.mark.moderate
def test_an_augmentation_is_given_a_seed_by_epoch_and_row_alone() -> None:
    def given_seeds(seed: int, epoch: int, size: int = 5, **share: int) -> list[tuple[int, ...]]:
        batches = Batches(numbered(20), size, seed, True, seeds)
        of = share.get("replicas", 1)
        rows = joined(steps(batches, len(batches) * of, epoch * len(batches), **share))[0]
        return [tuple(row[1:]) for row in rows]

    first = given_seeds(7, 0)
    assert len(set(first)) == 20
    assert given_seeds(7, 0) == first
    assert not set(given_seeds(7, 1)) & set(first)
    assert not set(given_seeds(8, 0)) & set(first)
    assert given_seeds(7, 0, size=10, replicas=2) == first


@pytest.mark.moderate
def test_an_augmentation_with_random_operations_draws_the_same_again() -> None:
    def noise(features: Any, seed: Any) -> Any:
        return features + tf.random.stateless_normal([], seed)

    batches = Batches(numbered(20), 5, 3, True, noise)
    one, two = joined(steps(batches, 4)), joined(steps(batches, 4))
    assert same(one, two)
    assert not same(one[0], joined(steps(batches, 4, 4))[0])


@pytest.mark.moderate
@pytest.mark.parametrize("augment", [True, False])
def test_what_a_recipe_gives_may_ask_tensors_with_python_s_if(augment: bool) -> None:
    def halved(x: Any, seed: Any = None) -> Any:
        if tf.reduce_sum(x) > 1e6:
            x = x / 2
        return x

    (_, _, _), *_ = steps(Batches(numbered(4), 2, **{"augment" if augment else "transform": halved}), 1)


def test_examples_that_are_loaded_are_loaded_one_by_one_before_augmentation_and_transformation() -> None:
    examples = numbered(6, load=lambda number: tf.fill([2], number))
    batches = Batches(examples, 4, augment=lambda x, seed: x * 10, transform=lambda x: tf.reduce_sum(x, 1))
    features, labels, _ = joined(steps(batches, 2))
    assert np.array_equal(features[:6], np.arange(6) * 20) and features.shape == (8,)
    assert np.array_equal(labels[:6], np.arange(6) % 3)


def test_features_are_a_dict_where_the_examples_are_strings_too() -> None:
    examples = Examples({"age": np.arange(5.0), "name": np.array(list("abcde"), object)}, np.zeros(5, np.int64))
    features, _, _ = joined(steps(Batches(examples, 3), 2))
    assert list(features["name"][:5]) == [b"a", b"b", b"c", b"d", b"e"]
    assert np.array_equal(features["age"][:5], np.arange(5.0))


def test_columns_of_numbers_that_are_held_side_by_side_come_as_those_of_the_examples() -> None:
    columns = {
        "b": np.arange(7.0, dtype=np.float32),
        "i": np.arange(7),
        "a": -np.arange(7.0, dtype=np.float32),
        "text": np.array(list("abcdefg"), object),
        "pair": np.arange(14.0, dtype=np.float32).reshape(7, 2),
        "j": np.arange(7) * 3,
        "alone": np.arange(7, dtype=np.uint8),
    }
    examples = Examples(columns, np.zeros(7, np.int64))
    for augment in (None, lambda features, seed: features):
        batches = Batches(examples, 3, shuffle=True, augment=augment)
        for step, (features, _, _) in enumerate(steps(batches, 2)):
            assert list(features) == list(columns)
            rows = batches.seen(step)
            for name, column in columns.items():
                wanted = column[rows].astype("S").astype(object) if name == "text" else column[rows]
                np.testing.assert_array_equal(features[name], wanted)
                assert features[name].dtype == wanted.dtype


def test_regression_targets_stay_floats() -> None:
    examples = Examples(np.zeros((4, 2), np.float32), np.linspace(0, 1, 4, dtype=np.float32))
    assert steps(Batches(examples, 4), 1)[0][1].dtype == np.float32


@pytest.mark.moderate
def test_a_second_dataset_of_the_same_batches_is_the_same_also_inside_a_function() -> None:
    batches = Batches(numbered(10), 4, 1, True, class_weights=np.ones(3, np.float32))

    @tf.function
    def first() -> Any:
        return next(iter(batches.dataset()))

    traced = first()
    assert same(traced[0].numpy(), steps(batches, 1)[0][0])
    assert same(steps(batches, 3), steps(batches, 3))


@pytest.mark.parametrize("augment", [None, seeds], ids=["by batch", "by example"])
def test_the_examples_are_not_copied_into_the_graph(augment: Any) -> None:
    n = 200_000
    batches = Batches(Examples(np.zeros(n, np.float32), np.zeros(n, np.int64)), 8, augment=augment)
    for _ in range(2):
        graph = tf.raw_ops.DatasetToGraphV2(input_dataset=batches.dataset()._variant_tensor, external_state_policy=1)
        # What crosses the functions' border is a parameter; the captured tensors are the dataset's own inputs.
        functions = tf.compat.v1.GraphDef.FromString(graph.numpy()).library
        assert len(functions.SerializeToString()) < 100_000


def test_a_distributed_dataset_of_one_replica_is_the_plain_one() -> None:
    batches = Batches(numbered(10), 4, 1, True)
    found = list(batches.distributed(Machine(None, 1), 2).take(2).as_numpy_iterator())
    assert same(found, steps(batches, 2, 2))


@pytest.mark.parametrize(("seed", "epoch"), [(256, 0), (0, 256), (2**30, 0), (3 * 2**16, 1)])
def test_seeds_and_epochs_that_are_alike_in_their_last_bits_have_orders_of_their_own(seed: int, epoch: int) -> None:
    def order(seed: int, epoch: int) -> np.ndarray:
        return Batches(numbered(100), 100, seed, shuffle=True).indices(epoch)[0].numpy()

    assert not np.array_equal(order(seed, epoch), order(seed % 256, epoch % 256))
    assert sorted(order(seed, epoch)) == list(range(100))
