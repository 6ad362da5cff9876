"""Pilots: finished studies that say how large a difference the next study will show."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from ..cells.cells import AXES, Study, condition, read_study
from ..cells.metrics import METERS, Metric
from .comparison import compared
from .outcomes import questions
from .power import LEVEL, MOST_SEEDS, POWER, Design, Variances, pooled, variances

# Differences whose price is shown, by whether a metric is a share.
DIFFERENCES = {True: (0.5, 1.0, 2.0, 5.0), False: (0.02, 0.05, 0.1, 0.2)}


def read_pilot(path: str | Path) -> Study:
    """
    Read the study that serves as a pilot.

    Args:
        path (`str` or `Path`): Output folder of a study, or its `study.json`, with `cells/` beside it.

    Raises:
        ValueError: There is no study.
    """
    folder = Path(path).parent if Path(path).name == "study.json" else Path(path)
    if not (folder / "study.json").is_file():
        raise ValueError(
            f"`pilot={str(path)!r}` holds no `study.json`. It must be the output folder of an earlier study, or that "
            "file itself. Pass such a folder, `model_cards/miniature` for example, or leave `pilot` out."
        )
    return read_study(folder)


def pilot_variances(study: Study, metric: Metric) -> tuple[Variances, Design, int] | None:
    """
    Return the variances of the pilot's paired differences, its design, and the number of differences.

    All conditions of each main sweep are compared with the sweep's reference, and the variances are averaged.

    Returns:
        `tuple[Variances, Design, int]`: `None` if no two conditions share two seeds.
    """
    found, designs = [], []
    for first, second in _pairs(study):
        grid = _effects(study, first, second, metric)
        if grid is not None and len(grid[0]) > 1:
            effects, images = grid
            found.append(variances(effects, images))
            designs.append(Design(*effects.shape[:2], len(set(images.tolist()))))
    if not found:
        return None
    most = max(design.vlm_seeds for design in designs)  # A pair with fewer has another part of the variance in `seed`.
    found, designs = zip(
        *(pair for pair in zip(found, designs, strict=True) if pair[1].vlm_seeds == most), strict=True
    )
    smallest = Design(*(min(getattr(design, name) for design in designs) for name in ("seeds", "vlm_seeds", "images")))
    return pooled(found), smallest, len(found)


def how_sure(pilot: Study, name: str, seeds: int, vlm_seeds: int) -> str:
    """
    Return what a study of this size will show, in each meter that the pilot measured.

    Args:
        pilot (`Study`): Earlier study.
        name (`str`): Name of the pilot for readers.
        seeds, vlm_seeds (`int`): Seeds of the planned study. Images are as many as the pilot has.
    """
    found = {metric: known for metric in METERS.values() if (known := pilot_variances(pilot, metric)) is not None}
    if not found:
        return (
            f"How sure: the pilot {name} has no two conditions that share two seeds, so it tells no variance. Pass "
            "the folder of a study with several seeds: `--pilot FOLDER`."
        )
    lines = [
        f"How sure: smallest difference between two conditions that is seen in {10 * POWER:.0f} of 10 studies "
        f"(paired, two-sided, level {LEVEL:g})",
        f"pilot {name}; this study has {_count(seeds, 'seed')}, {_count(vlm_seeds, 'VLM seed')} each, and the pilot's "
        "images",
    ]
    for metric, (parts, design, number) in found.items():
        planned = Design(seeds, vlm_seeds, design.images)
        lines += ["", *_table(metric, parts, planned, number)]
    return "\n".join(lines)


def _table(metric: Metric, parts: Variances, planned: Design, number: int) -> Iterator[str]:
    unit = metric.unit or "units"
    deviations = {
        "seeds": parts.seed,
        "VLM seeds": parts.vlm_seed,
        "images": parts.image,
        "images of one run": parts.rest,
    }
    known = ", ".join(f"{sqrt(part):.3g} over {what}" for what, part in deviations.items() if not isnan(part) and part)
    yield f"{metric.title}: standard deviation of a difference {known or 'nothing'} ({unit}; {number} pairs)"
    if isnan(parts.vlm_seed) and planned.vlm_seeds > 1:
        yield "  The pilot has one VLM seed, so what more of them bring is not known. They count as one."
    if planned.seeds < 2:
        yield "  With one seed nothing is called clear. Two or more show:"
    first = max(2, planned.seeds)
    for count in (first, 2 * first, 4 * first):
        design = Design(count, planned.vlm_seeds, planned.images)
        more = Design(count, planned.vlm_seeds, 4 * planned.images)
        images = f"; {parts.detectable(more):.2g} with {more.images} images" if planned.images > 1 else ""
        on = f" on {planned.images} images" if planned.images > 1 else ""
        yield f"  {count:>3} seeds{on} see {parts.detectable(design):.2g} {unit}{images}"
    for difference in DIFFERENCES[metric.percent]:
        seeds = parts.seeds_for(difference, planned)
        price = f"more than {MOST_SEEDS} seeds" if seeds is None else _count(seeds, "seed")
        if planned.images > 1:
            images = parts.images_for(difference, Design(first, planned.vlm_seeds, planned.images))
            price += f", or {first} seeds and " + ("no number of images" if images is None else f"{images} images")
        yield f"  to see {difference:g} {unit}: {price}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _pairs(study: Study) -> Iterator[tuple[tuple, tuple]]:
    """Yield each pair of reference and condition once."""
    seen = set()
    for axis in AXES:
        if (found := compared(study, axis)) is None:
            continue
        _, reference, conditions = found
        for name, cells in conditions.items():
            pair = condition(conditions[reference][0]), condition(cells[0])
            if name != reference and pair not in seen:
                seen.add(pair)
                yield pair


def _effects(study: Study, first: tuple, second: tuple, metric: Metric) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the differences `(seeds, vlm_seeds, questions)` of two conditions, and the numbers of the images."""
    runs = [_by_seed(study, each, metric) for each in (first, second)]
    shared = {seed: sorted(set(runs[0][seed]) & set(runs[1][seed])) for seed in sorted(set(runs[0]) & set(runs[1]))}
    shared = {seed: vlm_seeds for seed, vlm_seeds in shared.items() if vlm_seeds}
    if not shared:
        return None
    number = min(map(len, shared.values()))
    chosen = [[by[seed][vlm] for seed, vlm_seeds in shared.items() for vlm in vlm_seeds[:number]] for by in runs]
    single = questions([cell for cells in chosen for cell in cells], metric)
    scores = np.array([[metric.of(cell)] for cells in chosen for cell in cells]) if single is None else single[0]
    scores = scores.reshape(2, len(shared), number, -1)
    return scores[1] - scores[0], np.zeros(1, int) if single is None else single[1]


def _by_seed(study: Study, wanted: tuple, metric: Metric) -> dict[int, dict[int, dict[str, Any]]]:
    """Return seed -> VLM seed -> run; the VLM's seed is the student's, 0 here, if the axis names none."""
    found: dict[int, dict[int, dict[str, Any]]] = {}
    for run in study.runs:
        if condition(run) == wanted and metric.of(run) is not None:
            axes = run["axes"]
            vlm_seed = axes.get("vlm_seed")
            found.setdefault(axes["seed"], {})[0 if vlm_seed is None else vlm_seed] = run
    return found
