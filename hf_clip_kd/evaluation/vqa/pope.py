"""POPE."""

import numpy as np

from hf_clip_kd.evaluation.vqa.metric import VQAMetric


def says_yes(text: str) -> bool:
    """LLaVA's reading: no if the first sentence has the word `No`, `no` or `not`, yes in every other case."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return not {"No", "not", "no"} & set(words)


def _rates(truth, yes, no, weights):
    """Accuracy, precision, recall, F1 and yes-ratio; a ratio of nothing is 0."""

    def ratio(part, whole):
        return float(part / whole) if whole else 0.0

    hits = weights[truth & yes].sum()
    precision = ratio(hits, weights[yes].sum())
    recall = ratio(hits, hits + weights[truth & no].sum())
    return {
        "accuracy": ratio(hits + weights[~truth & no].sum(), weights.sum()),
        "precision": precision,
        "recall": recall,
        "f1": ratio(2 * precision * recall, precision + recall),
        "yes_ratio": ratio(weights[yes].sum(), weights.sum()),
    }


class POPE(VQAMetric):
    """
    Whether objects are seen that are not there ([POPE](https://huggingface.co/papers/2305.10355)). With yes as the
    positive answer: accuracy, precision, recall, F1 and `yes_ratio`, the share of **predictions** that say yes, each
    also by category (`adversarial/f1`). A ratio of nothing is 0 (LLaVA's script fails there).

    Protocols:
        llava: an answer is no if its first sentence has the word No, no or not, else yes; the numbers without
            category are means over the categories (papers quote the mean F1).
        lmms_eval: an answer must be exactly yes or no in any case; another one is wrong, and counts neither for
            precision nor for recall; the numbers without category pool all questions. The `pope_yes_ratio` that
            lmms-eval prints is that of the labels, not this one.
    """

    benchmark = "pope"
    reference_fields = ("answers", "category")
    main_metric = "f1"

    def judge(self, predictions, references, protocol, seed):
        truth = np.array([self._label(reference, i) == "yes" for i, reference in enumerate(references)])
        if protocol == "llava":
            yes = np.array([says_yes(text) for text in predictions])
            no = ~yes
        else:
            yes = np.array([text.lower() == "yes" for text in predictions])
            no = np.array([text.lower() == "no" for text in predictions])
        categories = np.array([reference["category"] or "" for reference in references])
        members = {name: categories == name for name in sorted(set(categories.tolist()))}

        def summary(weights):
            each = {
                name: _rates(truth[here], yes[here], no[here], weights[here])
                for name, here in members.items()
                if weights[here].any()
            }
            if protocol == "llava":
                whole = {
                    key: float(np.mean([rates[key] for rates in each.values()])) for key in next(iter(each.values()))
                }
            else:
                whole = _rates(truth, yes, no, weights)
            named = {f"{name}/{key}": value for name, rates in each.items() if name for key, value in rates.items()}
            return whole | named

        return np.where(truth, yes, no).astype(float), summary

    @staticmethod
    def _label(reference: dict, position: int) -> str:
        label = reference["answers"][0].strip().lower()
        if label not in ("yes", "no"):
            raise ValueError(
                f"The answer of reference {position} of POPE is {reference['answers'][0]!r}. It must be yes or no. "
                "Read the benchmark's label files: `read_pope(folder)`."
            )
        return label
