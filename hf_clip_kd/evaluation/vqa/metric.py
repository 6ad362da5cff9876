"""Base of every VQA metric: an `evaluate.Metric` with a protocol, scores of its samples, and confidence intervals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from datasets import Features, List, Value

from ...recipe_io.results import BITS
from .bootstrap import bootstrap_intervals, image_units, means_by_category
from .files import Sample
from .library import import_evaluate

evaluate = import_evaluate()

_FEATURES = {
    "answers": List(Value("string")),
    "choices": List(Value("string")),
    "category": Value("string"),
    "image": Value("string"),
}
Summary = Callable[[np.ndarray], dict[str, float]]


def categories_of(references: Sequence[dict]) -> list[str]:
    """Return the category of each reference, `""` for none."""
    return [reference["category"] or "" for reference in references]


class VQAMetric(evaluate.Metric, ABC):
    """
    Score of answers: `metric.compute(predictions=[...], references=[{...}], protocol="llava")`.

    `compute` returns the metrics by name, and with them `benchmark`, `protocol`, `n_samples`, `scores` (one per
    sample, in their order), `confidence_intervals` (metric to `[low, high]`) and `bootstrap` (their settings).
    Accuracies lie between 0 and 1. White space at the ends of predictions does not count, as in every harness.
    `compute` takes `n_resamples` (0 leaves the intervals out), `confidence_level` and `seed`. It also takes `images`,
    a name for each sample. Samples of one name are one unit of the bootstrap.

    Nothing is downloaded. One process writes nothing either: predictions stay in memory.

    Attributes:
        benchmark (`str`): Key of the metric in `METRICS`.
        reference_fields (`tuple[str, ...]`): Parts of a reference: `answers`, `choices`, `category`, `image`.
        protocols (`tuple[str, ...]`): Ways to score; the first is the default.
        main_metric (`str`): Number that papers quote.
        max_score (`float`): Highest value of `main_metric`: 1 for a share, more for points.
        unit (`str`): Name of what the bootstrap draws if several samples share it.
    """

    benchmark: str
    reference_fields: tuple[str, ...] = ("answers",)
    protocols: tuple[str, ...] = ("llava", "lmms_eval")
    main_metric: str = "accuracy"
    max_score: float = 1
    unit: str = "image"

    def __init__(self, *args, num_process: int = 1, keep_in_memory: bool = True, **kwargs):
        super().__init__(*args, num_process=num_process, keep_in_memory=num_process == 1, **kwargs)

    def _build_data_dir(self):
        return self._data_dir_root if self.keep_in_memory else super()._build_data_dir()

    def _info(self):
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="",
            inputs_description=f"A prediction is a text, a reference has {', '.join(self.reference_fields)}.",
            features=Features(
                {
                    "predictions": Value("string"),
                    "references": {name: _FEATURES[name] for name in self.reference_fields},
                }
            ),
        )

    @abstractmethod
    def judge(
        self, predictions: list[str], references: list[dict], protocol: str, seed: int
    ) -> tuple[np.ndarray, Summary]:
        """Return the score of each sample, and the function from the samples' weights to metrics."""

    def units(self, references: list[dict], images: Sequence[str | None]) -> np.ndarray:
        """Return the index of each sample's bootstrap unit, from 0 without gaps: see [`image_units`]."""
        return image_units(images)

    def references(self, samples: Sequence[Sample]) -> list[dict]:
        """Convert a reader's samples to the `references` of `compute`."""
        return [
            {name: sample.picture if name == "image" else getattr(sample, name) for name in self.reference_fields}
            for sample in samples
        ]

    def score(self, samples: Sequence[Sample], answers: Sequence[str], **options) -> dict:
        """
        Call `compute` for a reader's samples and one answer per sample in the same order.

        With `bits` of [`answer_bits`], the result also has `answer_bits` and `CATEGORY/answer_bits`. Samples whose
        bits are `None` are left out of these means.
        """
        images = [sample.picture for sample in samples]
        return self.compute(
            predictions=list(answers), references=self.references(samples), **{"images": images} | options
        )

    def _compute(
        self,
        predictions,
        references,
        protocol: str | None = None,
        n_resamples: int = 1000,
        confidence_level: float = 0.95,
        seed: int = 0,
        images: Sequence[str | None] | None = None,
        bits: Sequence[float | None] | None = None,
    ) -> dict:
        protocol = self.protocols[0] if protocol is None else protocol
        if protocol not in self.protocols:
            raise ValueError(
                f"`protocol={protocol!r}` is no way to score {self.benchmark}. The ways are {list(self.protocols)}. "
                f"Pass one of them: `compute(..., protocol={self.protocols[0]!r})`."
            )
        if not 0 < confidence_level < 1 or n_resamples < 0:
            raise ValueError(
                f"`confidence_level={confidence_level}`, `n_resamples={n_resamples}` describe no interval. The level "
                "lies between 0 and 1, the number of draws is 0 or more. Pass e.g. `compute(..., n_resamples=1000)`."
            )
        if not references:
            raise ValueError(
                f"There is no answer of {self.benchmark} to score. At least a single one is needed. Pass the samples "
                "of a reader, and an answer to each."
            )
        for position, reference in enumerate(references):
            if not reference["answers"]:
                raise ValueError(
                    f"Reference {position} of {self.benchmark} has no answer (test splits hide theirs). Each needs at "
                    "least one. Score a split with answers, or export: `hf_clip_kd.evaluation.vqa.WRITERS`."
                )
        scores, summary = self.judge([text.strip() for text in predictions], references, protocol, seed)
        if bits is not None and any(value is not None for value in bits):
            summary = _with_bits(summary, bits, [reference.get("category") or "" for reference in references])
        result = summary(np.ones(len(scores))) | {
            "benchmark": self.benchmark,
            "protocol": protocol,
            "n_samples": len(scores),
            "scores": [float(score) for score in scores],
        }
        if n_resamples:
            how = {"n_resamples": n_resamples, "confidence_level": confidence_level, "seed": seed}
            units = self.units(references, images or [None] * len(references))
            result["confidence_intervals"] = bootstrap_intervals(summary, units, **how)
            result["bootstrap"] = {"unit": self.unit if units.max() + 1 < len(units) else "sample"} | how
        return result


def _with_bits(summary: Summary, bits: Sequence[float | None], categories: list[str]) -> Summary:
    """Return `summary` with the means of the bits that there are, overall and by category."""
    known = np.array([value is not None for value in bits])
    values = np.array([value for value in bits if value is not None])
    means = means_by_category(values, [name for name, here in zip(categories, known, strict=True) if here], BITS)
    return lambda weights: summary(weights) | means(weights[known])
