"""What a training step takes on this machine, measured by real steps in a process of its own.

A batch that is too large ends the process that tries it, often by the kernel's hand: so the command, or the
training that asks, only talks to one. `python -m tfapp.measure` is that process: it reads a plan, makes its
job as a training does, and answers questions, a line of JSON each.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil

from tfapp import environment, errors
from tfapp.batch_size import Measured, settled
from tfapp.plan import Plan
from tfapp.report import words

if TYPE_CHECKING:
    from tfapp.job import Job

# Of the memory that is free: what else runs here, and what training adds later (validation, checkpoints), need some.
SHARE = 0.8
# How long one size is run for, in seconds, once it is traced.
WINDOW = 0.5
_LOOK = 0.01
# The process is alone, whatever the environment says of a cluster: TF_CONFIG comes first.
_CLUSTER_OF_ONE = '{"cluster": {"worker": ["localhost:1"]}, "task": {"type": "worker", "index": 0}}'


class Measuring:
    """A process that runs training steps of a plan; started again when a batch has ended it. A context manager.

    Args:
      plan: its batch size is not looked at.
      workers: of the whole job; the steps are those of one of them, alone.
      neighbours: how many of the workers share this machine's memory.

    Attributes:
      kind: CPU or GPU. replicas: of this worker. training: training examples over all workers.
      limit: bytes that the process may take.

    Raises:
      Refused: a TPU. Missing: not even data and model fit. Failed: the process ended for another reason.
      Expected: what the recipe's data or model raise.
    """

    def __init__(self, plan: Plan, workers: int = 1, neighbours: int = 1):
        if plan.runtime.strategy == "tpu":
            raise errors.Refused(
                "a TPU belongs to one process at a time, so steps cannot be tried beside a training\n"
                "give fit.batch_size a number; tfapp validate estimates the memory"
            )
        self._plan, self.workers = _alone(plan, workers), workers
        self.limit = int(environment.free_memory() * SHARE) // neighbours
        self._process: subprocess.Popen[bytes] | None = None
        self._told = tempfile.TemporaryFile()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Measuring:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def room(self) -> str:
        """Where a batch must fit, for a person."""
        return f"{words.size(self.limit)} of memory" if self.kind == "CPU" else "the memory of the GPU"

    def train(self, batch: int, seconds: float | None = None) -> Measured | None:
        """Run training steps of `batch` examples; None: they do not fit.

        Raises:
          TimeoutError: not done within so many seconds.
        """
        answer = self._ask({"train": batch}, seconds)
        if answer is None:
            return None
        if self.kind == "CPU" and answer["memory"] > self.limit:
            # Over the limit between two looks; what a smaller batch takes could not be told any more.
            self._stop()
            return None
        return Measured(batch, answer["memory"], answer["seconds"])

    def evaluate(self, batch: int) -> float:
        """Seconds of one validation step of a training with such batches; 0 without validation examples."""
        answer = self._ask({"evaluate": batch})
        if answer is None:
            raise errors.Missing(
                f"a validation step beside training steps of {batch} examples does not fit in {self.room}\n"
                "take a smaller fit.batch_size"
            )
        return answer["seconds"]

    def describe(self, batch: int) -> dict[str, Any]:
        """`validate.describe` of the job at this batch size; with `base`: the peak of memory before the first step."""
        answer = self._ask({"describe": batch})
        if answer is None:
            raise self._no_room()
        return answer

    def close(self) -> None:
        """End the process."""
        self._stop()
        self._told.close()

    def _start(self) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        aside = {**os.environ, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_CONFIG": _CLUSTER_OF_ONE}
        self._told.seek(0)
        self._told.truncate()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tfapp.measure"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._told,
            env=aside,
        )
        ready = self._ask({"plan": self._plan.model_dump(mode="json")})
        if ready is None:
            raise self._no_room()
        self.kind, self.replicas, self.training = ready["kind"], ready["replicas"], ready["training"]

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _no_room(self) -> errors.Missing:
        return errors.Missing(
            f"TensorFlow, the data and the model alone do not fit in {words.size(self.limit)} of memory\n"
            "free some memory, take a smaller model or fewer data, or a larger machine"
        )

    def _ask(self, question: dict[str, Any], seconds: float | None = None) -> dict[str, Any] | None:
        """The process's answer; None if it ran out of memory, by its own account or by having to be ended."""
        if self._process is None:
            self._start()
        process = self._process
        assert process is not None and process.stdin is not None
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # It has ended; reading says how.
        line, why = self._wait(process, seconds)
        if line:
            answer = json.loads(line)
            if "error" in answer:
                raise getattr(errors, answer["error"])(answer["said"])
            return answer if answer["fits"] else None
        if why == "time":
            raise TimeoutError
        if why == "memory" or process.returncode in (-signal.SIGKILL, -signal.SIGABRT):
            return None
        self._told.seek(0)
        last = (self._told.read().decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        raise errors.Failed(
            f"the process that tries a training step ended with {process.returncode}: {last}\n"
            "train with a number to see where: fit.batch_size=16 --steps 2 --debug"
        )

    def _wait(self, process: subprocess.Popen[bytes], seconds: float | None) -> tuple[bytes, str]:
        """A line, or none and why the process was ended: memory, time, or its own doing."""
        until = None if seconds is None else time.monotonic() + seconds
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not selector.select(_LOOK):
                late = until is not None and time.monotonic() > until
                if late or _held(process.pid) > self.limit:
                    self._stop()
                    return b"", "time" if late else "memory"
        line = process.stdout.readline()
        if not line:
            process.wait()
            self._stop()
        return line, ""


def stretch(model: Any, function: Any, iterator: Any, steps: int) -> float:
    """Seconds of one of so many steps, run at once by a model's training or evaluating function."""
    model._steps_per_execution.assign(steps)
    began = time.perf_counter()
    logs = function(iterator)
    # A GPU is still at work when the function returns.
    [float(value) for value in logs.values()]
    return (time.perf_counter() - began) / steps


def _alone(plan: Plan, workers: int) -> Plan:
    """The plan as one of several workers runs it, without the others."""
    if workers == 1 and plan.runtime.strategy not in ("multiworker", "parameter_server"):
        return plan
    # As MultiWorkerMirroredStrategy does: all GPUs of the machine, or the whole CPU as one.
    alone = plan.runtime.model_copy(update={"strategy": "auto", "replicas": None})
    return plan.model_copy(update={"runtime": alone})


def _held(pid: int) -> int:
    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return 0


# ---------------------------------------------------------------- in the process


def main() -> None:
    """Answer the questions on standard input until it ends."""
    # What a recipe prints must not get between the answers; Ctrl-C is for the process that asks.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _be_the_first_to_go()

    def tell(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        _serve(tell)
    except errors.Expected as error:
        tell({"error": type(error).__name__, "said": str(error)})


def _be_the_first_to_go() -> None:
    """Where the kernel must end a process for want of memory, it is this one."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass


def _serve(tell: Callable[[dict[str, Any]], None]) -> None:
    from tfapp import recipe as recipes
    from tfapp.plan import schema

    asked = json.loads(sys.stdin.readline())["plan"]
    module = recipes.load(recipes.find(asked["recipe"]))
    plan = schema(module.Config).model_validate(asked)

    from tfapp.runtime import import_tensorflow

    import_tensorflow()
    from tfapp import features
    from tfapp import job as jobs

    with plan.runtime.enter() as machine:
        plan = _with_any_noise(settled(plan, machine.replicas * plan.fit.accumulate))
        data = features.data(plan, module)
        with machine.strategy.scope():
            job = features.apply(plan, jobs.of(plan, module, data, machine))
        steps = _Steps(job)
        tell({"fits": True, "kind": steps.kind, "replicas": machine.replicas, "training": len(data.train)})
        for line in sys.stdin:
            ((what, batch),) = json.loads(line).items()
            tell(_guarded(getattr(steps, what), batch))


def _with_any_noise(plan: Plan) -> Plan:
    """Noise costs the same however much it is; to find how much a budget asks for would take memory of its own."""
    if plan.private is None:
        return plan
    noise = {"epsilon": None, "noise_multiplier": 1.0}
    return plan.model_copy(update={"private": plan.private.model_copy(update=noise)})


def _guarded(answer: Callable[[int], dict[str, Any]], batch: int) -> dict[str, Any]:
    """The answer, or that there was not enough memory for it."""
    import tensorflow as tf

    try:
        return {"fits": True, **answer(batch)}
    except (MemoryError, tf.errors.ResourceExhaustedError):
        return {"fits": False}
    except tf.errors.OpError as error:
        # cuDNN and cuBLAS report their own failed allocations as internal errors.
        if "out of memory" in str(error).lower() or "failed to allocate" in str(error).lower():
            return {"fits": False}
        raise


class _Steps:
    """A job whose steps are run and timed, with the engine's own compiled step and input pipeline."""

    def __init__(self, job: Job):
        import tensorflow as tf

        from tfapp.train import compiled

        self._job = job
        compiled(job)
        self._gpus = [gpu.name.removeprefix("/physical_device:") for gpu in tf.config.list_physical_devices("GPU")]
        self.kind = "GPU" if self._gpus else "CPU"
        self._base = environment.peak_memory()

    def describe(self, batch: int) -> dict[str, Any]:
        from tfapp import validate

        return {**validate.describe(_resized(self._job, batch)), "base": self._base}

    def train(self, batch: int) -> dict[str, Any]:
        import tensorflow as tf

        for gpu in self._gpus:
            tf.config.experimental.reset_memory_stats(gpu)
        job = _resized(self._job, batch)
        with job.machine.strategy.scope():
            step = job.model.make_train_function()
            seconds = self._time(step, job.train)
        gpus = [tf.config.experimental.get_memory_info(gpu)["peak"] for gpu in self._gpus]
        return {"seconds": seconds, "memory": max(gpus, default=environment.peak_memory())}

    def evaluate(self, batch: int) -> dict[str, Any]:
        batches = _resized(self._job, batch).validation
        if batches is None:
            return {"seconds": 0.0}
        with self._job.machine.strategy.scope():
            return {"seconds": self._time(self._job.model.make_test_function(), batches)}

    def _time(self, function: Any, batches: Any) -> float:
        """Seconds of one step, tracing left out: the best of several stretches, as what else runs only slows it."""
        model = self._job.model
        iterator = iter(batches.distributed(self._job.machine))

        def run(steps: int) -> float:
            return stretch(model, function, iterator, steps)

        run(1)
        # The four batches that were made ahead during the tracing would hide what a batch takes to make.
        each = run(4)
        steps = max(1, int(WINDOW / 10 / each))
        stretches = max(3, min(10, int(WINDOW / each / steps)))
        return min(run(steps) for _ in range(stretches))


def _resized(job: Job, batch: int) -> Job:
    """The job with batches of another size."""
    validation = replace(job.validation, batch_size=batch // job.plan.fit.accumulate) if job.validation else None
    plan = settled(job.plan, batch)
    # Of a private training every row is taken, as if that many had been drawn.
    train = replace(job.train, batch_size=batch, choice=None)
    return replace(job, plan=plan, train=train, validation=validation)


if __name__ == "__main__":
    main()
