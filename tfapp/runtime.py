"""The devices, precision and randomness a run uses: settings, and one way in."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from tfapp import deferred, watch
from tfapp.errors import Missing, PeersLost, Refused
from tfapp.launch import cluster as clusters
from tfapp.launch import signs
from tfapp.launch.cluster import Cluster
from tfapp.settings import Settings

# Seconds without a heartbeat after which a worker counts as dead. TensorFlow's own 10 takes a machine that is busy,
# or moved to another host, for a dead one; a process that ends is noticed at once anyway.
HEARTBEAT = 15
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@dataclass(frozen=True)
class Machine:
    """What `Runtime.enter` gives: the strategy and this process's place in it.

    Attributes:
      strategy: a tf.distribute strategy; the default strategy on one device.
      replicas: copies of the model over all workers; a step's batch is shared out among them.
      worker, workers: this process's number and how many there are. Worker 0 writes the run directory.
      coordinator: in asynchronous training, the ClusterCoordinator that hands this process's steps out to others.
      parts: devices that share out a copy of the model, where there is a mesh.
    """

    strategy: Any
    replicas: int
    worker: int = 0
    workers: int = 1
    coordinator: Any = None
    parts: int = 1

    @property
    def chief(self) -> bool:
        return self.worker == 0

    @property
    def devices(self) -> int:
        """How many devices there are over all workers: the strategy's own number of replicas."""
        return self.replicas * self.parts

    def gather(self, *values: int) -> Any:
        """Meet all workers and learn what each says: int64 [workers, values]. Every worker must call it.

        Args:
          values: whole numbers, each at least 0 and below 2^32; as many on every worker.
        """
        import numpy as np

        if self.workers == 1:
            return np.asarray([values], np.int64)
        table = np.zeros((self.workers, len(values)), np.int64)
        table[self.worker] = values
        return self._sum(table).numpy() // (self.replicas // self.workers)

    def any(self, value: bool) -> bool:
        """Whether it is so on any worker. Every worker must ask."""
        return bool(value) if self.workers == 1 else bool(self.gather(bool(value)).any())

    def agree(self, value: int) -> int:
        """The chief's value (as for `gather`), on every worker. Every worker must call it."""
        return int(self.gather(value)[0, 0])

    def wait_for_all(self) -> None:
        """Hold each worker here until all have come: one that leaves early looks crashed to the others."""
        if self.workers > 1:
            self.gather(0)

    def catch_up(self) -> None:
        """Wait until every step that was handed out has been trained."""
        if self.coordinator is not None:
            self.coordinator.join()

    @property
    def one_device(self) -> bool:
        """Whether the model's variables are plain ones, in this process."""
        return self.devices == 1 and self.coordinator is None

    @cached_property
    def _sum(self) -> Any:
        import tensorflow as tf

        def here(table: Any) -> Any:
            # The copy is on the replica's own device, which is what the reduction goes by.
            own = tf.identity(table)
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, own)

        @tf.function
        def everywhere(table: Any) -> Any:
            return self.strategy.experimental_local_results(self.strategy.run(here, args=(table,)))[0]

        return everywhere


class Mesh(Settings):
    """Devices in rows: those of a row share out the weights of large layers, and the rows share out each batch."""

    data: int = Field(1, ge=1, description="rows: copies of the model, which share out a batch")
    model: int = Field(1, ge=1, description="devices of a row: parts of one copy of the model")

    @property
    def devices(self) -> int:
        return self.data * self.model


class Runtime(Settings):
    """Where and how the training runs; none of it changes what is trained, but for precision and seed."""

    strategy: Literal["auto", "single", "mirrored", "multiworker", "tpu", "parameter_server", "mesh"] = Field(
        "auto",
        description="auto: multiworker where there are several workers, parameter_server (asynchronous) where there are "
        "servers too, mesh where one is given, mirrored with several GPUs, else single",
    )
    replicas: int | None = Field(
        None, ge=1, description="devices of this machine to use; without GPUs, that many parts of the CPU"
    )
    mesh: Mesh | None = Field(
        None,
        description="model and hybrid parallel: data × model devices of this machine (without GPUs, parts of the CPU)",
    )
    tpu: str = Field("local", description="name or address of the TPU, for strategy=tpu")
    communication: Literal["auto", "direct", "ring", "nccl"] = Field(
        "auto",
        description="how several workers sum their gradients; direct: each with each, over TCP; ring: TensorFlow's, over gRPC; "
        "auto: NCCL between GPUs; between CPUs direct, or ring where only the given ports can be reached",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="mixed precision: 16-bit arithmetic, float32 weights and softmax"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of weights, shuffling, augmentation and dropout")
    deterministic: bool = Field(False, description="the same bits in every run on the same machine; slower")
    threads: int | None = Field(None, ge=1, description="threads inside one operation; none: all cores")
    parallel_operations: int | None = Field(None, ge=1, description="operations run at once; none: all cores")

    @property
    def asynchronous(self) -> bool:
        """Whether it trains with parameter servers, as asked or as this process's TF_CONFIG says."""
        if self.strategy != "auto":
            return self.strategy == "parameter_server"
        cluster = clusters.current()
        return cluster is not None and bool(cluster.servers)

    @property
    def parts(self) -> int:
        """Devices that share out a copy of the model."""
        return self.mesh.model if self.mesh else 1

    @contextmanager
    def enter(self) -> Iterator[Machine]:
        """Set TensorFlow up for the whole process, once, before anything else uses it.

        Raises:
          Missing: no TPU, or multiworker without other workers. Usage: TF_CONFIG is not what TensorFlow reads.
          PeersLost: another worker died meanwhile.
        """
        cluster = clusters.current()
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
            with self._connections(machine, cluster):
                yield machine
        except Exception as error:
            if (machine.workers > 1 or machine.coordinator) and _lost(error):
                who = "the chief" if machine.coordinator else f"worker {machine.worker} of {machine.workers}"
                raise PeersLost(
                    f"{who} lost the others ({type(error).__name__})\n"
                    "start all workers again: they go on from the last checkpoint"
                ) from error
            raise
        finally:
            keras.mixed_precision.set_global_policy(before)

    @contextmanager
    def _connections(self, machine: Machine, cluster: Cluster | None) -> Iterator[None]:
        """A block in which workers that compute on CPUs sum directly, where they are to and can.

        Raises:
          Missing: they are to, and cannot.
        """
        if machine.workers == 1 or self.communication not in ("auto", "direct"):
            yield
            return
        from tfapp import direct

        assert cluster is not None
        hosts = [address.rpartition(":")[0].strip("[]") for address in cluster.addresses]
        alone = on_cpus() and machine.replicas == machine.workers
        with direct.connected(
            machine.worker, hosts, machine.gather, _alive(machine.strategy), HEARTBEAT, alone
        ) as peers:
            if peers:
                direct.install(machine.strategy, peers)
            elif self.communication == "direct":
                raise Missing(
                    f"runtime.communication=direct, but not all {machine.workers} workers can connect to each other\n"
                    "open the ports above 1023 between them, or leave it out"
                )
            elif alone and machine.chief:
                print(
                    f"the workers did not reach each other within {direct.CONNECT:g} s but at their given ports: "
                    "they sum by TensorFlow's ring (runtime.communication=ring does not try)",
                    file=sys.stderr,
                )
            yield

    def _machine(self, tf: Any, cluster: Cluster | None) -> Machine:
        gpus = tf.config.list_physical_devices("GPU")
        kind: str = self.strategy
        together = "parameter_server" if cluster and cluster.servers else "multiworker"
        if kind == "auto":
            several = (self.replicas or len(gpus)) > 1
            alone = "mesh" if self.mesh else "mirrored" if several else "single"
            kind = together if cluster and cluster.workers > 1 else alone
        if cluster and cluster.workers > 1 and (kind != together or self.replicas or self.mesh):
            told = "runtime.replicas" if self.replicas else "runtime.mesh" if self.mesh else f"runtime.strategy={kind}"
            job = f"worker {cluster.worker} of {cluster.workers}" + " with parameter servers" * bool(cluster.servers)
            raise Refused(
                f"{told} is for another kind of job, but {cluster.source} says that this is {job}\n"
                "leave it out; each worker uses all devices that it sees"
            )
        if self.communication != "auto" and kind != "multiworker":
            raise Refused(
                f"runtime.communication={self.communication} is for several workers (runtime.strategy=multiworker), not for {kind}\n"
                "leave it out, or start several: tfapp launch --workers 2 -- train …"
            )
        if self.communication == "direct" and gpus:
            raise Refused(
                "runtime.communication=direct is for workers that compute on CPUs\nleave it out, or use nccl or ring"
            )
        if self.communication == "nccl" and not gpus:
            raise Missing("runtime.communication=nccl, but no GPU is here\nleave it out, or use ring")
        if kind == "parameter_server":
            return _parameter_server(tf, cluster)
        if kind == "multiworker":
            if cluster is None:
                raise Missing(
                    "runtime.strategy=multiworker, but no TF_CONFIG, Slurm step or Kubernetes Indexed Job names the workers\n"
                    "start them together: tfapp launch --workers 2 -- train …"
                )
            # What TensorFlow reads, whoever told us.
            os.environ["TF_CONFIG"] = os.environ.get("TF_CONFIG") or cluster.config()
            _heed_heartbeats(tf)
            with _waiting_for(f"all {cluster.workers} workers: {', '.join(cluster.addresses)}"):
                strategy = _multiworker(tf, self.communication)
            return Machine(strategy, strategy.num_replicas_in_sync, cluster.worker, cluster.workers)
        if kind == "tpu":
            return _tpu(tf, self.tpu)
        if kind == "mirrored":
            count = self.replicas or len(gpus) or 1
            return Machine(_mirrored(tf, _devices(tf, gpus, count, f"runtime.replicas={count}")), count)
        if kind == "mesh":
            assert self.mesh is not None  # A row of the conflicts.
            data, model = self.mesh.data, self.mesh.model
            strategy = _mirrored(tf, _devices(tf, gpus, data * model, f"a mesh of {data} × {model} devices"))
            strategy.parts = model
            return Machine(strategy, data, parts=model)
        return Machine(tf.distribute.get_strategy(), 1)


def _mirrored(tf: Any, devices: list[str]) -> Any:
    # As TensorFlow's own tests do: a second training in this process must not meet the first one's collectives.
    tf.distribute.MirroredStrategy._collective_key_base += 100_000
    return tf.distribute.MirroredStrategy(devices)


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
            with deferred.uncollected(), deferred.sparingly():
                import tensorflow as tf
                import tf_keras  # noqa: F401

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


def on_cpus() -> bool:
    """Whether TensorFlow, which starts with this, has nothing but CPUs to compute on."""
    import tensorflow as tf

    return not any(map(tf.config.list_logical_devices, ("GPU", "TPU")))


def in_xla() -> bool:
    """Whether what is being traced is for XLA to compile."""
    import tensorflow as tf
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    return not tf.executing_eagerly() and GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def _heed_heartbeats(tf: Any) -> None:
    """Notice a dead or stopped host after HEARTBEAT seconds.

    There is no public setting. It must be given before the strategy is made, with all else that it would set.
    """
    from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
    from tensorflow.python.distribute import multi_worker_util
    from tensorflow.python.eager import context

    spec = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec()
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=multi_worker_util.coordination_leader(spec),
        heartbeat_timeout_in_ms=int(HEARTBEAT * 1000),
        coordinated_jobs=[
            coordination_config_pb2.CoordinatedJob(name=job, num_tasks=spec.num_tasks(job)) for job in spec.jobs
        ],
    )


def _alive(strategy: Any) -> Callable[[int], None]:
    """What asks, through TensorFlow, whether the process of a worker is there and is the one it was."""
    import tensorflow as tf
    from tensorflow.python.eager import context

    from tfapp import direct

    wait = round(1000 * (HEARTBEAT - direct.PATIENCE))
    spec = strategy.cluster_resolver.cluster_spec()
    tasks = [f"/job:{job}/replica:0/task:{n}" for job in sorted(spec.jobs) for n in range(spec.num_tasks(job))]

    def ask(worker: int) -> None:
        try:
            context.context().check_collective_ops_peer_health(tasks[worker], timeout_in_ms=wait)
        except tf.errors.OpError as error:
            raise direct.PeerLost(f"collective: worker {worker} does not answer") from error

    return ask


def _lost(error: Exception) -> bool:
    """Whether a failed operation means that another worker is gone."""
    import tensorflow as tf

    from tfapp import direct

    gone = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.DeadlineExceededError,
        tf.errors.CancelledError,
    )
    # Raised as itself where TensorFlow runs a sum eagerly, and told of in an UnknownError where it is part of a graph.
    if isinstance(error, (*gone, direct.PeerLost)):
        return True
    return isinstance(error, tf.errors.OpError) and "ollective" in str(error)


@contextmanager
def _waiting_for(whom: str) -> Iterator[None]:
    """A block in which TensorFlow waits for others, holding Python; at most TFAPP_START_SECONDS."""
    wait = watch.seconds(watch.START)
    if not signs.launched():
        # Said in advance. A launcher has words of its own.
        print(f"waiting at most {wait:g} s for {whom}", file=sys.stderr, flush=True)
    with watch.limit(wait):
        yield


@contextmanager
def own_port(tf: Any) -> Iterator[None]:
    """A block in which TensorFlow begins to listen at the address that TF_CONFIG gives to this process.

    Raises:
      Missing: something else listens there.
    """
    try:
        yield
    except tf.errors.UnknownError as error:
        if "Could not start gRPC server" not in str(error):
            raise
        signs.tell(port="taken")
        raise Missing(
            "the port that TF_CONFIG gives to this worker is in use on this machine\n"
            "end what listens there (ss -ltnp shows it), or give the worker another port"
        ) from error


def _multiworker(tf: Any, communication: str) -> Any:
    # What TensorFlow itself sums by: all before the workers are connected, and nothing after that where they sum directly.
    own = "AUTO" if communication == "direct" else communication.upper()
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=tf.distribute.experimental.CommunicationImplementation(own)
    )
    with own_port(tf):
        strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    # TensorFlow has just caught SIGTERM for itself; whoever had it in Python is to have it again.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return strategy


def _parameter_server(tf: Any, cluster: Cluster | None) -> Machine:
    if cluster is None or not cluster.servers:
        raise Missing(
            "runtime.strategy=parameter_server, but no TF_CONFIG names a chief, workers and parameter servers (ps)\n"
            "start them together: tfapp launch --workers 2 --ps 1 -- train …"
        )
    others = [*cluster.addresses[1:], *cluster.servers]
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster.jobs), task_type="chief", task_id=0, rpc_layer="grpc"
    )
    with _waiting_for(f"the workers and servers: {', '.join(others)}"), own_port(tf):
        strategy = tf.distribute.ParameterServerStrategy(resolver)
    return Machine(strategy, 1, coordinator=tf.distribute.coordinator.ClusterCoordinator(strategy))


def _devices(tf: Any, gpus: list[Any], count: int, asked: str) -> list[str]:
    if gpus:
        if count > len(gpus):
            raise Missing(f"{asked}, but this machine has {len(gpus)} GPUs\nask for that many or fewer")
        return [f"GPU:{number}" for number in range(count)]
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:
        # TensorFlow has started: the parts it was started with are what there is.
        there = len(tf.config.list_logical_devices("CPU"))
        if there < count:
            raise Missing(f"{asked}, but TensorFlow has started with {there} CPU devices") from None
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
