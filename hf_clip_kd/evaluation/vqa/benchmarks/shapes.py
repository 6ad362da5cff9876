"""Questions about the embedded world `shapes`, made by `load_shapes` and not read from files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.benchmarks.exact_match import exact_match
from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.files import Sample
from hf_clip_kd.evaluation.vqa.metric import VQAMetric, categories_of


class ShapesVQA(VQAMetric):
    """
    Exact match on `load_shapes(..., vqa=True)`, overall and by type of question (`color_at/accuracy`).

    The protocols llava and lmms_eval score alike. An answer must be an accepted one, both in lower case and without a
    period at the end.
    """

    benchmark = "shapes"
    reference_fields = ("answers", "category")

    def judge(self, predictions, references, protocol, seed):
        pairs = zip(predictions, references, strict=True)
        scores = np.array([exact_match(text, reference["answers"]) for text, reference in pairs])
        return scores, means_by_category(scores, categories_of(references))


def read_shapes(rows: Iterable[dict]) -> list[Sample]:
    """
    Read the rows of `load_shapes(split, vqa=True)`: `image`, `question`, `answers`, `question_type`.

    Returns:
        `list[Sample]` with the position as `question_id` and the picture itself as image. The prompt is the bare
        question, and the category is its type. Questions about equal pixels have one `image_name`.

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
        name = f"shapes/{hashlib.sha256(row['image'].tobytes()).hexdigest()[:16]}"
        samples.append(Sample(key, row["image"], row["question"], tuple(row["answers"]), (), kind, name))
    return samples


class ShapesBenchmark(Benchmark):
    """Benchmark whose rows `load_shapes` makes; a recipe gives the arguments of that function."""

    def arguments(self):
        return ["split", "seed", "image_size"]

    def load(self, given, *, protocol, max_samples=None, load_shapes=None):
        if load_shapes is None:
            raise ValueError(
                "the questions of `shapes` are made by a function that was not handed in. It must be `load_shapes` or "
                "its like. Pass it: `build_vqa_evaluator(evaluation, load_shapes=hf_clip_kd.data.load_shapes)`."
            )
        # The number of questions is an argument, since the world has no end.
        return self.read(load_shapes(size=max_samples, vqa=True, **{"split": "test"} | given))


BENCHMARK = ShapesBenchmark(
    "shapes",
    title="shapes",
    measures="colours, shapes, textures, sizes and numbers of drawn objects",
    files="none, the world is embedded",
    protocol="exact match",
    read=read_shapes,
    metric=ShapesVQA,
    max_new_tokens=16,
)
