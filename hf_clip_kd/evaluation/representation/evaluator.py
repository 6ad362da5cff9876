"""Evaluator that runs all diagnostics on one set of images."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor

from ...teachers.clip import CLIPTeacher
from ..encode import encode_texts
from ..evaluator import Evaluator, check_dataset
from .attentive_probe import Question
from .c_score import c_score
from .cka import linear_cka
from .gromov_wasserstein import gromov_wasserstein, solver
from .layers import READ_LAYER, check_patches, embeds_texts
from .patch_text import points_at
from .probes import FOLDS, knn_probe, linear_probe
from .question_probe import RISE, question_probe
from .reading import Reading, read_images
from .rows import keypoints_of, questions_of, texts_of, unique_images
from .text_geometry import language_model_features
from .tokens import TokenStatistics

logger = logging.getLogger(__name__)

PROBES = {"linear_probe": linear_probe, "knn_probe": knn_probe}
NOT_SHARES = (
    "effective_rank",
    "token_norm",
    "token_norm_cv",
    "gromov_wasserstein",
)  # All other metrics are between 0 and 1.


class RepresentationEvaluator(Evaluator):
    """
    Evaluator of a model's image tower without a vision-language model.

    Each image counts once, even if several rows show it. The metrics depend on the data:

    - All data have metrics of the tokens that a vision-language model would read, see [`TokenStatistics`].
    - A `teacher` adds `cka`, [`linear_cka`] of the embeddings with the teacher's. `cka_tokens` is that of the tokens
      with the teacher's at the same `layer`. `details["representation_maps"]["cka"]` has every layer of the teacher
      (rows) with every layer of the model (columns), see [`MinibatchCKA`]. `a_score` is the likeness of single tokens
      after a linear map, see [`AScore`]; towers without a square grid have none.
    - Labels add `linear_probe` and `knn_probe` of the embeddings. `linear_probe_tokens` and `knn_probe_tokens` are
      those of the mean token.
    - Class names or captions add `patch_text_acc1`, if the model embeds patches. It is the share of images whose own
      class or caption is nearest to one of their patches, see [`align_patches`].
    - Masks besides add `patch_text_pointing`. It is the share of images whose own text is nearest to a patch on the
      object, see [`points_at`].
    - Questions add `question_probe/TYPE` for each type of question, their mean `question_probe` and its standard
      error `question_probe_stderr`. `details["question_probe"]` has the learning curve. A score that still rises with
      the images is a warning, see [`question_probe`].
    - Points add `c_score`, the share of points that are found in another image, see [`c_score`].
    - `gromov_wasserstein` asks for the metric of that name, see [`gromov_wasserstein`]. The images have their mean
      tokens as features. Lower is better.

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
        keypoint_column (`str`, *optional*):
            Column of points, a list of `{name, x, y}` per row, see [`Keypoint`].
        gromov_wasserstein (`int`, *optional*):
            Number of pairs of image and text to compare, 1,000 in the paper. It needs class names or captions.
        language_model (`str`, *optional*):
            Folder or Hub id of the language model whose features the texts have for `gromov_wasserstein`. The default
            is the model's own text tower.
        templates (`str`, `Path` or sequence of `str`, *optional*, defaults to `"simple"`):
            Prompts for the class names, see [`ZeroShotClassificationEvaluator`].
        batch_size (`int`, *optional*, defaults to `128`):
            Images or texts per forward pass.
        name (`str`, *optional*, defaults to `"representation"`):
            Name of this evaluator in a [`SequentialEvaluator`].

    Raises:
        ValueError: The dataset lacks a column, or there are questions without answers. Or texts, a number of pairs or
            POT are missing for `gromov_wasserstein`. A call raises it for fewer than 2 images, or with labels for
            fewer than 5 images or 2 classes.

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
        keypoint_column: str | None = None,
        gromov_wasserstein: int | None = None,
        language_model: str | None = None,
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
            "keypoint_column": keypoint_column,
        }
        dataset = check_dataset(dataset, {key: column for key, column in columns.items() if column is not None}, name)
        self.name, self.teacher, self.layer, self.batch_size = name, teacher, layer, batch_size
        self.rows, image_of_row = unique_images(dataset, image_column)
        images = dataset.select(self.rows)
        self.images = images[image_column]
        self.labels = None if label_column is None else images[label_column][:]
        self.least = {"n_images": 2} if self.labels is None else {"n_images": FOLDS, "n_classes": 2}
        self.prompts, self.own_text = texts_of(images, label_column, text_column, templates)
        self.masks = None if mask_column is None else images[mask_column][:]
        self.keypoints = None if keypoint_column is None else keypoints_of(images, keypoint_column)
        self.pairs, self.language_model = gromov_wasserstein, language_model
        self._check_pairs()
        self.questions: list[Question] = []
        if question_column is not None:
            self.questions = questions_of(dataset, image_of_row, question_column, answers_column, question_type_column)
        self.kinds = sorted({question.kind for question in self.questions})
        self.metric_names = self._metric_names()
        self.primary_metric = next(
            metric for metric in ("question_probe", "linear_probe", "effective_rank") if metric in self.metric_names
        )

    def _check_pairs(self) -> None:
        if self.pairs is None and self.language_model is None:
            return
        if self.pairs is None or self.pairs < 3 or not self.prompts:
            raise ValueError(
                f"`gromov_wasserstein={self.pairs}` and `language_model={self.language_model!r}` of evaluator "
                f"{self.name!r}, whose data have {len(self.prompts)} texts, measure nothing. It takes 3 pairs or more "
                "of image and text. Name the captions with `text_column`, and pass `gromov_wasserstein=1000`."
            )
        solver()  # It raises the error of a missing POT before images are read.

    def _metric_names(self) -> tuple[str, ...]:
        with_teacher = ("cka", "cka_tokens", "a_score") if self.teacher is not None else ()
        probes = () if self.labels is None else (*PROBES, *(f"{probe}_tokens" for probe in PROBES))
        texts = ("patch_text_acc1",) if self.prompts else ()
        texts += ("patch_text_pointing",) if self.prompts and self.masks else ()
        texts += ("gromov_wasserstein",) if self.pairs is not None else ()
        points = ("c_score",) if self.keypoints is not None else ()
        by_type = (f"question_probe/{kind}" for kind in self.kinds)
        asked = ("question_probe", "question_probe_stderr", *by_type) if self.kinds else ()
        return (*with_teacher, *TokenStatistics.metric_names, *probes, *texts, *points, *asked)

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
            keep_tokens=bool(self.questions) or self.keypoints is not None,
            description=f"{self.name}: images",
        )
        self._count(reading.kept)
        metrics = self._compared(reading) if teacher is not None else {}
        metrics |= reading.statistics.compute()
        if self.labels is not None:
            labels = [self.labels[position] for position in reading.kept]
            for suffix, features in (("", reading.embeds), ("_tokens", reading.token_means)):
                metrics |= {f"{name}{suffix}": probe(features, labels) for name, probe in PROBES.items()}
        metrics |= self._aligned(reading) | self._distance(model, processor, reading)
        if self.keypoints is not None:
            metrics["c_score"] = c_score(reading.tokens, [self.keypoints[position] for position in reading.kept])
        return metrics | self._answered(reading)

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
        metrics = {"cka": cka, "cka_tokens": layers[self.layer, self.layer].item()}
        return metrics if reading.a_score is None else metrics | {"a_score": reading.a_score.compute()}

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

    def _distance(self, model, processor, reading: Reading) -> dict[str, float]:
        if self.pairs is None:
            return {}
        if self.language_model is None and not embeds_texts(model):
            logger.warning("%s: no `gromov_wasserstein`: the model embeds no texts. Pass `language_model`.", self.name)
            return {}
        kept = reading.kept[: self.pairs]
        own = [self.own_text[position] for position in kept]
        place = {text: i for i, text in enumerate(dict.fromkeys(own))}
        texts = [self.prompts[text][0] for text in place]
        if self.language_model is None:
            description = f"{self.name}: texts"
            features = encode_texts(model, processor, texts, batch_size=self.batch_size, description=description)
        else:
            device = next(model.parameters()).device
            features = language_model_features(self.language_model, texts, batch_size=self.batch_size, device=device)
        distance = gromov_wasserstein(reading.token_means[: len(kept)], features[[place[text] for text in own]])
        return {"gromov_wasserstein": distance}

    def _answered(self, reading: Reading) -> dict[str, float]:
        if not self.questions:
            return {}
        place = {position: i for i, position in enumerate(reading.kept)}
        asked = [
            question._replace(image=place[question.image]) for question in self.questions if question.image in place
        ]
        score = question_probe(reading.tokens, asked)
        self.details = dict(self.details) | {"question_probe": score.details()}
        if score.rising:
            logger.warning(
                "%s: `question_probe` rose by %.1f points when its images doubled to %d. It is settled if it rises "
                "by %.0f point at most. Pass more images, or compare towers on equal numbers of images alone.",
                self.name,
                100 * score.rise,
                max(score.curve),
                100 * RISE,
            )
        by_type = {f"question_probe/{kind}": score.by_type[kind] for kind in score.by_type}
        return {"question_probe": score.accuracy, "question_probe_stderr": score.stderr} | by_type
