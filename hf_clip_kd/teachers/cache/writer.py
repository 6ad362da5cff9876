"""CacheWriter: ask the teachers once for each sample, crop and caption, and store their features."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from ...data.reading.worker_counts import too_many
from ...losses.features import FeatureRequest
from ...recipe_io.checked_tensors import write_tensors
from ...recipe_io.processes import process_state
from ...recipe_io.results import remove_torn
from ...recipe_io.worker_deaths import explained_worker_death
from ..reader import Reader, check_readers
from . import answers, manifest, shards
from .layers import name_of
from .reader import TeacherCache
from .source import ShardedRows
from .verify import largest_difference

IMAGE_FEATURES = ("image_embeds", "image_tokens", "patch_embeds", "class_token")
TEXT_FEATURES = ("text_embeds", "synthetic_text_embeds")
# Tensors of a batch that a shard holds as they are, where the batch has them.
FACTS = ("ids", "synthetic_ids", "exchange_ids", "boxes", "flips", "colors", "dropped")


class CacheWriter:
    """
    Write the cache that [`TeacherCache`] reads; several processes share the work.

    The rows are cut into shards of `shard_size`, one file each. A kill loses the file that was being written, and the
    next call goes on from there. The finished cache has the same bytes as one written in peace. No batch crosses the
    border of a shard, and nothing but the inputs enters a file.

    Args:
        folder (`str` or `Path`): Folder of the files, old and new.
        teacher ([`Teacher`]): The teacher, or an ensemble, on the device that it is to compute on.
        collator ([`~hf_clip_kd.AugmentationCollator`]): Maps rows to the teacher's view, built with its `processor`.
        dataset (`datasets.Dataset` or `datasets.IterableDataset`): The rows, in an order that does not change.
        fingerprint (`dict`): Values that tell these data from others, as JSON.
        request ([`FeatureRequest`], *optional*): Features that the losses read beside the embeddings. Patches make a
            cache large.
        dtype (`torch.dtype`, *optional*, defaults to `torch.bfloat16`): Type of the stored numbers.
        shard_size (`int`, *optional*, defaults to `2048`): Rows per file, and so the most that a kill can lose.
        batch_size (`int`, *optional*, defaults to `32`): Rows per forward pass, each with all its crops.
        num_workers (`int`, *optional*, defaults to `0`): Processes that decode and crop.
        readers (`Sequence[Reader]`, *optional*):
            Frozen readers, whose answers are stored in the place of the tokens. The collator needs their `texts`.
        top_k (`int`, *optional*, defaults to `32`): Number of the largest answers to store for a token.

    Raises:
        ValueError: The folder is the cache of other teachers, preprocessing, data or dtype, or a teacher cannot give
            the requested features.
    """

    def __init__(
        self,
        folder: str | Path,
        teacher: Any,
        collator: Callable[[list[dict]], dict[str, Any] | None],
        dataset: Any,
        fingerprint: dict[str, Any],
        *,
        request: FeatureRequest | None = None,
        dtype: torch.dtype = torch.bfloat16,
        shard_size: int = 2048,
        batch_size: int = 32,
        num_workers: int = 0,
        readers: Sequence[Reader] = (),
        top_k: int = 32,
    ):
        self.folder, self.collator, self.dataset = Path(folder), collator, dataset
        self.teachers = manifest.members_of(teacher)
        self.dtype, self.shard_size, self.batch_size, self.num_workers = dtype, shard_size, batch_size, num_workers
        stored = manifest.stored_request(request or FeatureRequest())
        request = manifest.request_of({"request": stored})
        for member in self.teachers:
            member.prepare(request)
        teachers = [manifest.describe(member) for member in self.teachers]
        if request.teacher_reads and any(not getattr(member, "grids", None) for member in self.teachers):
            raise ValueError(
                "The losses read patch tokens, and one of the teachers does not tell their grid before it is called. "
                "A cache holds tokens of a CLIPTeacher, and of a function only embeddings. Leave out the losses on "
                "patches, or train with that teacher itself."
            )
        self.manifest = {
            "teachers": teachers,
            "settings": collator.settings,
            "request": stored,
            "dataset": fingerprint,
            "dtype": str(dtype),
            "shard_size": shard_size,
        }
        self.readers, self.top_k = readers, top_k
        if readers:  # Caches of older versions have no such entry.
            check_readers(readers, teacher, request.teacher_reads)
            self.manifest["answers"] = answers.describe(readers, top_k)
        self._readers_of = readers_by_feature(readers, len(self.teachers), request.teacher_reads)
        self.state = process_state()
        if self.state.is_main_process:
            manifest.claim(self.folder, self.manifest)
            remove_torn(self.folder)
        self.state.wait_for_everyone()
        manifest.refuse_if_different(self.folder, manifest.read(self.folder), self.manifest)

    def write(self) -> TeacherCache:
        """
        Compute and store the missing shards, and open the finished cache.

        Raises:
            ValueError: There is no row, or too many rows are broken. The cache stays without its index.
        """
        if not shards.is_complete(self.folder):
            total = self._write()
            self.state.wait_for_everyone()
            self._judge(total)
            if self.state.is_main_process:
                shards.save_index(self.folder, total)
            self.state.wait_for_everyone()
        return TeacherCache(self.folder)

    def _judge(self, total: int) -> None:
        """Refuse a cache of too few of its rows, those of earlier calls included."""
        stored, broken = shards.count_samples(self.folder, total), self.collator.broken
        share, left_out = broken.max_fraction, self._rows - stored
        if self._rows == 0 or too_many(left_out, self._rows, share, least=broken.min_seen, ended=True):
            raise ValueError(
                f"The teacher cache {str(self.folder)!r} would hold {stored} of {self._rows} rows. At most a share "
                f"of max_broken_fraction={share} may be broken, and one row must be usable. Repair the files named in "
                "the log or check `split` and `max_train_samples`, and write the cache into an empty folder."
            )

    def _write(self) -> int:
        """Write this process's share of the missing shards, and count all there are."""
        source = ShardedRows(self.dataset, self.shard_size, self.batch_size)
        loader = DataLoader(
            source,
            batch_sampler=source.batches(self._wants),
            collate_fn=self._collate,
            num_workers=self.num_workers,
        )
        # The loader does not know how many batches of the missing shards there are.
        total = source.count_batches(self._wants)
        progress = tqdm(loader, "teacher cache", total, unit="batch", disable=not self.state.is_main_process)
        with explained_worker_death("Lower `dataloader_num_workers`, and run the same command again: it goes on."):
            for number, batches in groupby(progress, lambda numbered: numbered[0]):
                parts = [self._ask(batch) for _, batch in batches if batch is not None]
                shard = join(parts)
                self._refuse_bad_numbers(number, shard)
                write_tensors(shards.shard_path(self.folder, number), shard)
        self._rows = source.rows
        return source.shards

    def _refuse_bad_numbers(self, number: int, shard: dict[str, Tensor]) -> None:
        """Refuse features that are not finite, or not any more in the stored type."""
        for name, values in shard.items():
            if values.is_floating_point() and not (finite := values.flatten(1).isfinite().all(1)).all():
                first = int((~finite).nonzero()[0])
                raise ValueError(
                    f"The teacher's {name} is not finite in {self.dtype} for {int((~finite).sum())} of {len(finite)} "
                    f"entries of shard {number}, from entry {first} on. The shard holds the rows from "
                    f"{number * self.shard_size} on. A cache holds finite numbers only. Pass `--dtype bfloat16` if it "
                    "is float16, which ends at 65,504. Or pass `--teacher_dtype float32`, or take those rows out."
                )

    def _wants(self, number: int) -> bool:
        mine = number % self.state.num_processes == self.state.process_index
        return mine and not shards.shard_path(self.folder, number).is_file()

    def _collate(self, items: list[tuple[int, dict]]) -> tuple[int, dict[str, Any] | None]:
        rows = [{"__index__": position} | row for position, row in items]
        return items[0][0] // self.shard_size, self.collator(rows)

    @torch.no_grad()
    def _ask(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Embed one batch of a shard for its file, with counts of captions in the place of ends."""
        rows, crops = batch["flips"].shape
        stored = {name: batch[name] for name in FACTS if name in batch}
        for prefix in ("", "synthetic_"):
            if f"{prefix}counts" in batch:
                stored[f"{prefix}text_ends"] = batch[f"{prefix}counts"]
        for number, (teacher, view) in enumerate(zip(self.teachers, batch["views"], strict=True)):
            # A dual encoder embeds images and texts apart, so their numbers may differ.
            features = teacher(**{name: values.to(self.state.device) for name, values in view.items()})
            for name, values in features.tensors().items():
                if name.rpartition(".")[2] in IMAGE_FEATURES:
                    values = values.unflatten(0, (rows, crops))
                    if own := self._readers_of.get((number, name)):
                        stored |= answers.ask(own, number, values, batch, self.top_k, self.dtype)
                        continue
                elif name not in TEXT_FEATURES:
                    continue  # Scale and bias belong to the teacher, not to samples.
                stored[f"{number}.{name}"] = values.to("cpu", self.dtype)
        return stored

    def verify(self, batches: int = 8, tolerance: float = 0.01) -> float:
        """
        Recompute a sample of a finished cache.

        Args:
            batches (`int`, *optional*, defaults to `8`): Number of batches to draw, from a fixed seed.
            tolerance (`float`, *optional*, defaults to `0.01`): Largest difference of an embedding, as a share of its
                norm. The default is above the effects of rounding and of another device.

        Returns:
            `float`: The largest difference; 0 if all bits are the same.

        Raises:
            ValueError: One is larger than `tolerance`, or the samples or crops are not those of the cache.
        """
        source = ShardedRows(self.dataset, self.shard_size, self.batch_size)
        # A draw from a whole stream would read all of it, so its first batches serve.
        drawn = list(islice(source.batches(), None if source.indexed else batches))
        worst = 0.0
        for items in random.Random(0).sample(drawn, min(batches, len(drawn))):
            number, batch = self._collate([source[item] for item in items])
            if batch is not None:
                path = shards.shard_path(self.folder, number)
                worst = max(worst, largest_difference(path, shards.load(path), join([self._ask(batch)]), tolerance))
        return worst


def join(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join the batches of a shard; counts of captions become ends."""
    if not parts:  # No row of the shard could be used.
        return {"ids": torch.empty(0, dtype=torch.int64)}
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return {name: values.cumsum(0) if name.endswith("text_ends") else values for name, values in whole.items()}


def readers_by_feature(
    readers: Sequence[Reader], teachers: int, layers: tuple[int, ...]
) -> dict[tuple[int, str], dict[int, Reader]]:
    """Return the readers of a teacher's feature by their number. Each member of an ensemble has its own reader."""
    found: dict[tuple[int, str], dict[int, Reader]] = {}
    for number, reader in enumerate(readers):
        name = name_of("image_tokens", reader.layer_of(layers), layers)
        found.setdefault((number if teachers > 1 else 0, name), {})[number] = reader
    return found
