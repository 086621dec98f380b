"""The one table of combinations that are refused, each with the reason and the way out.

A row is for settings that are each fine alone. What only the data or the devices can tell is refused
where it is found, by the same `Refused`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tfapp.errors import Refused
from tfapp.plan import Plan


class Conflict(NamedTuple):
    """One refused combination."""

    when: Callable[[Plan], object]
    why: str
    instead: str


CONFLICTS = (
    Conflict(
        lambda p: p.fit.schedule.kind == "plateau" and p.fit.schedule.warmup,
        "fit.schedule.kind=plateau with fit.schedule.warmup: both set the learning rate",
        "drop the warm-up, or use fit.schedule.kind=cosine",
    ),
    Conflict(
        lambda p: p.runtime.precision == "float16" and p.runtime.strategy == "tpu",
        "runtime.precision=float16 on a TPU, which has no float16 arithmetic",
        "use runtime.precision=bfloat16",
    ),
    Conflict(
        lambda p: p.runtime.communication != "auto" and p.runtime.strategy not in ("auto", "multiworker"),
        "runtime.communication with a runtime.strategy other than multiworker: it says how several workers sum",
        "leave runtime.communication out",
    ),
    Conflict(
        lambda p: p.fit.jit is True and p.runtime.strategy == "tpu",
        "fit.jit=true on a TPU, where every step is compiled already",
        "leave fit.jit out",
    ),
    Conflict(
        lambda p: p.fit.batch_size == "auto" and p.runtime.strategy == "tpu",
        "fit.batch_size=auto on a TPU, which belongs to one process: none can try batches beside the training",
        "give fit.batch_size a number; tfapp validate estimates the memory",
    ),
    Conflict(
        lambda p: p.runtime.replicas not in (None, 1) and p.runtime.strategy in ("single", "tpu"),
        "runtime.replicas with runtime.strategy=single or tpu, which decide the number of replicas themselves",
        "use runtime.strategy=mirrored, or leave runtime.replicas out",
    ),
    Conflict(
        lambda p: p.runtime.asynchronous and p.runtime.deterministic,
        "runtime.deterministic=true with parameter servers: the workers' order decides the weights, and no run has it twice",
        "leave runtime.deterministic out, or train without servers: --workers 2 alone",
    ),
    Conflict(
        lambda p: p.runtime.asynchronous and p.runtime.replicas,
        "runtime.replicas with parameter servers: a worker is one replica",
        "leave runtime.replicas out, and ask for more workers",
    ),
    Conflict(
        lambda p: p.runtime.asynchronous and p.runtime.precision == "float16",
        "runtime.precision=float16 with parameter servers: the loss scale would be every worker's own",
        "use runtime.precision=bfloat16 or float32",
    ),
    Conflict(
        lambda p: p.runtime.asynchronous and p.fit.jit is True,
        "fit.jit=true with parameter servers: XLA computes on one device, and the variables are on others",
        "leave fit.jit out",
    ),
    Conflict(
        lambda p: p.runtime.asynchronous and p.fit.batch_size == "auto",
        "fit.batch_size=auto with parameter servers: what fits is not measured beside them",
        "see what fits with tfapp plan, and give fit.batch_size that number",
    ),
    Conflict(
        lambda p: p.runtime.asynchronous and p.fit.accumulate > 1,
        "fit.accumulate with parameter servers: a step is one worker's batch, which can be as small as one likes",
        "leave fit.accumulate out, and give fit.batch_size a smaller number",
    ),
    Conflict(
        lambda p: p.runtime.asynchronous and p.private,
        "private with parameter servers: a step that is taken twice, or with examples of another, gives away more than is counted",
        "train without servers: --workers 2 alone",
    ),
    Conflict(
        lambda p: p.runtime.asynchronous and (p.prune or p.cluster or p.quantize),
        "prune, cluster or quantize with parameter servers: what must hold of the weights after each step, other workers undo",
        "one after the other: train with servers, then with start.run=RUN and without them",
    ),
    Conflict(
        lambda p: p.runtime.asynchronous and p.average,
        "average with parameter servers: its momentum is for steps that come one after the other",
        "leave average out",
    ),
    Conflict(
        lambda p: p.runtime.asynchronous and p.audit,
        "audit with parameter servers: an audit compares trainings in which each example has its exact place",
        "audit a run that was trained without servers",
    ),
    Conflict(
        lambda p: p.runtime.strategy == "mesh" and not p.runtime.mesh,
        "runtime.strategy=mesh without a mesh: how many devices share out the model, and how many the batch?",
        "say so, as runtime.mesh.data=2 runtime.mesh.model=2; the strategy follows from it",
    ),
    Conflict(
        lambda p: p.runtime.mesh and p.runtime.mesh.devices == 1,
        "runtime.mesh of one device, which is no mesh",
        "give runtime.mesh.model or runtime.mesh.data a larger number, or leave runtime.mesh out",
    ),
    Conflict(
        lambda p: p.runtime.mesh and p.runtime.strategy not in ("auto", "mesh"),
        "runtime.mesh with another runtime.strategy than mesh",
        "leave runtime.strategy out",
    ),
    Conflict(
        lambda p: p.runtime.mesh and p.runtime.replicas,
        "runtime.replicas with runtime.mesh, which says how many devices there are",
        "leave runtime.replicas out: runtime.mesh.data is the number of copies",
    ),
    Conflict(
        lambda p: p.runtime.mesh and p.fit.jit is True,
        "fit.jit=true with runtime.mesh: XLA compiles a step for one device, and the devices of a mesh meet within it",
        "leave fit.jit out",
    ),
    Conflict(
        lambda p: p.runtime.parts > 1 and p.fit.accumulate > 1,
        "fit.accumulate with runtime.mesh.model: devices cannot meet inside the loop over the parts of a batch",
        "share out the batch instead, with a larger runtime.mesh.data, or give fit.batch_size a smaller number",
    ),
    Conflict(
        lambda p: p.runtime.parts > 1 and p.runtime.precision == "float16",
        "runtime.precision=float16 with runtime.mesh.model: gradients would be clipped before their loss scale is taken off",
        "use runtime.precision=bfloat16 or float32",
    ),
    Conflict(
        lambda p: p.runtime.parts > 1 and p.private,
        "private with runtime.mesh.model: a device sees a part of each example's gradient, and cannot clip it by its whole norm",
        "use runtime.mesh.data alone",
    ),
    Conflict(
        lambda p: p.runtime.parts > 1 and (p.prune or p.cluster or p.quantize),
        "prune, cluster or quantize with runtime.mesh.model: they look at all of a weight, of which a device has a part",
        "one after the other: train with the mesh, then with start.run=RUN and without it",
    ),
    Conflict(
        lambda p: p.runtime.parts > 1 and p.distill and p.distill.hints,
        "distill.hints with runtime.mesh.model: a layer's outputs may be there in parts only",
        "leave the hints out",
    ),
    Conflict(
        lambda p: p.runtime.parts > 1 and p.regularize and (p.regularize.l1 or p.regularize.l2),
        "regularize.l1 or l2 with runtime.mesh.model: the penalty is of all weights, of which a device has a part",
        "use regularize.weight_decay",
    ),
    Conflict(
        lambda p: p.private and (p.private.epsilon is None) == (p.private.noise_multiplier is None),
        "private with both private.epsilon and private.noise_multiplier, or neither: each follows from the other",
        "give one of them, as private.epsilon=3",
    ),
    Conflict(
        lambda p: p.private and p.quantize,
        "private with quantize: the ranges of activations are kept from raw batches, with no noise on them",
        "train with private alone, then make it small: tfapp export RUN --quantize dynamic",
    ),
    Conflict(
        lambda p: p.private and p.runtime.precision == "float16",
        "private with runtime.precision=float16, whose loss scale moves with the examples' own gradients",
        "use runtime.precision=bfloat16 or float32",
    ),
    Conflict(
        lambda p: p.private and p.fit.accumulate > 1,
        "private with fit.accumulate: an example's gradient is clipped before it is summed",
        "take the batch in parts of so many rows with private.microbatch=64: the same step, in less memory",
    ),
    Conflict(
        lambda p: p.private and p.fit.batch_size == "auto",
        "private with fit.batch_size=auto: how much is given away depends on the batch, not on the memory of a machine",
        "give fit.batch_size a number, and private.microbatch one that fits",
    ),
    Conflict(
        lambda p: p.private and p.fit.class_weight != "none",
        "private with fit.class_weight: the classes' shares are counted on the private rows, with no noise on them",
        "leave fit.class_weight out",
    ),
    Conflict(
        lambda p: p.private and (p.fit.clip_norm or p.fit.clip_value),
        "private with fit.clip_norm or fit.clip_value, which clip the sum after the noise",
        "each example's gradient is clipped by private.clip_norm: leave the other out (fit.clip_norm=none)",
    ),
    Conflict(
        lambda p: p.private and not p.fit.shuffle and p.private.sampling == "shuffle",
        "private.sampling=shuffle with fit.shuffle=false: the order would be known",
        "leave fit.shuffle out, or use private.sampling=poisson",
    ),
    Conflict(
        lambda p: p.private and p.distill and p.distill.hints,
        "private with distill.hints: what the hints train is not clipped by example",
        "leave the hints out",
    ),
    Conflict(
        lambda p: p.quantize and p.prune,
        "quantize with prune in one run: zeros come and go while the rounding is learnt",
        "one after the other: train with prune, then with quantize and start.run=RUN, which keeps the zeros",
    ),
    Conflict(
        lambda p: p.quantize and p.cluster,
        "quantize with cluster in one run: the rounding is learnt for values that then change",
        "one after the other: train with cluster, then with quantize and start.run=RUN, which keeps the shared values",
    ),
    Conflict(
        lambda p: p.quantize and p.runtime.precision != "float32",
        "quantize with runtime.precision=bfloat16 or float16, in which 8 bits of rounding are lost in its own",
        "use runtime.precision=float32",
    ),
    Conflict(
        lambda p: p.quantize and p.fit.accumulate > 1,
        "quantize with fit.accumulate: the ranges of activations are those of the whole batch",
        "leave fit.accumulate out",
    ),
    Conflict(
        lambda p: p.fit.jit is True and p.runtime.deterministic,
        "fit.jit=true with runtime.deterministic=true: XLA gives no such promise",
        "choose one of them",
    ),
    Conflict(
        lambda p: p.quantize and p.distill and p.distill.hints,
        "quantize with distill.hints: the layers that would be told are wrapped",
        "give the hints to the training before: train with distill, then with quantize and start.run=RUN",
    ),
    Conflict(
        lambda p: p.audit and (p.audit.shadow is None) == (p.audit.canaries is None),
        "audit without audit.shadow or audit.canaries, or with both: it is one training of an audit",
        "leave the section out, and audit a finished run: tfapp audit RUN",
    ),
    Conflict(
        lambda p: p.start and not p.start.run,
        "start without start.run: there are no weights to begin with",
        "name a finished run: start=RUN",
    ),
    Conflict(
        lambda p: p.distill and not p.distill.teacher,
        "distill without distill.teacher: there is no one to learn from",
        "name a finished run, or the folder of a SavedModel: distill=RUN",
    ),
    Conflict(
        lambda p: p.distill and not p.distill.alpha and not p.distill.hints,
        "distill.alpha=0 without distill.hints: nothing would be learned from the teacher",
        "give the teacher's answers some weight, as distill.alpha=0.5",
    ),
)


def check(plan: Plan) -> None:
    """Refuse what does not go together.

    Raises:
      Refused: for the first row of the table that holds.
    """
    for conflict in CONFLICTS:
        if conflict.when(plan):
            raise Refused(f"{conflict.why}\n{conflict.instead}")
