"""LlavaTeacher: a frozen LLaVA that answers the questions of a student's batch."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import LlavaForConditionalGeneration, LlavaNextProcessor, LlavaProcessor

from ..models.towers.checksum import tower_checksum
from .collator import IGNORED, count_image_tokens
from .packing import repeated_positions
from .pictures import training_picture
from .saving import load_llava
from .tiles import has_tiles
from .training_args import LlavaTrainingArguments

_SEVERAL = (
    "{} with tiles, whose number differs from image to image. Student and teacher must have one number of tokens for "
    "all images each. Build it without tiles: `--tiles null`."
)


class LlavaTeacher:
    """
    A frozen LLaVA with its own view of the images, which reads the same texts as its student.

    It is no part of the student's model, so no checkpoint holds it. It may have another tower, another language model
    and another number of tokens per image, but needs the student's vocabulary.

    Args:
        model ([`~transformers.LlavaForConditionalGeneration`] or `str`): The teacher, or its folder or Hub id.
        processor ([`~transformers.LlavaProcessor`], *optional*): Processor of a model.
        trust_remote_code (`bool`, *optional*, defaults to `False`): See [`load_llava`].

    Attributes:
        num_image_tokens (`int`): Tokens of each image in its language model.

    Example:

    ```python
    teacher = LlavaTeacher("outputs/vlm_demo/teacher")
    collator = LlavaDataCollator(processor, teacher_images=teacher.images(processor))
    LlavaTrainer(..., data_collator=collator, teacher=teacher)
    ```
    """

    def __init__(
        self,
        model: LlavaForConditionalGeneration | str | os.PathLike,
        processor: LlavaProcessor | None = None,
        *,
        trust_remote_code: bool = False,
    ):
        if isinstance(model, str | os.PathLike):
            model, processor = load_llava(model, trust_remote_code=trust_remote_code)
        if has_tiles(model):
            raise ValueError(_SEVERAL.format("A teacher"))
        self.model, self.processor = model.requires_grad_(False).eval(), processor
        self.num_image_tokens = count_image_tokens(processor)

    def check(self, processor: LlavaProcessor, collator: Any) -> None:
        """
        Check that a student can learn from this teacher.

        Args:
            processor ([`~transformers.LlavaProcessor`]): The student's.
            collator ([`LlavaDataCollator`]): Source of the batches.

        Raises:
            ValueError: The vocabularies differ, or the batches have no images for the teacher.
        """
        if isinstance(processor, LlavaNextProcessor):
            raise ValueError(_SEVERAL.format("A student"))
        own, theirs = self.processor.tokenizer.get_vocab(), processor.tokenizer.get_vocab()
        if own != theirs:
            word = min(token for token in own.keys() | theirs.keys() if own.get(token) != theirs.get(token))
            raise ValueError(
                f"The teacher's tokenizer has {len(own)} tokens and the student's {len(theirs)}; {word!r} is number "
                f"{own.get(word)} there and {theirs.get(word)} here. Both must have the same vocabulary, since the "
                "answers are compared token by token. Take a teacher on the student's language model, or on another "
                "size of its family."
            )
        if collator.teacher_images is None and self.images(processor, collator.tower_features) is not None:
            raise ValueError(
                "The collator gives the teacher no images of its own, and those of the student are of another size or "
                "are stored features. The teacher must see its own. Pass LlavaDataCollator(..., "
                "teacher_images=teacher.images(processor, features))."
            )

    def images(
        self, processor: LlavaProcessor, tower_features: Callable | None = None, stored: Callable | None = None
    ) -> Callable[[Any], Tensor] | None:
        """
        Return what a [`LlavaDataCollator`] needs as `teacher_images`; `None` if the student's pixels serve both.

        Args:
            processor ([`~transformers.LlavaProcessor`]): The student's.
            tower_features (`Callable`, *optional*): The student's stored features, if it has some.
            stored (`Callable`, *optional*): This teacher's own, such as a [`FeatureCache`].
        """
        if stored is not None:
            return stored
        own, theirs = self.processor.image_processor.to_dict(), processor.image_processor.to_dict()
        return None if tower_features is None and own == theirs else self.pixels

    def pixels(self, image: Any) -> Tensor:
        """Return an undecoded image as this teacher sees it, (3, height, width), for a [`LlavaDataCollator`]."""
        return self.processor.image_processor([training_picture(image)], return_tensors="pt")["pixel_values"][0]

    def identity(self) -> dict[str, str]:
        """Return values in JSON's types that tell this teacher from another."""
        return {"weights": tower_checksum(self.model)[:16]}

    @torch.no_grad()
    def __call__(
        self, batch: dict[str, Tensor], pixels: Tensor | None, num_image_tokens: int, answers: bool = True
    ) -> tuple[Tensor | None, Tensor | None]:
        """
        Read the student's batch.

        Args:
            batch (`dict[str, Tensor]`): `input_ids`, `labels`, and `attention_mask` or `position_ids` of the student.
            pixels (`Tensor`, *optional*): The images as the teacher sees them, or stored features.
            num_image_tokens (`int`): Tokens of each image in the student's `input_ids`.
            answers (`bool`, *optional*, defaults to `True`): `False` looks at the images alone.

        Returns:
            `tuple`: logits (labels, vocabulary) where a label follows, and the images' tokens after the projector
            (images, tokens, width). Each may be `None`.
        """
        if pixels is not None:
            pixels = pixels.to(self.model.dtype)
        if not answers:
            if pixels is None:
                return None, None
            return None, torch.stack(list(self.model.get_image_features(pixels).pooler_output))
        words = with_image_tokens(
            batch, self.processor.image_token_id, num_image_tokens, self.num_image_tokens, self._padding
        )
        outputs = self.model.model(
            input_ids=words["input_ids"],
            attention_mask=words.get("attention_mask"),
            position_ids=words.get("position_ids"),
            pixel_values=pixels,
            use_cache=False,
        )
        # A head on these states alone saves the memory of a whole vocabulary for each word of the questions.
        states = answer_positions(outputs.last_hidden_state, words["labels"])
        visual = outputs.image_hidden_states
        return self.model.lm_head(states), None if visual is None else visual.unflatten(0, (-1, self.num_image_tokens))

    @property
    def _padding(self) -> int:
        return self.processor.tokenizer.pad_token_id or 0


def check_teacher(
    teacher: LlavaTeacher | None, args: LlavaTrainingArguments, processor: LlavaProcessor | None = None, collator=None
) -> None:
    """
    Check that arguments and teacher belong together, and that the student can learn from it.

    Raises:
        ValueError: There is a teacher and nothing to learn from it, or the other way round. Or [`LlavaTeacher.check`].
    """
    asked = [name for name in ("relation_weight", "reuse_projector") if getattr(args, name)]
    if teacher is None and asked:
        raise ValueError(
            f"`{asked[0]}={getattr(args, asked[0])}` without a teacher. It must be a LLaVA to learn from. Pass "
            "`--teacher_model_name_or_path FOLDER`, or leave it out."
        )
    if teacher is None:
        return
    if not asked and not args.asks_teacher:
        raise ValueError(
            "A teacher, and `kl_weight=0` with nothing else to learn from it. One of `kl_weight`, `relation_weight` "
            "and `reuse_projector` must be set. Pass for example `--relation_weight 1`."
        )
    if args.asks_teacher:
        teacher.check(processor, collator)


def answer_positions(states: Tensor, labels: Tensor) -> Tensor:
    """
    Return what a language model says where a label follows.

    Args:
        states (`Tensor` of shape `(batch, length, width)`): Logits or hidden states.
        labels (`Tensor` of shape `(batch, length)`): -100 where there is none.

    Returns:
        `Tensor` of shape `(labels, width)`, row by row.
    """
    return states[:, :-1][labels[:, 1:] != IGNORED]


def with_image_tokens(
    batch: dict[str, Tensor], image_token_id: int, count: int, new_count: int, padding: int
) -> dict[str, Tensor]:
    """
    Give each image of a batch another number of tokens.

    Args:
        batch (`dict[str, Tensor]`): `input_ids`, `labels`, and `attention_mask` or, packed, `position_ids`. Each is
            (batch, length), padded on the right.
        image_token_id (`int`): Id of `<image>`.
        count (`int`), new_count (`int`): Tokens of an image in `batch`, and in the result.
        padding (`int`): Id behind the end of a row.

    Returns:
        `dict[str, Tensor]`: The same tensors. All words and labels are there, in their order.
    """
    names = {"input_ids": padding, "attention_mask": 0, "position_ids": 0, "labels": IGNORED}
    names = {name: value for name, value in names.items() if name in batch}
    if count == new_count:
        return {name: batch[name] for name in names}
    is_image = batch["input_ids"] == image_token_id
    begins = is_image & ((is_image.cumsum(dim=1) - 1) % count == 0)
    # The first token of an image stands for all of them.
    repeats = torch.where(is_image, begins * new_count, 1)
    rows = {
        name: [row.repeat_interleave(times) for row, times in zip(batch[name], repeats, strict=True)] for name in names
    }
    if "position_ids" in rows:
        rows["position_ids"] = repeated_positions(batch["position_ids"], repeats)
    return {name: pad_sequence(rows[name], batch_first=True, padding_value=value) for name, value in names.items()}


def patch_grid(processor: LlavaProcessor, count: int, owner: str) -> tuple[int, int]:
    """
    Return rows and columns of the patches among an image's tokens; register tokens stand before them.

    Raises:
        ValueError: The patches form no square.
    """
    dropped = 1 if processor.vision_feature_select_strategy == "default" else 0
    patches = count - max(processor.num_additional_image_tokens - dropped, 0)
    side = math.isqrt(max(patches, 0))
    if side == 0 or side**2 != patches:
        raise ValueError(
            f"The {owner} has {count} tokens per image, of which {patches} are patches by its processor, and these "
            "form no square. A relation compares places in the image. Leave `relation_weight` out."
        )
    return side, side


__all__ = ["LlavaTeacher", "answer_positions", "check_teacher", "patch_grid", "with_image_tokens"]
