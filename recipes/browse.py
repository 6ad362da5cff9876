"""Show the answers of models side by side, with their pictures, on one page that needs nothing else.

The page has filters for "A right, B wrong", for benchmarks, types of question and words. It compares each pair of
models question by question, as `compare.py` does. A folder is that of a run with VQA results, or a folder of results.
The second may hold the answers of several models.

    python recipes/browse.py outputs/vlm_demo/alone outputs/vlm_demo/distilled
    python recipes/browse.py outputs/vlm_demo/alone outputs/vlm_demo/distilled \
        --heat_maps outputs/demo/teacher outputs/demo/distilled

`--heat_maps` names dual encoders, such as a teacher and its student. The page shows beside each picture where they see
the question and its answer. Pictures are found by their paths. So run it in the folder in which the models were
evaluated.
"""

import argparse
import base64
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image

import hf_clip_kd as kd
from hf_clip_kd.data import load_shapes
from hf_clip_kd.data.reading.images import BrokenImageError, decode_image
from hf_clip_kd.data.texts import text_fault
from hf_clip_kd.evaluation.main_summary import main_summary
from hf_clip_kd.evaluation.representation import heat_maps
from hf_clip_kd.evaluation.vqa.benchmarks.letters import options_by_letter
from hf_clip_kd.evaluation.vqa.pictures import find_pictures
from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.recipe_io.results import write_whole
from hf_clip_kd.study.browse.page import ShownMap, page
from hf_clip_kd.study.browse.questions import Question, Run, drawn, questions_of, read_runs

logger = logging.getLogger(__name__)


def pictures_of(runs: Sequence[Run], questions: Sequence[Question]) -> dict[str, str | Image.Image]:
    """Return the pictures that are found, as paths or in memory, by their names."""
    found = {}
    for benchmark in dict.fromkeys(question.benchmark for question in questions):
        names = [q.first.image for q in questions if q.benchmark == benchmark and q.first.image is not None]
        record = next(run.records[benchmark] for run in runs if benchmark in run.records)
        options = record.get("config", {}).get("evaluation", {})
        found |= find_pictures(names, {record["dataset"]: options}, load_shapes)
    return found


def decoder(pictures: Mapping[str, str | Image.Image]) -> Callable[[str], Image.Image | None]:
    """Return the function from a name to its RGB picture, or to `None`. The log names a broken picture."""

    def load(name: str) -> Image.Image | None:
        if name not in pictures:
            return None
        try:
            return decode_image(pictures[name])
        except BrokenImageError as error:
            logger.warning("The picture %s is broken: %s", name, error)
            return None

    return load


def map_text(question: Question) -> str:
    """
    Return the text of a question's heat map: the first line of its prompt, and the first accepted answer.

    A note on the form of the answer is no question. The text of an option stands for its letter.
    """
    lines = [line for line in question.prompt.splitlines() if line.strip() and not line.startswith("Note:")]
    options = options_by_letter(question.first.choices)
    answers = [options.get(text, text) for text in question.first.references[:1]]
    return " ".join(dict.fromkeys(text.strip() for text in [*lines[:1], *answers]))


def maps_of(
    name: str, questions: Sequence[Question], texts: Mapping[int, str], pictures: Mapping[str, str | Image.Image]
) -> dict[int, ShownMap]:
    """Return a dual encoder's heat maps by the position of their question."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    teacher = kd.load_teacher(name, device=device)
    places = {picture: i for i, picture in enumerate(pictures)}
    asked = [(places[questions[position].first.image], text) for position, text in texts.items()]
    maps = heat_maps(teacher, teacher.processor, list(pictures.values()), asked)
    return {
        position: ShownMap(base64.b64encode(found.values.tobytes()).decode(), found.low, found.high)
        for position, found in zip(texts, maps, strict=True)
        if found is not None
    }


def main(argv: list[str] | None = None) -> Path:
    """Run the recipe and return the path of the page."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="Folders of runs, or of results.")
    parser.add_argument(
        "--heat_maps", nargs="+", default=[], metavar="NAME", help="Dual encoders: folders, Hub ids, open_clip names."
    )
    parser.add_argument(
        "--max_questions", type=int, default=3000, help="Number of questions on the page, drawn at random."
    )
    parser.add_argument("--output_file", type=Path, default=Path("outputs/browse.html"), help="File of the page.")
    given = parser.parse_args(argv)
    if given.max_questions < 1:
        raise ValueError(
            f"`--max_questions {given.max_questions}` leaves nothing to show. It must be 1 or more. Pass for example "
            "`--max_questions 3000`, or leave it out."
        )
    if given.output_file.is_dir():
        raise ValueError(
            f"`--output_file {given.output_file}` is a folder. It must be the file of the page. Pass for example "
            f"`--output_file {given.output_file / 'browse.html'}`."
        )
    runs = read_runs(given.folders)
    questions = drawn(questions_of(runs), given.max_questions)
    pictures = pictures_of(runs, questions)
    texts = {position: map_text(q) for position, q in enumerate(questions) if q.first.image in pictures}
    texts = {position: text for position, text in texts.items() if text_fault(text) is None}
    if given.heat_maps and not texts:
        raise ValueError(
            f"`--heat_maps {' '.join(given.heat_maps)}` has nothing to draw on: no picture of a question was found. "
            "Pictures are found by their paths. Run it where the models were evaluated, or leave out `--heat_maps`."
        )
    maps = {name: maps_of(name, questions, texts, pictures) for name in given.heat_maps}
    text = page(runs, questions, decoder(pictures), texts=texts if maps else {}, maps=maps, summarize=main_summary)
    write_whole(given.output_file, text)
    print(
        f"{given.output_file}: {len(questions):,} questions, {len(pictures):,} pictures, {len(runs)} models, "
        f"{len(text.encode()) / 1e6:.1f} MB"
    )
    return given.output_file


if __name__ == "__main__":
    exit_with_one_line(main)
