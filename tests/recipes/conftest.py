"""Small data that several recipes are tried on."""

from __future__ import annotations

import numpy as np
import pytest

WORDS = {"sport": ["goal", "match", "team", "coach", "won"], "money": ["stock", "bank", "price", "market", "fell"]}


@pytest.fixture
def news(tmp_path):
    """300 headlines of two classes, with words of their own and common ones."""
    random = np.random.default_rng(0)
    lines = ["text,label"]
    for row in range(300):
        label = ["sport", "money"][row % 2]
        words = [*random.choice(WORDS[label], 2), *random.choice(["the", "a", "of", "in", "on", "at"], 4)]
        lines.append(" ".join(random.permutation(words)) + f" {row},{label}")
    path = tmp_path / "news.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)
