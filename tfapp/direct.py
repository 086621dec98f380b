"""Sums over all workers through plain connections between them, where they compute on CPUs.

TensorFlow's ring hands every part of a sum to gRPC: two calls in turn, some thirty changes of threads, half a millisecond
of a core for a handful of numbers; and a network with BatchNormalization sums twice for each such layer of a step. Here
the thread that computes a tensor sends it to the others itself and waits for theirs, which takes a tenth of that. Broadcasts
of first values and gathers of unequal tensors stay with TensorFlow, as does the watch over the workers, which this asks.
"""

from __future__ import annotations

import hmac
import secrets
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import MethodType
from typing import Any

import numpy as np

# The name under which a profile shows these sums.
NAME = "DirectAllReduce"
# Bytes up to which every worker gets all of every tensor; of larger ones each sums a share, and sends that to all.
SMALL = 2**14
# Seconds in which the connections must be there, or TensorFlow's ring is what sums.
CONNECT = 10.0
# Seconds without a word after which a worker is asked whether it lives.
PATIENCE = 5.0
# What a message begins with: its number among all that a worker has sent, and its bytes.
_HEAD = struct.Struct("!QQ")
# What a connection begins with: the number of who asks for it; then the secret of who is asked.
_WHO = struct.Struct("!I")
_SECRET_WORDS = 4
# What is still to be sent to, or received from, each worker.
_Waiting = dict[int, list[memoryview]]


class PeerLost(ConnectionError):
    """Another worker is gone, or is not at the same place of the same program."""


class Peers:
    """This worker's connections to all others, and sums through them. One thread at a time.

    Args:
      worker: this worker's number.
      sockets: a connected socket for the number of each other worker.
      alive: called with the number of a worker that says nothing for `patience` seconds; raises if it is gone.
      patience: seconds.
    """

    def __init__(
        self,
        worker: int,
        sockets: Mapping[int, socket.socket],
        alive: Callable[[int], None],
        patience: float = PATIENCE,
    ) -> None:
        self._worker, self._sockets, self._alive, self._patience = worker, dict(sockets), alive, patience
        self._numbers = {one.fileno(): number for number, one in sockets.items()}
        self._messages = 0
        for one in sockets.values():
            one.setblocking(False)

    def sum(self, own: np.ndarray) -> np.ndarray:
        """The sum of all workers' arrays, with the same bits on each of them: they are added in the workers' order.

        Args:
          own: this worker's; every worker's has this shape and dtype.

        Raises:
          PeerLost: a worker is gone, or sums something else.
        """
        flat = np.ascontiguousarray(own).reshape(-1)
        if flat.nbytes <= SMALL or len(self._sockets) == 1:
            return self._added(flat, {peer: flat for peer in self._sockets}).reshape(own.shape)
        shares = np.array_split(flat, len(self._sockets) + 1)
        share = self._added(shares[self._worker], {peer: shares[peer] for peer in self._sockets})
        whole = np.empty_like(flat)
        places = np.array_split(whole, len(shares))
        places[self._worker][...] = share
        self._exchange({peer: share for peer in self._sockets}, {peer: places[peer] for peer in self._sockets})
        return whole.reshape(own.shape)

    def _added(self, own: np.ndarray, given: Mapping[int, np.ndarray]) -> np.ndarray:
        """What this worker has of a row of numbers, and what the others give of it, summed."""
        taken = {peer: np.empty_like(own) for peer in self._sockets}
        self._exchange(given, taken)
        first, second, *others = (part for _, part in sorted([*taken.items(), (self._worker, own)]))
        # Into memory that is there: pages of a large tensor cost more than its sum.
        total = np.add(first, second, out=taken[min(taken)])
        for part in others:
            total += part
        return total

    def _exchange(self, given: Mapping[int, np.ndarray], taken: Mapping[int, np.ndarray]) -> None:
        """Send a row of numbers to each other worker, and fill one with what it sends, all at once."""
        self._messages += 1
        heads = {peer: bytearray(_HEAD.size) for peer in taken}
        leaving = {peer: [memoryview(self._head(part)), _bytes(part)] for peer, part in given.items()}
        coming = {peer: [memoryview(heads[peer]), _bytes(part)] for peer, part in taken.items()}
        for peer in given:
            # Most messages leave whole at once.
            self._send(peer, leaving)
        while leaving or coming:
            for peer, event in self._ready(leaving, coming):
                if event & ~select.POLLIN and peer in leaving:
                    self._send(peer, leaving)
                if event & ~select.POLLOUT and peer in coming:
                    self._receive(peer, coming)
                    if len(coming.get(peer, ())) < 2 and heads[peer] != self._head(taken[peer]):
                        raise PeerLost(f"collective: worker {peer} is at another place of the program")

    def _head(self, part: np.ndarray) -> bytes:
        return _HEAD.pack(self._messages, part.nbytes)

    def _ready(self, leaving: Mapping[int, Any], coming: Mapping[int, Any]) -> Iterator[tuple[int, int]]:
        """The workers that can be written to or read from, and which of these; waits for one."""
        poll = select.poll()
        for peer in leaving.keys() | coming.keys():
            poll.register(self._sockets[peer], select.POLLOUT * (peer in leaving) | select.POLLIN * (peer in coming))
        while not (events := poll.poll(1e3 * self._patience)):
            for peer in leaving.keys() | coming.keys():
                self._alive(peer)
        for descriptor, event in events:
            yield self._numbers[descriptor], event

    def _send(self, peer: int, leaving: _Waiting) -> None:
        self._move(peer, leaving, self._sockets[peer].sendmsg)

    def _receive(self, peer: int, coming: _Waiting) -> None:
        self._move(peer, coming, lambda buffers: self._sockets[peer].recvmsg_into(buffers)[0])

    def _move(self, peer: int, waiting: _Waiting, act: Callable[[list[memoryview]], int]) -> None:
        """Let a socket take or fill as much as it will of what is waiting for it."""
        buffers = waiting[peer]
        try:
            moved = act(buffers)
        except BlockingIOError:
            return
        except OSError as error:
            raise PeerLost(f"collective: worker {peer} is gone ({error.strerror})") from error
        if not moved:
            raise PeerLost(f"collective: worker {peer} has closed its connection")
        while buffers and moved >= len(buffers[0]):
            moved -= len(buffers.pop(0))
        if buffers:
            buffers[0] = buffers[0][moved:]
        else:
            del waiting[peer]


def _bytes(part: np.ndarray) -> memoryview:
    return part.view(np.uint8).data


@contextmanager
def connected(
    worker: int, hosts: Sequence[str], gather: Callable[..., Any], alive: Callable[[int], None], keep: float, use: bool
) -> Iterator[Peers | None]:
    """A block in which this worker is connected to all others; None where not all can, or do not want to.

    Every worker must enter it.

    Args:
      worker: this worker's number. hosts: name or address of each worker's machine.
      gather: Machine.gather.
      alive: as for Peers.
      keep: seconds after which a machine that does not answer is gone.
      use: whether this worker wants to.
    """
    with ExitStack() as stack:
        door = stack.enter_context(_door())
        words = [secrets.randbits(32) for _ in range(_SECRET_WORDS)]
        table = gather(door.getsockname()[1] if use else 0, *words).tolist()
        sockets: dict[int, socket.socket] = {}
        whole = all(port for port, *_ in table)
        if whole:
            # Those before this one are asked, those after it ask. Whoever is on the way waits in a queue.
            with suppress(OSError):
                for peer in range(worker):
                    port, *secret = table[peer]
                    one = sockets[peer] = socket.create_connection((hosts[peer], port), CONNECT)
                    one.sendall(_WHO.pack(worker) + _told(secret))
                _admit(door, sockets, range(worker + 1, len(hosts)), _told(words))
            for one in sockets.values():
                stack.enter_context(one)
                _heed(one, keep)
            whole = bool(gather(len(sockets) == len(hosts) - 1).all())
        door.close()
        yield Peers(worker, sockets, alive) if whole else None


def _told(secret: Sequence[int]) -> bytes:
    return struct.pack(f"!{_SECRET_WORDS}I", *secret)


def _door() -> socket.socket:
    """Where the others come in, at a free port. All workers may ask at once."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True)
    return socket.create_server(("", 0), backlog=1024)


def _admit(door: socket.socket, sockets: dict[int, socket.socket], wanted: Sequence[int], secret: bytes) -> None:
    """Let in those who are wanted and know the secret, and no one else.

    Raises:
      TimeoutError: not all came.
    """
    deadline = time.monotonic() + CONNECT
    while not all(peer in sockets for peer in wanted):
        door.settimeout(max(1e-3, deadline - time.monotonic()))
        one, _ = door.accept()
        one.settimeout(1.0)
        try:
            told = b""
            while more := one.recv(_WHO.size + len(secret) - len(told)):
                told += more
        except OSError:
            told = b""
        peer = int.from_bytes(told[: _WHO.size])
        if peer in wanted and hmac.compare_digest(told[_WHO.size :], secret):
            sockets[peer] = one
        else:
            one.close()


def _heed(one: socket.socket, keep: float) -> None:
    """Send at once, and notice a machine that is gone within `keep` seconds, where the system can be told to."""
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    every = max(1, round(keep / 3))
    for name, value in {
        "TCP_KEEPIDLE": every,
        "TCP_KEEPINTVL": every,
        "TCP_KEEPCNT": 2,
        "TCP_USER_TIMEOUT": round(1e3 * keep),
    }.items():
        if hasattr(socket, name):
            one.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def install(strategy: Any, peers: Peers) -> None:
    """Let a MultiWorkerMirroredStrategy of one CPU a worker sum through these connections from now on."""
    import tensorflow as tf

    def all_reduce(self: Any, input_tensor: Any, control_input: Any = None, options: Any = None) -> Any:
        own = tf.convert_to_tensor(input_tensor)
        # Stateful functions run in the order in which they were written, which all workers share.
        with tf.control_dependencies([] if control_input is None else [control_input]):
            total = tf.numpy_function(peers.sum, [own], own.dtype, stateful=True, name=NAME)
        total.set_shape(own.shape)
        return total

    (launcher,) = strategy.extended._cross_device_ops._launchers
    launcher.all_reduce = MethodType(all_reduce, launcher)
