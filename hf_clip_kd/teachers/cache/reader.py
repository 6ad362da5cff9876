"""A finished cache in the place of its teachers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...losses.features import CLIPDims, CLIPFeatures, FeatureRequest
from . import manifest, shards
from .shared import local_folder


class TeacherCache:
    """
    Stored features of one or several teachers, given to a trainer in their place, and to its collator.

    A [`~hf_clip_kd.data.ReplayCollator`] cuts each picture as it was cut then, and puts what the teachers said of that crop
    into the batch, on the dataloader's workers; the trainer takes it out again ([`TeacherCache.of_batch`]). Files are
    mapped into memory and shared by all processes of a machine.

    Args:
        folder (`str` or `Path`): What [`CacheWriter`] wrote, or the id of such a data set on the Hub.
        weights (`Sequence[float]`, *optional*): What each teacher counts; by default all the same.

    Attributes:
        dims ([`CLIPDims`]): Widths of the teacher's features; of several teachers, as of an ensemble.
        settings (`dict`): How the samples were seen: `augmentations`, `crop_scale`, `crop_ratio`, `flip`, `min_side`, ...

    Raises:
        ValueError: There is no cache, or it is not finished.

    Example:

    ```python
    cache = TeacherCache("outputs/cache")
    collator = ReplayCollator(processor, cache)
    trainer = DistillationTrainer(student, args, teacher_model=cache, data_collator=collator, train_dataset=dataset)
    ```
    """

    def __init__(self, folder: str | Path, weights: Sequence[float] | None = None):
        self.folder = local_folder(folder)
        self.manifest = manifest.read(self.folder)
        self.settings = self.manifest["settings"]
        teachers = len(self.manifest["teachers"])
        self.weights = [1.0] * teachers if weights is None else list(weights)
        if len(self.weights) != teachers:
            raise ValueError(
                f"The teacher cache {str(folder)!r} was given the weights {self.weights} for {teachers} teachers. There must be "
                f"one for each. Write for example `TeacherCache(folder, weights={[1.0] * teachers})`."
            )
        if not shards.finished(self.folder):
            raise ValueError(
                f"The teacher cache {str(folder)!r} is not finished: some of its files are missing. Training needs all "
                "samples. Run recipes/cache_teacher.py again with the same arguments; it goes on where it stopped."
            )
        self._open_index()
        self.prepare(FeatureRequest())

    def _open_index(self) -> None:
        index = shards.load(self.folder / shards.INDEX)
        self._ids, self._places, self._ends = (index[name] for name in ("ids", "places", "ends"))
        self._open: dict[int, dict[str, Tensor]] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker maps the files itself; what is mapped here would be copied to it.
        state = self.__dict__.copy()
        for name in ("_ids", "_places", "_ends", "_open"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open_index()

    # ---- In the place of a teacher ----

    def prepare(self, request: FeatureRequest) -> None:
        """
        Read what losses ask for, and no more.

        Args:
            request ([`FeatureRequest`]): From [`~hf_clip_kd.losses.requested`].

        Raises:
            ValueError: If the cache was written without it.
        """
        stored = FeatureRequest(**self.manifest["request"])
        lacks = []
        if request.teacher_layer not in (None, stored.teacher_layer):
            lacks.append(f"tokens of teacher_layer={request.teacher_layer} (stored: {stored.teacher_layer})")
        if request.patch_embeds and not stored.patch_embeds:
            lacks.append("patch embeddings")
        if lacks:
            raise ValueError(
                f"The teacher cache {str(self.folder)!r} lacks what the losses read: {' and '.join(lacks)}. It holds what was "
                "asked for when it was written. Write one with the same `losses` as this run: "
                "`python recipes/cache_teacher.py --losses '{...}'`, or leave those losses out."
            )
        self.request = request
        members = [CLIPDims(**teacher["dims"]) for teacher in self.manifest["teachers"]]
        if request.teacher_layer is None:
            members = [replace(dims, token_dim=None) for dims in members]
        if len(members) > 1:
            members = [replace(dims, weight=weight) for dims, weight in zip(members, self.weights, strict=True)]
            has_text = any(dims.has_text for dims in members)
            members[0] = replace(members[0], has_text=has_text, weight=1.0, members=tuple(members))
        self.dims = members[0]

    def place(self, device: torch.device | str) -> None:
        """Does nothing: features arrive where the batch is."""

    def identity(self) -> dict[str, Any]:
        """As [`Teacher.identity`]: the teachers that filled the cache, and how, without features that no loss reads."""
        text = json.dumps(manifest.narrowed(self.manifest, self.request), sort_keys=True)
        return {"cache": hashlib.sha256(text.encode()).hexdigest()[:16], "member_weights": self.weights}

    def of_batch(self, batch: dict[str, Tensor]) -> CLIPFeatures:
        """
        The features in a batch that a collator made with this cache, in float32.

        Raises:
            ValueError: The batch holds none.
        """
        members = tuple(self._member(number, batch) for number in range(len(self.manifest["teachers"])))
        return members[0] if len(members) == 1 else CLIPFeatures(members=members)

    def _member(self, number: int, batch: dict[str, Tensor]) -> CLIPFeatures:
        prefix, teacher = f"teacher_{number}_", self.manifest["teachers"][number]
        tensors = {key.removeprefix(prefix): value.float() for key, value in batch.items() if key.startswith(prefix)}
        if not tensors:
            raise ValueError(
                f"The batch holds no features of the teacher cache {str(self.folder)!r}. The collator must be given the "
                "same cache as the trainer. Write `ReplayCollator(processor, cache)`; an `eval_dataset` "
                "needs a cache or a teacher of its own."
            )
        device = tensors["image_embeds"].device
        for name in ("logit_scale", "logit_bias"):
            value = teacher[name]
            tensors[name] = None if value is None else torch.tensor(value, device=device)
        if tensors["logit_scale"] is not None:
            tensors["logit_scale"] = tensors["logit_scale"].exp()
        if self.request.token_moments:
            tokens = tensors["image_tokens"]
            tensors["token_moments"] = torch.stack([tokens.mean(dim=1), tokens.square().mean(dim=1)], dim=1)
        grid = teacher["image_grid"] if self.request.teacher_layer is not None or self.request.patch_embeds else None
        return CLIPFeatures(**tensors, image_grid=None if grid is None else tuple(grid))

    # ---- For the collator ----

    def find(self, sample_id: int) -> int | None:
        """The place of a sample by its [`~hf_clip_kd.teachers.cache.sample_id`], or `None` if it is not here."""
        position = int(torch.searchsorted(self._ids, sample_id))
        if position == len(self._ids) or self._ids[position] != sample_id:
            return None
        return int(self._places[position])

    def crop(self, place: int, epoch: int) -> tuple[list[float], bool, tuple[float, ...]]:
        """
        The crop of a sample in an epoch: `[left, top, right, bottom]` in shares of its picture, whether it is mirrored, and
        its colours as [`~hf_clip_kd.data.transforms.random_crop.Crop`] has them.
        """
        shard, row = self._shard(place)
        box, flip, colors = (
            shard[name][row, epoch % self.settings["augmentations"]].tolist() for name in ("boxes", "flips", "colors")
        )
        return box, flip, tuple(colors)

    def images(self, places: Sequence[int], epochs: Sequence[int]) -> dict[str, Tensor]:
        """
        What the teachers say of the crops of a batch.

        Args:
            places (`Sequence[int]`): Of its samples, from [`TeacherCache.find`].
            epochs (`Sequence[int]`): Of each sample, as for [`TeacherCache.crop`].

        Returns:
            `dict`: `teacher_0_image_embeds` (batch, dim) and what the losses read beside, in the stored type.
        """
        names = ["image_embeds"]
        names += ["image_tokens"] * (self.request.teacher_layer is not None)
        names += ["patch_embeds"] * self.request.patch_embeds
        where = []
        for place, epoch in zip(places, epochs, strict=True):
            shard, row = self._shard(place)
            where.append((shard, (row, epoch % self.settings["augmentations"])))
        return self._gather(names, where)

    def texts(self, places: Sequence[int], numbers: Sequence[int], prefix: str = "") -> dict[str, Tensor]:
        """
        What the teachers say of one caption of each sample.

        Args:
            places (`Sequence[int]`): As for [`TeacherCache.images`].
            numbers (`Sequence[int]`): Which of its captions.
            prefix (`str`, *optional*): `"synthetic_"` for generated captions.

        Returns:
            `dict`: `teacher_0_text_embeds` (batch, dim), ..., of the teachers that have a text tower.

        Raises:
            ValueError: If generated captions are asked for and the cache holds none.
        """
        if prefix and not self.settings["synthetic"]:
            raise ValueError(
                f"The data have generated captions, and the teacher cache {str(self.folder)!r} holds none. It must hold what "
                "the run reads. Write one with the same `synthetic_text_column`, or leave the column out here."
            )
        where = []
        for place, number in zip(places, numbers, strict=True):
            shard, row = self._shard(place)
            where.append((shard, number + (int(shard[f"{prefix}text_ends"][row - 1]) if row else 0)))
        return self._gather([f"{prefix}text_embeds"], where)

    def _gather(self, names: Iterable[str], where: list[tuple]) -> dict[str, Tensor]:
        return {
            f"teacher_{number}_{name}": torch.stack([shard[f"{number}.{name}"][at] for shard, at in where])
            for number in range(len(self.manifest["teachers"]))
            for name in names
            # A vision model has no words, and no embeddings of patches that words could be compared with.
            if f"{number}.{name}" in where[0][0]
        }

    def check(self, *, teacher: Any | None = None, samples: Iterable[int] = (), **settings) -> None:
        """
        Refuse a run that is not what the cache was written for, as far as it is given.

        Args:
            teacher ([`CLIPTeacher`], [`TeacherEnsemble`] or the like, *optional*): The teacher of this run.
            samples (`Iterable[int]`, *optional*): Some of its data, from [`~hf_clip_kd.teachers.cache.sample_id.probe`].
            settings: Its `views`, `crop_scale`, `flip` and so on, as [`~hf_clip_kd.data.AugmentationCollator`] has them.

        Raises:
            ValueError: Naming what differs.
        """
        run: dict[str, Any] = {"settings": settings}
        if teacher is not None:
            teachers = manifest.members_of(teacher)
            for member in teachers:
                member.prepare(FeatureRequest(**self.manifest["request"]))
            run["teachers"] = [manifest.describe(member) for member in teachers]
        manifest.refuse_if_different(self.folder, manifest.part(self.manifest, run), run)
        missing = [number for number in samples if self.find(number) is None]
        if missing:
            raise ValueError(
                f"The teacher cache {str(self.folder)!r} belongs to other data: {len(missing)} of the samples that were looked up "
                f"are not among its {len(self):,}. A cache serves the images and captions it was written with. Restore them "
                "(`dataset_name`, `split`, `text_column`, `label_template`), or write another cache."
            )

    def _shard(self, place: int) -> tuple[dict[str, Tensor], int]:
        """The file that a sample stands in, and its row there."""
        number = int(torch.searchsorted(self._ends, place, right=True))
        if number not in self._open:
            self._open[number] = shards.load(shards.shard_path(self.folder, number))
        return self._open[number], place - (int(self._ends[number - 1]) if number else 0)
