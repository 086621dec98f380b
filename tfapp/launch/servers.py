"""A worker or a parameter server of an asynchronous training: it does what the chief asks, and leaves with it."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable

from tfapp import runtime, watch
from tfapp.errors import Failed, PeersLost
from tfapp.launch import share, signs
from tfapp.launch.cluster import Cluster

# Seconds between two looks at whether the chief is there; for how long nothing may be heard of its host.
LOOK, GONE = 2.0, 15.0


def serve(cluster: Cluster, finished: Callable[[], bool]) -> None:
    """Serve the chief until it is gone, or the launcher ends this process.

    Args:
      cluster: where this process is one that serves.
      finished: whether the chief has done all there was to do, asked when it is gone.

    Raises:
      Missing: the port is taken. Failed: the chief has not come. PeersLost: it is gone before its work was done.
    """
    tf = runtime.import_tensorflow()
    kind, number = cluster.task
    # A step waits for others inside TensorFlow: with a thread for each core, on one core, it would wait for ever.
    threads = max(len(share.cores()), cluster.workers)
    with runtime.own_port(tf):
        # It needs no holding: TensorFlow's servers cannot be stopped, and end with their process.
        tf.distribute.Server(
            tf.train.ClusterSpec(cluster.jobs),
            job_name=kind,
            task_index=number,
            protocol="grpc",
            config=tf.compat.v1.ConfigProto(inter_op_parallelism_threads=threads),
        )
    if signs.launched():
        # The launcher knows when the chief is gone, and ends what is left without a word.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        while True:
            signal.pause()
    _stay(cluster.addresses[0], watch.seconds(watch.START))
    if not finished():
        raise PeersLost(
            f"the chief ({cluster.addresses[0]}) is gone\nstart all again: they go on from the last checkpoint"
        )


def _stay(chief: str, wait: float) -> None:
    """Until the chief, having come within so many seconds, is gone."""
    host, _, port = chief.rpartition(":")
    begun, seen = time.monotonic(), None
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK).close()
            seen = time.monotonic()
        except OSError as error:
            # A port that is closed is that of a process that has ended. A new chief must find new servers.
            if seen and (isinstance(error, ConnectionRefusedError) or time.monotonic() - seen > GONE):
                return
        if seen is None and time.monotonic() - begun > wait:
            raise Failed(f"the chief ({chief}) has not come in {wait:g} s")
        time.sleep(LOOK)
