"""TextVQA."""

import numpy as np

from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.metric import VQAMetric
from hf_clip_kd.evaluation.vqa.soft_accuracy import both_m4c


class TextVQA(VQAMetric):
    """
    Soft accuracy against ten people ([TextVQA](https://huggingface.co/papers/1904.08920)), both sides through the
    M4C processor.

    The protocols llava and lmms_eval score alike and ask differently: LLaVA puts OCR tokens into the prompt,
    lmms-eval does not (`read_textvqa(..., ocr=...)`), which moves the score by far more than any normalisation.
    """

    benchmark = "textvqa"

    def judge(self, predictions, references, protocol, seed):
        pairs = zip(predictions, references, strict=True)
        scores = np.array([both_m4c(prediction, reference["answers"]) for prediction, reference in pairs])
        return scores, means_by_category(scores, [""] * len(scores))
