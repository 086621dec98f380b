"""How well a classifier tells its classes apart, on examples it has never seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse, stats

from tfapp.deferred import hidden
from tfapp.errors import Failed, Missing
from tfapp.evaluate.bootstrap import Score, absent, affordable, resamples, score

with hidden("pandas"):  # scikit-learn would import it, and do nothing with it: 0.2 s, 75 MB.
    from sklearn import metrics

CURVE_POINTS = 200
MOST_CURVES = 20
THRESHOLDS = 512


def measure(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Everything worth knowing about a classifier's answers, each headline number with its interval.

    Accuracy, precision, recall and F1 are resampled as draws from the confusion matrix; the areas under the
    curves, log loss and Brier score as draws of examples. Averages over classes (macro) are taken over the
    classes that occur, as scikit-learn does.

    Args:
      labels: int [n], class numbers.
      probabilities: float [n, K], each row sums to 1.
      classes: K names in the order of their numbers. Of two, the second is the positive one.
      seed: of the resampling.

    Returns:
      `n`, `classes`, `scores` (name → score), `per_class`, `confusion_matrix` (rows: true classes),
      `curves` (`roc` and `pr`, each a list of {class, x, y}; `class` is None for the mean of all),
      `baseline` (the accuracy of always answering the commonest class).

    Raises:
      Missing: there is no example. Failed: a probability is NaN or infinite. ValueError: wrong shapes or sums.
    """
    labels, probabilities = checked(labels, probabilities, len(classes))
    rng = np.random.default_rng(seed)
    predicted = probabilities.argmax(axis=1)
    matrix = metrics.confusion_matrix(labels, predicted, labels=np.arange(len(classes)))
    scores = _counted(matrix, rng)
    if len(classes) > 10:
        top = np.argpartition(-probabilities, 4, axis=1)[:, :5]
        scores["top_5_accuracy"] = _share(int((top == labels[:, None]).any(axis=1).sum()), len(labels), rng)
    areas, curves = _areas(labels, probabilities, classes)
    scores |= _ranked(labels, probabilities, classes, areas, rng)
    commonest = int(matrix.sum(axis=1).argmax())
    return {
        "n": len(labels),
        "classes": [str(name) for name in classes],
        "scores": scores,
        "per_class": _per_class(matrix, classes, areas),
        "confusion_matrix": matrix.tolist(),
        "curves": curves,
        "baseline": {"class": str(classes[commonest]), "accuracy": float(matrix[commonest].sum() / len(labels))},
    }


def checked(labels: np.ndarray, probabilities: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The two arrays as int64 [n] and float32 or float64 [n, K], or an error that says what is wrong with them."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    if len(labels) == 0:
        raise Missing("no example to evaluate on: the part is empty\ngive it a share, as in config.split.test=0.1")
    if probabilities.shape != (len(labels), classes) or labels.ndim != 1:
        wanted = [len(labels), classes]
        raise ValueError(f"labels {labels.shape} want probabilities {wanted}, not {probabilities.shape}")
    if probabilities.dtype not in (np.float32, np.float64):
        probabilities = probabilities.astype(np.float32)
    bad = ~np.isfinite(probabilities).all(axis=1)
    if bad.any():
        raise Failed(
            f"the model answers NaN or infinity for {bad.sum()} of {len(labels)} examples "
            f"(the first: number {bad.argmax()})\n"
            "look for NaN in the data and the weights; a smaller learning rate or fit.clip_norm=1 often helps"
        )
    sums = probabilities.sum(axis=1)
    if (probabilities < 0).any() or np.abs(sums - 1).max() > 0.02:
        raise ValueError(f"rows sum to {sums.min():.4g}–{sums.max():.4g}, not to 1: apply softmax to logits first")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels are {labels.min()}–{labels.max()}, classes are 0–{classes - 1}")
    return labels.astype(np.int64), probabilities


def example_losses(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log loss and Brier score of every example, float64 [n] each.

    As in scikit-learn, probabilities are kept a rounding error away from 0, and the Brier score of two classes
    is halved, so that it is the squared error of the positive class's probability.
    """
    rows = np.arange(len(labels))
    right = probabilities[rows, labels].astype(np.float64)
    log_loss = -np.log(np.clip(right, np.finfo(probabilities.dtype).eps, 1))
    squares = np.square(probabilities, dtype=np.float64).sum(axis=1)
    brier = squares - 2 * right + 1
    return log_loss, brier / 2 if probabilities.shape[1] == 2 else brier


def _rates(actual: np.ndarray, predicted: np.ndarray, right: np.ndarray) -> dict[str, np.ndarray]:
    """Every score that depends on counts alone, from counts a class: float [..., K] → float [...]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = np.where(actual > 0, right / actual, 0)
        precision = np.where(predicted > 0, right / predicted, 0)
        f1 = np.where(actual + predicted > 0, 2 * right / (actual + predicted), 0)
        n = actual.sum(-1)
        occurs = actual + predicted > 0
        rates = {"accuracy": right.sum(-1) / n, "balanced_accuracy": recall.sum(-1) / (actual > 0).sum(-1)}
        for name, values in {"precision": precision, "recall": recall, "f1": f1}.items():
            rates[f"{name}_macro"] = (values * occurs).sum(-1) / occurs.sum(-1)
            rates[f"{name}_weighted"] = (values * actual).sum(-1) / n
    return rates


def _counted(matrix: np.ndarray, rng: np.random.Generator) -> dict[str, Score]:
    """The scores of the confusion matrix. Only its filled cells are drawn, so that many classes stay cheap."""
    n, (true, guess) = int(matrix.sum()), np.nonzero(matrix)
    cells = np.arange(len(true))
    shape = (len(cells), len(matrix))
    is_true = sparse.csr_array((np.ones(len(cells)), (cells, true)), shape)
    is_guess = sparse.csr_array((np.ones(len(cells)), (cells, guess)), shape)
    is_right = sparse.csr_array(((true == guess).astype(float), (cells, true)), shape)
    draws = rng.multinomial(n, matrix[true, guess] / n, size=affordable(len(cells), len(cells) // 50) or 100)
    values = _rates(matrix.sum(1), matrix.sum(0), matrix.diagonal())
    replicates = _rates(draws @ is_true, draws @ is_guess, draws @ is_right)
    scores = {name: score(float(value), replicates[name]) for name, value in values.items()}
    return scores | {"accuracy": _all_or_nothing(scores["accuracy"], int(matrix.trace()), n)}


def _share(count: int, n: int, rng: np.random.Generator) -> Score:
    """A share of n examples, with its interval."""
    return _all_or_nothing(score(count / n, rng.binomial(n, count / n, size=1000) / n), count, n)


def _all_or_nothing(share: Score, count: int, n: int) -> Score:
    """Resampling a test set without one mistake knows no doubt; Clopper and Pearson (1934) do."""
    if 0 < count < n:
        return share
    low, high = stats.binomtest(count, n).proportion_ci(method="exact")
    return {"value": share["value"], "low": float(low), "high": float(high)}


def _areas(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> tuple[list[dict], dict[str, list]]:
    """Areas under the ROC and precision-recall curves of each class against the rest, and the curves, thinned."""
    areas: list[dict] = []
    roc, pr = [], []
    for number, name in enumerate(classes):
        truth = labels == number
        if not truth.any() or truth.all():
            areas.append({"reason": f"{'every' if truth.any() else 'no'} example is of class {str(name)!r}"})
            continue
        false_positive, true_positive, _ = metrics.roc_curve(truth, probabilities[:, number])
        precision, recall, _ = metrics.precision_recall_curve(truth, probabilities[:, number])
        roc_auc = float(metrics.auc(false_positive, true_positive))
        pr_auc = float(-np.sum(np.diff(recall) * precision[:-1]))
        areas.append({"roc_auc": roc_auc, "pr_auc": pr_auc})
        roc.append({"class": str(name), "area": roc_auc} | _thinned(false_positive, true_positive))
        # Thresholds below the last positive's add nothing: the curve ends where all are found.
        found = int((recall == 1).sum()) - 1
        pr.append({"class": str(name), "area": pr_auc} | _thinned(recall[found:][::-1], precision[found:][::-1]))
    if len(classes) == 2:
        return areas, {"roc": roc[1:], "pr": pr[1:]}
    return areas, {"roc": _weakest(roc) + _average(roc), "pr": _weakest(pr) + _average(pr)}


def _thinned(x: np.ndarray, y: np.ndarray) -> dict[str, list[float]]:
    """At most CURVE_POINTS points of a curve, evenly along its way, both ends kept."""
    if len(x) > CURVE_POINTS:
        way = np.concatenate([[0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
        keep = np.unique(np.searchsorted(way, np.linspace(0, way[-1], CURVE_POINTS)).clip(0, len(x) - 1))
        keep[-1] = len(x) - 1
        x, y = x[keep], y[keep]
    return {"x": np.round(x, 5).tolist(), "y": np.round(y, 5).tolist()}


def _weakest(curves: list[dict]) -> list[dict]:
    """The curves with the smallest areas, in the order of the classes."""
    kept = sorted(curves, key=lambda curve: curve["area"])[:MOST_CURVES]
    return [curve for curve in curves if curve in kept]


def _average(curves: list[dict]) -> list[dict]:
    """The mean of the classes' curves at every x."""
    if len(curves) < 2:
        return []
    x = np.linspace(0, 1, 101)
    y = np.mean([np.interp(x, curve["x"], curve["y"]) for curve in curves], axis=0)
    y[0] = np.mean([curve["y"][0] for curve in curves])
    return [{"class": None, "area": float(np.mean([curve["area"] for curve in curves]))} | _thinned(x, y)]


def _ranked(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], areas: list[dict], rng: np.random.Generator
) -> dict[str, Score]:
    """The areas under the curves, log loss and Brier score, from one set of resampled examples."""
    n = len(labels)
    wanted = [1] if len(classes) == 2 else range(len(classes))
    measured = [number for number in wanted if "roc_auc" in areas[number]]
    losses = np.stack(example_losses(labels, probabilities), axis=1)
    count = affordable(n, len(measured))
    cells = [_cells(labels == number, probabilities[:, number]) for number in measured] if count else []
    drawn_losses, drawn_areas = [], []
    for drawn in resamples(n, count or 100, rng):
        drawn_losses.append((losses.T @ drawn).T / n)
        if cells:
            drawn_areas.append(np.stack([_binned_areas(of_class @ drawn) for of_class in cells], axis=1))
    replicates = np.concatenate(drawn_losses)
    scores = {name: score(float(losses[:, i].mean()), replicates[:, i]) for i, name in enumerate(("log_loss", "brier"))}

    if not measured:
        return scores | {name: absent(areas[wanted[-1]]["reason"]) for name in ("roc_auc", "pr_auc")}
    for i, name in enumerate(("roc_auc", "pr_auc")):
        value = float(np.mean([areas[number][name] for number in measured]))
        if cells:
            # Binned areas differ a little from the exact ones, and examples drawn twice flatter precision: so only the
            # spread of the replicates counts, laid around the exact value.
            binned = np.array([_binned_areas(of_class.sum(axis=1)[:, None])[i, 0] for of_class in cells])
            every = np.concatenate(drawn_areas, axis=2)[i]
            present = np.isfinite(every)
            spread = np.where(present, every - binned[:, None], 0).sum(0) / np.maximum(present.sum(0), 1)
            spread = spread[present.any(0)]
            scores[name] = score(value, np.clip(value + spread - spread.mean(), 0, 1))
        else:
            scores[name] = absent("too many examples × classes to resample") | {"value": value}
        if len(measured) < len(wanted):
            missing = ", ".join(repr(str(classes[number])) for number in wanted if number not in measured)
            scores[name]["reason"] = f"mean of {len(measured)} classes; without an example: {missing}"
    return scores


def _cells(truth: np.ndarray, scores: np.ndarray) -> sparse.csr_array:
    """Which cell of [threshold, positive?] each example counts in: float32 [2 × thresholds, n].

    Thresholds are the distinct scores, or, where these are many, quantiles of the positives' and of the negatives'.
    """
    edges = np.unique(scores)
    if len(edges) > 2 * THRESHOLDS:
        steps = np.linspace(0, 1, THRESHOLDS)
        edges = np.unique(np.concatenate([np.quantile(scores[truth], steps), np.quantile(scores[~truth], steps)]))
    row = 2 * np.searchsorted(edges, scores) + truth
    ones = np.ones(len(scores), np.float32)
    return sparse.csr_array((ones, (row, np.arange(len(scores)))), (2 * len(edges) + 2, len(scores)))


def _binned_areas(counts: np.ndarray) -> np.ndarray:
    """ROC and precision-recall areas of each column of [2 × thresholds, R]: [2, R], NaN where a side is empty."""
    negative, positive = counts[0::2].astype(np.float64), counts[1::2].astype(np.float64)
    negatives, positives = negative.sum(0), positive.sum(0)
    above = np.cumsum(positive[::-1], axis=0)[::-1]
    false = np.cumsum(negative[::-1], axis=0)[::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        roc = (negative * (above - positive / 2)).sum(0) / (positives * negatives)
        pr = (positive * np.nan_to_num(above / (above + false))).sum(0) / positives
    return np.where((positives > 0) & (negatives > 0), np.stack([roc, pr]), np.nan)


def _per_class(matrix: np.ndarray, classes: Sequence[str], areas: list[dict]) -> list[dict[str, Any]]:
    rows = []
    for number, name in enumerate(classes):
        actual, predicted = int(matrix[number].sum()), int(matrix[:, number].sum())
        right = int(matrix[number, number])
        row = {
            "class": str(name),
            "support": actual,
            "predicted": predicted,
            "precision": right / predicted if predicted else None,
            "recall": right / actual if actual else None,
            "f1": 2 * right / (actual + predicted) if actual + predicted else None,
        }
        rows.append(row | {"roc_auc": None, "pr_auc": None} | areas[number])
    return rows
