"""MMMU."""

import random

import numpy as np

from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.metric import VQAMetric
from hf_clip_kd.evaluation.vqa.mmmu_parsing import open_is_correct, read_choice


class MMMU(VQAMetric):
    """
    College questions, most of them multiple choice ([MMMU](https://huggingface.co/papers/2311.16502)): `accuracy`
    over all questions and by subject. A question without choices is open.

    An answer that names no option gets a random one, as in the official script. Here the draw depends on `seed` and
    the question's position alone, so a score can be repeated and no answer changes the luck of another.

    Protocols: how a letter is read, see `mmmu_parsing.read_choice`. With llava an open answer may mean several
    things, of which one must be right; lmms_eval keeps one of them, which one depending on the order of a set, and
    compares its characters. That cannot be repeated and is not imitated: open questions follow llava.
    """

    benchmark = "mmmu"
    reference_fields = ("answers", "choices", "category")

    def judge(self, predictions, references, protocol, seed):
        scores = []
        for position, (text, reference) in enumerate(zip(predictions, references, strict=True)):
            if reference["choices"]:
                rng = random.Random(f"{seed}/{position}")
                scores.append(read_choice(text, reference["choices"], rng, protocol) in reference["answers"])
            else:
                scores.append(open_is_correct(text, reference["answers"]))
        scores = np.array(scores, dtype=float)
        return scores, means_by_category(scores, [reference["category"] or "" for reference in references])
