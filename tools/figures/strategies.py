"""The picture of the strategies in docs/distribute.md: what is copied, shared out and summed.

tools/figures/strategies.py [FILE.svg]      with the project's interpreter; by default docs/strategies.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

# The same bytes each time, letters as shapes: every reader sees the same.
matplotlib.rcParams.update({"svg.hashsalt": "tfapp", "svg.fonttype": "path", "font.size": 9})

INK, QUIET, PAPER = "#22262a", "#5b6570", "#ffffff"
# After Okabe and Ito's palette, which the colour-blind tell apart; lighter, for the letters on it.
ROWS, COPIES, SUMS, SINGLE = "#f2b84b", "#8ccbf0", "#7fd1b4", "#e3b7d2"
TOP, WIDTH = 4.75, 1.5


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "docs/strategies.svg"
    draw().savefig(path, metadata={"Date": None})


def draw() -> Figure:
    """A card of its own colour, so that it can be read on a dark page too."""
    figure = Figure(figsize=(18.4, 5.4), facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 18.4), ylim=(0, 5.4))
    axes.axis("off")
    one_device(axes, 0.3)
    mirrored(axes, 2.4)
    mesh(axes, 6.1)
    many_workers(axes, 10.1)
    servers(axes, 14.3)
    legend(axes)
    return figure


def one_device(axes, left) -> None:
    title(axes, left, "single", "one process, one device")
    box(axes, left, 1.3, WIDTH + 0.3, 3.2)
    batch(axes, left + 0.15, 8, range(8))
    arrow(axes, (left + 0.9, 3.55), (left + 0.9, 3.22))
    replica(axes, left + 0.15, "weights")
    arrow(axes, (left + 0.9, 2.3), (left + 0.9, 1.97))
    tag(axes, left + 0.15, 1.42, WIDTH, "gradients,\nthen a step", SUMS)


def mirrored(axes, left) -> None:
    title(axes, left, "mirrored", "one process, several devices")
    wide = 2 * WIDTH + 0.45
    box(axes, left, 1.3, wide, 3.2)
    for number in range(2):
        here = left + 0.15 + number * (WIDTH + 0.15)
        batch(axes, here, 4, range(4 * number, 4 * number + 4))
        arrow(axes, (here + WIDTH / 2, 3.55), (here + WIDTH / 2, 3.22))
        replica(axes, here, "the same weights")
        arrow(axes, (here + WIDTH / 2, 2.3), (here + WIDTH / 2, 1.97))
    tag(axes, left + 0.15, 1.42, wide - 0.3, "the sum of the gradients,\nthen the same step on each device", SUMS)


def mesh(axes, left) -> None:
    title(axes, left, "mesh", "one process, 2 × 2 devices: data × model")
    wide = 2 * WIDTH + 0.45
    box(axes, left, 1.3, wide, 3.2)
    for number in range(2):
        here = left + 0.15 + number * (WIDTH + 0.15)
        batch(axes, here, 4, range(4 * number, 4 * number + 4))
        for part in range(2):
            place = here + part * (WIDTH + 0.1) / 2
            arrow(axes, (place + WIDTH / 4, 3.55), (place + WIDTH / 4, 3.22))
            tag(axes, place, 2.35, WIDTH / 2 - 0.05, f"weights\nand slots,\npart {part + 1}", SINGLE, 0.82)
            arrow(axes, (place + WIDTH / 4, 2.3), (place + WIDTH / 4, 1.97))
    tag(axes, left + 0.15, 1.42, wide - 0.3, "sums of activations in a copy,\nof gradients over the copies", SUMS)
    axes.text(left, 1.06, "Layers that cannot be parted are whole on each device.", color=QUIET, size=8)


def many_workers(axes, left) -> None:
    title(axes, left, "multiworker", "several processes, on one machine or many")
    for number in range(2):
        here = left + number * (WIDTH + 0.5)
        box(axes, here, 1.3, WIDTH + 0.3, 3.2)
        axes.text(here + 0.15, 4.28, f"worker {number}" + (", the chief" if number == 0 else ""), color=QUIET, size=8)
        batch(axes, here + 0.15, 4, range(4 * number, 4 * number + 4), 3.62)
        middle = here + 0.15 + WIDTH / 2
        arrow(axes, (middle, 3.55), (middle, 3.22))
        replica(axes, here + 0.15, "the same weights")
        arrow(axes, (middle, 2.3), (middle, 1.97))
    tag(
        axes,
        left + 0.15,
        1.42,
        2 * WIDTH + 0.5,
        "the sum of the gradients, over the network,\nthen the same step on each worker",
        SUMS,
    )
    axes.text(left, 1.06, "The chief writes checkpoints and the run's files; all read them.", color=QUIET, size=8)


def servers(axes, left) -> None:
    title(axes, left, "parameter_server", "asynchronous: nobody waits for another")
    for number in range(2):
        here = left + number * (WIDTH + 0.5)
        box(axes, here, 2.3, WIDTH + 0.3, 2.2)
        axes.text(here + 0.15, 4.28, f"worker {number + 1}", color=QUIET, size=8)
        batch(axes, here + 0.15, 8, range(8 * number, 8 * number + 8), 3.62)
        middle = here + 0.15 + WIDTH / 2
        arrow(axes, (middle, 3.55), (middle, 3.12))
        tag(axes, here + 0.15, 2.45, WIDTH, "gradients of the\nweights just read", SINGLE, 0.62)
        arrow(axes, (middle - 0.2, 1.97), (middle - 0.2, 2.4))
        arrow(axes, (middle + 0.2, 2.4), (middle + 0.2, 1.97))
    tag(
        axes,
        left + 0.15,
        1.42,
        2 * WIDTH + 0.5,
        "a server: the weights and slots, once;\na step for each gradient",
        SINGLE,
    )
    axes.text(left, 1.06, "The chief hands out steps, validates and writes the run.", color=QUIET, size=8)


def title(axes, left, name, what) -> None:
    axes.text(left, 5.0, name, size=13, weight="bold", color=INK)
    axes.text(left, TOP, what, color=QUIET, va="center", size=9)


def box(axes, left, bottom, width, height) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (left, bottom), width, height, "round,pad=0,rounding_size=0.1", facecolor="#f3f5f7", edgecolor="#b9c1c9"
        )
    )


def batch(axes, left, rows, numbers, bottom=3.62) -> None:
    """Rows of the global batch, by their numbers."""
    side = 0.165
    start = left + (WIDTH - rows * (side + 0.02)) / 2
    for place, number in enumerate(numbers):
        x = start + place * (side + 0.02)
        axes.add_patch(Rectangle((x, bottom), side, 0.3, facecolor=ROWS, edgecolor=INK, linewidth=0.6))
        axes.text(x + side / 2, bottom + 0.15, str(number + 1), ha="center", va="center", size=7, color=INK)
    axes.text(left + WIDTH / 2, bottom + 0.42, f"{rows} of 8 rows", ha="center", va="center", size=8, color=INK)


def replica(axes, left, text) -> None:
    tag(axes, left, 2.35, WIDTH, f"{text}\noptimizer's slots\nlayers' statistics", COPIES, 0.82)


def tag(axes, left, bottom, width, text, colour, height=0.52) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (left, bottom),
            width,
            height,
            "round,pad=0,rounding_size=0.06",
            facecolor=colour,
            edgecolor=INK,
            linewidth=0.8,
        )
    )
    axes.text(left + width / 2, bottom + height / 2, text, ha="center", va="center", color=INK, linespacing=1.35)


def arrow(axes, start, end) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color=INK, linewidth=1.1))


def legend(axes) -> None:
    words = (
        (0.3, ROWS, "shared out: the rows of a global batch"),
        (3.5, COPIES, "copied: the same on every replica"),
        (6.4, SUMS, "summed: gradients, batch statistics, metrics"),
        (10.3, SINGLE, "neither: each worker's or device's own, or there once"),
    )
    for left, colour, text in words:
        axes.add_patch(Rectangle((left, 0.42), 0.2, 0.2, facecolor=colour, edgecolor=INK, linewidth=0.8))
        axes.text(left + 0.3, 0.52, text, va="center", color=INK)


if __name__ == "__main__":
    main()
