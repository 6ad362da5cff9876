"""Retrieval in many languages: the recalls of each, and their mean."""

from __future__ import annotations

from typing import Any

import torch

from .encode import check_texts, encode_images, encode_texts
from .evaluator import Evaluator
from .retrieval import RECALL_AT, recall_at
from .xm3600 import PROTOCOLS, read_xm3600

OPTIONS = ("dataset_name", "annotations", "image_folder", "languages", "protocol", "batch_size")
_EXAMPLE = (
    "`xm3600: {task: multilingual_retrieval, dataset_name: xm3600, annotations: captions.jsonl, image_folder: images}`"
)


class MultilingualRetrievalEvaluator(Evaluator):
    """
    Recall at 1, 5 and 10 in both directions, as in [`RetrievalEvaluator`], for each language by itself.

    A metric is the mean over the languages. The result file has the numbers of each language as `by_language`.

    Args:
        images (`list`): Pictures as [`decode_image`] takes them.
        captions (`dict[str, list[list[str]]]`): Language to the captions of each picture, in the order of `images`.
        protocol (`str`, *optional*, defaults to `"all_captions"`): Name of the protocol, for the result file.
        batch_size (`int`, *optional*, defaults to `128`): Pictures or texts per forward pass.
        name (`str`, *optional*, defaults to `"multilingual_retrieval"`):
            Tells this evaluator from others in a [`SequentialEvaluator`].

    Raises:
        ValueError: A caption cannot be read. A call raises it for fewer than two pictures.
    """

    primary_metric = "image_retrieval_recall@1"
    task = "zeroshot_retrieval"
    least = {"n_images": 2, "n_languages": 1}

    def __init__(
        self,
        images: list[Any],
        captions: dict[str, list[list[str]]],
        *,
        protocol: str = "all_captions",
        batch_size: int = 128,
        name: str = "multilingual_retrieval",
    ):
        self.images, self.captions, self.batch_size, self.name = images, captions, batch_size, name
        self.protocol = protocol
        for language, texts in captions.items():
            check_texts([text for own in texts for text in own], f"{name}: captions in {language}")
        self.counts = self._counts(range(len(images)))
        self.metric_names = tuple(
            f"{direction}_retrieval_recall@{k}"
            for k in RECALL_AT
            for direction in ("image", "text")
            if k <= len(images)
        )

    def _counts(self, rows) -> dict[str, int]:
        texts = sum(len(captions[row]) for captions in self.captions.values() for row in rows)
        return {"n_images": len(rows), "n_texts": texts, "n_languages": len(self.captions)}

    def evaluate(self, model, processor) -> dict[str, float]:
        """Measure the mean recalls of `model`."""
        images, kept = encode_images(
            model, processor, self.images, batch_size=self.batch_size, description=f"{self.name}: images"
        )
        rows = kept.tolist()
        self.counts = self._counts(rows)
        by_language = {}
        for language, captions in self.captions.items():
            texts = [text for row in rows for text in captions[row]]
            owners = torch.tensor([row for row in rows for _ in captions[row]])
            features = encode_texts(
                model, processor, texts, batch_size=self.batch_size, description=f"{self.name}: {language}"
            )
            recalls = {
                "image": recall_at(features, images, owners, kept),
                "text": recall_at(images, features, kept, owners),
            }
            by_language[language] = {
                metric: recalls[metric.partition("_")[0]][int(metric.partition("@")[2])]
                for metric in self.metric_names
            }
        self.details = {
            "language": ",".join(by_language),
            "main_metric": self.primary_metric,
            "protocol": f"{self.protocol}: {PROTOCOLS[self.protocol]}",
            "by_language": by_language,
        }
        return {
            metric: sum(found[metric] for found in by_language.values()) / len(by_language)
            for metric in self.metric_names
        }


def build_multilingual(name: str, options: dict[str, Any]) -> MultilingualRetrievalEvaluator:
    """
    Read the pictures and captions that a block of `evaluation` names.

    Args:
        name (`str`): Name of the block.
        options (`dict[str, Any]`):
            `dataset_name: xm3600`, `annotations`, `image_folder`, and perhaps `languages`, `protocol` and
            `batch_size`, see [`read_xm3600`].

    Raises:
        ValueError: An argument is missing or wrong, or a file is.
    """
    where, given = f"`evaluation`, {name!r}", dict(options)
    batch_size = given.pop("batch_size", 128)
    if given.pop("dataset_name") != "xm3600":
        raise ValueError(
            f"{where}: `dataset_name: {options['dataset_name']!r}` is no multilingual set. There is `xm3600`. Write "
            f"e.g. {_EXAMPLE}."
        )
    for argument in ("annotations", "image_folder"):
        if not isinstance(given.get(argument), str):
            raise ValueError(
                f"{where}: `{argument}: {given.get(argument)!r}` is no path. XM3600 is read from `annotations` and "
                f"`image_folder`. Write e.g. {_EXAMPLE}."
            )
    languages = given.get("languages")
    codes = languages if isinstance(languages, list) and all(isinstance(code, str) for code in languages) else []
    if languages is not None and (not codes or len(set(codes)) < len(codes)):
        raise ValueError(
            f"{where}: `languages: {languages!r}` is no list of languages. It must hold codes of the file, each once. "
            "Write e.g. `languages: [en, de]`, or leave it out for all."
        )
    if not isinstance(given.get("protocol", ""), str):
        raise ValueError(
            f"{where}: `protocol: {given['protocol']!r}` is no name. It must be {' or '.join(PROTOCOLS)}. Write "
            "`protocol: all_captions`, or leave it out."
        )
    try:
        images, captions = read_xm3600(**given)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    protocol = given.get("protocol", "all_captions")
    return MultilingualRetrievalEvaluator(images, captions, protocol=protocol, batch_size=batch_size, name=name)
