"""Workers that sum through their own connections: the same bits everywhere, and no waiting for who is gone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_train import SMALL, cluster_of
from tfapp import direct, verify
from tfapp.direct import PeerLost, Peers, connected


def silent(peer: int) -> None:
    """No one asks here whether a worker lives."""


@contextmanager
def workers(count: int, alive: Callable[[int], None] = silent, patience: float = 60.0):
    """So many workers, each connected to each, that can be used from a thread each."""
    ends: list[dict[int, socket.socket]] = [{} for _ in range(count)]
    for a, b in combinations(range(count), 2):
        ends[a][b], ends[b][a] = socket.socketpair()
    yield [Peers(number, sockets, alive, patience) for number, sockets in enumerate(ends)]
    for sockets in ends:
        leave(sockets)


def leave(sockets: dict[int, socket.socket]) -> None:
    """What happens to the connections of a worker whose process ends."""
    for one in sockets.values():
        one.close()


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each returns, or what it raised."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [task.exception() or task.result() for task in [pool.submit(call) for call in calls]]


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize(
    ("shape", "dtype"), [((), "int64"), ((3,), "float32"), ((7, 11), "float64"), ((400_001,), "float32")]
)
def test_every_worker_gets_the_same_bits_of_the_sum(count: int, shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(count)
    parts = [(1e3 * rng.standard_normal(shape)).astype(dtype) for _ in range(count)]
    with workers(count) as made:
        for _ in range(3):
            sums = at_once(*(partial(one.sum, part) for one, part in zip(made, parts, strict=True)))
            assert {(total.shape, total.dtype.name, total.tobytes()) for total in sums} == {
                (shape, dtype, sums[0].tobytes())
            }
            np.testing.assert_allclose(sums[0], np.sum(parts, axis=0, dtype=dtype), rtol=1e-4, atol=1e-3)


def test_a_share_may_be_of_no_number_at_all(monkeypatch) -> None:
    monkeypatch.setattr(direct, "SMALL", 0)
    with workers(3) as made:
        sums = at_once(*(partial(one.sum, np.array([number, 5.0])) for number, one in enumerate(made)))
    assert [total.tolist() for total in sums] == [[3.0, 15.0]] * 3


def test_what_was_given_is_left_as_it_is() -> None:
    own = [np.arange(4.0), np.arange(4.0)]
    with workers(2) as made:
        at_once(*(partial(one.sum, part) for one, part in zip(made, own, strict=True)))
    assert [part.tolist() for part in own] == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize("size", [3, 10_000_000])
def test_a_worker_that_goes_is_noticed_by_all_at_once(size: int) -> None:
    with workers(3) as made:
        began = time.monotonic()
        leave(made[2]._sockets)
        found = at_once(*(partial(one.sum, np.ones(size, np.float32)) for one in made[:2]))
    assert all(isinstance(error, PeerLost) for error in found), found
    assert time.monotonic() - began < 20


def test_a_worker_that_says_nothing_is_asked_for_again_and_again_until_it_is_gone() -> None:
    asked: list[int] = []

    def alive(peer: int) -> None:
        asked.append(peer)
        if len(asked) == 3:
            raise PeerLost(f"collective: worker {peer} does not answer")

    with workers(2, alive, patience=0.02) as made, pytest.raises(PeerLost, match="worker 1 does not answer"):
        made[0].sum(np.ones(2))
    assert asked == [1, 1, 1]


def test_a_slow_worker_is_waited_for() -> None:
    with workers(2, patience=0.02) as made:
        late = threading.Timer(0.3, made[1].sum, [np.ones(2)])
        late.start()
        assert made[0].sum(np.ones(2)).tolist() == [2, 2]
        late.join()


@pytest.mark.parametrize("other", [np.ones(5), np.ones(3, np.float32), np.ones(900_000)])
def test_workers_that_sum_different_things_do_not_wait_for_each_other(other: np.ndarray) -> None:
    def first(one: Peers, array: np.ndarray) -> np.ndarray:
        try:
            return one.sum(array)
        finally:
            leave(one._sockets)

    with workers(2) as made:
        found = at_once(partial(first, made[0], np.ones(3)), partial(first, made[1], other))
    assert all(isinstance(error, PeerLost) for error in found)


class Table:
    """`Machine.gather` for threads: each waits for all."""

    def __init__(self, count: int):
        self._rows: dict[int, tuple[int, ...]] = {}
        self._all = threading.Barrier(count)

    def of(self, worker: int) -> Callable[..., np.ndarray]:
        def gather(*values: int) -> np.ndarray:
            self._rows[worker] = values
            self._all.wait(30)
            table = np.asarray([self._rows[number] for number in sorted(self._rows)])
            self._all.wait(30)
            return table

        return gather


def meeting(hosts: list[str], use: list[bool]) -> list[Any]:
    """What each worker sums (its number + 1), or None where they are not connected."""
    table = Table(len(hosts))

    def one(worker: int) -> float | None:
        with connected(worker, hosts, table.of(worker), silent, 15, use[worker]) as peers:
            return None if peers is None else peers.sum(np.array([worker + 1.0])).item()

    return at_once(*(partial(one, worker) for worker in range(len(hosts))))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_workers_find_each_other(host: str) -> None:
    assert meeting([host] * 4, [True] * 4) == [10.0] * 4


def test_where_one_does_not_want_to_or_cannot_be_reached_none_is_connected(monkeypatch) -> None:
    assert meeting(["127.0.0.1"] * 3, [True, False, True]) == [None] * 3
    monkeypatch.setattr(direct, "CONNECT", 0.5)
    # An address for documentation, where no one is (RFC 5737).
    assert meeting(["192.0.2.1", "127.0.0.1"], [True, True]) == [None, None]


def test_a_stranger_is_not_let_in(monkeypatch) -> None:
    with ExitStack() as stack:
        door = stack.enter_context(direct._door())
        port = door.getsockname()[1]
        secret = direct._told([1, 2, 3, 4])
        callers = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(4)]
        callers[0].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        callers[1].close()
        callers[2].sendall(direct._WHO.pack(7) + secret)
        callers[3].sendall(direct._WHO.pack(1) + secret)
        sockets: dict[int, socket.socket] = {}
        direct._admit(door, sockets, [1], secret)
        stack.enter_context(sockets[1])
        assert list(sockets) == [1] and sockets[1].getpeername()[1] == callers[3].getsockname()[1]
        monkeypatch.setattr(direct, "CONNECT", 0.2)
        with pytest.raises(TimeoutError):
            direct._admit(door, sockets, [1, 2], secret)


@pytest.mark.slow
@pytest.mark.e2e
def test_two_workers_train_the_same_bits_directly_and_by_tensorflow_s_ring(tmp_path: Path) -> None:
    for name, words in {"direct": [], "ring": ["runtime.communication=ring", "fit.gather=queue"]}.items():
        both = cluster_of(2, ["train", SMALL, "runtime.deterministic=true", *words, "--run", str(tmp_path / name)])
        told = [worker.communicate(timeout=200)[1] for worker in both]
        assert [worker.returncode for worker in both] == [0, 0], told
    assert verify.differences(tmp_path / "direct", tmp_path / "ring") == []


# A network that lets through the given ports alone.
WALLED = """
import socket

from tfapp import direct


def filtered(*address, **settings):
    raise TimeoutError


direct.CONNECT, socket.create_connection = 1.0, filtered
"""


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 0, "they sum by TensorFlow's ring (runtime.communication=ring does not try)"),
        (["runtime.communication=direct"], 5, "error: runtime.communication=direct, but not all 2 workers can connect"),
    ],
    ids=["auto", "direct"],
)
def test_workers_who_reach_each_other_at_the_given_ports_alone_say_so(
    words: list[str], code: int, told: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "walled.py"
    recipe.write_text(Path(SMALL).read_text() + WALLED)
    both = cluster_of(2, ["train", str(recipe), "fit.epochs=2", *words, "--run", str(tmp_path / "run")])
    found = [worker.communicate(timeout=200)[1] for worker in both]
    assert [worker.returncode for worker in both] == [code, code], found
    assert told in found[0]
