"""The best few trials as one model: which to take, how much of each, and how they become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tf_keras as keras

ROUNDS = 30


def select(
    labels: np.ndarray, outputs: Mapping[str, np.ndarray], rounds: int = ROUNDS, most: int = 5
) -> tuple[dict[str, float], float]:
    """Greedy forward selection with replacement (R. Caruana and others, «Ensemble selection from libraries», ICML 2004).

    In each round the model is added that makes the mean of all taken so far best; the shorter of equally good
    selections wins.

    Args:
      labels: int [n] class numbers or float [n] targets of the validation part.
      outputs: name → float [n, classes] probabilities or [n, 1] values.
      rounds: how often one is added. most: different models at most.

    Returns:
      (name → weight, summing to 1, the largest first; the selection's loss on the validation part: log loss or mean
      squared error).
    """
    loss = _log_loss if np.issubdtype(labels.dtype, np.integer) else _squared_error
    taken: list[str] = []
    total = np.zeros_like(next(iter(outputs.values())), np.float64)
    best: tuple[float, int] = (np.inf, 0)
    for _ in range(rounds):
        open_ = list(outputs) if len(set(taken)) < most else list(dict.fromkeys(taken))
        losses = {name: loss(labels, (total + outputs[name]) / (len(taken) + 1)) for name in open_}
        name = min(losses, key=losses.__getitem__)
        taken.append(name)
        total = total + outputs[name]
        if losses[name] < best[0] - 1e-12:
            best = losses[name], len(taken)
    kept = taken[: best[1]]
    weights = {name: kept.count(name) / len(kept) for name in dict.fromkeys(kept)}
    return dict(sorted(weights.items(), key=lambda item: -item[1])), best[0]


def joined(members: Sequence[tuple[keras.Model, float]]) -> keras.Model:
    """One model of raw features whose answer is the weighted mean of the members', which take the same features."""
    import tf_keras as keras

    first = members[0][0]
    raw = (
        {name: keras.Input(t.shape[1:], name=name, dtype=t.dtype) for name, t in first.input.items()}
        if isinstance(first.input, dict)
        else keras.Input(first.input.shape[1:], dtype=first.input.dtype)
    )
    parts = []
    for number, (member, weight) in enumerate(members):
        member._name = f"member_{number}"
        parts.append(keras.layers.Rescaling(weight, name=f"weight_{number}")(member(raw, training=False)))
    answer = keras.layers.Add(name="mean")(parts) if len(parts) > 1 else parts[0]
    return keras.Model(raw, answer, name="tfapp_model")


def _log_loss(labels: np.ndarray, outputs: np.ndarray) -> float:
    return float(-np.log(np.clip(outputs[np.arange(len(labels)), labels], 1e-12, 1)).mean())


def _squared_error(targets: np.ndarray, outputs: np.ndarray) -> float:
    return float(((outputs.reshape(len(targets)) - targets) ** 2).mean())
