"""GQA."""

import string

import numpy as np

from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category, weighted_mean
from hf_clip_kd.evaluation.vqa.metric import VQAMetric

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_gqa(text: str) -> str:
    """What LLaVA submits: lower case, no period at the end."""
    return text.rstrip(".").lower()


class GQA(VQAMetric):
    """
    Exact match ([GQA](https://huggingface.co/papers/1902.09506)): `accuracy`, by structural type of the question, and
    `open` (type query) against `binary` (every other type), as the official script splits them.

    Protocols:
        llava: the prediction in lower case and without periods at its end equals the answer.
        lmms_eval: both in lower case and without any punctuation.
    """

    benchmark = "gqa"
    reference_fields = ("answers", "category")

    def judge(self, predictions, references, protocol, seed):
        answers = [reference["answers"][0] for reference in references]
        if protocol == "llava":
            pairs = [(normalize_gqa(text), answer) for text, answer in zip(predictions, answers, strict=True)]
        else:
            pairs = [
                (text.lower().translate(_NO_PUNCTUATION), answer.lower().translate(_NO_PUNCTUATION))
                for text, answer in zip(predictions, answers, strict=True)
            ]
        scores = np.array([float(text == answer) for text, answer in pairs])
        categories = [reference["category"] or "" for reference in references]
        is_open = np.array([category == "query" for category in categories])
        is_binary = np.array([category not in ("query", "") for category in categories])
        by_category = means_by_category(scores, categories)

        def summary(weights):
            metrics = by_category(weights)
            for name, chosen in (("open", is_open), ("binary", is_binary)):
                if chosen.any():
                    metrics[name] = weighted_mean(scores[chosen], weights[chosen])
            return metrics

        return scores, summary
