"""The next token at every position of a window of text: loss a token, perplexity, bits a byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from tfapp.data import tokens
from tfapp.data.examples import Data, Examples
from tfapp.evaluate import language
from tfapp.evaluate.compare import in_words, paired_losses
from tfapp.predict import Continuation

ANSWER = "a logit a token of the vocabulary at each position"
LAST = "keras.layers.Dense(data.outputs) over the positions"
SAMPLES = 3


def shape(data: Data) -> tuple[int, ...]:
    return (*data.train.labels.shape[1:], data.outputs)


def finish(outputs: Any) -> Any:
    """Softmax over the vocabulary at each position, in float32."""
    return keras.layers.Softmax(dtype="float32", name="probabilities")(outputs)


def measure(call: Any, data: Data, part: Examples) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    losses, right = language.asked(call, part)
    counts = np.bincount(data.train.labels.ravel(), minlength=data.outputs)
    evaluation = language.measure(losses, right, _is_bytes(data.classes))
    evaluation["baseline"] = language.unigram(counts, part.labels, _is_bytes(data.classes))
    return {"evaluation": evaluation, "samples": _samples(call, data, part)}, {"labels": part.labels, "losses": losses}


def score(call: Any, examples: Examples, classes: Sequence[str]) -> dict[str, Any]:
    return language.measure(*language.asked(call, examples), _is_bytes(classes))


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
    found = paired_losses(a["losses"].mean(axis=1), b["losses"].mean(axis=1))
    return {"runs": list(names), **found, "words": in_words(names, "loss a token", found["log_loss"])}


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
