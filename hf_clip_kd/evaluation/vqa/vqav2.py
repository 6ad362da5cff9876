"""VQAv2."""

import numpy as np

from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.metric import VQAMetric
from hf_clip_kd.evaluation.vqa.soft_accuracy import both_vqav2, llava, official, official_2016


class VQAv2(VQAMetric):
    """
    Soft accuracy against ten people ([VQAv2](https://huggingface.co/papers/1612.00837)), over all questions and by
    answer type: the mean over leave-one-out sets of `min(1, matches / 3)`.

    Protocols:
        llava: the prediction through the M4C processor, as LLaVA submits it, then the official scorer.
        lmms_eval: both sides normalised as the official scorer does, always.
        official: the official scorer as it stands since March 2021, on the raw prediction.
        official_2016: the official scorer before that.
    """

    benchmark = "vqav2"
    reference_fields = ("answers", "category")
    protocols = ("llava", "lmms_eval", "official", "official_2016")

    def judge(self, predictions, references, protocol, seed):
        scorers = {"llava": llava, "lmms_eval": both_vqav2, "official": official, "official_2016": official_2016}
        scorer = scorers[protocol]
        pairs = zip(predictions, references, strict=True)
        scores = np.array([scorer(prediction, reference["answers"]) for prediction, reference in pairs])
        return scores, means_by_category(scores, [reference["category"] or "" for reference in references])
