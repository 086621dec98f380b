"""How well a language model foresees text that it has never seen, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfapp.data.examples import Examples
from tfapp.errors import Failed, Missing
from tfapp.evaluate.bootstrap import absent, affordable, means, score

# Probabilities held at once: 64 MB of float32.
MOST_HELD = 2**24


def asked(call: Any, examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    """What the model makes of each token, window by window, so that large vocabularies fit in memory.

    Args:
      call: token ids int32 [b, length] -> probabilities of the next token float32 [b, length, vocabulary].
      examples: windows; features int32 [n, length], labels int32 [n, length].

    Returns:
      (natural-log loss of each token float32 [n, length], whether it was the likeliest bool [n, length]).

    Raises:
      Missing: there is no window. Failed: a probability is NaN or infinite.
    """
    losses, likeliest = foreseen(call, examples)
    return losses, likeliest == examples.labels


def foreseen(call: Any, examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    """The same with the likeliest token itself, int32 [n, length]."""
    windows, labels = np.asarray(examples.features), examples.labels
    if not len(labels):
        raise Missing("no window of text to evaluate on: the part is shorter than one\ngive it a larger share")
    losses, likeliest = np.empty(labels.shape, np.float32), np.empty(labels.shape, np.int32)
    rows, start = 1, 0
    while start < len(labels):
        here = slice(start, start + rows)
        probabilities = call(windows[here])
        known = np.take_along_axis(probabilities, labels[here][..., None], axis=-1)[..., 0]
        if not np.isfinite(known).all():
            raise Failed(
                f"the model answers NaN or infinity for window {start + 1} of {len(labels)}\n"
                "look for too large a learning rate; a smaller one or fit.clip_norm=1 often helps"
            )
        losses[here] = -np.log(np.maximum(known, np.finfo(np.float32).tiny))
        likeliest[here] = probabilities.argmax(axis=-1)
        start, rows = start + rows, max(1, min(32, MOST_HELD // probabilities[0].size))
    return losses, likeliest


def measure(losses: np.ndarray, right: np.ndarray, is_bytes: bool, seed: int = 0) -> dict[str, Any]:
    """Loss a token, perplexity, bits a byte and accuracy, resampled by window: tokens of one window hang together.

    Args:
      losses: float [n, length], natural-log loss of each token; right: bool [n, length].
      is_bytes: the tokens are bytes; otherwise there are no bits a byte.
      seed: of the resampling.

    Returns:
      `n` (tokens), `windows`, `tokens` ("bytes" or "words"), `scores`, `by_position` (mean loss at each position).
    """
    columns = np.stack([losses.mean(axis=1, dtype=np.float64), right.mean(axis=1)], axis=1)
    log_loss, accuracy = means(columns, affordable(len(columns), 2) or 100, np.random.default_rng(seed)).T
    loss = float(columns[:, 0].mean())
    scores = {
        "bits_per_byte": score(loss / np.log(2), log_loss / np.log(2))
        if is_bytes
        else absent("words leave out the spaces between them and what the vocabulary lacks"),
        "perplexity": score(float(np.exp(loss)), np.exp(log_loss)),
        "log_loss": score(loss, log_loss),
        "accuracy": score(float(columns[:, 1].mean()), accuracy),
    }
    return {
        "n": int(losses.size),
        "windows": len(losses),
        "tokens": "bytes" if is_bytes else "words",
        "scores": scores,
        "by_position": [float(value) for value in losses.mean(axis=0, dtype=np.float64)],
    }


def unigram(counts: np.ndarray, labels: np.ndarray, is_bytes: bool) -> dict[str, float]:
    """What knowing only how common each token is would give: its loss on `labels`, add-one smoothed.

    Args:
      counts: how often each token occurs in the training part, int [vocabulary].
    """
    share = (counts + 1) / (counts.sum() + len(counts))
    loss = float(-np.log(share)[labels].mean())
    return {"log_loss": loss, "perplexity": float(np.exp(loss))} | (
        {"bits_per_byte": float(loss / np.log(2))} if is_bytes else {}
    )


def continued(
    call: Any, prompts: Sequence[np.ndarray], length: int, count: int, temperature: float, seed: int
) -> list[np.ndarray]:
    """How the model goes on from each prompt, a token at a time; it sees at most the last `length` tokens.

    Args:
      call: token ids int32 [b, length] -> probabilities float32 [b, length, vocabulary]; causal, so what stands after
        a prompt's end does not matter.
      prompts: token ids, at least one each.
      count: tokens to write.
      temperature: probabilities go as p^(1/temperature); 0 takes the likeliest token.
      seed: of the draws.

    Returns:
      int64 [count] for each prompt.
    """
    random = np.random.default_rng(seed)
    texts = [np.asarray(prompt, np.int64) for prompt in prompts]
    rows = np.arange(len(texts))
    for _ in range(count):
        seen = [text[-length:] for text in texts]
        window = np.zeros((len(texts), length), np.int32)
        for row, text in enumerate(seen):
            window[row, : len(text)] = text
        probabilities = call(window)[rows, [len(text) - 1 for text in seen]].astype(np.float64)
        chosen = _drawn(probabilities, temperature, random.random(len(texts)))
        texts = [np.append(text, token) for text, token in zip(texts, chosen, strict=True)]
    return [text[len(text) - count :] for text in texts]


def _drawn(probabilities: np.ndarray, temperature: float, luck: np.ndarray) -> np.ndarray:
    """A token a row of float64 [n, vocabulary], by its numbers in [0, 1)."""
    if temperature == 0:
        return probabilities.argmax(axis=1)
    logits = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)) / temperature
    shares = np.exp(logits - logits.max(axis=1, keepdims=True)).cumsum(axis=1)
    return (shares < luck[:, None] * shares[:, -1:]).sum(axis=1)
