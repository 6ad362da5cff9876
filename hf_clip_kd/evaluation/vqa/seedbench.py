"""SEED-Bench."""

import numpy as np

from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.metric import VQAMetric


class SEEDBench(VQAMetric):
    """
    Multiple choice ([SEED-Bench](https://huggingface.co/papers/2307.16125)): `accuracy` over the questions given
    (`read_seedbench` gives those about images) and by question type.

    Protocols:
        llava: the answer is the letter and nothing else.
        lmms_eval: the first character of the answer is the letter, in any case.
    """

    benchmark = "seedbench"
    reference_fields = ("answers", "category")

    def judge(self, predictions, references, protocol, seed):
        letters = predictions if protocol == "llava" else [text[:1].upper() for text in predictions]
        answers = [reference["answers"][0] for reference in references]
        scores = np.array([float(letter == answer) for letter, answer in zip(letters, answers, strict=True)])
        return scores, means_by_category(scores, [reference["category"] or "" for reference in references])
