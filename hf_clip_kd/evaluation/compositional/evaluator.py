"""Compositional tests of a dual encoder: the caption of a picture among others that are nearly the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..encode import check_texts, encode_images, encode_texts
from ..evaluator import Evaluator
from .benchmarks.base import CaptionBenchmark
from .cases import Case, Pictures
from .scores import means, right_answers


class CompositionalEvaluator(Evaluator):
    """
    Choose captions of pictures, and pictures of captions, case by case.

    Metrics have CLIP_benchmark's names (its task `image_caption_selection`). `text_acc` is the share of cases in which
    each picture is nearest to its own caption. Cases of two pictures also have `image_acc`, where each caption is
    nearest to its own picture. In `acc` both hold. These three are Winoground's text, image and group score.
    A tie is wrong. `macro_acc` is the mean of `text_acc` over categories.

    The result file has 95 % bootstrap intervals, which draw pictures with all of their cases. `samples/*.jsonl` has
    the score of each case. It is that of `acc` if a case has two pictures, and of `text_acc` else.

    Args:
        cases (sequence of [`Case`]): Cases of one benchmark, all with as many pictures.
        benchmark ([`CaptionBenchmark`]): Declaration of the benchmark.
        batch_size (`int`, *optional*, defaults to `128`): Pictures or texts per forward pass.
        name (`str`, *optional*, defaults to `"compositional"`):
            Tells this evaluator from others in a [`SequentialEvaluator`].

    Attributes:
        judged (`dict[str, np.ndarray]`):
            Score of each case of the last call, 0 or 1, `(cases,)`, for each of `text_acc`, `image_acc` and `acc`.
        samples (`list[dict]`): The same as lines of a `samples/*.jsonl`.

    Raises:
        ValueError: A caption cannot be read. A call raises it if there is no case, or more than 5 % of the pictures
            are broken.
    """

    task = "image_caption_selection"
    least = {"n_cases": 1, "n_texts": 2}

    def __init__(
        self,
        cases: Sequence[Case],
        benchmark: CaptionBenchmark,
        *,
        batch_size: int = 128,
        name: str = "compositional",
    ):
        self.cases, self.benchmark, self.batch_size, self.name = list(cases), benchmark, batch_size, name
        keys = [(key, image) for case in self.cases for key, image in zip(case.keys(), case.images, strict=True)]
        self.pictures = Pictures([(image, key[1]) for key, image in dict(keys).items()])
        self._picture = {key: position for position, key in enumerate(dict(keys))}
        self.texts = list(dict.fromkeys(caption for case in self.cases for caption in case.captions))
        check_texts(self.texts, f"{name}: captions")
        self.counts = self._counts(self.cases)
        categories = Counter(case.category for case in self.cases if case.category)
        self.macro = benchmark.macro_categories(categories)
        plain = ("text_acc", "image_acc", "acc") if benchmark.two_images else ("text_acc",)
        self.metric_names = (
            *plain,
            *(("macro_acc",) if self.macro else ()),
            *(f"{metric}/{category}" for metric in plain for category in sorted(categories) if benchmark.by_category),
        )
        self.primary_metric = benchmark.main_metric if benchmark.main_metric in self.metric_names else "text_acc"

    def _counts(self, cases: Sequence[Case]) -> dict[str, int]:
        return {
            "n_cases": len(cases),
            "n_images": len({key for case in cases for key in case.keys()}),
            "n_texts": len({caption for case in cases for caption in case.captions}),
        }

    def evaluate(self, model, processor) -> dict[str, float]:
        """Measure the accuracies of `model`."""
        # The metrics of VQA load a library, which only this and they need.
        from ..vqa.bootstrap import bootstrap_intervals, image_units

        images, kept = encode_images(
            model, processor, self.pictures, batch_size=self.batch_size, description=f"{self.name}: images"
        )
        texts = encode_texts(
            model, processor, self.texts, batch_size=self.batch_size, description=f"{self.name}: captions"
        )
        row = {position: i for i, position in enumerate(kept.tolist())}
        text = {caption: i for i, caption in enumerate(self.texts)}
        # A case goes with its broken picture.
        numbers = [i for i, case in enumerate(self.cases) if all(self._picture[key] in row for key in case.keys())]
        cases = [self.cases[i] for i in numbers]
        self.counts = self._counts(cases)
        self.check()
        judged = []
        for case in cases:
            pictures = images[[row[self._picture[key]] for key in case.keys()]]
            judged.append(right_answers(pictures @ texts[[text[caption] for caption in case.captions]].T))
        right, found = (np.array(hits, dtype=float) for hits in zip(*judged, strict=True))
        hits = self.judged = {"text_acc": right}
        if self.benchmark.two_images:
            hits |= {"image_acc": found, "acc": right * found}
        scored = hits.get("acc", right)
        self.samples = [_sample(i, case, score) for i, case, score in zip(numbers, cases, scored, strict=True)]
        categories = [case.category for case in cases]
        summary = means(hits, categories, self.macro or None, self.benchmark.by_category)
        units = image_units([str(case.keys()[0][0]) for case in cases])
        scores = summary(np.ones(len(cases)))
        intervals = bootstrap_intervals(summary, units)
        shares = means(hits, categories, None, True)(np.ones(len(cases)))
        # A category may have gone with its broken pictures.
        names = [metric for metric in self.metric_names if metric in scores]
        self.details = {
            "benchmark": self.benchmark.name,
            "protocol": self.benchmark.protocol,
            "main_metric": self.primary_metric,
            "confidence_intervals": {metric: intervals[metric] for metric in names},
            "bootstrap": {"unit": "image" if len(set(units.tolist())) < len(cases) else "case"},
            "by_category": {
                category: {"n_cases": number, **{metric: shares[f"{metric}/{category}"] for metric in hits}}
                for category, number in sorted(Counter(categories).items())
                if category
            },
        }
        return {metric: scores[metric] for metric in names}


def _sample(number: int, case: Case, score: float) -> dict[str, Any]:
    """Return the line of a case. Pictures in memory have no name."""
    image = case.images[0]
    return {
        "question_id": number,
        "image": image if isinstance(image, str) else None,
        "prompt": "\n".join(case.captions),
        "references": case.captions[: len(case.images)],
        "category": case.category,
        "score": float(score),
    }
