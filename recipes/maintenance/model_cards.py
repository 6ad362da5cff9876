"""Render the cards of `model_cards/` and their index again from the files of their runs.

The parts of a card lie in `model_cards/runs/NAME/`: configuration, recipe, results, cost, and the scores of the runs
beside it. The command reads only these, so the same cards come out. Flags take over finished runs before that.

    python recipes/maintenance/model_cards.py
    python recipes/maintenance/model_cards.py --collect outputs/demo/distilled outputs/vlm_demo/distilled
    python recipes/maintenance/model_cards.py --study outputs/study/miniature   # its students and its report
    python recipes/maintenance/model_cards.py --report outputs/study/meter      # its report alone
"""

import argparse
import json
import logging
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from hf_clip_kd.evaluation import load_results
from hf_clip_kd.evaluation.cost import measure_run
from hf_clip_kd.hub.cards import render_card, write_card
from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.study.cards import collect_students
from hf_clip_kd.study.report.report import write_report
from hf_clip_kd.vlm.saving import load_folder

CARDS = Path(__file__).parents[2] / "model_cards"
STUDY_CONFIGS = Path(__file__).parents[1] / "configs" / "study"
COPIED = ("config.json", "recipe.yaml", "training_args.json", "representation.json", "parity.json", "card.json")
# Labels of the runs of one folder in each other's tables, in their order.
LABELS = {
    "teacher": "teacher",
    "alone": "student alone",
    "distilled": "student distilled",
    "untrained": "untrained student",
    "blind": "no images",
}
# Results of a run that stand in the index.
COLUMNS = ("acc1", "image_retrieval_recall@1", "text_retrieval_recall@1", "accuracy")
# The recipe's own entries: they do not describe the results.
NOT_COMPARED = ("evaluation", "beside")
INDEX = """# Model cards

One card for each model of the demos and of one seed of the miniature study. A card has the teacher, the data, the
objectives and the scores. Those of its teacher and of the same student alone stand beside them. All are
demonstrations. Their world `shapes` is drawn by a program, and the scores say nothing about photographs. Scores are in
per cent. `accuracy` is of the answers of a vision-language model.

{table}

Those named `miniature` are students of that seed. The study's [report](miniature/report.md) has the spread over
seeds. A second run with other seeds is compared with the first in [reproduction.md](miniature/reproduction.md).

Five more studies have a report and no cards. [answer](answer/report.md) compares objectives, also in a
[second run](answer/reproduction.md). [ablation](ablation/report.md) tries each loss alone and with the task.
[defects](defects/report.md) tries defects of published code. [meter](meter/report.md) says how good the meter of VQA
is. [image_tokens](image_tokens/report.md) gives a language model fewer tokens of an image.

`python recipes/maintenance/model_cards.py` writes these files from `runs/`. `--collect FOLDER ...` takes over the
runs in these folders first. `--study FOLDER` takes one student of each condition of a study, and its report.
`--report FOLDER` takes the report alone.
"""


def collect(run: Path, cards: Path = CARDS) -> Path:
    """
    Take over the parts of a card from a finished run, measure the model's cost, and return the new folder.

    The other runs beside it, with results, become columns of its tables.

    Raises:
        ValueError: The folder holds no finished run, or its recipe differs from that of its results.
    """
    results = load_results(run / "results")
    if not (results and (run / "config.json").is_file()):
        raise ValueError(
            f"`--collect {run}` is no finished run. It must be a folder with a config.json and results/*.json. "
            "Run `make demo` or `recipes/train_vlm.py` first, and give the folders below their output."
        )
    check_recipe(run, results)
    folder = cards / "runs" / f"{run.parent.name}_{run.name}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "results").mkdir(parents=True)
    for name in COPIED:
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    for path in (run / "results").glob("*.json"):
        shutil.copyfile(path, folder / "results" / path.name)
    measure_run(run, load_folder, folder)
    others = {
        LABELS[name]: run.parent / name
        for name in LABELS
        if name != run.name and (run.parent / name / "results").is_dir()
    }
    write_card(folder, name=f"{run.parent.name}-{run.name}", compare=others).unlink()
    return folder


def collect_study(study: Path, cards: Path = CARDS) -> Path:
    """
    Take over one student of each condition of a study in place of its earlier ones, and its report.

    Raises:
        ValueError: See [`collect_students`].
    """
    with TemporaryDirectory(dir=cards) as temporary:
        folders = collect_students(study, STUDY_CONFIGS, Path(temporary))
        folder = collect_report(study, cards)
        for old in (cards / "runs").glob(f"{folder.name}_*"):
            shutil.rmtree(old)
        for new in folders:
            shutil.move(new, cards / "runs" / new.name)
    return folder


def collect_report(study: Path, cards: Path = CARDS) -> Path:
    """Take over the JSONs of a study, make its report from them, and return its folder."""
    record = json.loads((study / "study.json").read_text(encoding="utf-8"))
    folder = cards / record["name"]
    shutil.rmtree(folder / "cells", ignore_errors=True)
    (folder / "cells").mkdir(parents=True)
    for name in ("study.json", *(f"cells/{cell}.json" for cell in record["cells"])):
        shutil.copyfile(study / name, folder / name)
    write_report(folder)
    return folder


def check_recipe(run: Path, results: list[dict[str, Any]]) -> None:
    """
    Check that `recipe.yaml` is the recipe of the results.

    Raises:
        ValueError: It is not: a later run began to overwrite the folder.
    """
    recipe = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    for result in results:
        config = result["config"]
        for key in recipe.keys() & config.keys() - set(NOT_COMPARED):
            if recipe[key] != config[key]:
                raise ValueError(
                    f"{run / 'recipe.yaml'} says `{key}: {recipe[key]}`, and the results beside it were made with "
                    f"`{config[key]}`. Both must be of one run. Train it again: `--config` with the recipe, "
                    f"`--output_dir {run}`."
                )


def render(cards: Path = CARDS) -> dict[str, str]:
    """Return the text of every file of `model_cards/`, by its name."""
    folders = sorted(path for path in (cards / "runs").iterdir() if path.is_dir())
    texts = {f"{folder.name}.md": render_card(folder) for folder in folders}
    return texts | {"README.md": INDEX.format(table=index(folders))}


def index(folders: list[Path]) -> str:
    """Return one line for each card, with a link and its scores."""
    lines = [f"| model | {' | '.join(f'`{column}`' for column in COLUMNS)} |", f"| --- |{' ---: |' * len(COLUMNS)}"]
    for folder in folders:
        metrics = {
            name: value for result in load_results(folder / "results") for name, value in result["metrics"].items()
        }
        cells = [f"{100 * metrics[column]:.1f}" if column in metrics else "" for column in COLUMNS]
        lines.append(f"| [{folder.name}]({folder.name}.md) | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> dict[str, str]:
    """Run the recipe and return the written texts by file name."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--collect", type=Path, nargs="+", default=[], metavar="FOLDER", help="Folders of finished runs."
    )
    parser.add_argument("--study", type=Path, metavar="FOLDER", help="Output folder of a finished study.")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="The same, for its report alone.")
    given = parser.parse_args(argv)
    for run in given.collect:
        collect(run)
    if given.study is not None:
        collect_study(given.study)
    if given.report is not None:
        collect_report(given.report)
    texts = render()
    for path in CARDS.glob("*.md"):
        if path.name not in texts:
            path.unlink()  # Its run is gone.
    for name, text in texts.items():
        (CARDS / name).write_text(text, encoding="utf-8")
        print(CARDS / name)
    return texts


if __name__ == "__main__":
    exit_with_one_line(main)
