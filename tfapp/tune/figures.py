"""The plots of a search's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfapp.report.figures import ACCENT, LINE, MUTED, SECOND, Plot, draw, slug
from tfapp.tune.objective import Objective
from tfapp.tune.table import short

# So few different values of a setting stand as they are on its axis.
LISTED = 8


def history(objective: Objective, numbers: Sequence[int], scores: Sequence[float], whole: Sequence[bool]) -> Plot:
    """Every trial's score in the order in which they began, and the best so far of those trained whole."""
    line = scale(scores)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        there = np.asarray(whole)
        x, y = np.asarray(numbers), np.asarray(scores, float)
        axes.scatter(x[~there], y[~there], s=14, facecolors="none", edgecolors=MUTED, label="ended early")
        axes.scatter(x[there], y[there], s=16, color=ACCENT, label="trained whole")
        if there.any():
            best = (np.maximum if objective.more else np.minimum).accumulate(y[there])
            axes.step(x[there], best, where="post", color=SECOND, label="best so far")
        axes.set(xlabel="trial", ylabel=objective.name, yscale=line)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=3)

    return Plot("History", draw("history", f"{objective.name} of each trial", paint))


def parallel(
    objective: Objective,
    keys: Sequence[str],
    trials: Sequence[Mapping[str, Any]],
    scores: Sequence[float],
    log: set[str],
) -> Plot:
    """Parallel coordinates: a line a trial through its settings, coloured by its rank; the best are drawn last.

    Args:
      keys: the axes. log: those of them that are searched evenly over the logarithm.
    """
    columns = [_axis([values.get(key) for values in trials], key in log) for key in keys]
    order = np.argsort(scores) if objective.more else np.argsort(scores)[::-1]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        colours = colormaps["cividis"]
        for rank, index in enumerate(order):
            heights = [places[index] for places, _ in columns]
            share = rank / max(1, len(order) - 1)
            best = rank == len(order) - 1
            axes.plot(
                range(len(keys)), heights, color=SECOND if best else colours(share), linewidth=2.2 if best else 1,
                alpha=1 if best else 0.35 + 0.4 * share,
            )  # fmt: skip
        for x, (_, ticks) in enumerate(columns):
            axes.axvline(x, color=LINE, linewidth=1)
            for height, label in ticks:
                axes.annotate(
                    label, (x, height), xytext=(3, 0), textcoords="offset points", fontsize=7, color=MUTED, va="center"
                )
        axes.set_xticks(
            range(len(keys)), [key.removeprefix("fit.") for key in keys], rotation=20 if len(keys) > 4 else 0
        )
        axes.set(ylim=(-0.06, 1.06), xlim=(-0.15, len(keys) - 0.5))
        axes.set_yticks([])
        axes.grid(False)

    size = (max(4.7, 1.3 * len(keys)), 3.2)
    caption = (
        "A line a trial: the lighter, the better; the best one is orange. A setting that did not count leaves a gap."
    )
    return Plot("Settings", draw("parallel", "the settings of each trial", paint, size), caption)


def bars(shares: Mapping[str, float]) -> Plot:
    """How much of the score's variance each setting explains."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        names = list(shares)[::-1]
        axes.barh(names, [shares[name] for name in names], color=ACCENT, height=0.6)
        axes.set(xlabel="share of the variance (fANOVA)", xlim=(0, 1))
        axes.grid(axis="y", visible=False)

    return Plot("Importance", draw("importance", "importance of each setting", paint, (4.7, 1.2 + 0.32 * len(shares))))


def front(
    a: Objective, b: Objective, scores: Sequence[Sequence[float]], on_front: Sequence[bool], joined: bool = True
) -> Plot:
    """Two objectives against each other; the front is what no other trial beats in all objectives.

    Args:
      joined: draw the front as a line, which it is where there are two objectives only.
    """

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        points, there = np.asarray(scores, float), np.asarray(on_front)
        axes.scatter(points[~there, 0], points[~there, 1], s=14, color=MUTED, label="beaten")
        ordered = points[there][np.argsort(points[there][:, 0])]
        axes.plot(ordered[:, 0], ordered[:, 1], "o", color=SECOND, markersize=5, label="Pareto front")
        if joined:
            axes.step(ordered[:, 0], ordered[:, 1], where="pre" if a.more else "post", color=SECOND, linewidth=1)
        axes.set(xlabel=_asked(a), ylabel=_asked(b))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=2)

    title = f"{a.name} and {b.name}"
    return Plot(title, draw(f"front-{slug(a.name)}-{slug(b.name)}", title, paint))


def scale(scores: Sequence[float]) -> str:
    """log where scores span so much that the good ones would lie on one line."""
    return "log" if min(scores) > 0 and max(scores) > 50 * min(scores) else "linear"


def _asked(objective: Objective) -> str:
    return f"{objective.name}, {'more' if objective.more else 'less'} is better"


def _axis(values: Sequence[Any], log: bool) -> tuple[list[float], list[tuple[float, str]]]:
    """(the height of each value, NaN where there is none; heights with their labels) of one axis from 0 to 1."""
    there = [value for value in values if value is not None]
    numbers = all(isinstance(value, int | float) for value in there)
    different = sorted(set(there)) if numbers else list(dict.fromkeys(there))
    if not numbers:
        heights = {value: place / max(1, len(different) - 1) for place, value in enumerate(different)}
    else:
        at = np.asarray(different, float)
        at = np.log(at) if log and at.min() > 0 else at
        spread = np.ptp(at) or 1.0
        heights = dict(zip(different, ((at - at.min()) / spread).tolist(), strict=True))
    named = different if len(different) <= LISTED else [different[0], different[len(different) // 2], different[-1]]
    ticks = [(heights[value], short(value)) for value in named]
    return [float("nan") if value is None else heights[value] for value in values], ticks
