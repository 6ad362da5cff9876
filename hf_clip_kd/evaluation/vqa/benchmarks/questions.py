"""Questions of your own, a JSON line each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.benchmarks.exact_match import exact_match, plain
from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.files import Sample, Source, check_ids, check_images, image_path, yes_or_no
from hf_clip_kd.evaluation.vqa.metric import VQAMetric, categories_of


class OwnQuestions(VQAMetric):
    """
    Exact match on your own questions, overall and by type (`color/accuracy`).

    An answer must be an accepted one, both in lower case and without a period at the end. The protocols llava and
    lmms_eval score alike.

    The metric `yes_ratio` is the share of **predictions** that say yes. It counts questions with the answer yes or no,
    and has values by type, too.
    """

    benchmark = "questions"
    reference_fields = ("answers", "category")

    def judge(self, predictions, references, protocol, seed):
        pairs = zip(predictions, references, strict=True)
        scores = np.array([exact_match(text, reference["answers"]) for text, reference in pairs])
        types = categories_of(references)
        accuracy = means_by_category(scores, types)
        closed = np.array([all(map(yes_or_no, reference["answers"])) for reference in references])
        if not closed.any():
            return scores, accuracy
        says_yes = np.array([float(plain(text) == "yes") for text in predictions])[closed]
        ratio = means_by_category(says_yes, [types[i] for i in np.flatnonzero(closed)], "yes_ratio")
        return scores, lambda weights: accuracy(weights) | ratio(weights[closed])


def read_questions(questions: str | Path, image_folder: str | Path | None = None) -> list[Sample]:
    """
    Read questions of your own. `load_instruct` reads the same file for training.

    Args:
        questions (`str` or `Path`):
            Lines `{"image", "question", "answer"}`, or with several accepted `answers`. `type` groups questions, and
            `id` names them. A question may have no image.
        image_folder (`str` or `Path`, *optional*):
            Folder from which paths of images start. The default is the folder of `questions`.

    Returns:
        `list[Sample]` in the order of the file. The prompt is the question, unchanged. The category is the type. The
        `question_id` is the `id`, or else the line: `"line 3"`.

    Raises:
        ValueError: if the file, a field or the first image is missing, or two questions have the same id.
    """
    form = "Each line must be a JSON object with image, question, and answer or answers."
    source = Source(questions, form, "read_questions('questions.jsonl', 'images')")
    kinds = {"id": int | str | None, "image": str | None, "question": str, "answer": str | None}
    kinds |= {"answers": list | None, "type": str | None}
    samples = []
    for line, row in source.jsonl():
        key, name, question, answer, answers, kind = source.fields(row, line, **kinds)
        accepted = source.people(answers or [], line) or (() if answer is None else (answer,))
        image = image_path(image_folder or source.path.parent, name) if name else None
        samples.append(Sample(line if key is None else key, image, question, accepted, category=kind or ""))
    return check_images(check_ids(samples, source), image_folder, source)


BENCHMARK = Benchmark(
    "questions",
    title="your own questions",
    measures="whatever you ask",
    files="questions jsonl, images",
    protocol="exact match",
    read=read_questions,
    metric=OwnQuestions,
    any_case=True,
)
