"""Number that papers quote of a benchmark, out of stored answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from .compositional import COMPOSITIONAL
from .compositional.scores import means


class StoredAnswer(Protocol):
    """Line of a `samples/*.jsonl`, as [`Answered`] has it."""

    answer: str
    references: Sequence[str]
    choices: Sequence[str]
    category: str
    image: str | None
    score: float


@dataclass(frozen=True)
class MainSummary:
    """Number that papers quote, as a function of how often each question counts."""

    name: str = field(metadata={"help": "Name of the metric, such as `pair_accuracy`."})
    of: Callable[[np.ndarray], float] = field(
        metadata={"help": "Function from weights `(questions,)` to the number: per cent, or points."}
    )


def main_summary(record: Mapping[str, Any], answers: Sequence[StoredAnswer]) -> MainSummary | None:
    """
    Return the main metric of a model's answers.

    Args:
        record (`Mapping`): Result that the answers belong to: `task`, `benchmark`, `protocol`, `main_metric`.
        answers (sequence of [`StoredAnswer`]): All answers, in the order of their file.

    Returns:
        [`MainSummary`] or `None`: `None` for a result without a main metric. Also if the answers, judged again,
        do not have their scores. Samples of old versions lack the choices.
    """
    name, scores = record.get("main_metric"), np.array([answer.score for answer in answers], float)
    if name is None:
        return None
    if record["task"] == "image_caption_selection":
        categories = [answer.category for answer in answers]
        macro = COMPOSITIONAL[record["benchmark"]].macro_categories(Counter(filter(None, categories)))
        if name != "macro_acc" or not macro:
            return None
        summary = means({"text_acc": scores}, categories, macro, False)
        return MainSummary(name, lambda weights: 100 * summary(weights)[name])
    # The metrics of VQA load a library, which only they need.
    from .vqa import METRICS

    metric = METRICS[record["benchmark"]]()
    texts = [answer.answer.strip() for answer in answers]
    references = [
        {part: getattr(answer, "references" if part == "answers" else part) for part in metric.reference_fields}
        for answer in answers
    ]
    try:
        judged, summary = metric.judge(texts, references, record["protocol"], 0)
    except ValueError:  # Pairs or groups are not whole.
        return None
    if name not in summary(np.ones(len(scores))) or not np.allclose(judged, scores):
        return None
    scale = 100 if metric.max_score == 1 else 1
    return MainSummary(name, lambda weights: scale * summary(weights)[name])
