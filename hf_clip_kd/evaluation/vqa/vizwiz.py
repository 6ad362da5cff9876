"""VizWiz."""

import numpy as np

from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.metric import VQAMetric
from hf_clip_kd.evaluation.vqa.soft_accuracy import both_m4c, llava


class VizWiz(VQAMetric):
    """
    Soft accuracy against ten people ([VizWiz](https://huggingface.co/papers/1802.08218)), over all questions and by
    answer type. Only train and val have answers; test is scored on a server, see `write_vizwiz`.

    Protocols:
        llava: the prediction through the M4C processor, as LLaVA submits it, then the official VQA scorer.
        lmms_eval: both sides through the M4C processor.
    """

    benchmark = "vizwiz"
    reference_fields = ("answers", "category")

    def judge(self, predictions, references, protocol, seed):
        scorer = {"llava": llava, "lmms_eval": both_m4c}[protocol]
        pairs = zip(predictions, references, strict=True)
        scores = np.array([scorer(prediction, reference["answers"]) for prediction, reference in pairs])
        return scores, means_by_category(scores, [reference["category"] or "" for reference in references])
