"""MME."""

from collections import Counter

import numpy as np

from hf_clip_kd.evaluation.vqa.bootstrap import weighted_mean
from hf_clip_kd.evaluation.vqa.metric import VQAMetric

PERCEPTION = ("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR")
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


def read_yes_no(text: str, protocol: str = "llava") -> str:
    """
    `"yes"`, `"no"` or `"other"`: the answer in lower case if it is one of the two, else what its first four characters
    contain, yes before no. lmms_eval deletes periods first and takes a lone `y` or `n`.
    """
    text = text.lower()
    if protocol == "lmms_eval":
        text = text.replace(".", "")
        if len(text) == 1:
            return {"y": "yes", "n": "no"}.get(text, "other")
    return next((label for label in ("yes", "no") if label in text[:4]), "other")


class MME(VQAMetric):
    """
    Points for pairs of yes/no questions about one image ([MME](https://huggingface.co/papers/2306.13394)). For each
    subtask `accuracy` over questions, `accuracy_plus` over images (both questions right), and `score`, which is
    `100 * (accuracy + accuracy_plus)`. `perception` sums the scores of its ten subtasks (at most 2000, what papers
    quote), `cognition` of its four (at most 800); a sum is left out unless all of its subtasks are there. The
    bootstrap draws images, since the two questions of one are not independent.

    Protocols: how an answer is read, see [`read_yes_no`].
    """

    benchmark = "mme"
    reference_fields = ("answers", "category", "image")
    main_metric = "perception"
    unit = "image"

    def units(self, references):
        keys = [(reference["category"], reference["image"]) for reference in references]
        wrong = {key: count for key, count in Counter(keys).items() if count != 2}
        if wrong:
            key, count = next(iter(wrong.items()))
            raise ValueError(
                f"{len(wrong)} images of MME do not have two questions; the first is {key}, with {count}. Every image "
                "of a subtask must have a question with yes and one with no. Score whole subtasks: `read_mme(folder)`."
            )
        position = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        return np.array([position[key] for key in keys])

    def judge(self, predictions, references, protocol, seed):
        labels = [reference["answers"][0].strip().lower() for reference in references]
        read = [read_yes_no(text, protocol) for text in predictions]
        scores = np.array([float(text == label) for text, label in zip(read, labels, strict=True)])
        units = self.units(references)
        # Each question carries the verdict on its image; both carry it, so the mean over questions is that over images.
        both = (np.bincount(units, scores) == 2)[units].astype(float)
        categories = np.array([reference["category"] for reference in references])
        members = {name: categories == name for name in dict.fromkeys(categories.tolist())}

        def summary(weights):
            metrics, points = {}, {}
            for name, here in members.items():
                accuracy = weighted_mean(scores[here], weights[here])
                accuracy_plus = weighted_mean(both[here], weights[here])
                points[name] = 100 * (accuracy + accuracy_plus)
                metrics |= {
                    f"{name}/accuracy": accuracy,
                    f"{name}/accuracy_plus": accuracy_plus,
                    f"{name}/score": points[name],
                }
            for name, subtasks in (("perception", PERCEPTION), ("cognition", COGNITION)):
                if all(subtask in points for subtask in subtasks):
                    metrics[name] = sum(points[subtask] for subtask in subtasks)
            return metrics

        return scores, summary
