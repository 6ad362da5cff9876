"""Features of a frozen vision tower, computed once per image and read from files in every later run."""

import contextlib
import copy
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from PIL import Image
from tqdm import tqdm
from transformers import LlavaForConditionalGeneration, LlavaProcessor
from transformers.image_utils import make_flat_list_of_images
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..data.reading.images import image_path
from ..models import inner_tower
from ..models.towers.checksum import tower_checksum
from ..recipe_io.checked_tensors import read_metadata, read_tensors, write_tensors
from ..recipe_io.file_state import file_state
from ..recipe_io.foreign import parse_json
from ..recipe_io.format_version import CURRENT, check_version
from ..recipe_io.format_version import NAME as VERSION
from ..recipe_io.processes import process_state
from ..recipe_io.results import remove_torn
from .collator import count_image_tokens
from .tiles import has_tiles

logger = logging.getLogger(__name__)

SHARD = 2048  # Images per file.
_FIX = "Delete this file: its features are computed anew."


def image_name(image: dict | Image.Image) -> str:
    """
    Return the name of an image in a cache.

    An undecoded image (`{"bytes", "path"}`) has a hash of its bytes, else its path with the file's size and time of
    change. A picture has a hash of its pixels.
    """
    if isinstance(image, Image.Image):
        return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()
    return file_state(image["path"]) if image["bytes"] is None else hashlib.sha256(image["bytes"]).hexdigest()


class FeatureCache:
    """
    The hidden states of a frozen tower that a LLaVA reads, one row per image, in `features-*.safetensors`.

    A file is written under another name first and holds its own list of images. A kill loses at most the file being
    written, and [`FeatureCache.add`] continues from there. Files are mapped into memory.

    Args:
        folder (`str` or `Path`):
            Folder of the files.
        model ([`~transformers.LlavaForConditionalGeneration`]), processor ([`~transformers.LlavaProcessor`]):
            Source of tower, layers and image processing.
        dtype (`torch.dtype`, *optional*, defaults to the tower's):
            Type of the stored numbers.

    Raises:
        ValueError: The folder holds features of another tower, layer, image processing or dtype, or a damaged file.
    """

    def __init__(
        self,
        folder: str | Path,
        model: LlavaForConditionalGeneration,
        processor: LlavaProcessor,
        dtype: torch.dtype | None = None,
    ):
        if has_tiles(model):
            raise ValueError(
                f"FeatureCache({str(folder)!r}) for a {type(model).__name__}, whose images have several numbers of "
                "tiles. It stores images of one size. Leave the cache out, or build the LLaVA without tiles."
            )
        self.folder, self.image_processor = Path(folder), processor.image_processor
        # All reductions of a tower share its features.
        self.tower = inner_tower(model.model.vision_tower)
        layers = model.config.vision_feature_layer
        self.layers = [layers] if isinstance(layers, int) else list(layers)
        self.dtype = dtype or self.tower.dtype
        self.belongs_to = {
            "tower": tower_checksum(self.tower),
            "layers": json.dumps(self.layers),
            "dtype": str(self.dtype),
            "images": json.dumps(self.image_processor.to_dict(), sort_keys=True, default=str),
        }
        self._places: dict[str, tuple[Path, int]] = {}
        self._mapped: dict[Path, torch.Tensor] = {}
        self._read_all()

    def __len__(self) -> int:
        return len(self._places)

    def __call__(self, image: dict | Image.Image) -> torch.Tensor:
        """
        Return the hidden states (layers, tokens, width) of an undecoded image, or of a picture.

        Raises:
            ValueError: The image is not in the cache, or its file is damaged.
        """
        name = image_name(image)
        if name not in self._places:
            raise ValueError(
                f"The image {name} is not among the {len(self):,} of the feature cache {self.folder}. A broken or "
                "too large one was left out with a warning. Call `cache.add(images)` for all others first."
            )
        return self._stored(name)

    def _stored(self, name: str) -> torch.Tensor:
        path, row = self._places[name]
        if path not in self._mapped:
            tensors = read_tensors(path, fix=_FIX, is_old=lambda metadata: VERSION not in metadata)
            self._mapped[path] = tensors["features"]
        return self._mapped[path][row]

    def blank(self) -> torch.Tensor:
        """
        Return zeros of the shape of an image's hidden states (layers, tokens, width).

        Raises:
            ValueError: The cache has no image.
        """
        if not self._places:
            raise ValueError(
                f"The feature cache {self.folder} has no image, so the shape of its features is unknown. At least one "
                "image must be readable. Repair the images that the warnings above name, or correct `image_folder`."
            )
        return torch.zeros_like(self._stored(next(iter(self._places))))

    def add(
        self,
        images: Iterable[Any],
        decode: Callable[[Any], Image.Image],
        batch_size: int = 32,
        name: Callable[[Any], str] = image_name,
    ) -> None:
        """
        Compute and store the missing features; the processes of a run share the work.

        Runs that share the folder take turns. A run that waits finds what the other has stored.

        Args:
            images (`Iterable`): Undecoded images, or whatever `decode` and `name` take; equal names count once.
            decode (`Callable`): Image -> RGB `PIL.Image.Image`, for training [`training_picture`]. An image with a
                `ValueError` is left out with a warning; the collator meets it again.
            batch_size (`int`, *optional*, defaults to `32`): Images per forward pass.
            name (`Callable`, *optional*, defaults to `image_name`): Image -> the name under which it is asked for.
        """
        named = {name(image): image for image in images}
        self.folder.mkdir(parents=True, exist_ok=True)
        state = process_state()
        takes_turn = state.is_main_process and not named.keys() <= self._places.keys()
        with FileLock(self.folder / "add.lock") if takes_turn else contextlib.nullcontext():
            if takes_turn:
                remove_torn(self.folder)
            state.wait_for_everyone()
            self._read_all()
            missing = [(key, image) for key, image in named.items() if key not in self._places]
            shards = [missing[start : start + SHARD] for start in range(0, len(missing), SHARD)]
            mine = shards[state.process_index :: state.num_processes]
            for shard in tqdm(mine, desc="vision features", unit="file", disable=not state.is_main_process):
                self._write(shard, decode, batch_size)
            state.wait_for_everyone()
        self._read_all()

    @torch.no_grad()
    def _write(self, shard: list[tuple[str, Any]], decode: Callable, batch_size: int) -> None:
        names, pictures, features = [], [], []
        for name, image in shard:
            try:
                pictures.append(decode(image))
                names.append(name)
            except ValueError as error:
                logger.warning("No features of the image %s: %s", image_path(image) or name, error)
        if not names:
            return
        self.tower.eval()
        for start in range(0, len(pictures), batch_size):
            pixels = self.image_processor(images=pictures[start : start + batch_size], return_tensors="pt")
            pixels = pixels["pixel_values"].to(self.tower.device, self.tower.dtype)
            output = self.tower(pixels, output_hidden_states=self.layers, return_dict=True)
            states = torch.stack([output.hidden_states[layer] for layer in self.layers], dim=1)
            features.append(states.to("cpu", self.dtype))
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
        path = self.folder / f"features-{digest}.safetensors"
        metadata = {VERSION: str(CURRENT["feature cache"])} | self.belongs_to | {"names": json.dumps(names)}
        stored = torch.cat(features)
        self._refuse_bad_numbers(names, stored)
        write_tensors(path, {"features": stored}, metadata)

    def _refuse_bad_numbers(self, names: list[str], stored: torch.Tensor) -> None:
        """Refuse features that are not finite, or not any more in the stored type."""
        bad = (~stored.flatten(1).isfinite().all(1)).nonzero().flatten().tolist()
        if bad:
            raise ValueError(
                f"The tower's features are not finite in {self.dtype} for {len(bad)} of {len(names)} images. The "
                f"first is {names[bad[0]]}. A cache holds finite numbers only. Load the model in bfloat16 or float32 "
                "if it is in float16, which ends at 65,504. Or take those images out."
            )

    def _read_all(self) -> None:
        for path in sorted(self.folder.glob("features-*.safetensors")):
            self._read(path)

    def _read(self, path: Path) -> None:
        metadata = read_metadata(path, _FIX)
        version = metadata.get(VERSION, "1")
        check_version({VERSION: int(version) if version.isdigit() else version}, path, "feature cache")
        differs = [name for name, value in self.belongs_to.items() if metadata.get(name) != value]
        if differs:
            told = "; ".join(
                f"{name}: {metadata.get(name)!s:.80} there, {self.belongs_to[name]:.80} here" for name in differs
            )
            raise ValueError(
                f"The feature cache {self.folder} belongs to another vision tower ({told}). A cache serves one tower, "
                "with one choice of layers, image processing and dtype. Give another folder, or delete this one."
            )
        words = {"allowed": "It must hold the names of its images.", "fix": _FIX}
        names = parse_json(metadata.get("names", ""), path, where="the list of images", **words)
        self._places |= {name: (path, row) for row, name in enumerate(names)}


@contextlib.contextmanager
def reading_features(model: LlavaForConditionalGeneration) -> Iterator[None]:
    """
    Make the model take hidden states for `pixel_values` within this context, without its tower.

    The states come from a [`FeatureCache`] or the like: (images, layers, tokens, width), one layer for each of
    `vision_feature_layer`. The tower's weights stay in the model, so a checkpoint holds them.
    """
    layers = model.config.vision_feature_layer
    layers = [layers] if isinstance(layers, int) else list(layers)
    tower = inner_tower(model.model.vision_tower)

    def forward(pixel_values: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        return BaseModelOutputWithPooling(hidden_states=dict(zip(layers, pixel_values.unbind(dim=1), strict=True)))

    # The instance's method hides the class's; stock LLaVA and [`ReducedTower`] call it in one place only.
    tower.forward = forward
    try:
        yield
    finally:
        del tower.forward


def stored_pictures(processor: LlavaProcessor, features: Callable[[Image.Image], torch.Tensor]) -> LlavaProcessor:
    """
    Return a copy of a processor whose `pixel_values` are stored hidden states, for a model in [`reading_features`].

    Text becomes the same tokens as with the processor itself.

    Args:
        processor ([`~transformers.LlavaProcessor`]): Processor to copy.
        features (`Callable`): RGB picture -> hidden states (layers, tokens, width), such as a [`FeatureCache`].
    """
    reader = copy.copy(processor)
    words = processor.image_token * count_image_tokens(processor)

    def process(images: Any, **options: Any) -> tuple[dict[str, torch.Tensor], list[str]]:
        states = torch.stack([features(picture) for picture in make_flat_list_of_images(images)])
        return {"pixel_values": states}, [words] * len(states)

    # The instance's method hides the class's, which decides on images and on the number of their tokens.
    reader._process_images = process
    return reader
