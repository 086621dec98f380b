"""The report's plots as inline SVG: small, the same bytes for the same numbers, and in the colours of the page.

Each plot is drawn about as wide as a phone, with real text in it, so that it stays legible there; on a wide screen two
stand side by side. Colours are placeholders that become CSS variables: the page decides between light, dark and paper.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from tfapp.report.words import ATTACKS, is_number, number

INK, MUTED, LINE, ACCENT, SECOND, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", ACCENT: "accent", SECOND: "second", PAPER: "paper"}
# Okabe and Ito's colours, told apart by every kind of eye; line styles help on a grey printer.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "font.family": ["DejaVu Sans"],
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.5,
    "legend.columnspacing": 1.2,
    "legend.borderpad": 0,
    "legend.borderaxespad": 0.4,
}


@dataclass(frozen=True)
class Plot:
    """A drawing with what it shows, for the eye (title), for those who cannot see it (label) and to explain it."""

    title: str
    svg: Markup
    caption: str = ""


def draw(prefix: str, label: str, paint: Callable[[Figure], None], size: tuple[float, float] = (4.7, 2.9)) -> Markup:
    """The SVG element that `paint` draws. `prefix` keeps its ids apart from other drawings on the page."""
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": prefix}), warnings.catch_warnings():
        # Class names may use letters that the measuring font lacks; the reader's browser has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return Markup(_inline(buffer.getvalue(), prefix, label))


def _inline(svg: str, prefix: str, label: str) -> str:
    """A stand-alone SVG file as an element of the page: own ids, no style sheet, no fixed size, CSS colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    for colour, variable in VARIABLES.items():
        svg = re.sub(rf"(fill|stroke): {colour}", rf"\1: var(--{variable})", svg)
    svg = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \1 role="img" aria-label="{_escaped(label)}">', svg, count=1
    )
    return re.sub(r"\n\s*", "\n", svg)


def _escaped(text: str) -> str:
    # A backslash would be read by re.sub's template.
    return str(Markup.escape(text)).replace("\\", r"\\")


def _legend(axes: Axes, columns: int = 3) -> None:
    """The legend above the plot, where it hides nothing."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=columns)


def main_metric(history: Sequence[Mapping[str, Any]]) -> str | None:
    """The metric to follow beside the loss: accuracy, or the first that is measured on the validation part too."""
    last = [key.removeprefix("val_") for key in (history[-1] if history else {})]
    names = [key for key in dict.fromkeys(last) if key != "loss"]
    followed = [key for key in names if any(f"val_{key}" in epoch for epoch in history)]
    return next((key for key in ("accuracy", *followed) if key in names), None)


def _series(history: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    points = [(e.get("epoch", i + 1), e[key]) for i, e in enumerate(history) if is_number(e.get(key))]
    return [x for x, _ in points], [y for _, y in points]


def learning_curves(history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> list[Plot]:
    """Loss, and the main metric if there is one, of every epoch."""
    keys = ["loss"] + ([metric] if (metric := main_metric(history)) else [])
    return [
        _learning_curve(history, key, best_epoch)
        for key in keys
        if any(_series(history, part)[0] for part in (key, f"val_{key}"))
    ]


def _learning_curve(history: Sequence[Mapping[str, Any]], key: str, best_epoch: int | None) -> Plot:
    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        parts = {key: ("training", MUTED, 1.2), f"val_{key}": ("validation", ACCENT, 1.8)}
        for part, (label, colour, width) in parts.items():
            epochs, values = _series(history, part)
            if epochs:
                marker = "o" if len(epochs) < 3 else None
                axes.plot(epochs, values, color=colour, linewidth=width, label=label, marker=marker)
                if best_epoch in epochs and part.startswith("val_"):
                    at = epochs.index(best_epoch)
                    axes.plot([epochs[at]], [values[at]], "o", color=SECOND, markersize=5)
        if best_epoch is not None:
            axes.axvline(
                best_epoch, color=SECOND, linewidth=1, linestyle=(0, (2, 2)), label=f"kept: epoch {best_epoch}"
            )
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("epoch")
        _legend(axes)

    what = key.replace("_", " ")
    return Plot(what.capitalize(), draw(f"curve-{slug(key)}", f"{what} by epoch", paint))


def overlaid_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Plot]:
    """Validation loss and main metric of several runs, over each other."""
    histories = list(runs.values())
    metrics = {metric for history in histories if (metric := main_metric(history))}
    keys = ["loss", *sorted(metrics)]
    plots = []
    for key in keys:
        lines = {name: _series(history, f"val_{key}") for name, history in runs.items()}
        lines = {name: line for name, line in lines.items() if line[0]}
        if lines:
            label = f"validation {key.replace('_', ' ')}"
            plots.append(Plot(label.capitalize(), draw(f"runs-{slug(key)}", f"{label} by epoch", _lines(lines))))
    return plots


def _lines(lines: Mapping[str, tuple[list[int], list[float]]]) -> Callable[[Figure], None]:
    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for i, (name, (x, y)) in enumerate(lines.items()):
            style = DASHES[i // len(SERIES) % len(DASHES)] if len(lines) > len(SERIES) else DASHES[i % len(DASHES)]
            axes.plot(x, y, color=SERIES[i % len(SERIES)], linestyle=style, label=_cut(name, 24))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("epoch")
        _legend(axes, columns=2)

    return paint


def curves(evaluation: Mapping[str, Any]) -> list[Plot]:
    """The ROC and the precision–recall curve; of many classes the mean, the weakest, and the others behind them."""
    given = evaluation.get("curves") or {}
    plots = []
    if given.get("roc"):
        paint = _curve(given["roc"], ("false positive rate", "true positive rate"), chance=((0, 1), (0, 1)))
        plots.append(Plot("ROC", draw("roc", "ROC curve", paint, (4.7, 3.7))))
    if given.get("pr"):
        paint = _curve(given["pr"], ("recall", "precision"), chance=None)
        plots.append(Plot("Precision and recall", draw("pr", "precision–recall curve", paint, (4.7, 3.7))))
    return plots


def _curve(lines: Sequence[Mapping[str, Any]], names: tuple[str, str], chance: Any) -> Callable[[Figure], None]:
    single = [line for line in lines if line["class"] is not None]
    mean = [line for line in lines if line["class"] is None]
    weakest = min(single, key=lambda line: line["area"])

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        if chance:
            axes.plot(*chance, color=MUTED, linewidth=0.8, linestyle=(0, (1.5, 2.5)))
        if mean:
            for line in single:
                if line is not weakest:
                    axes.plot(line["x"], line["y"], color=MUTED, linewidth=0.7, alpha=0.55)
            label = f"weakest: {_cut(weakest['class'], 16)}, {number(weakest['area'])}"
            axes.plot(weakest["x"], weakest["y"], color=SECOND, linewidth=1.3, label=label)
            axes.plot(mean[0]["x"], mean[0]["y"], color=ACCENT, linewidth=2, label=f"mean, {number(mean[0]['area'])}")
        else:
            label = f"{_cut(weakest['class'], 24)}, area {number(weakest['area'])}"
            axes.plot(weakest["x"], weakest["y"], color=ACCENT, linewidth=2, label=label)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=names[0], ylabel=names[1])
        _legend(axes, columns=2)

    return paint


def reliability(calibration: Mapping[str, Any]) -> Plot | None:
    """Accuracy against confidence, before and after temperature scaling; on the diagonal they agree."""
    states = {"as it is": (calibration.get("before"), SECOND), "with temperature": (calibration.get("after"), ACCENT)}
    filled = {
        label: ([b for b in state["bins"] if b["count"]], colour) for label, (state, colour) in states.items() if state
    }
    if not filled:
        return None

    def paint(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        above.plot((0, 1), (0, 1), color=MUTED, linewidth=0.8, linestyle=(0, (1.5, 2.5)))
        for label, (bins, colour) in filled.items():
            x, y = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
            share = np.array([b["count"] for b in bins]) / sum(b["count"] for b in bins)
            above.plot(
                x, y, color=colour, linewidth=1.1, label=label, linestyle="-" if colour == ACCENT else (0, (4, 1.5))
            )
            # The area of a point is the share of the examples that it stands for.
            above.scatter(x, y, s=8 + 120 * share, color=colour, linewidths=0)
            below.bar(
                [b["low"] for b in bins], [b["count"] for b in bins], [b["high"] - b["low"] for b in bins],
                align="edge", edgecolor=colour, facecolor="none", linewidth=1,
            )  # fmt: skip
        above.set(ylabel="accuracy", ylim=(-0.02, 1.02))
        below.set(xlabel="confidence", ylabel="examples", xlim=(-0.02, 1.02))
        below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        _legend(above, columns=2)

    return Plot("Reliability", draw("reliability", "accuracy by confidence", paint, (4.7, 3.9)))


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Plot:
    """A confusion matrix of more classes than a table can hold: shares of each true class, names thinned out."""
    counts = np.asarray(matrix, float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # Blue on the diagonal, orange beside it, and clear where nothing is: right on any background.
    pixels = np.zeros((*shares.shape, 4))
    pixels[...] = matplotlib.colors.to_rgba(SERIES[1])
    pixels[np.diag_indices(len(shares))] = matplotlib.colors.to_rgba(SERIES[0])
    pixels[..., 3] = np.sqrt(shares)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.imshow(pixels, interpolation="nearest")
        step = -(-len(classes) // 25)
        ticks = range(0, len(classes), step)
        names = [_cut(classes[i], 14) for i in ticks]
        axes.set_xticks(ticks, names, rotation=90, fontsize=6)
        axes.set_yticks(ticks, names, fontsize=6)
        axes.grid(False)
        axes.set(xlabel="predicted", ylabel="true")

    return Plot("", draw("confusion", "confusion matrix", paint, (5.2, 5.2)))


def residuals(given: Mapping[str, Any]) -> list[Plot]:
    """Residuals against predictions, and how they are distributed."""
    plots = []
    points = np.asarray(given.get("points") or [], float).reshape(-1, 2)[:800]
    if len(points):

        def paint(figure: Figure) -> None:
            axes = figure.subplots()
            axes.axhline(0, color=MUTED, linewidth=1)
            axes.plot(points[:, 0], points[:, 1], "o", color=ACCENT, markersize=3, alpha=0.45, markeredgewidth=0)
            axes.set(xlabel="prediction", ylabel="prediction − truth")

        plots.append(Plot("Residuals", draw("residuals", "residuals against predictions", paint)))
    histogram = given.get("histogram") or {}
    if histogram.get("counts"):

        def paint_histogram(figure: Figure) -> None:
            axes = figure.subplots()
            axes.stairs(histogram["counts"], histogram["edges"], fill=True, color=ACCENT, alpha=0.75)
            axes.axvline(0, color=MUTED, linewidth=1)
            axes.set(xlabel="prediction − truth", ylabel="examples")
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))

        plots.append(Plot("Distribution", draw("residual-histogram", "histogram of residuals", paint_histogram)))
    return plots


def _cut(text: Any, length: int) -> str:
    text = str(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def by_position(losses: Sequence[float]) -> Plot:
    """Mean loss at each position of the window: what it is worth to have seen more of the text."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(range(1, len(losses) + 1), losses, color=ACCENT)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set(xlabel="tokens seen", ylabel="loss a token", ylim=(0, None))

    label = "mean loss by position in the window"
    return Plot("Loss by how much was seen", draw("by-position", label, paint))


def artefacts(rows: Sequence[Mapping[str, Any]], label: str) -> Plot | None:
    """Score against size of each exported file; the larger a point, the longer its answer takes."""
    shown = sorted((row for row in rows if is_number(row["score"]["value"])), key=lambda row: row["gzip_bytes"])
    if not shown:
        return None
    took = np.array([row["latency"]["1"]["p50_ms"] for row in shown])

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        sizes = [row["gzip_bytes"] / 1000 for row in shown]
        values = np.array([row["score"]["value"] for row in shown])
        ends = np.array(
            [[row["score"][end] if is_number(row["score"][end]) else v for row, v in zip(shown, values, strict=True)]
             for end in ("low", "high")]
        )  # fmt: skip
        spread = np.abs(ends - values)
        axes.errorbar(sizes, values, spread, fmt="none", ecolor=MUTED, elinewidth=0.8, alpha=0.7)
        axes.scatter(sizes, values, s=20 + 180 * took / took.max(), color=ACCENT, alpha=0.75, linewidths=0)
        for place, (size, value, row) in enumerate(zip(sizes, values, shown, strict=True)):
            # Of points in one place the names would run into each other: neighbours stand at heights of their own.
            rise = (10, -10, 22, -22, 34, -34)[place % 6]
            axes.annotate(
                _cut(row["name"].removesuffix(".tflite"), 22), (size, value), (8, rise),
                textcoords="offset points", va="center", fontsize=8, color=INK,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.margins(x=0.3, y=0.15)
        axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 3, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel="kB gzipped", ylabel=label.lower())

    caption = "Bars: 95 % interval. Area: median latency of one example on one thread."
    return Plot(f"Size and {label.lower()}", draw("artefacts", f"{label} by size of the exported file", paint), caption)


def attacks(found: Mapping[str, Any]) -> Plot:
    """The ROC curves of an audit's attacks, both axes logarithmic: what counts is what few false alarms cost."""
    least = min(1 / each["others"] for each in found.values())

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot((least / 2, 1), (least / 2, 1), color=MUTED, linewidth=0.8, linestyle=(0, (1.5, 2.5)), label="chance")
        for place, (name, each) in enumerate(found.items()):
            # What has no logarithm is drawn at the edge.
            fpr, tpr = (np.maximum(each["curve"][rate], least / 2) for rate in ("fpr", "tpr"))
            axes.plot(
                fpr, tpr, color=SERIES[place % len(SERIES)], linestyle=DASHES[place % len(DASHES)], linewidth=1.3,
                label=f"{ATTACKS.get(name, name).lower()}, {number(each['auc']['value'])}",
            )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlim=(least / 2, 1), ylim=(least / 2, 1.05))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_locator(NullLocator())
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        _legend(axes, columns=2)

    caption = "With the area under each. Left of the first false alarm the curves are at the edge."
    return Plot("Who was trained on", draw("attacks", "ROC curves of the attacks", paint, (4.7, 4.4)), caption)


def spent(curve: Sequence[Sequence[Any]], delta: float) -> Plot:
    """What a private run gave away by when, of (step, ε); where there is no ε the line ends."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        known = [(step, epsilon) for step, epsilon in curve if is_number(epsilon)]
        axes.plot([0, *(step for step, _ in known)], [0, *(epsilon for _, epsilon in known)], color=ACCENT)
        axes.set(xlabel="step", ylabel=f"ε at δ = {delta:g}", ylim=(0, None), xlim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))

    caption = "Every step spends a little; fewer steps, or smaller batches, spend less."
    return Plot("What was spent by when", draw("spent", "ε over the steps of the run", paint), caption)


def alone(svg: str) -> str:
    """A drawing of the page as a file of its own, in the colours of the light page."""
    colours = {"ink": "#1b1f24", "muted": "#57606a", "line": "#d8dee4", "accent": "#0969da", "second": "#bc4c00"}
    told = ";".join(f"--{name}:{colour}" for name, colour in {**colours, "paper": "#ffffff"}.items())
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    style = f'style="{told};background:var(--paper);font-family:DejaVu Sans,sans-serif" '
    return str(svg).replace("<svg ", head + style, 1)


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())
