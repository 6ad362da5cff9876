"""Retrieval: find the image of a caption, and a caption of an image, among all others."""

from __future__ import annotations

import torch
from datasets import Dataset
from torch import Tensor

from .encode import check_texts, encode_images, encode_texts
from .evaluator import Evaluator, check_dataset
from .ranking import hit_rate

RECALL_AT = (1, 5, 10)
# Number of similarities in memory at a time: 64 MB in float32.
CHUNK_ELEMENTS = 2**24


class RetrievalEvaluator(Evaluator):
    """
    Recall at 1, 5 and 10 in both directions, with any number of captions per image, as CLIP_benchmark defines it.

    `image_retrieval_recall@k` is the share of captions whose image is among the `k` nearest images.
    `text_retrieval_recall@k` is the share of images with at least one of their captions among the `k` nearest
    captions. A `k` larger than the number of candidates is left out.

    Args:
        dataset ([`~datasets.Dataset`]):
            Rows with one image and its captions each.
        image_column (`str`, *optional*, defaults to `"image"`):
            Column of the images.
        text_column (`str`, *optional*, defaults to `"text"`):
            Column of the captions, a string or a list of strings per row.
        batch_size (`int`, *optional*, defaults to `128`):
            Images or texts per forward pass.
        name (`str`, *optional*, defaults to `"retrieval"`):
            Tells this evaluator from others in a [`SequentialEvaluator`].

    Raises:
        ValueError: The dataset is empty, lacks a column, or has an image without a caption. A call raises it for fewer
            than two images or captions.
    """

    primary_metric = "image_retrieval_recall@1"
    task = "zeroshot_retrieval"
    least = {"n_images": 2, "n_texts": 2}

    def __init__(
        self,
        dataset: Dataset,
        *,
        image_column: str = "image",
        text_column: str = "text",
        batch_size: int = 128,
        name: str = "retrieval",
    ):
        self.dataset = check_dataset(dataset, {"image_column": image_column, "text_column": text_column}, name)
        self.name = name
        self.image_column = image_column
        self.batch_size = batch_size
        self.texts: list[str] = []
        owners: list[int] = []
        for row, captions in enumerate(self.dataset[text_column][:]):
            captions = [captions] if isinstance(captions, str) else captions
            if not captions or not all(isinstance(caption, str) for caption in captions):
                raise ValueError(
                    f"Row {row} of column {text_column!r} of evaluator {name!r} holds {captions!r}. Every row must "
                    "hold a caption or a non-empty list of captions. Filter the row out, or pass another "
                    "`text_column=`."
                )
            self.texts += captions
            owners += [row] * len(captions)
        check_texts(self.texts, f"{name}: captions")
        self.counts = {"n_images": len(self.dataset), "n_texts": len(self.texts)}
        self.image_of_text = torch.tensor(owners)
        self.metric_names = tuple(
            f"{direction}_retrieval_recall@{k}"
            for k in RECALL_AT
            for direction, candidates in (("image", len(self.dataset)), ("text", len(self.texts)))
            if k <= candidates
        )

    def evaluate(self, model, processor) -> dict[str, float]:
        """Measure the recalls of `model`."""
        images, kept = encode_images(
            model,
            processor,
            self.dataset[self.image_column],
            batch_size=self.batch_size,
            description=f"{self.name}: images",
        )
        texts = encode_texts(
            model, processor, self.texts, batch_size=self.batch_size, description=f"{self.name}: captions"
        )
        # Captions of a broken image have nothing to find, so they go with it.
        with_image = torch.isin(self.image_of_text, kept)
        texts, image_of_text = texts[with_image], self.image_of_text[with_image]
        self.counts = {"n_images": len(kept), "n_texts": len(texts)}
        recalls = {
            "image": recall_at(texts, images, image_of_text, kept),
            "text": recall_at(images, texts, kept, image_of_text),
        }
        return {
            metric: recalls[metric.partition("_")[0]][int(metric.partition("@")[2])] for metric in self.metric_names
        }


def recall_at(queries: Tensor, candidates: Tensor, query_group: Tensor, candidate_group: Tensor) -> dict[int, float]:
    """
    Measure the share of the queries that find a candidate of their own group among the `k` nearest.

    Args:
        queries (`Tensor` of shape `(queries, dim)`): Unit-norm features.
        candidates (`Tensor` of shape `(candidates, dim)`): Unit-norm features.
        query_group (`Tensor` of shape `(queries,)`): Image that each query belongs to.
        candidate_group (`Tensor` of shape `(candidates,)`): The same for the candidates.

    Returns:
        `dict[int, float]`: Recall for each `k` of 1, 5 and 10.
    """
    hits = {k: [] for k in RECALL_AT}
    chunk = max(1, CHUNK_ELEMENTS // len(candidates))
    for some_queries, some_groups in zip(queries.split(chunk), query_group.split(chunk), strict=True):
        scores = some_queries @ candidates.T
        positives = some_groups[:, None] == candidate_group
        for k in RECALL_AT:
            hits[k].append(hit_rate(scores, positives, k))
    return {k: torch.cat(values).mean().item() for k, values in hits.items()}
