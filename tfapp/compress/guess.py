"""How small a model will be at a level, before hours are spent: its weights are pruned and shared without training."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import tf_keras as keras

from tfapp import export, kernels, lite, sharing, tasks, weights
from tfapp.data.examples import Data
from tfapp.evaluate import latency
from tfapp.plan import Plan
from tfapp.preprocess import Preprocess


def size(
    module: ModuleType, plan: Plan, data: Data, saved: Path | None, strengths: Mapping[str, float], quantize: bool
) -> dict[str, int]:
    """Bytes of the TFLite file, plain and packed by gzip, that the stages will leave; right to a few per cent.

    Args:
      module, plan, data: of the model. saved: its trained weights; None: untrained ones, which pack as well.
      strengths: of prune and cluster. quantize: whether weights end in 8 bits.

    Raises:
      Refused: the model does not become a TFLite file, or the weights are not this model's.
    """
    preprocess = Preprocess.of(module, plan.config, data)
    inputs = preprocess.inputs()
    model = module.model(plan.config, inputs, data)
    if saved is not None:
        weights.take(saved, preprocess, model, data.task)
    for kernel in kernels.chosen(model, ["*"], [], "compress"):
        values = kernel.weight.numpy()
        if "prune" in strengths:
            values = np.where(np.abs(values) > np.quantile(np.abs(values), strengths["prune"]), values, 0)
        if "cluster" in strengths:
            kernel.weight.assign(values)
            values = sharing.Shared(kernel.weight).fit(int(strengths["cluster"]), seed=0)
        kernel.weight.assign(values)
    # Preprocessing weighs next to nothing, or stands beside the file.
    fresh = preprocess.inputs()
    whole = keras.Model(fresh, tasks.of(data.task).finish(model(fresh, training=False)))
    with tempfile.TemporaryDirectory() as place:
        export.saved_model(whole, Path(place) / "model", batch=1)
        file = Path(place) / "model.tflite"
        # The weights of dynamic are those of int8, and it needs no data.
        file.write_bytes(lite.convert(Path(place) / "model", "dynamic" if quantize else "none"))
        found = latency.size(file)
    return {"size": found["bytes"], "gzip": found["gzip_bytes"]}
