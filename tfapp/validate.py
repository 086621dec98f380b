"""What a plan would train, and about how much memory that takes."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import tensorflow as tf

from tfapp import batch_size, worth
from tfapp.job import Job
from tfapp.mesh import weights as parted
from tfapp.report import words


def describe(job: Job) -> dict[str, Any]:
    """Data, batch shapes, parameters, memory and a checkpoint's size (bytes) of a job, JSON-able; runs no step.

    Memory is an estimate in bytes a replica (of a mesh: a device): weights, gradients, the optimizer's slots, and every layer's
    output for one batch (or a part of it), kept for the backward pass. `tfapp plan` measures.
    """
    size = batch_size.number(job.plan)
    rows = size // job.machine.replicas
    batch = next(iter(job.train.dataset()))[0] if job.machine.replicas == 1 else None
    inputs = tf.nest.map_structure(lambda t: t[None] if t.shape.rank == 0 else t, batch) if batch is not None else None
    job.optimizer.build(job.model.trainable_variables)
    parted.part_slots(job.optimizer, job.model)
    weights = _bytes(job.model.weights)
    activation = 2 if job.plan.runtime.precision != "float32" else 4
    # A layer that is called several times keeps as many outputs.
    calls = Counter(node.layer for nodes in getattr(job.model, "_nodes_by_depth", {}).values() for node in nodes)
    layers = [layer for layer in job.model.layers if hasattr(layer, "output_shape")]
    outputs = sum(_size(layer.output_shape) * max(1, calls[layer]) for layer in layers)
    return {
        "recipe": job.plan.recipe,
        "plan": job.plan.model_dump(mode="json"),
        "data": worth.summary(job.data),
        "classes": list(job.data.classes),
        "batch": {
            "global": size,
            "replicas": job.machine.replicas,
            "per_replica": rows,
            "inputs": tf.nest.map_structure(lambda t: f"{t.dtype.name} {list(t.shape)}", inputs)
            if inputs is not None
            else None,
        },
        "monitor": job.monitor,
        "model": worth.layers(job.model),
        "memory": {
            "weights": weights,
            "gradients": _bytes(job.model.trainable_weights),
            "optimizer": _bytes([v for v in job.optimizer.variables if v.shape.rank]),
            "activations": outputs * rows // job.plan.fit.accumulate * activation,
        },
        "checkpoint": sum(
            math.prod(parted.shape(v)) * v.dtype.size for v in [*job.model.weights, *job.optimizer.variables]
        ),
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The description for a person."""
    model, memory = found["model"], found["memory"]
    width = max(len(layer["name"]) for layer in model["layers"])
    table = [
        f"  {one['name']:{width}}  {one['type']:22} {one['output']!s:28} {one['parameters']:>12,}"
        for one in model["layers"]
    ]
    parts = ", ".join(f"{name} {words.size(size)}" for name, size in memory.items())
    return [
        *table,
        f"inputs of a replica's batch: {found['batch']['inputs']}",
        f"parameters: {model['parameters']:,} ({model['trainable']:,} trainable)",
        f"memory a replica, about: {words.size(sum(memory.values()))} ({parts}), besides TensorFlow and data",
        f"checkpoint: {words.size(found['checkpoint'])}",
        "the plan is sound: train it with the same words after tfapp train",
    ]


def _bytes(variables: Any) -> int:
    return int(sum(np.prod(v.shape, dtype=np.int64) * v.dtype.size for v in variables))


def _size(shape: Any) -> int:
    """Values of one example in a layer's output, over all its tensors."""
    if isinstance(shape, dict):
        return sum(_size(one) for one in shape.values())
    if isinstance(shape, list):
        return sum(_size(one) for one in shape)
    return int(np.prod([size or 1 for size in shape[1:]], dtype=np.int64))
