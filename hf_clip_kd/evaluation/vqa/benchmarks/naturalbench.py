"""NaturalBench: two questions about two photographs, with opposite answers for the other question or photograph."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.bootstrap import weighted_mean
from hf_clip_kd.evaluation.vqa.files import Sample, Source, check_ids, check_images
from hf_clip_kd.evaluation.vqa.metric import VQAMetric
from hf_clip_kd.evaluation.vqa.parquet import parquet_rows, picture_bytes, stored_picture

_SUFFIXES = {
    "yes_no": " Please answer Yes or No.",
    "multiple_choice": " Please output the letter corresponding to the correct option.",
}
_WORDS = {"yes_no": ("yes", "no"), "multiple_choice": ("a", "b")}
_GROUP = 4


def read_word(text: str, words: tuple[str, str]) -> str:
    """Return the word, of two, that a text has first, whole and in any case; `""` if it has neither."""
    found = re.search(rf"\b({'|'.join(words)})\b", text, re.IGNORECASE)
    return found[1].lower() if found else ""


class NaturalBench(VQAMetric):
    """
    Groups of two questions about two images ([NaturalBench](https://huggingface.co/papers/2410.14669)).

    Four answers in a row are a group: question 0 about image 0 and 1, then question 1.

    - `group_accuracy` (G-Acc) is the share of groups with all four right, and the number that papers quote. By chance
      it is 1/16.
    - `question_accuracy` (Q-Acc) is the share of questions that are right about both images, 1/4 by chance.
    - `image_accuracy` (I-Acc) is the share of images with both questions right, 1/4 by chance.
    - `accuracy` (Acc) is over single answers.

    The bootstrap draws groups. The protocols llava and lmms_eval ask and score alike, as the authors' script does. See
    [`read_word`]: the words are yes and no, or A and B.
    """

    benchmark = "naturalbench"
    reference_fields = ("answers",)
    main_metric = "group_accuracy"
    unit = "group"

    def units(self, references, images=()):
        labels = [reference["answers"][0].lower() for reference in references]
        groups = [labels[start : start + _GROUP] for start in range(0, len(labels), _GROUP)]
        wrong = next((group for group in groups if not _opposite(group)), None)
        if wrong is not None:
            raise ValueError(
                f"The answers {wrong} are no group of NaturalBench. Each four in a row must be right, other, other, "
                "right: two questions about two images. Score whole groups in the order of the file: "
                "`read_naturalbench(folder, 'images')`."
            )
        return np.arange(len(labels)) // _GROUP

    def judge(self, predictions, references, protocol, seed):
        self.units(references)  # It refuses what is no groups.
        labels = [reference["answers"][0].lower() for reference in references]
        words = [_WORDS["multiple_choice" if label in _WORDS["multiple_choice"] else "yes_no"] for label in labels]
        read = [read_word(text, pair) for text, pair in zip(predictions, words, strict=True)]
        scores = np.array([float(text == label) for text, label in zip(read, labels, strict=True)])
        # Each answer carries the verdict on its question, its image and its group: means over answers are theirs.
        right = scores.reshape(-1, 2, 2)
        verdicts = {
            "question_accuracy": right.min(axis=2, keepdims=True),
            "image_accuracy": right.min(axis=1, keepdims=True),
            "group_accuracy": right.min(axis=(1, 2), keepdims=True),
        }
        verdicts = {name: np.broadcast_to(found, right.shape).ravel() for name, found in verdicts.items()}

        def summary(weights):
            means = {name: weighted_mean(found, weights) for name, found in verdicts.items()}
            return {"accuracy": weighted_mean(scores, weights)} | means

        return scores, summary


def _opposite(group: list[str]) -> bool:
    return len(group) == _GROUP and group[0] == group[3] != group[1] == group[2]


def read_naturalbench(questions: str | Path, image_folder: str | Path) -> list[Sample]:
    """
    Read NaturalBench's parquet files.

    Args:
        questions (`str` or `Path`):
            A file or a folder of them. A row is a group: `Index`, `Image_0`, `Image_1`, `Question_0`, `Question_1`,
            the answers `Image_0_Question_0` and so on, and `Question_Type`, `yes_no` or `multiple_choice`.
        image_folder (`str` or `Path`):
            Folder to which the images are written.

    Returns:
        `list[Sample]`, four for each row: question 0 about image 0 and 1, then question 1. The `question_id` is
        `INDEX/q0_i0` and so on, the category the type. The prompt is the question and the authors' ending.

    Raises:
        ValueError: if a file, a field or an image is missing.
    """
    call = "read_naturalbench('NaturalBench', 'images')"
    whole = Source(questions, "It must be a parquet file of NaturalBench, or a folder of them.", call)
    samples = []
    for source, where, row in parquet_rows(whole, "*.parquet"):
        key, kind = source.fields(row, where, Index=int | str, Question_Type=str)
        if kind not in _SUFFIXES:
            raise source.error(f"`Question_Type` is {kind!r}, none of {list(_SUFFIXES)}", where)
        images = [stored_picture(picture_bytes(source, row, f"Image_{i}", where), image_folder) for i in (0, 1)]
        group = []
        for q, question in enumerate(source.fields(row, where, Question_0=str, Question_1=str)):
            for i, image in enumerate(images):
                (answer,) = source.fields(row, where, **{f"Image_{i}_Question_{q}": str})
                if answer.lower() not in _WORDS[kind]:
                    raise source.error(f"an answer is {answer!r}, none of {_WORDS[kind]}", where)
                prompt = question + _SUFFIXES[kind]
                group.append(Sample(f"{key}/q{q}_i{i}", image, prompt, (answer,), category=kind))
        if not _opposite([sample.answers[0].lower() for sample in group]):
            answers = [sample.answers[0] for sample in group]
            raise source.error(f"the answers {answers} do not change with the image and with the question", where)
        samples += group
    return check_images(check_ids(samples, whole), None, whole)


BENCHMARK = Benchmark(
    "naturalbench",
    title="NaturalBench",
    measures="two questions about two photographs with opposite answers",
    paper="https://huggingface.co/papers/2410.14669",
    files="parquet files",
    protocol="groups with all four answers right, also by question and by image",
    computed_by="the authors, lmms-eval, VLMEvalKit",
    read=read_naturalbench,
    metric=NaturalBench,
    any_case=True,
)
