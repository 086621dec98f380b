"""Whether more or less of a number is better, by its name."""

from __future__ import annotations

MORE_IS_BETTER = ("acc", "auc", "precision", "recall", "f1", "r2", "iou", "cosine_similarity")


def more_is_better(monitor: str, mode: str = "auto") -> bool:
    """Whether a larger value of the monitored metric is the better one; auto goes by its name."""
    return mode == "max" or (mode == "auto" and any(word in monitor.lower() for word in MORE_IS_BETTER))
