"""BLINK: fourteen tasks of seeing that people solve within a blink, many of them about several images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.benchmarks.letters import (
    lmms_note,
    option_letter,
    options_by_letter,
    right_choice,
)
from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.files import OPTION_LETTER, Sample, Source, check_ids, check_images
from hf_clip_kd.evaluation.vqa.metric import VQAMetric, categories_of
from hf_clip_kd.evaluation.vqa.parquet import parquet_rows, stored_row

# The tasks whose questions are about one image. Cambrian-1 asks these alone.
SINGLE_IMAGE = (
    "Counting",
    "IQ_Test",
    "Object_Localization",
    "Relative_Depth",
    "Relative_Reflectance",
    "Spatial_Relation",
)


def cambrian_word(text: str) -> str:
    """Read the letter as Cambrian-1 does in BLINK: the first word before the first period, without brackets."""
    return text.split(".")[0].strip().split(" ")[0].lstrip("(").rstrip(")").upper()


class BLINK(VQAMetric):
    """
    Multiple choice in fourteen tasks ([BLINK](https://huggingface.co/papers/2404.12390)), overall and by task.

    `single_image` is the mean over the six tasks with one image, which are all that Cambrian-1 asks. It needs all six.

    Protocols:
        llava: the letter as [`cambrian_word`] reads it. `accuracy` is the mean over the tasks, as in the authors'
            script. That script asks GPT-3.5 for the letter in long answers.
        lmms_eval: the letter of a choice as [`option_letter`] reads it. `accuracy` is over all questions.
    """

    benchmark = "blink"
    reference_fields = ("answers", "category", "choices")

    def judge(self, predictions, references, protocol, seed):
        if protocol == "llava":
            read = map(cambrian_word, predictions)
        else:
            options = [list(options_by_letter(reference["choices"])) for reference in references]
            read = map(option_letter, predictions, options)
        pairs = zip(read, references, strict=True)
        scores = np.array([float(letter == reference["answers"][0]) for letter, reference in pairs])
        categories = categories_of(references)
        tasks = [f"{task}/accuracy" for task in sorted(set(categories) - {""})]
        single = [f"{task}/accuracy" for task in SINGLE_IMAGE]
        by_task = means_by_category(scores, categories)

        def summary(weights):
            metrics = by_task(weights)
            if tasks and protocol == "llava":
                metrics["accuracy"] = sum(metrics[task] for task in tasks) / len(tasks)
            if set(single) <= set(tasks):
                metrics["single_image"] = sum(metrics[task] for task in single) / len(single)
            return metrics

        return scores, summary


def read_blink(questions: str | Path, image_folder: str | Path, protocol: str = "llava") -> list[Sample]:
    """
    Read BLINK's validation split; the answers to its test split are hidden.

    Args:
        questions (`str` or `Path`):
            A parquet file, or the folder of the tasks, `TASK/val-*.parquet`. Rows have `idx`, `prompt` with the
            options, `choices`, `answer` such as `(A)`, and `image_1` to `image_4`.
        image_folder (`str` or `Path`):
            Folder to which the images are written. Several of a question become one, see [`joined`], since a LLaVA
            takes one. lmms-eval shows them to a model apart.
        protocol (`str`, *optional*, defaults to `"llava"`):
            `"llava"` puts [`OPTION_LETTER`] behind the prompt, `"lmms_eval"` its own sentence in front.

    Returns:
        `list[Sample]` by task, which is the category. It is taken from `idx`, such as `val_Counting_1`.

    Raises:
        ValueError: if a file, a field or an image is missing, or an image of several cannot be read.
    """
    form = "It must be a val*.parquet of a task of BLINK, or the folder of all tasks."
    whole = Source(questions, form, "read_blink('BLINK', 'images')")
    samples = []
    for source, where, row in parquet_rows(whole, "val*.parquet"):
        key, prompt, choices, answer = source.fields(row, where, idx=str, prompt=str, choices=list[str], answer=str)
        letter, letters = right_choice(source, where, answer, choices)
        if protocol == "lmms_eval":
            prompt = f"{lmms_note(letters)}\n{prompt}"
        else:
            prompt += OPTION_LETTER
        columns = [name for name in ("image_1", "image_2", "image_3", "image_4") if row.get(name)]
        if not columns:
            raise source.error("it has no image", where)
        task = "_".join(key.split("_")[1:-1])
        image = stored_row(source, row, columns, image_folder, where)
        samples.append(Sample(key, image, prompt, (letter,), tuple(choices), task))
    return check_images(check_ids(samples, whole), None, whole)


BENCHMARK = Benchmark(
    "blink",
    title="BLINK",
    measures="fourteen tasks of seeing, several images side by side",
    paper="https://huggingface.co/papers/2404.12390",
    files="folder of the tasks' val-*.parquet",
    protocol="letter of the option; llava: mean over the tasks, lmms_eval: over all questions",
    computed_by="means: the authors; letters: Cambrian-1, lmms-eval",
    read=read_blink,
    metric=BLINK,
)
