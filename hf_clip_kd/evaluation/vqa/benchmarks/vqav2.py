"""VQAv2: open questions about photographs, each answered by ten people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.benchmarks.normalize import normalize_m4c
from hf_clip_kd.evaluation.vqa.benchmarks.soft_accuracy import both_vqav2, llava, official, official_2016
from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.files import (
    SHORT_ANSWER,
    Sample,
    Source,
    check_ids,
    check_images,
    image_path,
    pair_answers,
    write_json,
)
from hf_clip_kd.evaluation.vqa.metric import VQAMetric, categories_of


class VQAv2(VQAMetric):
    """
    Soft accuracy against ten people ([VQAv2](https://huggingface.co/papers/1612.00837)), overall and by answer type.

    The soft accuracy is the mean over leave-one-out sets of `min(1, matches / 3)`. Files with fewer than four answers
    to a question get the share of equal answers.

    Protocols:
        llava: the prediction through the M4C processor, as LLaVA submits it, then the official scorer.
        lmms_eval: both sides always normalised as the official scorer does.
        official: the official scorer since March 2021, on the raw prediction.
        official_2016: the official scorer before that.
    """

    benchmark = "vqav2"
    reference_fields = ("answers", "category")
    protocols = ("llava", "lmms_eval", "official", "official_2016")

    def judge(self, predictions, references, protocol, seed):
        scorers = {"llava": llava, "lmms_eval": both_vqav2, "official": official, "official_2016": official_2016}
        scorer = scorers[protocol]
        pairs = zip(predictions, references, strict=True)
        scores = np.array([scorer(prediction, reference["answers"]) for prediction, reference in pairs])
        return scores, means_by_category(scores, categories_of(references))


def read_vqav2(
    questions: str | Path, annotations: str | Path | None = None, image_folder: str | Path | None = None
) -> list[Sample]:
    """
    Read VQAv2's `v2_OpenEnded_mscoco_*_questions.json`, and `v2_mscoco_*_annotations.json` if there is one.

    Args:
        questions (`str` or `Path`):
            `{"data_subtype": "val2014", "questions": [{"question_id", "image_id", "question"}]}`.
        annotations (`str` or `Path`, *optional*):
            Source of the ten answers, and of the answer type as category.
        image_folder (`str` or `Path`, *optional*):
            Folder with `COCO_val2014_000000000042.jpg` and the like.

    Returns:
        `list[Sample]` in the order of the file. The prompt is the question and [`SHORT_ANSWER`].

    Raises:
        ValueError: if a file, a field or the first image is missing.
    """
    call = "read_vqav2('v2_OpenEnded_mscoco_val2014_questions.json', 'v2_mscoco_val2014_annotations.json', 'val2014')"
    source = Source(questions, "It must be a VQAv2 questions JSON.", call)
    rows, subtype = source.fields(source.json(dict), "the file", questions=list, data_subtype=str)
    subtype = subtype.replace("test-dev", "test")
    labels = {}
    if annotations is not None:
        other = Source(annotations, "It must be the VQAv2 annotations JSON of the same split.", call)
        for i, row in enumerate(other.fields(other.json(dict), "the file", annotations=list)[0]):
            where = f"annotation {i}"
            key, kind, answers = other.fields(row, where, question_id=int | str, answer_type=str, answers=list)
            label = (other.people(answers, f"the answers to question {key}"), kind)
            if labels.setdefault(str(key), label) != label:
                raise other.error(f"it has other answers to question {key} than a row above", where)
    samples = []
    for i, row in enumerate(rows):
        kinds = {"question_id": int | str, "image_id": int, "question": str}
        key, image, question = source.fields(row, f"question {i}", **kinds)
        if annotations is not None and str(key) not in labels:
            raise other.error(f"it has no answers to question {key} of {questions}")
        answers, kind = labels.get(str(key), ((), ""))
        name = f"COCO_{subtype}_{image:012d}.jpg"
        samples.append(Sample(key, image_path(image_folder, name), question + SHORT_ANSWER, answers, category=kind))
    return check_images(check_ids(samples, source), image_folder, source)


def write_vqav2(
    path: str | Path, samples: Sequence[Sample], answers: Sequence[str], all_ids: Sequence | None = None
) -> None:
    """
    Write `[{"question_id", "answer"}]` for the VQAv2 server, answers through [`normalize_m4c`].

    Args:
        path (`str` or `Path`): File to write.
        samples (sequence of [`Sample`]): Questions.
        answers (sequence of `str`): Answers in the order of `samples`.
        all_ids (sequence, *optional*):
            Every id of the split, since the server wants them all. Those without a sample get an empty answer. The
            ids `1` and `"1"` are equal.

    Raises:
        ValueError: if `all_ids` lacks the id of a sample.
    """
    texts = {str(sample.question_id): normalize_m4c(answer) for sample, answer in pair_answers(samples, answers)}
    ids = (
        list({str(sample.question_id): sample.question_id for sample in samples}.values())
        if all_ids is None
        else list(all_ids)
    )
    if lost := sorted(texts.keys() - set(map(str, ids))):
        raise ValueError(
            f"`all_ids` lacks {len(lost)} of the {len(texts)} ids of the samples, the first is {lost[0]!r}. It must "
            "hold every id of the split. Pass the ids of the file that the samples come from, or leave it out."
        )
    write_json(path, [{"question_id": key, "answer": texts.get(str(key), "")} for key in ids])


BENCHMARK = Benchmark(
    "vqav2",
    title="VQAv2",
    measures="open questions about photographs",
    paper="https://huggingface.co/papers/1612.00837",
    files="questions JSON, annotations JSON, COCO images",
    protocol="soft accuracy against ten people",
    computed_by="VQA's server and scorer, LLaVA, lmms-eval",
    read=read_vqav2,
    metric=VQAv2,
    write=write_vqav2,
    any_case=True,
)
