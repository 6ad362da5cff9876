"""Common parts of all figures: colours, a grid of panels, and the files of a figure."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ....recipe_io.results import write_whole

WIDTHS = {"": 7.2, "-narrow": 3.5}  # Inches: a page, a phone held upright.
# Okabe and Ito's colours (https://jfly.uni-koeln.de/color) can be told apart by everybody; lighter ones for black.
# Four more stand beside them for studies of many objectives.
LIGHT = ("#0072B2", "#D55E00", "#009E73", "#A6428A", "#8A6D00", "#64748B", "#3B1E87", "#6B1A1A", "#E8388F")
DARK = ("#56B4E9", "#F08A4B", "#33C29B", "#E39AC4", "#F0E442", "#B8C4D2", "#A68BFF", "#FF5C5C", "#9BE34A")
MARKERS = "osD^vPXp"
LEGEND_ROW = 0.2  # Inches.


class LeftOut(Exception):
    """Error of a figure whose cells a study lacks; the message is a sentence that names them."""


def style(dark: bool) -> dict:
    """Return the settings of matplotlib."""
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
        "svg.fonttype": "path",  # Letters look the same on every machine.
        "svg.hashsalt": "hf_clip_kd",  # Each run gives the same bytes.
        "text.color": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
    }


def ink() -> str:
    """Return the colour of text in the present style."""
    return matplotlib.rcParams["text.color"]


def look(number: int) -> tuple[str, str]:
    """Return the colour and the mark of the entry of this number. There are 72 pairs."""
    return f"C{number % len(LIGHT)}", MARKERS[number % len(MARKERS)]


def panels(
    count: int, narrow: bool, *, height: float = 2.6, columns: int | None = None, narrow_columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """
    Create a figure of panels, beside each other on a page and below each other on a phone.

    Args:
        count (`int`): Number of panels.
        narrow (`bool`): `True` for a phone.
        height (`float`, *optional*, defaults to 2.6): Height of a panel in inches.
        columns (`int`, *optional*): Columns on a page. Default is one row of all panels.
        narrow_columns (`int`, *optional*, defaults to 1): Columns on a phone.
    """
    columns = min(count, narrow_columns if narrow else columns or count)
    rows = -(-count // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(WIDTHS["-narrow" if narrow else ""], rows * height), squeeze=False
    )
    for spare in grid.flat[count:]:
        spare.axis("off")
    return figure, list(grid.flat[:count])


def line_of_means(axes: Axes, found: dict[float, list[float]], label: str, number: int) -> None:
    """Draw mean and deviation of the scores of several seeds, `x -> scores`, as the entry of this number."""
    colour, marker = look(number)
    means = [mean(values) for values in found.values()]
    spread = [stdev(values) if len(values) > 1 else 0 for values in found.values()]
    axes.errorbar(list(found), means, spread, color=colour, marker=marker, capsize=3, label=label)


def same_span(axes: list[Axes]) -> None:
    """Give all panels the same scale, so slopes can be compared by eye; each keeps its middle."""
    half = max(high - low for low, high in (panel.get_ylim() for panel in axes)) / 2
    for panel in axes:
        middle = sum(panel.get_ylim()) / 2
        panel.set_ylim(middle - half, middle + half)


def legend(figure: Figure, axes: Axes, narrow: bool) -> None:
    """Add the legend of `axes` below the panels; the figure grows by its height."""
    handles, labels = axes.get_legend_handles_labels()
    columns = max(1, min(len(labels), (48 if narrow else 100) // (max(map(len, labels)) + 6)))
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * -(-len(labels) // columns))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def save(draw: Callable[[bool], Figure], folder: Path, name: str) -> list[Path]:
    """
    Draw a figure in all its forms.

    Each file is written whole or not at all. Several runs of a study may make its report at the same time.

    Args:
        draw (`Callable`): Draws in the current style; its argument is `True` for a phone.
        folder (`Path`): Output folder, created if missing.
        name (`str`): Name of the figure.

    Returns:
        `list[Path]`: `NAME.svg`, `NAME-dark.svg`, `NAME-narrow.svg`, `NAME-narrow-dark.svg`, and `NAME.png` for papers
        and slides.
    """
    paths = []
    for width, dark in product(WIDTHS, (False, True)):
        with plt.rc_context(style(dark)):
            figure = draw(width == "-narrow")
            paths.append(folder / f"{name}{width}{'-dark' if dark else ''}.svg")
            drawn = _drawn(figure, format="svg", metadata={"Date": None, "Creator": None})
            write_whole(paths[-1], _compact(drawn.decode()))
            if not width and not dark:
                paths.append(folder / f"{name}.png")
                options = {"dpi": 200, "facecolor": "white", "metadata": {"Software": None}}
                write_whole(paths[-1], _drawn(figure, format="png", **options))
            plt.close(figure)
    return paths


def _drawn(figure: Figure, **options: Any) -> bytes:
    content = BytesIO()
    figure.savefig(content, **options)
    return content.getvalue()


def _compact(text: str) -> str:
    """Drop comments, indents, and digits of paths below a hundredth of a point: half of matplotlib's output."""
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' d="[^"]+"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)
    return re.sub(r"\s*\n\s*", "\n", text)
