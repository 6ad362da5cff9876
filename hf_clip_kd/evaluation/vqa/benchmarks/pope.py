"""POPE: yes/no questions about objects that may not be in the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.files import SHORT_ANSWER, Sample, Source, check_images, image_path, yes_or_no
from hf_clip_kd.evaluation.vqa.metric import VQAMetric, categories_of


def says_yes(text: str) -> bool:
    """Read an answer as LLaVA does: no if the first sentence has the word `No`, `no` or `not`, else yes."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return not {"No", "not", "no"} & set(words)


def _rates(truth, yes, no, weights):
    """Return accuracy, precision, recall, F1 and yes-ratio; a ratio of nothing is 0."""

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
    Hallucinated objects ([POPE](https://huggingface.co/papers/2305.10355)), with yes as the positive answer.

    Metrics are accuracy, precision, recall, F1 and `yes_ratio`, the share of **predictions** that say yes. Each also
    has a value by category (`adversarial/f1`). A ratio of nothing is 0 (LLaVA's script fails there).

    Protocols:
        llava: an answer is no if its first sentence has the word No, no or not, else yes. The numbers without
            category are means over the categories (papers quote the mean F1).
        lmms_eval: an answer must be exactly yes or no in any case. Another one is wrong, and counts neither for
            precision nor for recall. The numbers without category pool all questions. lmms-eval's own
            `pope_yes_ratio` is that of the labels.
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
        categories = np.array(categories_of(references))
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
        label = yes_or_no(reference["answers"][0])
        if label is None:
            raise ValueError(
                f"The answer of reference {position} of POPE is {reference['answers'][0]!r}. It must be yes or no. "
                "Read the benchmark's label files: `read_pope(folder)`."
            )
        return label


def read_pope(folder: str | Path, image_folder: str | Path | None = None) -> list[Sample]:
    """
    Read all of POPE's `coco_pope_CATEGORY.json` in a folder.

    Args:
        folder (`str` or `Path`): Files of lines `{"question_id", "image", "text", "label"}`.
        image_folder (`str` or `Path`, *optional*): Images of COCO val2014.

    Returns:
        `list[Sample]` by category. The `question_id` is `CATEGORY/ID`, since each file counts from 1; the prompt is
        the question and [`SHORT_ANSWER`].

    Raises:
        ValueError: if the folder has no such file, or a line, a field or the first image is missing.
    """
    call = "read_pope('coco', 'val2014')"
    form = "It must be a folder with coco_pope_adversarial.json, coco_pope_popular.json and coco_pope_random.json."
    paths = sorted(Path(folder).glob("coco_pope_*.json"))
    if not paths:
        raise Source(folder, form, call).error("it holds no coco_pope_*.json")
    samples = []
    for path in paths:
        source = Source(path, "Each line must be a question of POPE with its label.", call)
        category = path.stem.removeprefix("coco_pope_")
        for line, row in source.jsonl():
            kinds = {"question_id": int | str, "image": str, "text": str, "label": str}
            key, image, text, label = source.fields(row, line, **kinds)
            if yes_or_no(label) is None:
                raise source.error(f"the label is {label!r}, neither yes nor no", line)
            samples.append(
                Sample(
                    f"{category}/{key}",
                    image_path(image_folder, image),
                    text + SHORT_ANSWER,
                    (label,),
                    category=category,
                )
            )
    return check_images(samples, image_folder, source)


BENCHMARK = Benchmark(
    "pope",
    title="POPE",
    measures="objects that are not in the image",
    paper="https://huggingface.co/papers/2305.10355",
    files="folder of coco_pope_*.json, COCO val2014 images",
    protocol="F1 of yes; llava: mean over the categories, lmms_eval: over all questions",
    computed_by="LLaVA, lmms-eval",
    read=read_pope,
    metric=POPE,
    any_case=True,
)
