"""Models of open_clip with one PIL image processor and one tokenizer that is called like those of transformers.

This module imports open_clip, which takes seconds, so others import it only when a teacher asks for it.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import open_clip
from open_clip.hf_model import HFTextEncoder
from open_clip.tokenizer import SimpleTokenizer
from torch import nn
from transformers import BatchEncoding, CLIPImageProcessorPil
from transformers.image_utils import PILImageResampling

from ..names import LIBRARIES, open_clip_hub_id, parse_name
from ..zip_bombs import refuse_zip_bomb

# open_clip reads these forms of a name itself, with a folder or repository that holds `open_clip_config.json`.
_SCHEMAS = ("hf-hub:", "local-dir:")
_CONFIG = "open_clip_config.json"


class OpenClipImageProcessor(CLIPImageProcessorPil):
    """
    Image processor whose pixels equal open_clip's own evaluation transform, bit for bit, on RGB images.

    It differs from [`~transformers.CLIPImageProcessorPil`] where that class differs from torchvision. The crop of an
    odd margin starts one pixel further for every second size. The resize mode "longest" keeps the whole image and
    pads.

    Args:
        fill_color (`int`, *optional*, defaults to 0):
            Value 0 to 255 of the border where the image is smaller than the crop (resize mode "longest").
    """

    def __init__(self, *, fill_color: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.fill_color = fill_color

    @classmethod
    def from_preprocess_cfg(cls, cfg: dict) -> OpenClipImageProcessor:
        """
        Build the processor that `model.visual.preprocess_cfg` of open_clip describes.

        Args:
            cfg (`dict`): `size`, `mean`, `std`, `interpolation`, `resize_mode` ("shortest", "squash", "longest") and
                `fill_color`, each with open_clip's default.

        Raises:
            ValueError: `resize_mode` is "shortest" and `size` is no square.
        """
        cfg = open_clip.transform.PreprocessCfg(**cfg)
        height, width = (cfg.size, cfg.size) if isinstance(cfg.size, int) else cfg.size
        if cfg.resize_mode == "shortest" and height != width:
            raise ValueError(
                f"This open_clip model resizes the shortest edge of an image to a non-square size, {height}x{width} "
                "(`model.visual.preprocess_cfg`). A teacher can have resize_mode 'shortest' with a square size, or "
                "'squash' or 'longest' with any. Set `model.visual.preprocess_cfg['resize_mode'] = 'squash'` and pass "
                "the model itself to CLIPTeacher."
            )
        size = {
            "shortest": {"shortest_edge": height},
            "squash": {"height": height, "width": width},
            "longest": {"max_height": height, "max_width": width},
        }[cfg.resize_mode]
        return cls(
            size=size,
            crop_size={"height": height, "width": width},
            do_center_crop=cfg.resize_mode != "squash",
            resample=PILImageResampling.BILINEAR if cfg.interpolation == "bilinear" else PILImageResampling.BICUBIC,
            image_mean=cfg.mean,
            image_std=cfg.std,
            fill_color=cfg.fill_color,
        )

    def resize(self, image: np.ndarray, size, **kwargs) -> np.ndarray:
        """Resize as the parent does, but round "fit into" sizes to the nearest pixel, as open_clip does."""
        if size.max_height and size.max_width:
            height, width = image.shape[-2:]
            ratio = max(height / size.max_height, width / size.max_width)
            size = type(size)(height=round(height / ratio), width=round(width / ratio))
        return super().resize(image, size, **kwargs)

    def center_crop(self, image: np.ndarray, size, **kwargs) -> np.ndarray:
        """Crop `(channels, height, width)` as torchvision does: round margins half to even, and fill borders."""
        target, margins = (size.height, size.width), []
        for length, wanted in zip(image.shape[-2:], target, strict=True):
            missing = max(wanted - length, 0)
            margins.append((missing // 2, (missing + 1) // 2))
        image = np.pad(image, [(0, 0), *margins], constant_values=self.fill_color)
        top, left = (round((length - wanted) / 2) for length, wanted in zip(image.shape[-2:], target, strict=True))
        return image[:, top : top + size.height, left : left + size.width]


class OpenClipTokenizer:
    """
    Tokenizer of open_clip that is called like one of transformers.

    Args:
        tokenizer: The object that `open_clip.get_tokenizer` returns.
        context_length (`int`): Number of tokens that the text tower takes, no more and no less.
    """

    def __init__(self, tokenizer, context_length: int):
        self.tokenizer = tokenizer
        self.context_length = self.model_max_length = context_length

    def __call__(self, texts, padding="max_length", truncation=True, max_length=None, return_tensors="pt"):
        """
        Tokenize texts.

        Args:
            texts (`str` or `list[str]`): Captions.
            padding, truncation, max_length: Accepted and not used. These text towers know no other length than
                `context_length` and no padding mask.
            return_tensors (`str`, *optional*, defaults to `"pt"`): `"pt"` or `None` (lists).

        Returns:
            [`~transformers.BatchEncoding`] with `input_ids` of shape `(batch, context_length)`; no attention mask.
        """
        ids = self.tokenizer(texts, context_length=self.context_length)
        return BatchEncoding({"input_ids": ids if return_tensors == "pt" else ids.tolist()})


def load_open_clip(name: str, tokenizer=None) -> tuple[nn.Module, object]:
    """
    Build an open_clip model with its weights in fp32 on the CPU.

    Args:
        name (`str`): `open_clip:ARCH/TAG`; `open_clip:ARCH//path/to/file` with an open_clip checkpoint, `.pt` (read
            with `weights_only=True`) or `.safetensors`, absolute or relative to the working directory;
            `open_clip:hf-hub:ORG/REPO`; `open_clip:local-dir:FOLDER`. A file has weights alone: its activation is that
            of ARCH, and its preprocessing is open_clip's default.
        tokenizer (*optional*): Replaces the tokenizer that the configuration names.

    Returns:
        `tuple`: the model and the open_clip tokenizer.

    Raises:
        ValueError: Unknown architecture or tag, weights or tokenizer that are not there, or that do not fit. The file
            lies beside an `open_clip_config.json`, which only the whole folder brings along.
    """
    parsed = parse_name(name)
    if parsed.rest.startswith(_SCHEMAS):
        arch, weights, options = parsed.rest, None, {}
    else:
        arch = parsed.architecture
        _check_arch(name, arch)
        weights, options = _resolve_weights(name, arch, parsed.weights)
    if weights is not None and os.path.isfile(weights):
        refuse_zip_bomb(Path(weights))
    try:
        model = open_clip.create_model(arch, pretrained=weights, require_pretrained=True, weights_only=True, **options)
    except Exception as error:  # A damaged file makes loaders raise errors of any type.
        raise ValueError(
            f"The weights of the teacher {name!r} could not be loaded: {error}. A teacher is "
            f"{LIBRARIES['open_clip'].forms}. A file must be an open_clip checkpoint of exactly that architecture. "
            "Without network, download the whole repository beforehand, with its open_clip_config.json: "
            f"`hf download {open_clip_hub_id(parsed) or 'ORG/REPO'} --local-dir FOLDER`. Then write "
            "CLIPTeacher('open_clip:local-dir:FOLDER')."
        ) from error
    if tokenizer is None:
        try:
            tokenizer = open_clip.get_tokenizer(arch)
        except (OSError, RuntimeError, ValueError, ImportError) as error:
            raise ValueError(
                f"The tokenizer of the teacher {name!r} could not be loaded: {error}. It must be in the local Hugging "
                "Face cache, or the network must be there. Otherwise pass it: CLIPTeacher(..., processor=tokenizer)."
            ) from error
    return model, tokenizer


def _check_arch(name: str, arch: str) -> None:
    known = open_clip.list_models()
    if arch not in known:
        close = get_close_matches(arch, known, n=5, cutoff=0.5) or known[:5]
        raise ValueError(
            f"Unknown open_clip architecture {arch!r} in the teacher {name!r}. Close ones are {', '.join(close)}, "
            "and `open_clip.list_models()` gives all. Write CLIPTeacher('open_clip:ARCH/TAG'), or make your own known "
            "first with `open_clip.add_model_config('ARCH.json')`."
        )


def _resolve_weights(name: str, arch: str, rest: str) -> tuple[str, dict]:
    """Return the second argument of `open_clip.create_model` for the part after `ARCH/`, and options with it."""
    tags = open_clip.list_pretrained_tags_by_model(arch)
    config = open_clip.get_pretrained_cfg(arch, rest)
    if config:
        # open_clip only warns if weights trained with QuickGELU meet an architecture without it (ViT-B-32/openai).
        # It then computes other features than the weights were trained for.
        return rest, {"force_quick_gelu": True} if config.get("quick_gelu") else {}
    for path in (rest, rest.lstrip("/")):
        if path and os.path.isfile(path):
            _check_lone(name, Path(path))
            return path, {}
    if os.sep in rest or Path(rest).suffix in (".pt", ".pth", ".bin", ".safetensors"):
        raise ValueError(
            f"There is no checkpoint file {rest!r}, which the teacher {name!r} names. Allowed are .pt and "
            f".safetensors files of open_clip. Write CLIPTeacher('open_clip:{arch}//absolute/path/to/checkpoint.pt')."
        )
    close = get_close_matches(rest, tags, n=5, cutoff=0.4) or tags
    example = f"open_clip:{arch}/{close[0]}" if close else f"open_clip:{arch}//path/to/checkpoint.pt"
    raise ValueError(
        f"Unknown open_clip weights {rest!r} for {arch} in the teacher {name!r}. "
        + (
            f"Its tags are, closest first: {', '.join(dict.fromkeys([*close, *tags]))}. "
            if tags
            else "It has no tags. "
        )
        + f"Write CLIPTeacher({example!r}). `open_clip.list_pretrained()` gives all pairs."
    )


def _check_lone(name: str, path: Path) -> None:
    """Refuse a file of a whole repository: open_clip would leave out all that its configuration says."""
    if path.with_name(_CONFIG).is_file():
        raise ValueError(
            f"The teacher {name!r} names one file of a folder with an {_CONFIG}. That file alone has neither its "
            f"activation nor its preprocessing. Write CLIPTeacher('open_clip:local-dir:{path.absolute().parent}'), "
            "or move the file into another folder if the configuration is not its own."
        )


def open_clip_processor(model: nn.Module, given=None) -> tuple[OpenClipImageProcessor, OpenClipTokenizer]:
    """
    Return the image processor and the tokenizer of an open_clip model.

    Args:
        model (`nn.Module`): A model that `open_clip.create_model` made.
        given (*optional*): An open_clip tokenizer, or an object with `image_processor` and `tokenizer`. The default is
            CLIP's tokenizer, if the model has its vocabulary.

    Raises:
        ValueError: The vocabulary of the tokenizer is larger than the model's.
    """
    if hasattr(given, "image_processor"):
        image_processor, tokenizer = given.image_processor, given.tokenizer
    else:
        image_processor, tokenizer = OpenClipImageProcessor.from_preprocess_cfg(model.visual.preprocess_cfg), given
    if isinstance(tokenizer, OpenClipTokenizer):
        return image_processor, tokenizer
    tokenizer = tokenizer or SimpleTokenizer()
    tower = getattr(model, "text", model)
    vocab_size = tower.vocab_size
    if isinstance(tokenizer, SimpleTokenizer) and tokenizer.vocab_size > vocab_size:
        raise ValueError(
            f"The open_clip model {type(model).__name__} has {vocab_size} tokens and its tokenizer is CLIP's with "
            f"{tokenizer.vocab_size}. A tokenizer must have at most as many as the model. Pass the one it was trained "
            "with: CLIPTeacher(model, processor=open_clip.get_tokenizer('ARCH'))."
        )
    # A text tower of transformers names the most tokens it could take, not the number it was trained with.
    native = not isinstance(tower, HFTextEncoder)
    return image_processor, OpenClipTokenizer(tokenizer, (tower if native else tokenizer).context_length)
