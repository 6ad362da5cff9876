"""Scores of several models side by side, with those of `shapes` by type of question."""

from __future__ import annotations

_BY_TYPE = "/accuracy"


def summary_row(name: str, numbers: dict[str, float], results: dict[str, dict]) -> dict:
    """
    Build a model's row of a `summary.json`.

    Args:
        name (`str`): Name of the model.
        numbers (`dict[str, float]`): Numbers that a [`VQAEvaluator`] returns.
        results (`dict[str, dict]`): Its `results`.

    Returns:
        `dict`: `name` and `numbers`. The number of `shapes` is called `accuracy`, and `by_type` stands beside it.
    """
    row = {"name": name, **numbers}
    if "shapes" in results:
        row["accuracy"] = row.pop("shapes")
        row["by_type"] = {
            key.removesuffix(_BY_TYPE): value for key, value in results["shapes"].items() if key.endswith(_BY_TYPE)
        }
    return row


def summary_table(rows: list[dict]) -> str:
    """Format the rows in per cent, one model a line."""
    cells = [{key: value for key, value in row.items() if key not in ("name", "by_type")} for row in rows]
    cells = [values | row.get("by_type", {}) for values, row in zip(cells, rows, strict=True)]
    widths = {column: max(9, len(column) + 2) for values in cells for column in values}
    lines = [f"{'':<12}" + "".join(f"{column:>{width}}" for column, width in widths.items())]
    for row, values in zip(rows, cells, strict=True):
        texts = {column: f"{100 * values[column]:.1f}" if column in values else "-" for column in widths}
        lines.append(f"{row['name']:<12}" + "".join(f"{texts[column]:>{width}}" for column, width in widths.items()))
    return "\n".join(lines)
