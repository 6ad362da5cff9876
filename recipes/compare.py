"""Put the runs of one folder side by side, as a table and as `summary.json`.

Each subfolder of the given folder with `results/*.json` is a row, in the order teacher, alone, distilled, others. Runs
with several seeds, named NAME-0, NAME-1, ..., are one row: mean and standard deviation.

    python recipes/compare.py outputs/demo
"""

import argparse
import json
import re
import statistics
from collections import defaultdict
from pathlib import Path

from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.recipe_io.results import load_results, write_whole

ORDER = ("teacher", "alone", "distilled")
COLUMNS = ("acc1", "image_retrieval_recall@1", "text_retrieval_recall@1")


def collect(folder: Path) -> list[dict]:
    """Return one row per run: its name, its folder and all its metrics.

    Raises:
        ValueError: There is no run in the folder.
    """
    rows = []
    for run in sorted(path.parent for path in folder.glob("*/results")):
        metrics = {}
        for result in load_results(run / "results"):
            metrics |= result["metrics"]
        if metrics:
            rows.append({"name": run.name, **metrics, "folder": str(run)})
    if not rows:
        raise ValueError(
            f"{str(folder)!r} holds no run with results. Give the folder above the runs' `output_dir`s, each with "
            "`results/*.json`: run `make demo`, or `recipes/distill.py` with an `evaluation`, first."
        )
    return sorted(
        rows, key=lambda row: (ORDER.index(row["name"]) if row["name"] in ORDER else len(ORDER), row["name"])
    )


def table(rows: list[dict]) -> str:
    """Return the rows as text, in percent, with the mean of the columns last."""
    columns = [column for column in COLUMNS if all(column in row for row in rows)]
    groups = defaultdict(list)
    for row in rows:
        values = [100 * row[column] for column in columns]
        groups[re.sub(r"-\d+$", "", row["name"])].append([*values, statistics.mean(values)])
    width = max(12, *(len(name) + 2 for name in groups))
    last = 8 if len(groups) == len(rows) else 14
    lines = [f"{'':<{width}}" + "".join(f"{column:>26}" for column in columns) + f"{'mean':>{last}}"]
    for name, runs in groups.items():
        *cells, mean = (cell(values) for values in zip(*runs, strict=True))
        lines.append(f"{name:<{width}}" + "".join(f"{text:>26}" for text in cells) + f"{mean:>{last}}")
    return "\n".join(lines)


def cell(values: tuple[float, ...]) -> str:
    """Return one number as text, or the mean and standard deviation of several seeds."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def main(argv: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Folder whose subfolders are runs.")
    folder = parser.parse_args(argv).folder
    rows = collect(folder)
    write_whole(folder / "summary.json", json.dumps({"rows": rows}, indent=2) + "\n")
    print("\n" + table(rows) + "\n")
    return rows


if __name__ == "__main__":
    exit_with_one_line(main)
