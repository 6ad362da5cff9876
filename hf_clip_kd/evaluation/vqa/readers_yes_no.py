"""Readers of the benchmarks with yes/no questions, POPE and MME, and of LLaVA's question files."""

from __future__ import annotations

from pathlib import Path

from .mme import COGNITION, PERCEPTION
from .samples import SHORT_ANSWER, Sample, Source, check_images, image_path

ASK_YES_NO = " Please answer yes or no."
_IMAGE_ENDINGS = (".jpg", ".png", ".jpeg")


def read_pope(folder: str | Path, image_folder: str | Path | None = None) -> list[Sample]:
    """
    POPE's `coco_pope_CATEGORY.json`, all those in a folder: lines `{"question_id", "image", "text", "label"}`.

    The `question_id` is `CATEGORY/ID`, since each file counts from 1; the prompt is the question and
    [`SHORT_ANSWER`]. Images are those of COCO val2014.
    """
    call = "read_pope('coco', 'val2014')"
    form = "It must be a folder with coco_pope_adversarial.json, coco_pope_popular.json and coco_pope_random.json."
    paths = sorted(Path(folder).glob("coco_pope_*.json"))
    if not paths:
        raise Source(folder, form, call).error("it holds no coco_pope_*.json")
    samples = []
    for path in paths:
        source = Source(path, "Each line must be a question of POPE with its label.", call)
        category = path.stem.removeprefix("coco_pope_")
        for i, row in enumerate(source.jsonl(), start=1):
            key, image, text, label = source.fields(row, f"question {i}", "question_id", "image", "text", "label")
            samples.append(
                Sample(
                    f"{category}/{key}",
                    image_path(image_folder, image),
                    text + SHORT_ANSWER,
                    (label,),
                    category=category,
                )
            )
    return check_images(samples, image_folder, source)


def read_mme(folder: str | Path) -> list[Sample]:
    """
    MME's `MME_Benchmark_release_version`: a folder for each subtask, with `NAME.txt` (two lines, question, tab, answer)
    and `NAME.jpg` or `NAME.png`, either side by side or in `questions_answers_YN` and `images`.

    The `question_id` is `SUBTASK/IMAGE` (as LLaVA has it, so both questions of an image have the same); the prompt is
    the question without [`ASK_YES_NO`], and [`SHORT_ANSWER`].
    """
    call = "read_mme('MME_Benchmark_release_version')"
    form = f"It must have a folder for each subtask ({', '.join(PERCEPTION + COGNITION)})."
    present = [name for name in PERCEPTION + COGNITION if (Path(folder) / name).is_dir()]
    if not present:
        raise Source(folder, form, call).error("it has no folder with the name of a subtask")
    samples = []
    for category in present:
        texts = images = Path(folder) / category
        if (texts / "questions_answers_YN").is_dir():
            texts, images = texts / "questions_answers_YN", texts / "images"
        for path in sorted(texts.glob("*.txt")):
            source = Source(path, "It must have two lines, each a question, a tab, and Yes or No.", call)
            lines = [line.split("\t") for line in source.text().splitlines() if line.strip()]
            if len(lines) != 2 or any(len(line) != 2 for line in lines):
                raise source.error(f"it has {len(lines)} lines, or one without a tab")
            image = next(
                (images / (path.stem + end) for end in _IMAGE_ENDINGS if (images / (path.stem + end)).is_file()), None
            )
            if image is None:
                raise source.error(
                    f"there is no image {images / path.stem} with the ending {' or '.join(_IMAGE_ENDINGS)}"
                )
            for question, answer in lines:
                prompt = question.replace(ASK_YES_NO, "").strip() + SHORT_ANSWER
                key = f"{category}/{image.name}"
                samples.append(Sample(key, str(image), prompt, (answer.strip(),), category=category))
    if not samples:
        raise Source(folder, form, call).error("its subtasks hold no questions")
    return samples


def read_llava_questions(questions: str | Path, image_folder: str | Path | None = None) -> list[Sample]:
    """
    A question file of LLaVA, of any benchmark: lines `{"question_id", "text"}`, most with `image`, some with
    `category`. The prompt is `text` as it stands; such files have no answers, so the samples serve to generate and to
    write submissions.
    """
    call = "read_llava_questions('llava_gqa_testdev_balanced.jsonl', 'images')"
    source = Source(questions, "Each line must be a question of LLaVA.", call)
    samples = []
    for i, row in enumerate(source.jsonl(), start=1):
        key, text = source.fields(row, f"question {i}", "question_id", "text")
        image = image_path(image_folder, row["image"]) if row.get("image") else None
        samples.append(Sample(key, image, text, category=str(row.get("category", ""))))
    return check_images(samples, image_folder, source)
