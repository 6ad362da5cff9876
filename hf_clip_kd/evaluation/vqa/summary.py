"""Scores of several models side by side, with those of `shapes` by type of question."""

from __future__ import annotations

from collections.abc import Collection

from ...recipe_io.results import BITS, is_bits

_BY_TYPE = "/accuracy"


def bits_of(results: dict[str, dict]) -> dict[str, float]:
    """Return `{"NAME/answer_bits": bits}` of the benchmarks that have them, from a [`VQAEvaluator`]'s `results`."""
    return {f"{name}/{BITS}": result[BITS] for name, result in results.items() if BITS in result}


def summary_row(name: str, numbers: dict[str, float], results: dict[str, dict]) -> dict:
    """
    Build a model's row of a `summary.json`.

    Args:
        name (`str`): Name of the model.
        numbers (`dict[str, float]`): Numbers that a [`VQAEvaluator`] returns.
        results (`dict[str, dict]`): Its `results`.

    Returns:
        `dict`: `name`, `numbers`, and `NAME/answer_bits`. POPE, whose number is the F1, also has `NAME/accuracy` and
        `NAME/yes_ratio`. The numbers of `shapes` are called `accuracy` and `answer_bits`, and `by_type` stands
        beside them.
    """
    row = {"name": name, **numbers}
    if "shapes" in results:
        row["accuracy"] = row.pop("shapes")
    for key, result in results.items():
        row |= {f"{key}/{part}": result[part] for part in ("accuracy", "yes_ratio") if "f1" in result}
    row |= {key.removeprefix("shapes/"): value for key, value in bits_of(results).items()}
    if "shapes" in results:
        row["by_type"] = {
            key.removesuffix(_BY_TYPE): value for key, value in results["shapes"].items() if key.endswith(_BY_TYPE)
        }
    return row


def summary_table(rows: list[dict], points: Collection[str]) -> str:
    """
    Format the rows, one model a line.

    Args:
        rows (`list[dict]`): See [`summary_row`].
        points (collection of `str`): Columns that are no shares: `points` of a [`VQAEvaluator`].

    Returns:
        `str`: Numbers as [`score_text`] writes them, `-` where a model has none.
    """
    cells = [{key: value for key, value in row.items() if key not in ("name", "by_type")} for row in rows]
    cells = [values | row.get("by_type", {}) for values, row in zip(cells, rows, strict=True)]
    widths = {column: max(9, len(column) + 2) for values in cells for column in values}
    lines = [f"{'':<12}" + "".join(f"{column:>{width}}" for column, width in widths.items())]
    for row, values in zip(rows, cells, strict=True):
        texts = {name: score_text(name, values[name], points) if name in values else "-" for name in widths}
        lines.append(f"{row['name']:<12}" + "".join(f"{texts[column]:>{width}}" for column, width in widths.items()))
    return "\n".join(lines)


def score_text(column: str, value: float, points: Collection[str]) -> str:
    """Write a number of a table: bits (fewer are better) and the columns of `points` unchanged, others in per cent."""
    if is_bits(column):
        return f"{value:.2f}"
    return f"{value if column in points else 100 * value:.1f}"
