"""Answers of a vision-language model about a tower: scores, bits and learning curve, from the files of a stage."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

from ...recipe_io.foreign import read_json
from ...recipe_io.results import MAIN, load_results, read_written, read_written_lines, result_path
from .readings import VALIDATION
from .stages import Stage

CURVE = "learning_curve.json"
# Benchmarks that sum points, with the largest sum.
MOST = {"mme": 2000.0}
SINGLE = ("vqa_correct", "vqa_bits", "vqa_images", "vqa_types")
NOTHING: dict[str, Any] = {"vqa": {}, **dict.fromkeys((*SINGLE, "curve"))}


def answers_block(stage: Stage, root: Path, *, chooses: bool) -> dict[str, Any]:
    """
    Return the VQA metrics, the single questions, and the learning curve of a stage.

    The metrics of several benchmarks have the benchmark's name in front. `accuracy` is the number that papers quote,
    as a share. It is the mean of these of several benchmarks, and each of them stands there as `NAME/main`.

    Args:
        root (`Path`): Folder of the study.
        chooses (`bool`): True if the study chooses on the benchmark `validation`, which measures nothing then.

    Returns:
        `dict`: `vqa` has the metrics. `vqa_correct` and `vqa_bits` have the score and the bits of every question, or
        `None` if a question has none. `vqa_images` numbers the images, or is `None` if no two questions share one.
        `vqa_types` has the types, or is `None` without any. `curve` is the learning curve, or `None`.
    """
    folder = vqa_folder(stage, root)
    records = [record for record in _records(stage, root) if not (chooses and record["dataset"] == VALIDATION)]
    if not records:
        return dict(NOTHING)
    several = len(records) > 1
    names = [record["dataset"] if several else "" for record in records]
    metrics = {
        _joined(name, metric): value
        for name, record in zip(names, records, strict=True)
        for metric, value in record["metrics"].items()
    }
    shares = {record["dataset"]: share for record in records if (share := _share(record)) is not None}
    if shares:
        metrics["accuracy"] = mean(shares.values())
    if several:
        metrics |= {f"{name}{MAIN}": share for name, share in shares.items()}
    bits = [record["metrics"]["answer_bits"] for record in records if "answer_bits" in record["metrics"]]
    if bits:
        metrics.setdefault("answer_bits", mean(bits))
    questions = [
        question | {"benchmark": name}
        for name, record in zip(names, records, strict=True)
        for question in _samples(record, folder)
    ]
    return {"vqa": metrics} | _single(questions) | {"curve": _curve(stage, root, chooses)}


def tables_block(stages: dict[str, Stage], root: Path) -> dict[str, dict[str, float]]:
    """Return the number that papers quote as a share, by the title of a set and its benchmark's name."""
    return {
        title: {record["dataset"]: share for record in _records(stage, root) if (share := _share(record)) is not None}
        for title, stage in stages.items()
    }


def validation_score(stage: Stage, root: Path) -> float | None:
    """Return the score on the benchmark that a reading is chosen by, or `None` if the stage has not ended."""
    return next((_share(record) for record in _records(stage, root) if record["dataset"] == VALIDATION), None)


def answering_stages(stage: Stage) -> list[Stage]:
    """Return the stages of one vision-language model, the first training first: those that made its tower are none."""
    earlier = [need for need in stage.needs if need.kind == "vlm"]
    return [*(before for need in earlier for before in answering_stages(need)), stage]


def vqa_folder(stage: Stage, root: Path) -> Path:
    """Return the folder of VQA results. A training that evaluates has them below its model."""
    return root / stage.output if stage.kind == "vqa" else root / stage.output / "results"


def image_tokens(stage: Stage, root: Path) -> int | None:
    """
    Return the tokens that the language model gets of each image.

    It is `None` before its training has ended, and with tiles, whose number differs from image to image.
    """
    training = [need for need in answering_stages(stage) if need.kind == "vlm"][-1]
    path = root / training.output / "config.json"
    config = read_written(path) if path.is_file() else {}
    return None if "image_grid_pinpoints" in config else config.get("image_seq_length")


def averaged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """
    Return the means of blocks of one tower, of repeats with other seeds: metrics, scores and bits of questions.

    Blocks without metrics are left out. So are numbers that a block does not have.
    """
    parts = [part for part in parts if part["vqa"]]
    if not parts:
        return {"vqa": {}, "vqa_correct": None, "vqa_bits": None}
    names = [name for name in parts[0]["vqa"] if all(name in part["vqa"] for part in parts)]
    found: dict[str, Any] = {"vqa": {name: mean(part["vqa"][name] for part in parts) for name in names}}
    for name in ("vqa_correct", "vqa_bits"):
        lists = [part[name] for part in parts]
        found[name] = None if None in lists else [mean(values) for values in zip(*lists, strict=True)]
    return found


def _records(stage: Stage, root: Path) -> list[dict[str, Any]]:
    if stage.record(root) is None:
        return []
    return [record for record in load_results(vqa_folder(stage, root)) if record["task"].startswith("vqa_")]


def _share(record: dict[str, Any]) -> float | None:
    """Return the number that papers quote as a share of the largest one."""
    score = record["metrics"].get(record["main_metric"])
    return None if score is None else score / MOST.get(record["benchmark"], 1.0)


def _samples(record: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    names = {name: record[name] for name in ("dataset", "model", "task")}
    path = result_path(folder, pretrained=record.get("pretrained", ""), **names)
    return read_written_lines(folder / "samples" / f"{path.stem}.jsonl")


def _single(questions: list[dict[str, Any]]) -> dict[str, list | None]:
    """Return the lists of the keys `SINGLE`, a value for each question."""
    scores = [question["score"] for question in questions]
    bits = [question.get("bits") for question in questions]
    # A question without the name of an image has one of its own.
    images = [
        (question["benchmark"], question.get("image") or f"question {i}") for i, question in enumerate(questions)
    ]
    numbers = {image: number for number, image in enumerate(dict.fromkeys(images))}
    types = [_joined(question["benchmark"], question.get("category") or "") for question in questions]
    return {
        "vqa_correct": None if None in scores else [int(score) if score in (0, 1) else score for score in scores],
        "vqa_bits": None if None in bits else [round(value, 6) for value in bits],
        "vqa_images": None if len(numbers) == len(images) else [numbers[image] for image in images],
        "vqa_types": types if any(types) else None,
    }


def _curve(stage: Stage, root: Path, chooses: bool) -> dict[str, Any] | None:
    """Return the mean of the benchmarks' learning curves; types of several benchmarks have the benchmark in front."""
    training = [need for need in answering_stages(stage) if need.kind == "vlm"][-1]
    path = root / training.output / CURVE
    if not path.is_file():
        return None
    words = {"allowed": "It is a learning curve of `train_vlm.py`.", "fix": "Run the stage again."}
    record = read_json(path, **words)
    measured = {name: scores for name, scores in record["scores"].items() if not (chooses and name == VALIDATION)}
    curve: dict[str, Any] = {"steps": record["steps"], "seconds": record["seconds"], "area": {}, "types": {}}
    for metric in ("accuracy", "answer_bits"):
        lists = [scores[metric] for scores in measured.values() if metric in scores]
        if not lists:
            continue
        curve[metric] = [mean(values) for values in zip(*lists, strict=True)]
        curve["area"][metric] = mean(record["area"][name][metric] for name in measured if metric in measured[name])
        for name, scores in measured.items():
            for key in scores:
                if key.endswith(f"/{metric}"):
                    kind = _joined(name if len(measured) > 1 else "", key.removesuffix(f"/{metric}"))
                    curve["types"].setdefault(kind, {})[metric] = scores[key]
    return curve


def _joined(benchmark: str, name: str) -> str:
    return "/".join(filter(None, (benchmark, name)))
