"""Batches of one modality and of like length."""

from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import pyarrow.compute as pc
import torch
from torch.utils.data import IterableDataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

COUNTS = ("num_words", "num_images")  # columns of `load_instruct`
READ = ("messages", "images")  # columns from which they can be counted


def check_counts(dataset: Any) -> None:
    """
    Check that samples can be ordered by modality and length.

    Args:
        dataset: The training data. A stream keeps its own order and passes.

    Raises:
        ValueError: The data have no counts, and no columns that could be counted.
    """
    columns = set(getattr(dataset, "column_names", None) or ())
    countable = isinstance(dataset, datasets.Dataset) and columns.issuperset(READ)
    if dataset is None or isinstance(dataset, IterableDataset) or columns.issuperset(COUNTS) or countable:
        return
    raise ValueError(
        f"`group_by_modality_length=True`, and the training data have neither {' and '.join(COUNTS)} nor "
        f"{' and '.join(READ)} as columns. A `datasets.Dataset` with the first or the last two can be ordered. Pass "
        "`group_by_modality_length=False`, or read the data with `load_instruct`."
    )


def count_samples(dataset: Any) -> tuple[list[int], list[bool]]:
    """Return the number of words of each sample and whether it has images; none of them is read."""
    if set(COUNTS) <= set(dataset.column_names):
        return dataset["num_words"], [count > 0 for count in dataset["num_images"]]
    words = [sum(len(str(turn["content"]).split()) for turn in turns) for turns in dataset["messages"]]
    batches = dataset.select_columns("images").with_format("arrow").iter(1000)
    lengths = [n for batch in batches for n in pc.list_value_length(batch["images"]).to_pylist()]
    return words, [bool(n) for n in lengths]


class ModalityLengthSampler(Sampler[int]):
    """
    Order the samples so that each batch has images in all samples or in none, and samples of like length.

    One batch may be mixed: the remainder. Seed and epoch fix the order. It is LLaVA's `group_by_modality_length`
    (https://huggingface.co/papers/2310.03744), which pads less and trains faster.

    Args:
        lengths (`Sequence[int]`): Length of each sample, in any unit.
        has_image (`Sequence[bool]`): Whether each sample has an image.
        batch_size (`int`): Samples per optimizer step, over all processes and accumulated micro-batches.
        seed (`int`, *optional*, defaults to `0`): Together with the epoch it decides the order.
    """

    def __init__(self, lengths: Sequence[int], has_image: Sequence[bool], batch_size: int, seed: int = 0):
        self.lengths, self.batch_size, self.seed, self.epoch = list(lengths), batch_size, seed, 0
        self.modalities = [
            [index for index, image in enumerate(has_image) if bool(image) == wanted] for wanted in (True, False)
        ]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed((self.seed << 20) + self.epoch)
        batches, rest = [], []
        for indices in self.modalities:
            if indices:
                lengths = [self.lengths[index] for index in indices]
                order = [indices[i] for i in get_length_grouped_indices(lengths, self.batch_size, generator=generator)]
                whole = len(order) // self.batch_size * self.batch_size
                batches += [order[start : start + self.batch_size] for start in range(0, whole, self.batch_size)]
                rest += order[whole:]
        shuffled = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        return iter([index for batch in (*shuffled, rest) for index in batch])
