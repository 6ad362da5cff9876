"""MME: pairs of yes/no questions about one image, in fourteen subtasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.bootstrap import weighted_mean
from hf_clip_kd.evaluation.vqa.files import SHORT_ANSWER, Sample, Source, pair_answers, yes_or_no
from hf_clip_kd.evaluation.vqa.metric import VQAMetric
from hf_clip_kd.recipe_io.results import write_whole

PERCEPTION = ("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR")
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
_ASK_YES_NO = " Please answer yes or no."
_IMAGE_ENDINGS = (".jpg", ".png", ".jpeg")


def read_yes_no(text: str, protocol: str = "llava") -> str:
    """
    Read an answer as `"yes"`, `"no"` or `"other"`.

    The first four characters in lower case decide, and yes comes first. The protocol lmms_eval first deletes periods,
    and reads a lone `y` or `n`.
    """
    text = text.lower()
    if protocol == "lmms_eval":
        text = text.replace(".", "")
        if len(text) == 1:
            return {"y": "yes", "n": "no"}.get(text, "other")
    return next((label for label in ("yes", "no") if label in text[:4]), "other")


class MME(VQAMetric):
    """
    Points for pairs of yes/no questions about one image ([MME](https://huggingface.co/papers/2306.13394)).

    Each subtask has `accuracy` over questions, `accuracy_plus` over images (both questions right), and `score`,
    which is `100 * (accuracy + accuracy_plus)`. `perception` sums the scores of its ten subtasks (at most 2000; papers
    quote it), `cognition` of its four (at most 800). A sum needs all of its subtasks. The bootstrap draws images,
    since the two questions of an image are not independent.

    Protocols: the way to read an answer, see [`read_yes_no`].
    """

    benchmark = "mme"
    reference_fields = ("answers", "category", "image")
    main_metric = "perception"
    max_score = 2000

    def units(self, references, images=()):
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
        labels = [yes_or_no(reference["answers"][0]) for reference in references]
        read = [read_yes_no(text, protocol) for text in predictions]
        scores = np.array([float(text == label) for text, label in zip(read, labels, strict=True)])
        units = self.units(references)
        # Both questions carry the verdict on their image, so the mean over questions is the mean over images.
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


def read_mme(folder: str | Path) -> list[Sample]:
    """
    Read MME's `MME_Benchmark_release_version`.

    Args:
        folder (`str` or `Path`):
            A folder for each subtask, with `NAME.txt` (two lines: question, tab, answer) and `NAME.jpg` or `NAME.png`.
            They lie side by side, or in `questions_answers_YN` and `images`.

    Returns:
        `list[Sample]` by subtask. The `question_id` is `SUBTASK/IMAGE` as in LLaVA, the same for both questions. The
        prompt is the question without "Please answer yes or no.", and [`SHORT_ANSWER`].

    Raises:
        ValueError: if there is no subtask, or a file or an image of a subtask is wrong.
    """
    call = "read_mme('MME_Benchmark_release_version')"
    form = f"It must have a folder for each subtask ({', '.join(PERCEPTION + COGNITION)})."
    present = [name for name in PERCEPTION + COGNITION if (Path(folder) / name).is_dir()]
    if not present:
        raise Source(folder, form, call).error("it has no folder with the name of a subtask")
    samples = []
    for category in present:
        texts = images = Path(folder) / category
        if (texts / "questions_answers_YN").is_dir():
            texts, images = texts / "questions_answers_YN", texts / "images"
        for path in sorted(texts.glob("*.txt")):
            source = Source(path, "It must have two lines, each a question, a tab, and Yes or No.", call)
            lines = [line.split("\t") for line in source.text().split("\n") if line.strip()]
            if len(lines) != 2 or any(len(line) != 2 for line in lines):
                raise source.error(f"it has {len(lines)} lines, or one without a tab")
            image = next(
                (images / (path.stem + end) for end in _IMAGE_ENDINGS if (images / (path.stem + end)).is_file()), None
            )
            if image is None:
                raise source.error(
                    f"there is no image {images / path.stem} with the ending {' or '.join(_IMAGE_ENDINGS)}"
                )
            for question, answer in lines:
                if yes_or_no(answer) is None:
                    raise source.error(f"the answer is {answer!r}, neither yes nor no", f"question {question!r}")
                prompt = question.replace(_ASK_YES_NO, "").strip() + SHORT_ANSWER
                key = f"{category}/{image.name}"
                samples.append(Sample(key, str(image), prompt, (answer.strip(),), category=category))
    if not samples:
        raise Source(folder, form, call).error("its subtasks hold no questions")
    return samples


def write_mme(folder: str | Path, samples: Sequence[Sample], answers: Sequence[str]) -> None:
    """
    Write `SUBTASK.txt` for MME's `calculation.py`: lines `file, question, truth, answer` between tabs.

    That script takes every two lines for one image, which holds in the order of [`read_mme`].
    """
    lines: dict[str, list[str]] = {}
    for sample, answer in pair_answers(samples, answers):
        question = sample.prompt.removesuffix(SHORT_ANSWER) + _ASK_YES_NO
        row = [f"{Path(sample.picture).stem}.txt", question, *sample.answers[:1], " ".join(answer.split())]
        lines.setdefault(sample.category, []).append("\t".join(row))
    for category, rows in lines.items():
        write_whole(Path(folder) / f"{category}.txt", "\n".join(rows) + "\n")


BENCHMARK = Benchmark(
    "mme",
    title="MME",
    measures="perception and cognition in fourteen subtasks",
    paper="https://huggingface.co/papers/2306.13394",
    files="folder with a folder for each subtask",
    protocol="points for pairs of yes/no questions, at most 2000 for perception",
    computed_by="MME's script, LLaVA, lmms-eval",
    read=read_mme,
    metric=MME,
    write=write_mme,
    submission_suffix="",
    any_case=True,
)
