"""ScienceQA."""

import re

import numpy as np

from hf_clip_kd.evaluation.vqa.bootstrap import weighted_mean
from hf_clip_kd.evaluation.vqa.metric import VQAMetric

_SENTENCE = re.compile("The answer is ([A-Z]).")  # the last dot is any character, as in LLaVA


def read_letter(text: str, protocol: str = "llava") -> str:
    """The letter that an answer names, or `""`."""
    if protocol == "lmms_eval":
        return text.upper() if len(text) == 1 else text[0] if text[:1].isupper() and text[1:2] == "." else ""
    if text[:1] in tuple("ABCDE") and (len(text) == 1 or text[1:3] == ". "):
        return text[0]
    found = _SENTENCE.findall(text)
    return found[0] if len(found) == 1 else ""


class ScienceQA(VQAMetric):
    """
    Multiple choice ([ScienceQA](https://huggingface.co/papers/2209.09513)): `accuracy` over all questions and
    `accuracy_img` over those with an image, which papers quote.

    Protocols:
        llava: the answer is the letter, starts with `X. `, or has one sentence `The answer is X.`; else it is wrong.
        lmms_eval: the answer is the letter in any case, or starts with `X.`; else it is wrong.
    """

    benchmark = "scienceqa"
    reference_fields = ("answers", "image")
    main_metric = "accuracy_img"

    def judge(self, predictions, references, protocol, seed):
        scores = np.array(
            [
                float(read_letter(text, protocol) == reference["answers"][0])
                for text, reference in zip(predictions, references, strict=True)
            ]
        )
        with_image = np.array([reference["image"] is not None for reference in references])

        def summary(weights):
            metrics = {"accuracy": weighted_mean(scores, weights)}
            if with_image.any():
                metrics["accuracy_img"] = weighted_mean(scores[with_image], weights[with_image])
            return metrics

        return scores, summary
