"""Draw a sheet of pictures, each with a question, the right answer, and what each of several models answered.

The models were asked the same benchmark by `train_vlm.py` or `evaluate_vlm.py`. The types of question take turns.
`--pictures` names the folder of `write_pictures.py`. Then each picture is shown with its source and licence.

    python recipes/show_answers.py unseen outputs/pictures_vlm/blind outputs/pictures_vlm/distilled \
        --pictures outputs/pictures --licences CC-BY-4.0 OFL-1.1 --output_file sheet.png
"""

import argparse
import io
import random
import textwrap
from collections import Counter, defaultdict
from pathlib import Path

from matplotlib.figure import Figure

from hf_clip_kd.data.reading.images import decode_image
from hf_clip_kd.evaluation.vqa import SHORT_ANSWER
from hf_clip_kd.recipe_io.foreign import fields, read_json_lines
from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.recipe_io.results import write_whole
from hf_clip_kd.study.cells.samples import Answered, Key, read_samples, samples_files

COLUMNS, WIDTH = 2, 38  # pictures in a row, characters in a line
RIGHT, WRONG = "#1a7f37", "#b42318"


Answers = dict[Key, Answered]


def read_answers(run: Path, benchmark: str) -> Answers:
    """
    Read a model's answers to a benchmark, by question id and prompt; those about pictures in files alone.

    Raises:
        ValueError: The run was not asked this benchmark.
    """
    files = [samples.path for samples in samples_files(run) if samples.record["dataset"] == benchmark]
    if len(files) != 1:
        raise ValueError(
            f"{str(run)!r} holds {len(files)} results of {benchmark!r}. It must hold a single model's. Name the "
            "folder of a run, and a name of its `evaluation`."
        )
    answers = read_samples(files[0])[""]
    return {key: own for key, own in answers.items() if own.image is not None and Path(own.image).is_file()}


def credits(folder: Path) -> dict[str, tuple[str, str]]:
    """Return source and licence of each picture by its path, from the index of `write_pictures.py`."""
    path = folder / "pictures.jsonl"
    about = {"allowed": "It must be a file of `write_pictures.py`.", "fix": "Write the pictures again."}
    kinds = dict.fromkeys(("image", "source", "licence"), str)
    rows = (fields(row, kinds, path, where=f"line {i}", **about) for i, row in read_json_lines(path, **about))
    return {str((folder / image).resolve()): (source, licence) for image, source, licence in rows}


def choose(answers: Answers, allowed: set[str] | None, number: int, seed: int) -> list[Key]:
    """
    Choose at most so many questions, each about another picture; the types of question take turns.

    Args:
        answers (`dict`): Questions that all models were asked.
        allowed (`set[str]`, *optional*): Paths of the pictures that may be shown, resolved.
        number (`int`): Number of questions.
        seed (`int`): Seed of the choice.

    Raises:
        ValueError: No question is left.
    """
    questions = defaultdict(lambda: defaultdict(list))
    for key, answer in answers.items():
        if allowed is None or str(Path(answer.image).resolve()) in allowed:
            questions[answer.image][answer.category].append(key)
    if not questions:
        raise ValueError(
            f"None of the {len(answers)} questions that all models share is about a picture that may be shown. At "
            "least a single file must be there. Name runs that were asked the same, and other `--licences`."
        )
    chance = random.Random(seed)
    images = chance.sample(sorted(questions), min(number, len(questions)))
    kinds = sorted({kind for image in images for kind in questions[image]})
    chosen = []
    for i, image in enumerate(images):
        turn = [*kinds[i % len(kinds) :], *kinds[: i % len(kinds)]]
        kind = next(kind for kind in turn if kind in questions[image])
        chosen.append(chance.choice(questions[image][kind]))
    return chosen


def draw(runs: dict[str, Answers], keys: list[Key], owners: dict[str, tuple[str, str]]) -> Figure:
    """Draw the sheet: each picture on the left of its question and answers."""
    first = next(iter(runs.values()))
    rows = -(-len(keys) // COLUMNS)
    height = 1.0 + 0.17 * len(runs)
    figure = Figure(figsize=(4.2 * COLUMNS, height * rows), dpi=150, layout="constrained")
    cells = figure.subplots(rows, 2 * COLUMNS, squeeze=False, width_ratios=[1, 2.2] * COLUMNS).reshape(-1, 2)
    width = max(map(len, [*runs, "right"]))
    for left, right in cells:
        left.axis("off")
        right.axis("off")
    for (left, right), key in zip(cells, keys, strict=False):
        asked = first[key]
        left.imshow(decode_image(asked.image))
        if credit := owners.get(str(Path(asked.image).resolve())):
            left.set_title(", ".join(credit), fontsize=5, color="gray", y=-0.15)
        question = textwrap.wrap(key[1].removesuffix(SHORT_ANSWER), WIDTH)
        lines = [(line, "black") for line in question]
        lines.append((f"{'right':<{width}}  {asked.references[0]}", "black"))
        for name, answers in runs.items():
            given = textwrap.shorten(answers[key].answer, WIDTH - width, placeholder=" …") or "(nothing)"
            lines.append((f"{name:<{width}}  {given}", RIGHT if answers[key].score > 0.5 else WRONG))
        for i, (line, colour) in enumerate(lines):
            place = 1 - (i + 0.5) / len(lines)
            right.text(0, place, line, color=colour, fontsize=6, family="monospace", va="center", parse_math=False)
    return figure


def main(argv: list[str] | None = None) -> Path:
    """Run the recipe and return the file of the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", help="Name in the `evaluation` of the runs.")
    parser.add_argument("runs", type=Path, nargs="+", help="Folders of runs, in the order of their lines.")
    parser.add_argument("--pictures", type=Path, help="Folder of `write_pictures.py`, to name sources and licences.")
    parser.add_argument("--licences", nargs="+", help="Show only pictures of these licences; needs `--pictures`.")
    parser.add_argument("--number", type=int, default=10, help="Number of pictures.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the choice of pictures.")
    parser.add_argument("--output_file", type=Path, default=Path("outputs/answers.png"), help="The PNG.")
    args = parser.parse_args(argv)
    if args.licences is not None and args.pictures is None:
        raise ValueError(
            f"`--licences {' '.join(args.licences)}` without `--pictures`, whose index has the licences. Both belong "
            "together. Add `--pictures outputs/pictures`."
        )
    owners = {} if args.pictures is None else credits(args.pictures)
    allowed = None
    if args.licences is not None:
        allowed = {image for image, (_, licence) in owners.items() if licence in args.licences}
    (name, number), *_ = Counter(run.name for run in args.runs).most_common(1)
    if number > 1:
        alike = " and ".join(str(run) for run in args.runs if run.name == name)
        raise ValueError(
            f"{number} runs are called {name!r}: {alike}. The sheet tells runs apart by the names of their folders. "
            "Rename one of them, or pass a link of another name."
        )
    runs = {run.name: read_answers(run, args.benchmark) for run in args.runs}
    first, *rest = runs.values()
    shared = {key: answer for key, answer in first.items() if all(key in other for other in rest)}
    figure = draw(runs, choose(shared, allowed, args.number, args.seed), owners)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    write_whole(args.output_file, drawn.getvalue())
    print(f"Drawn: {args.output_file}")
    return args.output_file


if __name__ == "__main__":
    exit_with_one_line(main)
