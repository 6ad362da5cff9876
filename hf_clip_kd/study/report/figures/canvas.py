"""What all figures have in common: colours, a grid of panels, and the files that a figure becomes."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTHS = {"": 7.2, "-narrow": 3.5}  # inches: a page, a phone held upright
# The colours of Okabe and Ito (https://jfly.uni-koeln.de/color), which everybody tells apart; on black lighter ones.
LIGHT = ("#0072B2", "#D55E00", "#009E73", "#A6428A", "#8A6D00")
DARK = ("#56B4E9", "#F08A4B", "#33C29B", "#E39AC4", "#F0E442")
MARKERS = "osD^vPX"
LEGEND_ROW = 0.2  # inches


class LeftOut(Exception):
    """A figure that a study has not got the cells for; the message is a sentence that says which."""


def style(dark: bool) -> dict:
    """Settings of matplotlib."""
    ink, faint = ("#e8e8e8", "#4a4a4a") if dark else ("#1a1a1a", "#d4d4d4")
    return {
        "axes.axisbelow": True,
        "axes.edgecolor": faint,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.labelcolor": ink,
        "axes.prop_cycle": cycler(color=DARK if dark else LIGHT),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "figure.constrained_layout.use": True,
        "figure.facecolor": "none",
        "font.size": 8.5,
        "grid.color": faint,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "lines.markersize": 5,
        "savefig.facecolor": "none",
        "svg.fonttype": "path",  # the same letters wherever it is opened
        "svg.hashsalt": "hf_clip_kd",  # the same bytes whenever it is made
        "text.color": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
    }


def ink() -> str:
    """The colour of text in the present style."""
    return matplotlib.rcParams["text.color"]


def panels(
    count: int, narrow: bool, *, height: float = 2.6, columns: int | None = None, narrow_columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """
    A figure of panels, beside each other on a page and one below the other on a phone.

    Args:
        count (`int`): How many.
        narrow (`bool`): Whether for a phone.
        height (`float`, *optional*, defaults to 2.6): Of a panel, in inches.
        columns (`int`, *optional*): On a page; all panels in one row by default.
        narrow_columns (`int`, *optional*, defaults to 1): On a phone.
    """
    columns = min(count, narrow_columns if narrow else columns or count)
    rows = -(-count // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(WIDTHS["-narrow" if narrow else ""], rows * height), squeeze=False
    )
    for spare in grid.flat[count:]:
        spare.axis("off")
    return figure, list(grid.flat[:count])


def same_span(axes: list[Axes]) -> None:
    """Makes a point as tall in one panel as in the others, so that slopes can be compared by eye; each keeps its middle."""
    half = max(high - low for low, high in (one.get_ylim() for one in axes)) / 2
    for one in axes:
        middle = sum(one.get_ylim()) / 2
        one.set_ylim(middle - half, middle + half)


def legend(figure: Figure, axes: Axes, narrow: bool) -> None:
    """The names of what `axes` shows, below the panels, where they hide nothing; the figure grows by their height."""
    handles, labels = axes.get_legend_handles_labels()
    columns = max(1, min(len(labels), (48 if narrow else 100) // (max(map(len, labels)) + 6)))
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * -(-len(labels) // columns))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def save(draw: Callable[[bool], Figure], folder: Path, name: str) -> list[Path]:
    """
    Draws a figure in all its forms.

    Args:
        draw (`Callable`): Takes whether it is for a phone, and draws in the style that is set.
        folder (`Path`): Made if it does not exist.
        name (`str`): Of the figure.

    Returns:
        `list[Path]`: `NAME.svg`, `NAME-dark.svg`, `NAME-narrow.svg`, `NAME-narrow-dark.svg` and, for papers and slides, `NAME.png`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for width, dark in product(WIDTHS, (False, True)):
        with plt.rc_context(style(dark)):
            figure = draw(width == "-narrow")
            paths.append(folder / f"{name}{width}{'-dark' * dark}.svg")
            figure.savefig(paths[-1], metadata={"Date": None, "Creator": None})
            _compact(paths[-1])
            if not width and not dark:
                paths.append(folder / f"{name}.png")
                figure.savefig(paths[-1], dpi=200, facecolor="white", metadata={"Software": None})
            plt.close(figure)
    return paths


def _compact(path: Path) -> None:
    """Drops comments, indents and, in paths, digits below a hundredth of a point, which are half of what matplotlib writes."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' d="[^"]+"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)
    path.write_text(re.sub(r"\s*\n\s*", "\n", text), encoding="utf-8")
