"""The questions of the embedded world `shapes`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.metric import VQAMetric
from hf_clip_kd.evaluation.vqa.samples import Sample


class ShapesVQA(VQAMetric):
    """
    Exact match on `load_shapes(..., vqa=True)`: `accuracy`, and by type of question (`color_at/accuracy`).

    The protocols llava and lmms_eval score alike: an answer is right if, in lower case and without a period at its
    end, it is one of the accepted ones.
    """

    benchmark = "shapes"
    reference_fields = ("answers", "category")

    def judge(self, predictions, references, protocol, seed):
        pairs = zip(predictions, references, strict=True)
        scores = np.array([float(text.rstrip(".").lower() in reference["answers"]) for text, reference in pairs])
        return scores, means_by_category(scores, [reference["category"] or "" for reference in references])


def read_shapes(rows: Iterable[dict]) -> list[Sample]:
    """
    The rows of `load_shapes(split, vqa=True)`: `image`, `question`, `answers`, `question_type`.

    Returns:
        `list[Sample]` with the position as `question_id`, the picture itself as image, the bare question as prompt
        and its type as category.

    Raises:
        ValueError: if a row has no question.
    """
    samples = []
    for position, row in enumerate(rows):
        if "question" not in row:
            raise ValueError(
                f"Row {position} of `shapes` has the columns {sorted(row)} and no question. It must have image, "
                "question, answers and question_type. Pass `load_shapes('test', vqa=True)`."
            )
        key, kind = f"shapes/{position}", row["question_type"]
        samples.append(Sample(key, row["image"], row["question"], tuple(row["answers"]), category=kind))
    return samples
