"""Score the dual encoders of a study on pairs of captions with nearly the same words, and write the table.

The pairs are those of the embedded world's split `compositional`. The folder holds the stages of the study, with their
weights. Students of the study's first length and data are scored, all seeds that are trained, and their teachers. The
score of each pair is stored with the config. Without a folder the table is made of that file.

python recipes/maintenance/binding_table.py outputs/study/again --write    # score, store, write the table
python recipes/maintenance/binding_table.py                                # print the stored table
"""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import hf_clip_kd as kd
from hf_clip_kd.evaluation import build_evaluator
from hf_clip_kd.evaluation.compositional import CompositionalEvaluator
from hf_clip_kd.recipe_io.parser import RecipeParser, exit_with_one_line
from hf_clip_kd.recipe_io.results import read_written, write_whole
from hf_clip_kd.study.cells.metrics import signed
from hf_clip_kd.study.estimates.statistics import Estimate, contrast
from hf_clip_kd.study.running.arguments import StudyArguments
from hf_clip_kd.study.running.plan import Plan

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "recipes" / "configs" / "study"
PAGE, STORED = Path("docs/evaluation.md"), Path("model_cards/answer/again/binding.json")
EVALUATION = {"compositional": {"dataset_name": "shapes", "split": "compositional"}}
MARKED = re.compile(r"(<!-- binding: [^>]+ -->\n)(.*?)(<!-- end of binding -->)", re.DOTALL)
CHANGES = ("swapped_colors", "swapped_places", "changed_attribute")
SWAPPED = CHANGES[:2]  # Captions with the same words in another order.
HEADER = (
    "| model | of | seeds | colours swapped | places swapped | attribute changed | swapped, over the student alone |",
    "| --- | --- | --: | --- | --- | --- | --- |",
)
Name = tuple[str, str | None]  # objective and teacher of a student; `teacher` and its name


def trained(root: Path) -> dict[Name, dict[int, Path]]:
    """
    Find the dual encoders of a study: the folder of each seed, students alone first and teachers last.

    Raises:
        ValueError: There is no study, or it has no trained student alone.
    """
    recipe = root / "recipe.yaml"
    if not recipe.is_file():
        raise ValueError(
            f"{str(root)!r} holds no `recipe.yaml`. It must be the output folder of a study, with its stages. "
            "Run `python recipes/study.py`, and pass its `output_dir`."
        )
    (study,) = RecipeParser(StudyArguments, recipe).parse([])
    plan = Plan(study, CONFIGS)
    first = next(iter(plan.cells))
    students: dict[Name, dict[int, Path]] = {}
    for cell, measured in plan.cells.items():
        same = all(getattr(cell, axis) == getattr(first, axis) for axis in ("student", "duration", "data"))
        if same and measured.training.record(root) is not None:
            found = students.setdefault((cell.objective, cell.teacher), {})
            found[cell.seed] = root / measured.training.output
    if not any(teacher is None for _, teacher in students):
        raise ValueError(
            f"The study in {str(root)!r} has no trained student without a teacher. The others are compared with it. "
            "Run `python recipes/study.py` with a cell such as `{teacher: null, objective: alone}`."
        )
    teachers = {}
    for name in dict.fromkeys(teacher for _, teacher in students if teacher is not None):
        model = plan.models.teacher(name)
        if model.has_texts:
            teachers["teacher", name] = {0: root / model.tower}
    return dict(sorted(students.items(), key=lambda item: item[0][1] is not None)) | teachers


def pairs() -> CompositionalEvaluator:
    """Build the evaluator of the pairs."""
    return build_evaluator(EVALUATION, kd.load_image_text).evaluators[0]


def judged(folder: Path, evaluator: CompositionalEvaluator) -> np.ndarray:
    """Return the text score of each pair in per cent, `(pairs,)`: 100 if both captions go to their own picture."""
    model = kd.load_teacher(str(folder))
    evaluator(model, model.processor)
    return 100 * evaluator.judged["text_acc"]


def stored(folder: Path) -> dict[str, Any]:
    """Score all models of a study, and return what the table needs, with the config."""
    models, evaluator = trained(folder), pairs()
    found = []
    folders = [(name, seed, place) for name, by_seed in models.items() for seed, place in by_seed.items()]
    for (objective, teacher), seed, place in tqdm(folders, desc="models"):
        right = [int(score > 0) for score in judged(place, evaluator)]
        found.append({"objective": objective, "teacher": teacher, "seed": seed, "text_acc": right})
    (study,) = RecipeParser(StudyArguments, folder / "recipe.yaml").parse([])
    config = {"study": study.name, "evaluation": EVALUATION, "torch": torch.__version__}
    return {"config": config, "changes": [case.category for case in evaluator.cases], "models": found}


def table_of(record: Mapping[str, Any]) -> str:
    """Return the table of the stored scores."""
    scores: dict[Name, dict[int, np.ndarray]] = {}
    for model in record["models"]:
        name = model["objective"], model["teacher"]
        scores.setdefault(name, {})[model["seed"]] = 100.0 * np.array(model["text_acc"])
    return table(scores, np.array(record["changes"]))


def table(scores: Mapping[Name, Mapping[int, np.ndarray]], changes: np.ndarray) -> str:
    """
    Return the table.

    Args:
        scores (`Mapping`): Text scores of all pairs, by model and seed. The first model is the student alone.
        changes (`np.ndarray` of shape `(pairs,)`): The change of each pair.
    """
    (_, alone), *_ = scores.items()
    lines = [*HEADER]
    for (objective, teacher), by_seed in scores.items():
        values = np.stack([*by_seed.values()])
        cells = [interval(contrast(values[None, :, changes == change], [1])) for change in CHANGES]
        shared = [seed for seed in by_seed if seed in alone and objective != "teacher"]
        gain = "–"
        if by_seed is not alone and shared:
            both = np.stack([[model[seed] for seed in shared] for model in (alone, by_seed)])
            gain = interval(contrast(both[:, :, np.isin(changes, SWAPPED)], [-1, 1]), sign=True)
        name = "teacher" if objective == "teacher" else f"`{objective}`"
        of = "–" if teacher is None else f"`{teacher}`"
        lines.append(f"| {' | '.join([name, of, str(len(by_seed)), *cells, gain])} |")
    return "\n".join(lines)


def interval(estimate: Estimate, sign: bool = False) -> str:
    """Return a number with its interval, `61.2 [58.9, 63.5]`."""

    def shown(value: float) -> str:
        return signed(value, 1) if sign else f"{value:.1f}"

    return f"{shown(estimate.value)} [{shown(estimate.low)}, {shown(estimate.high)}]"


def main(argv: list[str] | None = None) -> str:
    """Print the table of a study, write it where asked, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help=f"Output folder of a study. Default: scores in {STORED}.")
    parser.add_argument("--write", action="store_true", help=f"Write {STORED}, and the table into {PAGE}.")
    given = parser.parse_args(argv)
    record = read_written(ROOT / STORED) if given.folder is None else stored(given.folder)
    text = table_of(record)
    if given.write:
        write_whole(ROOT / STORED, json.dumps(record, separators=(",", ":")) + "\n")
        page = (ROOT / PAGE).read_text(encoding="utf-8")
        write_whole(ROOT / PAGE, MARKED.sub(lambda found: f"{found[1]}{text}\n{found[3]}", page))
        print(f"{PAGE} written")
    print(text)
    return text


if __name__ == "__main__":
    exit_with_one_line(main)
