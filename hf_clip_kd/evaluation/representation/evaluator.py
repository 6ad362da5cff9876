"""Evaluator that runs all diagnostics on one set of images."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from datasets import ClassLabel, Dataset
from torch import Tensor

from ...data.class_names import readable
from ...teachers.clip import CLIPTeacher
from ..encode import encode_texts
from ..evaluator import Evaluator, check_dataset
from ..prompts import load_templates
from .cka import linear_cka
from .layers import READ_LAYER, check_patches
from .patch_text import points_at
from .probes import FOLDS, knn_probe, linear_probe
from .question_probe import Question, question_probe
from .reading import Reading, read_images
from .tokens import TokenStatistics

logger = logging.getLogger(__name__)

PROBES = {"linear_probe": linear_probe, "knn_probe": knn_probe}
NOT_SHARES = ("effective_rank", "token_norm", "token_norm_cv")  # All other metrics are between 0 and 1.


class RepresentationEvaluator(Evaluator):
    """
    Evaluator of a model's image tower without a vision-language model.

    Each image counts once, even if several rows show it. The metrics depend on the data:

    - All data have metrics of the tokens that a vision-language model would read, see [`TokenStatistics`].
    - A `teacher` adds `cka`, [`linear_cka`] of the embeddings with the teacher's. `cka_tokens` is that of the tokens
      with the teacher's at the same `layer`. `details["representation_maps"]["cka"]` has every layer of the teacher
      (rows) with every layer of the model (columns), see [`MinibatchCKA`].
    - Labels add `linear_probe` and `knn_probe` of the embeddings. `linear_probe_tokens` and `knn_probe_tokens` are
      those of the mean token.
    - Class names or captions add `patch_text_acc1`, if the model embeds patches. It is the share of images whose own
      class or caption is nearest to one of their patches, see [`align_patches`].
    - Masks besides add `patch_text_pointing`. It is the share of images whose own text is nearest to a patch on the
      object, see [`points_at`].
    - Questions add `question_probe/TYPE` for each type of question, and their mean `question_probe`, see
      [`question_probe`].

    Args:
        dataset ([`~datasets.Dataset`]):
            Rows with an image each, and with the columns named below.
        teacher ([`CLIPTeacher`], `str` or `Path`, *optional*):
            Teacher to compare with. A name is loaded for each call and released after it.
        layer (`int`, *optional*, defaults to -2):
            Layer of the tokens, counted from the end; LLaVA reads the last but one.
        image_column (`str`, *optional*, defaults to `"image"`):
            Column of the images.
        label_column (`str`, *optional*):
            Column of classes, of any type; a [`~datasets.ClassLabel`] also brings their names.
        text_column (`str`, *optional*):
            Column of captions, a string or a list of strings per row. The first of several counts. Class names replace
            captions.
        mask_column (`str`, *optional*):
            Column of masks of the object that class or caption names, rows of 0 and 1.
        question_column, answers_column, question_type_column (`str`, *optional*):
            Columns of the question, its accepted answer or list of them, and its type. Default is the type `"all"` for
            each question.
        templates (`str`, `Path` or sequence of `str`, *optional*, defaults to `"simple"`):
            Prompts for the class names, see [`ZeroShotClassificationEvaluator`].
        batch_size (`int`, *optional*, defaults to `128`):
            Images or texts per forward pass.
        name (`str`, *optional*, defaults to `"representation"`):
            Name of this evaluator in a [`SequentialEvaluator`].

    Raises:
        ValueError: The dataset lacks a column, or there are questions without answers. A call raises it for fewer
            than 2 images, or with labels for fewer than 5 images or 2 classes.

    Example:

    ```python
    >>> evaluator = RepresentationEvaluator(load_shapes("zero_shot"), teacher="my-teacher", label_column="label")
    >>> evaluator(model, processor)["cka"], evaluator.details["representation_maps"]["cka"]
    ```
    """

    task = "representation"

    def __init__(
        self,
        dataset: Dataset,
        *,
        teacher: CLIPTeacher | str | os.PathLike | None = None,
        layer: int = READ_LAYER,
        image_column: str = "image",
        label_column: str | None = None,
        text_column: str | None = None,
        mask_column: str | None = None,
        question_column: str | None = None,
        answers_column: str | None = None,
        question_type_column: str | None = None,
        templates: str | Path | Sequence[str] = "simple",
        batch_size: int = 128,
        name: str = "representation",
    ):
        if (question_column is None) != (answers_column is None):
            raise ValueError(
                f"`question_column={question_column!r}` and `answers_column={answers_column!r}` of evaluator "
                f"{name!r}: a probe needs both questions and answers. Both columns must be named, or none. Pass the "
                "other one as well."
            )
        columns = {
            "image_column": image_column,
            "label_column": label_column,
            "text_column": text_column,
            "mask_column": mask_column,
            "question_column": question_column,
            "answers_column": answers_column,
            "question_type_column": question_type_column,
        }
        dataset = check_dataset(dataset, {key: column for key, column in columns.items() if column is not None}, name)
        self.name, self.teacher, self.layer, self.batch_size = name, teacher, layer, batch_size
        self.rows, image_of_row = unique_images(dataset, image_column)
        self.images = dataset.select(self.rows)[image_column]
        self.labels = None if label_column is None else dataset.select(self.rows)[label_column][:]
        self.least = {"n_images": 2} if self.labels is None else {"n_images": FOLDS, "n_classes": 2}
        self.prompts, self.own_text = _texts(dataset.select(self.rows), label_column, text_column, templates)
        self.masks = None if mask_column is None else dataset.select(self.rows)[mask_column][:]
        self.questions: list[Question] = []
        if question_column is not None:
            kinds = dataset[question_type_column] if question_type_column is not None else ["all"] * len(dataset)
            asked = zip(image_of_row, dataset[question_column], dataset[answers_column], kinds, strict=True)
            self.questions = [
                Question(image, text, (answers,) if isinstance(answers, str) else tuple(answers), kind)
                for image, text, answers, kind in asked
            ]
        self.kinds = sorted({question.kind for question in self.questions})
        self.metric_names = self._metric_names()
        self.primary_metric = next(
            metric for metric in ("question_probe", "linear_probe", "effective_rank") if metric in self.metric_names
        )

    def _metric_names(self) -> tuple[str, ...]:
        with_teacher = ("cka", "cka_tokens") if self.teacher is not None else ()
        probes = () if self.labels is None else (*PROBES, *(f"{probe}_tokens" for probe in PROBES))
        texts = ("patch_text_acc1",) if self.prompts else ()
        texts += ("patch_text_pointing",) if self.prompts and self.masks else ()
        asked = ("question_probe", *(f"question_probe/{kind}" for kind in self.kinds)) if self.kinds else ()
        return (*with_teacher, *TokenStatistics.metric_names, *probes, *texts, *asked)

    def _count(self, kept: Sequence[int]) -> None:
        """Count the images at positions in `rows` and their classes. Probes of too few would fail without a reason."""
        classes = {} if self.labels is None else {"n_classes": len({self.labels[position] for position in kept})}
        self.counts = {"n_images": len(kept)} | classes
        self.check()

    def evaluate(self, model, processor) -> dict[str, float]:
        """Return the metrics of `model`; a model that embeds no patches has none of patches and texts."""
        self._count(range(len(self.rows)))
        teacher = self.teacher
        if isinstance(teacher, str | os.PathLike):
            teacher = CLIPTeacher(teacher, device=next(model.parameters()).device)
        reading = read_images(
            model,
            processor,
            self.images,
            layer=self.layer,
            batch_size=self.batch_size,
            teacher=teacher,
            texts=self._embedded_texts(model, processor),
            keep_tokens=bool(self.questions),
            description=f"{self.name}: images",
        )
        self._count(reading.kept)
        metrics = self._compared(reading) if teacher is not None else {}
        metrics |= reading.statistics.compute()
        if self.labels is not None:
            labels = [self.labels[position] for position in reading.kept]
            for suffix, features in (("", reading.embeds), ("_tokens", reading.token_means)):
                metrics |= {f"{name}{suffix}": probe(features, labels) for name, probe in PROBES.items()}
        return metrics | self._aligned(reading) | self._answered(reading)

    def _embedded_texts(self, model, processor) -> tuple[Tensor, Tensor] | None:
        """Return texts of unit norm and each image's own for [`read_images`]; `None` if model or data have none."""
        if not self.prompts:
            return None
        try:
            check_patches(model)
        except ValueError as error:
            logger.warning("%s: no metrics of patches and texts: %s", self.name, error)
            return None
        flat = [prompt for prompts in self.prompts for prompt in prompts]
        features = encode_texts(model, processor, flat, batch_size=self.batch_size, description=f"{self.name}: texts")
        features = F.normalize(features.unflatten(0, (len(self.prompts), -1)).mean(dim=1), dim=-1)
        return features.to(next(model.parameters()).device), torch.tensor(self.own_text)

    def _compared(self, reading: Reading) -> dict[str, float]:
        layers = reading.cka.compute()
        self.details = {"representation_maps": {"cka": layers.tolist()}}
        cka = linear_cka(reading.embeds, reading.teacher_embeds)
        return {"cka": cka, "cka_tokens": layers[self.layer, self.layer].item()}

    def _aligned(self, reading: Reading) -> dict[str, float]:
        if reading.near_texts is None:
            return {}
        own = torch.tensor(self.own_text)[reading.kept]
        metrics = {"patch_text_acc1": (reading.near_texts == own).double().mean().item()}
        if self.masks is not None:
            near = zip(reading.kept, reading.near_patches.tolist(), strict=True)
            hits = [points_at(patch, reading.grid, self.masks[position]) for position, patch in near]
            metrics["patch_text_pointing"] = sum(hits) / len(hits)
        return metrics

    def _answered(self, reading: Reading) -> dict[str, float]:
        if not self.questions:
            return {}
        place = {position: i for i, position in enumerate(reading.kept)}
        asked = [
            question._replace(image=place[question.image]) for question in self.questions if question.image in place
        ]
        shares = {
            f"question_probe/{kind}": question_probe(reading.tokens, [entry for entry in asked if entry.kind == kind])
            for kind in self.kinds
        }
        return {"question_probe": sum(shares.values()) / len(shares)} | shares


def unique_images(dataset: Dataset, image_column: str) -> tuple[list[int], list[int]]:
    """
    Return the first row of each image, in a fixed random order, and each row's image as a position there.

    Batches and the halves of a probe must not depend on the order of the rows, so it is random.
    """
    first: dict[tuple, int] = {}
    keys = []
    for row, image in enumerate(dataset[image_column]):
        image = image or {"path": None, "bytes": None}  # The encoder names an empty cell.
        keys.append((image["path"], hashlib.sha256(image["bytes"] or b"").digest()))
        first.setdefault(keys[-1], row)
    order = torch.randperm(len(first), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [list(first.values())[i] for i in order]
    place = {keys[row]: i for i, row in enumerate(rows)}
    return rows, [place[key] for key in keys]


def _texts(
    dataset: Dataset, label_column: str | None, text_column: str | None, templates: str | Path | Sequence[str]
) -> tuple[list[list[str]], list[int]]:
    """Return the prompts of every text, and for each row the position of its own text."""
    if label_column is not None and isinstance(dataset.features[label_column], ClassLabel):
        templates, names = load_templates(templates), dataset.features[label_column].names
        prompts = [[template.replace("{}", readable(name)) for template in templates] for name in names]
        return prompts, dataset[label_column][:]
    if text_column is None:
        return [], []
    captions = [text if isinstance(text, str) else text[0] for text in dataset[text_column]]
    position = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    return [[caption] for caption in position], [position[caption] for caption in captions]
