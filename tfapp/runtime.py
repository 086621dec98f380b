"""The devices, precision and randomness a run uses: settings, and one way in."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from tfapp.errors import Missing, Usage
from tfapp.settings import Settings

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@dataclass(frozen=True)
class Machine:
    """What `Runtime.enter` gives: the strategy and this process's place in it.

    Attributes:
      strategy: a tf.distribute strategy; the default strategy on one device.
      replicas: copies of the model over all workers; a step's batch is shared out among them.
      worker, workers: this process's number and how many there are. Worker 0 writes the run directory.
    """

    strategy: Any
    replicas: int
    worker: int = 0
    workers: int = 1

    @property
    def chief(self) -> bool:
        return self.worker == 0

    def agree(self, value: int) -> int:
        """The chief's value, on every worker. Every worker must call it.

        Args:
          value: at least 0, below 2^31; only the chief's matters.
        """
        if self.workers == 1:
            return value
        import tensorflow as tf

        def here(own: Any) -> Any:
            # The copy is on the replica's own device, which is what the reduction goes by.
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(own))

        @tf.function
        def everywhere(own: Any) -> Any:
            return self.strategy.experimental_local_results(self.strategy.run(here, args=(own,)))[0]

        total = everywhere(tf.constant(value if self.chief else 0, tf.int64))
        return int(total) // (self.replicas // self.workers)

    def wait_for_all(self) -> None:
        """Hold each worker here until all have come: one that leaves early looks crashed to the others."""
        self.agree(0)


class Runtime(Settings):
    """Where and how the training runs; none of it changes what is trained, but for precision and seed."""

    strategy: Literal["auto", "single", "mirrored", "multiworker", "tpu"] = Field(
        "auto",
        description="auto: multiworker when TF_CONFIG names several workers, mirrored with several GPUs, else single",
    )
    replicas: int | None = Field(
        None, ge=1, description="devices of this machine to use; without GPUs, that many parts of the CPU"
    )
    tpu: str = Field("local", description="name or address of the TPU, for strategy=tpu")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="mixed precision: 16-bit arithmetic, float32 weights and softmax"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of weights, shuffling, augmentation and dropout")
    deterministic: bool = Field(False, description="the same bits in every run on the same machine; slower")
    threads: int | None = Field(None, ge=1, description="threads inside one operation; none: all cores")
    parallel_operations: int | None = Field(None, ge=1, description="operations run at once; none: all cores")

    @contextmanager
    def enter(self) -> Iterator[Machine]:
        """Set TensorFlow up for the whole process, once, before anything else uses it.

        Raises:
          Missing: no TPU, or multiworker without TF_CONFIG. Usage: TF_CONFIG is not what TensorFlow reads.
        """
        cluster = _cluster()
        tf = import_tensorflow()
        import tf_keras as keras

        if self.threads:
            tf.config.threading.set_intra_op_parallelism_threads(self.threads)
        if self.parallel_operations:
            tf.config.threading.set_inter_op_parallelism_threads(self.parallel_operations)
        if self.deterministic:
            tf.config.experimental.enable_op_determinism()
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        machine = self._machine(tf, cluster)
        keras.utils.set_random_seed(self.seed)
        before = keras.mixed_precision.global_policy()
        keras.mixed_precision.set_global_policy(POLICIES[self.precision])
        try:
            yield machine
        finally:
            keras.mixed_precision.set_global_policy(before)

    def _machine(self, tf: Any, cluster: tuple[int, int] | None) -> Machine:
        gpus = tf.config.list_physical_devices("GPU")
        kind = self.strategy
        if kind == "auto":
            several = (self.replicas or len(gpus)) > 1
            kind = "multiworker" if cluster and cluster[1] > 1 else "mirrored" if several else "single"
        if kind == "multiworker":
            if cluster is None:
                raise Missing(
                    "runtime.strategy=multiworker needs TF_CONFIG, which names the workers and this one's place\n"
                    'as TF_CONFIG=\'{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", '
                    '"index": 0}}\''
                )
            strategy = _multiworker(tf)
            return Machine(strategy, strategy.num_replicas_in_sync, *cluster)
        if kind == "tpu":
            return _tpu(tf, self.tpu)
        if kind == "mirrored":
            devices = _devices(tf, gpus, self.replicas or len(gpus) or 1)
            # As TensorFlow's own tests do: a second training in this process must not meet the first one's collectives.
            tf.distribute.MirroredStrategy._collective_key_base += 100_000
            strategy = tf.distribute.MirroredStrategy(devices)
            return Machine(strategy, strategy.num_replicas_in_sync)
        return Machine(tf.distribute.get_strategy(), 1)


def import_tensorflow() -> Any:
    """TensorFlow, without the dozen lines its C++ side writes to stderr while it loads.

    They are kept back by pointing file descriptor 2 elsewhere: TF_CPP_MIN_LOG_LEVEL does not reach them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    import tempfile

    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept, open(os.dup(2), "wb") as terminal:
        os.dup2(kept.fileno(), 2)
        try:
            import tensorflow as tf

            # The first device query is when the driver libraries speak.
            tf.config.list_physical_devices()
        except Exception:
            kept.seek(0)
            terminal.write(kept.read())
            raise
        finally:
            os.dup2(terminal.fileno(), 2)
    import absl.logging

    absl.logging.set_verbosity(absl.logging.ERROR)
    tf.get_logger().setLevel("ERROR")
    return tf


def _cluster() -> tuple[int, int] | None:
    """This process's index among the workers and their number, from TF_CONFIG."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        config = json.loads(text)
        workers = config["cluster"].get("chief", []) + config["cluster"].get("worker", [])
        task = config["task"]
        offset = len(config["cluster"].get("chief", [])) if task["type"] == "worker" else 0
        index = offset + int(task["index"])
        if not 0 <= index < len(workers):
            raise ValueError(f"task {task['type']} {task['index']} is not one of the {len(workers)} workers")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Usage(
            f"TF_CONFIG cannot be read: {error!r}\n"
            'it looks like {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
        ) from None
    return index, len(workers)


def _multiworker(tf: Any) -> Any:
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.UnknownError as error:
        if "Could not start gRPC server" not in str(error):
            raise
        raise Missing(
            "the port that TF_CONFIG gives to this worker is in use on this machine\n"
            "end what listens there (ss -ltnp shows it), or give the worker another port"
        ) from error
    # TensorFlow has just caught SIGTERM for itself; whoever had it in Python is to have it again.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return strategy


def _devices(tf: Any, gpus: list[Any], count: int) -> list[str]:
    if gpus:
        if count > len(gpus):
            raise Missing(
                f"runtime.replicas={count}, but this machine has {len(gpus)} GPUs\nask for that many or fewer"
            )
        return [f"GPU:{number}" for number in range(count)]
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:
        # TensorFlow has started: the parts it was started with are what there is.
        there = len(tf.config.list_logical_devices("CPU"))
        if there < count:
            raise Missing(f"runtime.replicas={count}, but TensorFlow has started with {there} CPU devices") from None
    return [f"CPU:{number}" for number in range(count)]


def _tpu(tf: Any, name: str) -> Machine:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Missing(
            f"no TPU {name!r}: {reason}\nrun on a TPU VM with the tensorflow-tpu package, or use runtime.strategy=auto"
        ) from error
    return Machine(strategy, strategy.num_replicas_in_sync)
