"""Writes what the rivals train, for all alike: a recipe's preprocessed arrays, and its untrained model for Keras."""

import sys
from pathlib import Path

import numpy as np

from tfapp.cli import asking

folder, words = Path(sys.argv[1]), sys.argv[2:]
_, recipe, plan, _ = asking.ask(words, [], None, None)
with plan.runtime.enter() as machine:
    from tfapp import job as jobs
    from tfapp.preprocess import Preprocess

    data = recipe.data(plan.config)
    preprocess = Preprocess.of(recipe, plan.config, data)
    arrays = {}
    for name, part in (("train", data.train), ("validation", data.validation)):
        features = preprocess.apply(part).features
        columns = features if isinstance(features, dict) else {"": features}
        arrays |= {f"{name}/{key}": column for key, column in columns.items()}
        arrays[f"{name}_labels"] = part.labels
    np.savez(folder / "arrays.npz", **arrays)
    jobs.of(plan, recipe, data, machine).model.save(folder / "model.keras")
