"""Batches of one modality and of like length."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import IterableDataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

COUNTS = ("num_images", "num_words")  # columns of `load_instruct`


def check_counts(dataset: Any) -> None:
    """
    Check that samples can be ordered by modality and length.

    Args:
        dataset: The training data. A stream keeps its own order and passes.

    Raises:
        ValueError: The data lack a column of counts.
    """
    columns = getattr(dataset, "column_names", None) or ()
    missing = [name for name in COUNTS if name not in columns]
    if dataset is not None and missing and not isinstance(dataset, IterableDataset):
        raise ValueError(
            f"`group_by_modality_length=True`, and the training data have no column {' and no '.join(missing)}. It "
            "needs the numbers of images and words of each sample, as `load_instruct` gives them. Pass "
            "`group_by_modality_length=False`, or add the columns with `dataset.add_column`."
        )


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
