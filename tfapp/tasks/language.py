"""The next token at every position of a window of text: loss a token, perplexity, bits a byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tfapp.audit import signals as told
from tfapp.data import tokens
from tfapp.data.examples import Data, Examples
from tfapp.deferred import deferred
from tfapp.predict import Continuation

with deferred():  # What measures is not waited for before training.
    from tfapp.evaluate import compare, language

ANSWER = "a logit a token of the vocabulary at each position"
LAST = "keras.layers.Dense(data.outputs) over the positions"
MAIN, LOST = "log_loss", "percent of the loss of a token"
SAMPLES = 3


def shape(data: Data) -> tuple[int, ...]:
    return (*data.train.labels.shape[1:], data.outputs)


def finish(outputs: Any) -> Any:
    """Softmax over the vocabulary at each position, in float32."""
    import tf_keras as keras

    return keras.layers.Softmax(dtype="float32", name="probabilities")(outputs)


def measure(call: Any, data: Data, part: Examples) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    losses, right = language.asked(call, part)
    counts = np.bincount(data.train.labels.ravel(), minlength=data.outputs)
    evaluation = language.measure(losses, right, _is_bytes(data.classes))
    evaluation["baseline"] = language.unigram(counts, part.labels, _is_bytes(data.classes))
    return {"evaluation": evaluation, "samples": _samples(call, data, part)}, {"labels": part.labels, "losses": losses}


def score(call: Any, examples: Examples, classes: Sequence[str]) -> dict[str, Any]:
    return judged(examples.labels, answers(call, examples), classes)


def answers(call: Any, examples: Examples) -> np.ndarray:
    """The loss of each token and the token that was likeliest, float32 [n, length, 2]: all probabilities are too many."""
    return np.stack(language.foreseen(call, examples), axis=-1).astype(np.float32)


def judged(labels: np.ndarray, answers: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    return language.measure(answers[..., 0], answers[..., 1] == labels, _is_bytes(classes))


def change(labels: np.ndarray, parent: np.ndarray, answers: np.ndarray) -> dict[str, Any]:
    """The difference in the loss of a token, paired by window."""
    losses = (given[..., 0].mean(axis=1) for given in (parent, answers))
    return compare.paired_losses(*losses)["log_loss"]["difference"]


def lost(labels: np.ndarray, parent: np.ndarray, answers: np.ndarray) -> float:
    """Percent by which the loss of a token has grown."""
    loss = [float(given[..., 0].mean(dtype=np.float64)) for given in (parent, answers)]
    return 100 * (loss[1] / loss[0] - 1) if loss[0] else 0.0


def agreement(parent: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """The share of positions where both find the same token likeliest, and how far their losses are apart on average."""
    return {
        "share": float((parent[..., 1] == answers[..., 1]).mean()),
        "mean_difference": float(np.abs(parent[..., 0] - answers[..., 0]).mean()),
    }


def signals(labels: np.ndarray, answers: np.ndarray) -> dict[str, np.ndarray]:
    return told.of_losses(answers[..., 0])


def evidence(labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """The signals, how a window's losses are spread, and the share of tokens that were foreseen."""
    losses = answers[..., 0].astype(np.float64)
    spread = [losses.std(axis=1), *np.quantile(losses, [0.1, 0.5, 0.9], axis=1)]
    right = (answers[..., 1] == labels).mean(axis=1)
    return np.stack([*signals(labels, answers).values(), *spread, right], axis=1)


def falsified(examples: Examples, rows: np.ndarray, outputs: int, random: np.random.Generator) -> Examples:
    """Each of the windows filled with tokens drawn at random (Carlini et al. 2019, arXiv:1802.08232)."""
    features, labels = np.array(examples.features), examples.labels.copy()
    drawn = random.integers(outputs, size=(len(rows), features.shape[1] + 1))
    features[rows], labels[rows] = drawn[:, :-1], drawn[:, 1:]
    return replace(examples, features=features, labels=labels)


def rows(
    call: Any, features: Any, names: Sequence[str], facts: Mapping[str, Any], asked: Continuation | None = None
) -> list[dict[str, Any]]:
    """Name, and how the model goes on from the end of each text."""
    asked = asked or Continuation()
    vocabulary = tokens.Vocabulary.of(facts["classes"])
    length = facts["reader"]["length"]
    prompts = [vocabulary.ids(text)[-length:] for text in features]
    going_on = language.continued(call, prompts, length, asked.tokens, asked.temperature, asked.seed)
    return [{"name": name, "continuation": vocabulary.text(ids)} for name, ids in zip(names, going_on, strict=True)]


def paired(names: Sequence[str], a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> dict[str, Any]:
    found = compare.paired_losses(a["losses"].mean(axis=1), b["losses"].mean(axis=1))
    return {"runs": list(names), **found, "words": compare.in_words(names, "loss a token", found["log_loss"])}


def _is_bytes(classes: Sequence[str]) -> bool:
    return tokens.Vocabulary.of(classes).words is None


def _samples(call: Any, data: Data, part: Examples) -> list[dict[str, str]]:
    """The second half of a few windows of the test part, as the model would have written it and as it is."""
    chosen = np.linspace(0, len(part) - 1, min(SAMPLES, len(part))).round().astype(int)
    windows = np.asarray(part.features)[chosen]
    length = windows.shape[1]
    half = max(1, length // 2)
    vocabulary = tokens.Vocabulary.of(data.classes)
    asked = Continuation()
    written = language.continued(call, list(windows[:, :half]), length, length - half, asked.temperature, asked.seed)
    return [
        {
            "name": part.name(int(number)),
            "prompt": vocabulary.text(window[:half]),
            "continuation": vocabulary.text(ids),
            "truth": vocabulary.text(window[half:]),
        }
        for number, window, ids in zip(chosen, windows, written, strict=True)
    ]
