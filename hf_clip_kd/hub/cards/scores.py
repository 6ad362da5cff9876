"""Results of a run beside those of others: as tables, and as the `model-index` of a card's metadata."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult

from ...recipe_io.results import BITS, is_bits, load_results
from .markdown import Markdown, code, plain, public, table

# CLIP_benchmark's task -> the Hub's, and ours for headings.
TASKS = {
    "zeroshot_classification": ("zero-shot-image-classification", "Zero-shot classification"),
    "zeroshot_retrieval": ("image-text-retrieval", "Zero-shot retrieval"),
    "image_caption_selection": ("image-text-retrieval", "Choice of captions"),
    "zeroshot_suite": ("zero-shot-image-classification", "Means over a suite"),
}
VQA = ("visual-question-answering", "Visual question answering")
# MME counts points; all other metrics are fractions.
POINTS = ("score", "perception", "cognition", "total")
THIS = "this model"


class ScoreTable(NamedTuple):
    """Scores on one benchmark, as Markdown."""

    title: Markdown
    note: str
    rows: Markdown


def scores_in(folder: Path) -> list[dict[str, Any]]:
    """Return the results in a folder that are scores, without diagnostics of the representation."""
    records = load_results(folder)
    return [record for record in records if record["task"] in TASKS or record["task"].startswith("vqa_")]


def own_scores(record: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a result file that a card repeats: task, data, protocol and numbers."""
    kept = ("task", "metrics", "main_metric", "n_samples", "protocol", "confidence_intervals", "likelihood")
    name, split = dataset(record)
    return {key: record[key] for key in kept if key in record} | {"dataset": f"{name}/{split}" if split else name}


def compared_scores(run: Path) -> list[dict[str, Any]]:
    """Return the results of another run, reduced to what a column shows."""
    records = map(own_scores, scores_in(run / "results"))
    return [{key: record[key] for key in ("task", "dataset", "metrics")} for record in records]


def dataset(record: dict[str, Any]) -> tuple[str, str]:
    """Return name and split of the data of a result; a path is cut to its last part."""
    name, _, split = record["dataset"].rpartition("/")
    # A VQA benchmark has one name; the names of other tasks end with the split.
    return (public(name), plain(split)) if name and record["task"] in TASKS else (public(record["dataset"]), "")


def score_tables(scores: list[dict[str, Any]], others: dict[str, list[dict[str, Any]]]) -> list[ScoreTable]:
    """Return a table for each benchmark of this model, with a column for each other model measured on it."""
    tables = []
    for record in scores:
        columns = {
            label: other["metrics"]
            for label, theirs in others.items()
            for other in theirs
            if (other["task"], other["dataset"]) == (record["task"], record["dataset"])
        }
        columns[THIS] = record["metrics"]
        intervals = record.get("confidence_intervals", {})
        rows = [
            [
                code(metric),
                *(_value(column, metric, intervals if label == THIS else {}) for label, column in columns.items()),
            ]
            for metric in record["metrics"]
        ]
        title = Markdown(f"{TASKS.get(record['task'], VQA)[1]} on {code(record['dataset'])}")
        tables.append(ScoreTable(title, _note(record), table(["", *columns], rows)))
    return tables


def _value(metrics: dict[str, float], metric: str, intervals: dict[str, Sequence[float]]) -> str:
    if metric not in metrics:
        return "–"
    scale = 1 if is_points(metric) or is_bits(metric) else 100
    digits = 2 if is_bits(metric) else 1
    low_high = " to ".join(f"{scale * end:.{digits}f}" for end in intervals.get(metric, ()))
    return f"{scale * metrics[metric]:.{digits}f}" + (f" ({low_high})" if low_high else "")


def is_points(metric: str) -> bool:
    return metric.rpartition("/")[2] in POINTS


def _note(record: dict[str, Any]) -> str:
    others = [metric for metric in record["metrics"] if not is_bits(metric)]
    unit = "Points." if all(map(is_points, others)) else "Per cent."
    if len(others) < len(record["metrics"]):
        how = record.get("likelihood", {})
        unit += f" `{BITS}` is in bits{_likelihood(how)}, and lower is better."
    if "n_samples" in record:
        unit += f" {record['n_samples']} questions, protocol {record.get('protocol', 'of the benchmark')}."
    return unit + (" In brackets, 95 % bootstrap intervals." if record.get("confidence_intervals") else "")


def _likelihood(how: dict[str, Any]) -> str:
    """Say which answer the bits are of, and whether they are of the whole answer or of a token."""
    answers = {"best": "likeliest", "most_frequent": "most frequent", "first": "first"}.get(how.get("answers"))
    if answers is None:
        return ""
    return f" per {'token' if how.get('length') == 'per_token' else 'answer'} of the {answers} accepted answer"


def eval_results(scores: list[dict[str, Any]], vlm: bool) -> list[EvalResult]:
    """
    Return the entries of `model-index`: all metrics of classification and retrieval, the main metric of VQA.

    VQA counts for the vision-language model only, not for its tower.
    """
    results = []
    for record in scores:
        if not vlm and record["task"] not in TASKS:
            continue
        name, _, split = record["dataset"].rpartition("/") if record["task"] in TASKS else (record["dataset"], "", "")
        main = None if record["task"] == "zeroshot_retrieval" else record.get("main_metric")
        for metric, value in record["metrics"].items():
            if main not in (None, metric):
                continue
            kind = "accuracy" if "acc" in metric else "recall" if "recall" in metric else metric.replace("/", "_")
            results.append(
                EvalResult(
                    task_type=TASKS.get(record["task"], VQA)[0],
                    task_name=TASKS.get(record["task"], VQA)[1],
                    dataset_type=plain(name).replace(" ", "-"),
                    dataset_name=f"{name}, procedural images" if name == "shapes" else name,
                    dataset_split=split or None,
                    metric_type=kind,
                    metric_name=metric,
                    metric_value=round(value, 4),
                )
            )
    return results
