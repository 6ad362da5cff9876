"""Scores of each held-out image, with probes that were fitted on other images: what a paired comparison needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from datasets import ClassLabel, Dataset
from torch import Tensor

from .encode import encode_images, encode_texts
from .evaluator import Evaluator, check_dataset
from .per_image import linear_hits, mean_by_image, retrieval_scores
from .ranking import hit_rate
from .representation.attentive_probe import Question, question_hits
from .representation.layers import READ_LAYER
from .representation.reading import read_images
from .zero_shot import ZeroShotClassificationEvaluator


class HeldOutEvaluator(Evaluator):
    """
    Evaluator that scores each held-out image, so that models can be compared image by image.

    `details["per_image"]` has a list of scores, one for each image, for each metric. The metrics are their means:

    - `retrieval`, for models that embed texts: reciprocal ranks of the image and of its captions, see
      [`retrieval_scores`]. Identical captions are one caption.
    - `zero_shot`, with labels, for models that embed texts: 1 if the image's class is the nearest.
    - `linear_probe`, with labels: 1 if a logistic regression on the embeddings of the other images is right.
    - `question_probe`, with questions: share of the image's questions that a small attentive probe answers from the
      tokens, see [`question_hits`]. It is fitted on the other images.

    Args:
        held_out ([`~datasets.Dataset`]): One row per image: `image`, `text` (captions), and perhaps `label`.
        others ([`~datasets.Dataset`]): Rows with the same columns, for the fit of the linear probe.
        held_out_questions, other_questions ([`~datasets.Dataset`], *optional*):
            One row per image with lists: `text` (questions), `answers` and `question_type`.
        templates (`Sequence[str]`, *optional*): Prompts for the class names.
        layer (`int`, *optional*, defaults to -2): Layer of the tokens, counted from the end.
        batch_size (`int`, *optional*, defaults to `128`): Images or texts per forward pass.
        name (`str`, *optional*, defaults to `"held_out"`): Name of this evaluator in a [`SequentialEvaluator`].

    Raises:
        ValueError: A data set lacks a column or has no rows. A call raises it for fewer than two images.
    """

    task = "held_out"
    least = {"n_images": 2}

    def __init__(
        self,
        held_out: Dataset,
        others: Dataset,
        *,
        held_out_questions: Dataset | None = None,
        other_questions: Dataset | None = None,
        templates: Sequence[str] = ("a photo of a {}.",),
        layer: int = READ_LAYER,
        batch_size: int = 128,
        name: str = "held_out",
    ):
        self.name, self.layer, self.batch_size = name, layer, batch_size
        columns = {"image_column": "image", "text_column": "text"}
        self.held_out, self.others = (check_dataset(part, columns, name) for part in (held_out, others))
        self.has_labels = isinstance(self.held_out.features.get("label"), ClassLabel)
        self.zero_shot = (
            ZeroShotClassificationEvaluator(self.held_out, templates=templates, batch_size=batch_size, name=name)
            if self.has_labels
            else None
        )
        self.questions = None
        if held_out_questions is not None:
            columns |= {"answers_column": "answers", "question_type_column": "question_type"}
            self.questions = [check_dataset(part, columns, name) for part in (held_out_questions, other_questions)]
        self.counts = {"n_images": len(self.held_out)}
        self.metric_names = (
            *(("question_probe",) if self.questions else ()),
            *(("zero_shot", "linear_probe") if self.has_labels else ()),
            "retrieval",
        )
        self.primary_metric = self.metric_names[0]

    def evaluate(self, model, processor) -> dict[str, float]:
        """Measure `model`; a model that embeds no texts has no `retrieval` and no `zero_shot`."""
        images, kept = self._images(model, processor, self.held_out)
        self.counts = {"n_images": len(kept)}
        scores: dict[str, Tensor] = {}
        if self.questions is not None:
            scores["question_probe"] = self._answered(model, processor)
        if self.has_labels:
            labels = torch.tensor(self.held_out["label"][:])[kept]
            if _embeds_texts(processor):
                classes = self.zero_shot.classifier(model, processor)
                scores["zero_shot"] = hit_rate(images @ classes.T, F.one_hot(labels, len(classes)).bool(), 1)
            seen, rows = self._images(model, processor, self.others)
            scores["linear_probe"] = linear_hits(seen, torch.tensor(self.others["label"][:])[rows], images, labels)
        if _embeds_texts(processor):
            captions = [self.held_out["text"][row] for row in kept.tolist()]
            position = {text: i for i, text in enumerate(dict.fromkeys(text for own in captions for text in own))}
            texts = encode_texts(
                model, processor, list(position), batch_size=self.batch_size, description=f"{self.name}: captions"
            )
            own = torch.zeros(len(images), len(texts), dtype=torch.bool)
            for row, found in enumerate(captions):
                own[row, [position[text] for text in found]] = True
            scores["retrieval"] = retrieval_scores(images, texts, own)
        self.details = {"per_image": {metric: [round(x, 6) for x in scores[metric].tolist()] for metric in scores}}
        return {metric: scores[metric].double().mean().item() for metric in self.metric_names if metric in scores}

    def _images(self, model, processor, dataset: Dataset) -> tuple[Tensor, Tensor]:
        return encode_images(
            model, processor, dataset["image"], batch_size=self.batch_size, description=f"{self.name}: images"
        )

    def _answered(self, model, processor) -> Tensor:
        """Return the share of right answers about each held-out image with questions, `(images,)`."""
        read = []
        for dataset in self.questions:
            reading = read_images(
                model,
                processor,
                dataset["image"],
                layer=self.layer,
                batch_size=self.batch_size,
                keep_tokens=True,
                description=f"{self.name}: images with questions",
            )
            read.append((reading.tokens, _questions(dataset.select(reading.kept))))
        (held_out, asked), (others, known) = read
        return mean_by_image(question_hits(others, known, held_out, asked), asked, len(held_out))


def _embeds_texts(processor) -> bool:
    return getattr(processor, "tokenizer", None) is not None


def _questions(dataset: Dataset) -> list[Question]:
    """Return the questions of all images, with the place of each image."""
    lists = zip(dataset["text"], dataset["answers"], dataset["question_type"], strict=True)
    return [
        Question.of(image, text, answers, kind)
        for image, (texts, accepted, kinds) in enumerate(lists)
        for text, answers, kind in zip(texts, accepted, kinds, strict=True)
    ]
