"""TeacherCache: the stored features of teachers, as a teacher."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...losses.features import CLIPFeatures, FeatureRequest
from ..base import PREFIX, Teacher, to_loss_features
from ..ensemble import joint_dims
from . import manifest, shards
from .layers import lacking, names_of_images, scalar, stored_features
from .samples import Samples
from .shared import local_folder


class TeacherCache(Teacher):
    """
    Stored features of one or several teachers, given to a trainer in their place, and to its collator.

    A [`~hf_clip_kd.ReplayCollator`] repeats the stored crop of each picture. It puts the teachers' features of that
    crop into the batch, on the dataloader's workers. The trainer takes them out again ([`TeacherCache.of_batch`]).
    Files are mapped into memory and shared by all processes of a machine.

    Args:
        folder (`str` or `Path`): Folder that [`CacheWriter`] wrote, or the id of such a data set on the Hub.
        weights (`Sequence`, *optional*): Weight of each teacher in a loss, as for [`TeacherEnsemble`]; by default 1.
        checksums (`str`, *optional*, defaults to `"read"`):
            Time to compare a file with its checksum. With `"read"` each process does it before its first read of the
            file. With `"open"` all files are compared once, here.

    Attributes:
        dims ([`CLIPDims`]): Widths of the teacher's features; several teachers count as an ensemble.
        settings (`dict`):
            View of the samples in the cache: `augmentations`, `crop_scale`, `crop_ratio`, `flip`, `min_side`, ...
        processor (`None`): It sees neither images nor texts.

    Raises:
        ValueError: There is no cache, it is not finished, or a file is damaged.

    Example:

    ```python
    cache = TeacherCache("outputs/cache")
    collator = ReplayCollator(processor, cache)
    trainer = DistillationTrainer(student, args, teacher_model=cache, data_collator=collator, train_dataset=dataset)
    ```
    """

    processor = None

    def __init__(self, folder: str | Path, weights: Sequence[float | dict] | None = None, checksums: str = "read"):
        super().__init__()
        if checksums not in ("read", "open"):
            raise ValueError(
                f"`checksums={checksums!r}` of the teacher cache {str(folder)!r} is no time to compare its files. It "
                "must be 'read' or 'open'. Leave it out to compare each file before its first read."
            )
        self.folder = local_folder(folder)
        self.manifest = manifest.read(self.folder)
        self.settings, self.stored = self.manifest["settings"], manifest.request_of(self.manifest)
        teachers = len(self.manifest["teachers"])
        self.weights = [1.0] * teachers if weights is None else list(weights)
        if len(self.weights) != teachers:
            raise ValueError(
                f"The teacher cache {str(folder)!r} was given the weights {self.weights} for {teachers} teachers. "
                f"There must be one for each. Write for example `TeacherCache(folder, weights={[1.0] * teachers})`."
            )
        if not shards.is_complete(self.folder):
            raise ValueError(
                f"The teacher cache {str(folder)!r} is not finished: some of its files are missing. Training needs "
                "all samples. Run recipes/cache_teacher.py again with the same arguments, and it goes on where it "
                "stopped."
            )
        self._samples = Samples(self.folder, check_all=checksums == "open")
        self.prepare(FeatureRequest())

    def __len__(self) -> int:
        return len(self._samples)

    def prepare(self, request: FeatureRequest) -> None:
        """
        Read the features that losses ask for, and no more.

        Args:
            request ([`FeatureRequest`]): From [`~hf_clip_kd.losses.requested`].

        Raises:
            ValueError: The cache was written without them.
        """
        lacks = lacking(request, self.stored)
        # Answers stand in the place of the tokens. Only a reader does without these, and it wants no moments.
        answers_alone = "answers" in self.manifest and len(self.stored.teacher_reads) == 1
        if answers_alone and request.teacher_reads and (request.readers is None or request.token_moments):
            lacks.append("tokens (it holds the answers of readers in their place)")
        if lacks:
            raise ValueError(
                f"The teacher cache {str(self.folder)!r} lacks what the losses read: {' and '.join(lacks)}. It holds "
                "the features that it was written with. Write one with the same `losses` as this run: "
                "`python recipes/cache_teacher.py --losses '{...}'`, or leave those losses out."
            )
        super().prepare(request)
        members = []
        for teacher in self.manifest["teachers"]:
            dims = manifest.dims_of(teacher)
            members.append(dims.with_layers({layer: dims.at(layer).token_dim for layer in request.teacher_reads}))
        self.dims = members[0] if len(members) == 1 else joint_dims(members, self.weights)

    def place(self, device: torch.device | str) -> None:
        """Do nothing: features arrive where the batch is."""

    def identity(self) -> dict[str, Any]:
        """
        Return values that tell the teachers and settings of this cache from others, see [`Teacher.identity`].

        Features that no loss of this run reads do not count.
        """
        text = json.dumps(manifest.narrowed(self.manifest, self.request), sort_keys=True)
        return {"cache": hashlib.sha256(text.encode()).hexdigest()[:16], "member_weights": self.weights}

    def of_batch(self, batch: dict[str, Tensor], prefix: str = PREFIX) -> CLIPFeatures:
        """
        Take the features out of a batch that a collator made with this cache, in float32.

        Args:
            batch (`dict[str, Tensor]`): From a [`~hf_clip_kd.ReplayCollator`], on any device.
            prefix (`str`): Start of the names of the stored features.

        Raises:
            ValueError: The batch holds none.
        """
        teachers = enumerate(self.manifest["teachers"])
        members = tuple(self._member(teacher, batch, f"{prefix}{number}_") for number, teacher in teachers)
        return members[0] if len(members) == 1 else CLIPFeatures(members=members)

    def _member(self, teacher: dict[str, Any], batch: dict[str, Tensor], prefix: str) -> CLIPFeatures:
        tensors = {key.removeprefix(prefix): value for key, value in batch.items() if key.startswith(prefix)}
        if not tensors:
            raise ValueError(
                f"The batch holds no features of the teacher cache {str(self.folder)!r}. The collator must be given "
                "the same cache as the trainer. Write `ReplayCollator(processor, cache)`. An `eval_dataset` needs a "
                "cache or a teacher of its own."
            )
        device = tensors["image_embeds"].device
        scale, bias = (scalar(teacher[name], device) for name in ("logit_scale", "logit_bias"))
        tensors |= {"logit_scale": None if scale is None else scale.exp(), "logit_bias": bias}
        return to_loss_features(stored_features(teacher, tensors, self.request, self.stored), self.request, device)

    def find(self, sample_id: int, texts: Mapping[str, int] | None = None) -> int | None:
        """
        Find the place of a sample; `None` if it is not here.

        Args:
            sample_id (`int`): From [`~hf_clip_kd.teachers.cache.sample_id`].
            texts (`Mapping[str, int]`, *optional*):
                From [`~hf_clip_kd.teachers.cache.sample_id.text_ids`]. They tell apart samples of one number.
        """
        return self._samples.find(sample_id, texts or {})

    def crops(
        self, places: Sequence[int], epochs: Sequence[int]
    ) -> list[tuple[list[float], bool, tuple[float, ...], bool]]:
        """
        Read the crops of a batch.

        Args:
            places (`Sequence[int]`): Places of its samples, from [`TeacherCache.find`].
            epochs (`Sequence[int]`): Epoch of each sample.

        Returns:
            `list[tuple]`: for each sample `[left, top, right, bottom]` in shares of its picture, and `True` for a
            mirrored one. Its colours follow as [`~hf_clip_kd.data.transforms.random_crop.Crop`] has them, and `True`
            for dropped transparency.
        """
        where = self._where(places, epochs)
        boxes, flips, colors = (self._read(name, where).tolist() for name in ("boxes", "flips", "colors"))
        stored = "dropped" in self._samples.shard(places[0])[0]  # Caches of older versions lie on white.
        dropped = self._read("dropped", where).tolist() if stored else [False] * len(places)
        return list(zip(boxes, map(bool, flips), map(tuple, colors), map(bool, dropped), strict=True))

    def images(self, places: Sequence[int], epochs: Sequence[int]) -> dict[str, Tensor]:
        """
        Read the teachers' features of the crops of a batch.

        Args:
            places (`Sequence[int]`): Places of its samples, from [`TeacherCache.find`].
            epochs (`Sequence[int]`): Epoch of each sample, as for [`TeacherCache.crops`].

        Returns:
            `dict`: `teacher_0_image_embeds` (batch, dim) and the other requested features, in the stored type.
        """
        return self._gather(names_of_images(self.request, self.stored), self._where(places, epochs))

    def texts(self, places: Sequence[int], numbers: Sequence[int], prefix: str = "") -> dict[str, Tensor]:
        """
        Read the teachers' features of one caption of each sample.

        Args:
            places (`Sequence[int]`): Places of the samples, from [`TeacherCache.find`].
            numbers (`Sequence[int]`): Number of the caption among those of its sample.
            prefix (`str`, *optional*): `"synthetic_"` for generated captions.

        Returns:
            `dict`: `teacher_0_text_embeds` (batch, dim) and so on, for each teacher with a text tower.

        Raises:
            ValueError: Generated captions are asked for, and the cache holds none.
        """
        if prefix and not self.settings["synthetic"]:
            raise ValueError(
                f"The data have generated captions, and the teacher cache {str(self.folder)!r} holds none. It must "
                "hold what the run reads. Write one with the same `synthetic_text_column`, or leave the column out "
                "here."
            )
        where = []
        for place, number in zip(places, numbers, strict=True):
            shard, row = self._samples.shard(place)
            where.append((shard, number + (int(shard[f"{prefix}text_ends"][row - 1]) if row else 0)))
        return self._gather({f"{prefix}text_embeds": f"{prefix}text_embeds"}, where)

    def _where(self, places: Sequence[int], epochs: Sequence[int]) -> list[tuple]:
        """Return the file of each crop, with the sample's row there and the crop's number."""
        found = map(self._samples.shard, places)
        count = self.settings["augmentations"]
        return [(shard, (row, epoch % count)) for (shard, row), epoch in zip(found, epochs, strict=True)]

    def _gather(self, names: Mapping[str, str], where: list[tuple]) -> dict[str, Tensor]:
        """Read features of all teachers: their names in a batch, and in the files."""
        return {
            f"{PREFIX}{number}_{name}": self._read(f"{number}.{stored}", where)
            for number in range(len(self.manifest["teachers"]))
            for name, stored in names.items()
            # A vision model has no words, and no embeddings of patches that words could be compared with.
            if f"{number}.{stored}" in where[0][0]
        }

    @staticmethod
    def _read(name: str, where: list[tuple]) -> Tensor:
        return torch.stack([shard[name][at] for shard, at in where])

    def check(self, *, teacher: Any | None = None, samples: Iterable[int] = (), **settings) -> None:
        """
        Refuse a run that the cache was not written for, as far as it is given.

        Args:
            teacher ([`Teacher`], *optional*): The teacher of this run.
            samples (`Iterable[int]`, *optional*): Some of its data, from
                [`~hf_clip_kd.teachers.cache.sample_id.probe`].
            settings: Its `views`, `crop_scale`, `flip` and so on, as [`~hf_clip_kd.AugmentationCollator`] has them.

        Raises:
            ValueError: Something differs; the message names it.
        """
        run: dict[str, Any] = {"settings": settings}
        if teacher is not None:
            teachers = manifest.members_of(teacher)
            for member in teachers:
                member.prepare(self.stored)
            run["teachers"] = [manifest.describe(member) for member in teachers]
        manifest.refuse_if_different(self.folder, manifest.part(self.manifest, run), run)
        missing = [number for number in samples if self.find(number) is None]
        if missing:
            raise ValueError(
                f"The teacher cache {str(self.folder)!r} belongs to other data: {len(missing)} of the samples that "
                f"were looked up are not among its {len(self):,}. A cache serves the images and captions it was "
                "written with. Restore them (`dataset_name`, `split`, `text_column`, `label_template`), or write "
                "another cache."
            )
