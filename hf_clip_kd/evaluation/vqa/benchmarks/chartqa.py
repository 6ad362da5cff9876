"""ChartQA: questions about charts, asked by people or made of their captions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.files import SHORT_ANSWER, Sample, Source, check_images, image_path
from hf_clip_kd.evaluation.vqa.metric import VQAMetric, categories_of

_KINDS = ("human", "augmented")
_TOLERANCE = 0.05
_SINGLE_WORD = "\nAnswer the question with a single word."


def relaxed_correct(prediction: str, answer: str) -> bool:
    """
    Tell if a number is within 5 % of the answer, or another text equals it in any case.

    ([ChartQA](https://huggingface.co/papers/2203.10244), section 5.1, as Pix2Struct has it.) `12%` is 0.12. An answer
    of zero has no 5 %, so the text must equal it. `nan` and `inf` are texts here, and numbers there.
    """
    value, target = _number(prediction), _number(answer)
    if value is None or not target:
        return prediction.lower() == answer.lower()
    return abs(value - target) / abs(target) <= _TOLERANCE


def _number(text: str) -> float | None:
    try:
        value = float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


class ChartQA(VQAMetric):
    """
    Relaxed accuracy ([ChartQA](https://huggingface.co/papers/2203.10244)), overall and by `human` and `augmented`.

    See [`relaxed_correct`]. The halves have 1,250 questions each. The protocols llava and lmms_eval score alike and
    ask differently.
    """

    benchmark = "chartqa"
    reference_fields = ("answers", "category")

    def judge(self, predictions, references, protocol, seed):
        pairs = zip(predictions, references, strict=True)
        scores = np.array([float(relaxed_correct(text, reference["answers"][0])) for text, reference in pairs])
        return scores, means_by_category(scores, categories_of(references))


def read_chartqa(folder: str | Path, image_folder: str | Path | None = None, protocol: str = "llava") -> list[Sample]:
    """
    Read ChartQA's `test_human.json` and `test_augmented.json`.

    Args:
        folder (`str` or `Path`):
            Folder of both, or of a single file: `[{"imgname", "query", "label"}]`.
        image_folder (`str` or `Path`, *optional*):
            Folder `png` beside them.
        protocol (`str`, *optional*, defaults to `"llava"`):
            `"llava"` puts [`SHORT_ANSWER`] behind the question, `"lmms_eval"` asks for a single word.

    Returns:
        `list[Sample]`, those of people first. The `question_id` is `human/0` and so on, the category `human` or
        `augmented`.

    Raises:
        ValueError: if the folder has neither file, or a field or the first image is missing.
    """
    call = "read_chartqa('ChartQA Dataset/test', 'ChartQA Dataset/test/png')"
    whole = Source(folder, "It must be a folder with test_human.json and test_augmented.json.", call)
    ending = SHORT_ANSWER if protocol == "llava" else _SINGLE_WORD
    paths = {kind: whole.path / f"test_{kind}.json" for kind in _KINDS}
    samples = []
    for kind, path in paths.items():
        if not path.is_file():
            continue
        source = Source(path, "It must be a list of ChartQA's questions.", call)
        for i, row in enumerate(source.json(list)):
            image, question, label = source.fields(row, f"question {i}", imgname=str, query=str, label=str)
            path_or_name = image_path(image_folder, image)
            samples.append(Sample(f"{kind}/{i}", path_or_name, question + ending, (label,), category=kind))
    if not any(path.is_file() for path in paths.values()):
        raise whole.error("it has neither file")
    return check_images(samples, image_folder, whole)


BENCHMARK = Benchmark(
    "chartqa",
    title="ChartQA",
    measures="charts, by people and by machine",
    paper="https://huggingface.co/papers/2203.10244",
    files="folder with test_human.json and test_augmented.json, images",
    protocol="exact match, numbers within 5 %",
    computed_by="Pix2Struct, lmms-eval, VLMEvalKit",
    read=read_chartqa,
    metric=ChartQA,
    any_case=True,
)
