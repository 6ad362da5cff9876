"""Put the runs of one folder side by side, as a table and as `summary.json`.

Each subfolder of the given folder with `results/*.json` is a row, in the order teacher, alone, distilled, others. Runs
with several seeds, named NAME-0, NAME-1, ..., are one row: mean and standard deviation. Differences of such rows from
the first of them follow, paired by seed.

    python recipes/compare.py outputs/demo

Given two, it compares the answers of two vision-language models to the same questions. Each is the folder of a run, or
a `samples/*.jsonl`. All questions of an image are drawn together. The interval says what other images would give with
these two models, and nothing of other seeds of their training.

    python recipes/compare.py outputs/vlm/alone outputs/vlm/distilled
    python recipes/compare.py outputs/vlm/alone outputs/vlm/distilled --leave_out_blind outputs/vlm/blind
"""

import argparse
import json
import math
import re
import statistics
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from hf_clip_kd.evaluation.main_summary import main_summary
from hf_clip_kd.recipe_io.foreign import read_json
from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.recipe_io.results import load_results, write_whole
from hf_clip_kd.study.cells.metrics import signed
from hf_clip_kd.study.cells.samples import scored_answers, single_model
from hf_clip_kd.study.estimates.two_models import BITS, Pair, compare_models

ORDER = ("teacher", "alone", "distilled")
COLUMNS = ("acc1", "image_retrieval_recall@1", "text_retrieval_recall@1")


def collect(folder: Path) -> list[dict]:
    """Return one row per run: its name, its folder and all its metrics.

    A metric that several results of a run have gets the names of their data in front, in all rows.

    Raises:
        ValueError: There is no run in the folder, or a run has two results of one metric on the same data.
    """
    runs = {path.parent: load_results(path) for path in sorted(folder.glob("*/results"))}
    shared = set()
    for results in runs.values():
        counts = Counter(metric for result in results for metric in result["metrics"])
        shared |= {metric for metric, count in counts.items() if count > 1}
    rows = []
    for run, results in runs.items():
        metrics = {}
        for result in results:
            named = {f"{result['dataset']}/{key}" if key in shared else key: x for key, x in result["metrics"].items()}
            twice = sorted(metrics.keys() & named.keys())
            if twice:
                raise ValueError(
                    f"{str(run / 'results')!r} holds {twice[0]!r} twice, of several models, tasks or protocols. A run "
                    "has one result of a metric on the same data. Move the others to another folder."
                )
            metrics |= named
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
    """Return the rows as text, in percent, with the mean of the columns last, and differences paired by seed.

    Raises:
        ValueError: No metric of a column is in all rows.
    """
    common = [key for key in rows[0] if all(key in row for row in rows)]
    columns = [key for column in COLUMNS for key in common if key.rpartition("/")[2] == column]
    if not columns:
        raise ValueError(
            f"The runs {', '.join(row['name'] for row in rows)} share none of {', '.join(COLUMNS)}, so there is no "
            "column to put them side by side. All must have been scored on the same data. Give them the same "
            "`evaluation`, or compare the answers of two VLMs: `compare.py FIRST SECOND`."
        )
    groups: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for row in rows:
        name, seed = re.fullmatch(r"(.*?)(-\d+)?", row["name"]).groups()
        values = [100 * row[column] for column in columns]
        groups[name][seed] = [*values, statistics.mean(values)]
    shown = {name: [cell(values) for values in zip(*runs.values(), strict=True)] for name, runs in groups.items()}
    first, *others = [name for name, runs in groups.items() if len(runs) > 1] or [None]
    for name in others:
        seeds = [seed for seed in groups[first] if seed in groups[name]]
        if len(seeds) > 1:
            pairs = [zip(groups[name][seed], groups[first][seed], strict=True) for seed in seeds]
            values = zip(*([a - b for a, b in pair] for pair in pairs), strict=True)
            shown[f"{name} less {first}"] = [cell(differences, "+") for differences in values]
    width = max(12, *(len(name) + 2 for name in shown))
    widths = [*(max(26, len(column) + 2) for column in columns), 8 if len(groups) == len(rows) else 14]
    lines = [f"{'':<{width}}" + _right([*columns, "mean"], widths)]
    return "\n".join(lines + [f"{name:<{width}}" + _right(cells, widths) for name, cells in shown.items()])


def _right(cells: list[str], widths: list[int]) -> str:
    return "".join(f"{text:>{width}}" for text, width in zip(cells, widths, strict=True))


def write_summary(path: Path, rows: list[dict]) -> None:
    """Write the rows, unless another recipe wrote a summary there, whose rows name no folder."""
    if path.is_file():
        there = read_json(path, dict, allowed="It must be a recipe's `summary.json`.", fix="Move it away.")
        if not all("folder" in row for row in there.get("rows") or [{}]):
            print(f"{path} is of another recipe and stays as it is.")
            return
    write_whole(path, json.dumps({"rows": rows}, indent=2) + "\n")


def cell(values: tuple[float, ...], sign: str = "") -> str:
    """Return one number as text, or the mean and standard deviation of several seeds; `sign` is `+` to show it."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.1f}{spread}"


def side_by_side(first: Path, second: Path, blind: Path | None) -> list[Pair]:
    """Print how two models differ in each benchmark that both were asked, and return the numbers.

    A benchmark that is only exported has no scores. It is left out, unless all are such.

    Raises:
        ValueError: They share no benchmark or no question, or `blind` was asked nothing of it. Or nothing has a score.
    """
    runs = [single_model(path) for path in (first, second)]
    without = {} if blind is None else single_model(blind)
    found = []
    names = sorted({*runs[0], *runs[1]} - {""}) or [""]
    scored = [name for name in names if not any(name in run and run[name].only_exported for run in runs)]
    for name in names:
        if scored and name not in scored:
            print(f"{name} is left out: its answers are exported and have no score here.")
            continue
        # A file alone does not name its benchmark.
        files = [run.get(name, run.get("")) for run in (*runs, without)]
        asked, again, unseen = ({} if file is None else scored_answers(file.path) for file in files)
        if not asked.keys() & again.keys():
            continue
        if blind is not None and not asked.keys() & unseen.keys():
            raise ValueError(
                f"`--leave_out_blind {blind}` has no answer to a question of {name or first.name!r}, so it leaves "
                "nothing out. It must have been asked the same questions. Pass such a run, or leave the flag out."
            )
        records = files[0].record, files[1].record
        pairs, numbers = compare_models(asked, again, unseen, records=records, summarize=main_summary)
        print("\n" + comparison(name, pairs, numbers, told_blind=blind is not None) + "\n")
        found += pairs
    if not found:
        raise ValueError(
            f"{str(first)!r} and {str(second)!r} share no question of a benchmark ({sorted(runs[0])} and "
            f"{sorted(runs[1])}). Both must have been asked the same questions. Pass two runs of one benchmark."
        )
    return found


def comparison(name: str, pairs: list[Pair], numbers: dict[str, Any], told_blind: bool) -> str:
    """Return the comparison of two models in one benchmark as text."""
    about = f" about {numbers['units']} images" if numbers["units"] else ", each counted as an image of its own"
    if numbers["unit"] != "image":
        about = f" in {numbers['units']} {numbers['unit']}s"
    lines = [f"{name + ': ' if name else ''}{numbers['questions']} questions{about}"]
    if numbers["unshared"]:
        lines.append(f"left out, asked of one model only: {numbers['unshared']}")
    if told_blind:
        lines.append(f"left out, answered right without a picture: {numbers['left_out']}")
    width = max(12, *(len(pair.what) + 2 for pair in pairs))
    lines.append(f"{'':<{width}}{'first':>8}{'second':>8}{'difference':>12}{'95% interval':>20}{'p':>8}{'flips p':>9}")
    for pair in pairs:
        difference, digits = pair.difference, pair.digits
        flips = "–" if math.isnan(pair.flipped) else f"{pair.flipped:.4f}"
        interval = f"[{signed(difference.low, digits)}, {signed(difference.high, digits)}]"
        lines.append(
            f"{pair.what:<{width}}{pair.first:>8.2f}{pair.second:>8.2f}{signed(difference.value, digits):>12}"
            f"{interval:>20}{_p(difference.p_value):>8}{flips:>9}"
        )
    lines.append(
        f"answered better by the first alone: {numbers['first_alone']}, by the second: {numbers['second_alone']}"
    )
    for pair in pairs:
        verdict = "is clear" if pair.clear else "is not clear"
        seen = f"{pair.detectable:.{pair.digits}f}{'' if pair.what == BITS else ' points'}"
        lines.append(
            f"The difference in {pair.what} {verdict}; so many {numbers['unit']}s show {seen} in 8 of 10 draws."
        )
    return "\n".join(lines)


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def main(argv: list[str] | None = None) -> list[dict] | list[Pair]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Folder whose subfolders are runs; or the first of two models.")
    parser.add_argument("second", type=Path, nargs="?", help="Second model: the folder of a run, or its samples.")
    parser.add_argument(
        "--leave_out_blind", type=Path, help="Run of a model without pictures. What it answers right is left out."
    )
    given = parser.parse_args(argv)
    folder = given.folder
    if given.second is not None:
        return side_by_side(folder, given.second, given.leave_out_blind)
    if given.leave_out_blind is not None:
        raise ValueError(
            f"`--leave_out_blind {given.leave_out_blind}` is about single questions, and {str(folder)!r} stands "
            "alone. It needs two models. Pass both: `compare.py FIRST SECOND --leave_out_blind BLIND`."
        )
    rows = collect(folder)
    print("\n" + table(rows) + "\n")
    write_summary(folder / "summary.json", rows)
    return rows


if __name__ == "__main__":
    exit_with_one_line(main)
