"""Zero-shot classification: images against sentences that name the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from datasets import ClassLabel, Dataset
from torch import Tensor

from ..data.class_names import readable
from .encode import encode_images, encode_texts
from .evaluator import Evaluator, check_dataset
from .prompts import load_class_names, load_templates
from .ranking import hit_rate


class ZeroShotClassificationEvaluator(Evaluator):
    """
    Classify images by the nearest class name, with an ensemble of prompts per class
    ([CLIP](https://huggingface.co/papers/2103.00020), section 3.1.4).

    A class is the normalised mean of the normalised features of its prompts. Metrics are CLIP_benchmark's: `acc1`,
    `acc5` (left out with fewer than five classes) and `mean_per_class_recall`, over the classes that occur. The result
    file has the recall of each of them as `per_class_recall`.

    Args:
        dataset ([`~datasets.Dataset`]):
            Rows with one image and one class index each.
        class_names (`str`, `Path` or sequence of `str`, *optional*):
            Names in the order of the labels, the name of a list (see [`list_class_names`]), or a JSON file with one.
            Defaults to the names in the dataset's own [`~datasets.ClassLabel`].
        templates (`str`, `Path` or sequence of `str`, *optional*, defaults to `"simple"`):
            Prompts with `{}` in the place of the class name, or a JSON file with them. The name of a set, see
            [`list_templates`]. The 80 prompts of ImageNet are `"imagenet1k"`.
        image_column (`str`, *optional*, defaults to `"image"`):
            Column of the images.
        label_column (`str`, *optional*, defaults to `"label"`):
            Column of the class indices.
        batch_size (`int`, *optional*, defaults to `128`):
            Images or texts per forward pass.
        name (`str`, *optional*, defaults to `"zero_shot"`):
            Tells this evaluator from others in a [`SequentialEvaluator`].

    Raises:
        ValueError: The dataset is empty, lacks a column or has labels without a name. There are no class names, or a
            template has no `{}`. A call raises it for fewer than two class names.
    """

    primary_metric = "acc1"
    task = "zeroshot_classification"
    least = {"n_images": 1, "n_class_names": 2}

    def __init__(
        self,
        dataset: Dataset,
        class_names: str | Path | Sequence[str] | None = None,
        templates: str | Path | Sequence[str] = "simple",
        *,
        image_column: str = "image",
        label_column: str = "label",
        batch_size: int = 128,
        name: str = "zero_shot",
    ):
        self.dataset = check_dataset(dataset, {"image_column": image_column, "label_column": label_column}, name)
        self.name = name
        if class_names is None:
            feature = self.dataset.features[label_column]
            if not isinstance(feature, ClassLabel):
                raise ValueError(
                    f"`class_names=None`, and column {label_column!r} of evaluator {name!r} brings no names (it is "
                    f"{feature}). Names come from a `ClassLabel` column or from you. Pass `class_names=[...]`."
                )
            class_names = [readable(class_name) for class_name in feature.names]
        self.class_names = load_class_names(class_names)
        self.templates = load_templates(templates)
        self.image_column = image_column
        self.batch_size = batch_size
        self.labels = _check_labels(self.dataset[label_column][:], self.class_names, label_column, name)
        self.counts = self._counts(self.labels)
        with_acc5 = ("acc5",) if len(self.class_names) >= 5 else ()
        self.metric_names = ("acc1", *with_acc5, "mean_per_class_recall")

    def _counts(self, labels: Tensor) -> dict[str, int]:
        """Return the numbers of images, of the classes that occur, of all class names, and of prompts."""
        names = len(self.class_names)
        return {
            "n_images": len(labels),
            "n_classes": len(labels.unique()),
            "n_class_names": names,
            "n_texts": names * len(self.templates),
        }

    def classifier(self, model, processor) -> Tensor:
        """Embed each class at unit norm, in a `Tensor` of shape `(classes, dim)`."""
        prompts = [template.replace("{}", name) for name in self.class_names for template in self.templates]
        features = encode_texts(
            model, processor, prompts, batch_size=self.batch_size, description=f"{self.name}: prompts"
        )
        return F.normalize(features.unflatten(0, (len(self.class_names), -1)).mean(dim=1), dim=-1)

    def evaluate(self, model, processor) -> dict[str, float]:
        """Measure `acc1`, `acc5` and `mean_per_class_recall` of `model`."""
        classifier = self.classifier(model, processor)
        features, kept = encode_images(
            model,
            processor,
            self.dataset[self.image_column],
            batch_size=self.batch_size,
            description=f"{self.name}: images",
        )
        labels = self.labels[kept]
        self.counts = self._counts(labels)
        hits = {"acc1": [], "acc5": []}
        for some_features, some_labels in zip(
            features.split(self.batch_size), labels.split(self.batch_size), strict=True
        ):
            positives = F.one_hot(some_labels, len(self.class_names)).bool()
            scores = some_features @ classifier.T
            hits["acc1"].append(hit_rate(scores, positives, 1))
            hits["acc5"].append(hit_rate(scores, positives, 5))
        acc1 = torch.cat(hits["acc1"])
        present, sizes = labels.unique(return_counts=True)
        per_class = [acc1[labels == label].mean() for label in present]
        # A list, because names may repeat.
        self.details = {
            "per_class_recall": [
                {"class": self.class_names[label], "recall": round(recall.item(), 6), "n_images": size}
                for label, recall, size in zip(present.tolist(), per_class, sizes.tolist(), strict=True)
            ]
        }
        metrics = {
            "acc1": acc1.mean().item(),
            "acc5": torch.cat(hits["acc5"]).mean().item(),
            "mean_per_class_recall": torch.stack(per_class).mean().item(),
        }
        return {metric: metrics[metric] for metric in self.metric_names}


def _check_labels(labels: list, class_names: list[str], label_column: str, name: str) -> Tensor:
    wrong = [label for label in labels if not isinstance(label, int) or not 0 <= label < len(class_names)]
    if wrong:
        hint = " Label -1 marks a split without labels: choose another `split`." if -1 in wrong else ""
        raise ValueError(
            f"{len(wrong)} labels in column {label_column!r} of evaluator {name!r} name no class, the first is "
            f"{wrong[0]!r}. Labels must be integers from 0 to {len(class_names) - 1}, positions in the "
            f"{len(class_names)} class names. Pass `class_names=` in the order of the labels, or another "
            f"`label_column=`.{hint}"
        )
    return torch.tensor(labels)
