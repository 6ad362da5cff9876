"""Batches for a LLaVA from conversations: image tokens put in, labels from the chat template's spans."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from transformers import LlavaNextProcessor

from ..data.reading.images import image_path
from ..models.loader_faults import reason_of
from .chat_templates import get_chat_template, list_chat_templates
from .messages import check_messages
from .packing import pack, packed_positions
from .pictures import training_picture
from .sample_counts import BadSampleError, SampleCounts

IGNORED = -100
_GENERATION = re.compile(r"{%-?\s*generation\s*-?%}")
KNOWN = 2048  # conversations whose tokens are remembered
# Two shapes: a processor that treats both alike gives every picture the same number of tokens.
_PROBES = (Image.new("RGB", (80, 64)), Image.new("RGB", (64, 96)))


class LlavaDataCollator:
    """Collator from rows of [`load_instruct`] to one batch for `LlavaForConditionalGeneration`.

    The whole conversation is tokenized once, each `<image>` as the tower's number of image tokens. Labels are the
    spans that the chat template marks as generated: answers with the token that ends them. No label depends on a
    token's value. An EOS that is also the padding is supervised only at the end of an answer.

    Questions repeat in made-up data, and in every epoch of a small data set. So the tokens of the last 2,048 different
    conversations are remembered.

    Args:
        processor (`LlavaProcessor`):
            A processor of [`build_llava`]. Its chat template marks answers with `{% generation %}`.
        max_length (`int`, *optional*, defaults to `2048`):
            Tokens of a sample, image tokens included, at least 1. Longer text is cut, and counted. With `packing` it
            is also the length of a row.
        on_bad_sample (`str`, *optional*, defaults to `"error"`):
            Treatment of a bad sample: `"error"` ends the run with its id, `"skip"` leaves it out and counts it.
            Reasons are:
            - a missing or broken image, or more or fewer `<image>` than images;
            - images or all answers behind `max_length`;
            - a role the template has no words for, no answer, or a text with half a character.
        template (`str`, *optional*, defaults to `"chat"`):
            `"chat"` is the processor's chat template. `"plain"` is LLaVA's first stage: image, caption, newline,
            without the person's words and without EOS.
        tower_features (`Callable`, *optional*):
            Stored features `(layers, tokens, width)` of a row's image, such as a [`FeatureCache`]; no image is then
            decoded. A `ValueError` for an image without features makes the sample a bad one.
        teacher_images (`Callable`, *optional*):
            Each image of a row as the teacher of the run sees it: [`LlavaTeacher.pixels`], or its stored features.
        max_masked_fraction (`float`, *optional*, defaults to `0.5`):
            Largest share of samples left out, of at least 50, or of all at the end of the run. A larger share stops
            the run with its reasons.
        packing (`bool`, *optional*, defaults to `False`):
            Put several samples in a row of at most `max_length` tokens. See [`pack`].

    Attributes:
        counts ([`SampleCounts`]):
            Samples seen, left out (by reason) and cut, and the share of supervised tokens, over all dataloader
            workers.
        num_image_tokens (`int`):
            Number of tokens of each `<image>`; with tiles that of the blank image.
        blank_image (`dict`):
            The model's inputs for a black image: `pixel_values` `(1, 3, height, width)`, and `image_sizes` with tiles.
            They are for a process that must run the tower on a batch of text alone.

    Returns of a call:
        `dict`: `input_ids`, `attention_mask` and `labels` (batch, length), padded on the right; labels without loss
        are -100. `pixel_values` is (images, 3, height, width), or (images, layers, tokens, width) with
        `tower_features`, in the order of the image tokens. It is missing if no row has an image. With `teacher_images`
        there is `teacher_pixel_values`, in the same order. Rows left out make a batch smaller. A batch without a
        usable row repeats the last usable one. With `packing` there is no `attention_mask` but `position_ids`, which
        begin anew with each sample.

    Raises:
        ValueError: An option is unknown. The processor lacks a marked chat template or a padding token, or makes
            images of several sizes. A call raises it for a sample that cannot be used.
    """

    def __init__(
        self,
        processor: Any,
        *,
        max_length: int = 2048,
        on_bad_sample: str = "error",
        template: str = "chat",
        tower_features: Callable[[dict[str, Any]], torch.Tensor] | None = None,
        teacher_images: Callable[[dict[str, Any]], torch.Tensor] | None = None,
        max_masked_fraction: float = 0.5,
        packing: bool = False,
    ):
        if on_bad_sample not in ("error", "skip"):
            raise ValueError(
                f"`on_bad_sample={on_bad_sample!r}` is unknown. It must be 'error' or 'skip'. Pass 'skip' to leave "
                "out and count samples that cannot be used."
            )
        if template not in ("chat", "plain"):
            raise ValueError(
                f"`template={template!r}` is unknown. It must be 'chat', the processor's own chat template, or "
                "'plain', captions alone. Another chat template is given to the processor: `build_llava(..., "
                f"chat_template={list_chat_templates()[0]!r})`."
            )
        if type(max_length) is not int or max_length < 1:
            raise ValueError(
                f"`max_length={max_length!r}` is no number of tokens. It must be an integer of at least 1. Pass for "
                "example `max_length=2048`."
            )
        if processor.tokenizer.pad_token_id is None:
            raise ValueError(
                "The processor's tokenizer has no padding token. Any token serves, for padding is masked by position. "
                "Set `processor.tokenizer.pad_token = processor.tokenizer.eos_token`."
            )
        self.processor = processor
        self.max_length, self.packing = max_length, packing
        self.on_bad_sample = on_bad_sample
        self.jinja = get_chat_template("plain").jinja if template == "plain" else _marked_template(processor)
        self.tower_features, self.teacher_images = tower_features, teacher_images
        self.tiles = isinstance(processor, LlavaNextProcessor)
        self.blank_image = _blank_image(processor)
        self.num_image_tokens = count_image_tokens(processor)
        self.counts = SampleCounts(max_masked_fraction)
        self._last: dict[str, Any] | None = None
        self._known: dict[tuple, dict[str, Any]] = {}

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        samples = []
        for i, row in enumerate(rows):
            try:
                sample = self._sample(row, str(row.get("id", f"(row {i} of a batch, without an id)")))
            except BadSampleError as error:
                if self.on_bad_sample == "error":
                    raise ValueError(f"{error} Or leave such samples out: `on_bad_sample='skip'`.") from error
                self.counts.skip(error)
                continue
            self.counts.use(len(sample["labels"]), sample["supervised"], sample["truncated"])
            samples.append(sample)
        if samples:
            self._last = samples[-1]
        # Labels of -100 alone would keep the weights still, but the mean over no label is NaN. Before anything
        # usable was seen, an empty answer to an empty question stands in. It harms less than a dead run.
        return self._batch(samples or [self._last or self._nothing()])

    def for_evaluation(self) -> LlavaDataCollator:
        """Return a collator with a row for each sample, and with counts of its own."""
        other = copy.copy(self)
        other.packing, other.counts = False, SampleCounts(self.counts.max_fraction)
        return other

    def check_rows(self) -> None:
        """Judge the samples of a whole run, see [`SampleCounts.check`]; a trainer calls it at the end."""
        self.counts.check()

    def _sample(self, row: dict[str, Any], name: str) -> dict[str, Any]:
        """Return token ids (length,), labels (length,) and images of one row, and what is counted of it."""
        messages, images = row["messages"], row.get("images") or []
        pictures = [self._image(image, self.tower_features, name) for image in images]
        counts = self._count(pictures)
        key = (*counts, *(tuple(message.items()) for message in messages))
        if key not in self._known:
            text = self._text(messages, counts, name)
            if len(self._known) >= KNOWN:
                del self._known[next(iter(self._known))]
            self._known[key] = text
        sample = self._known[key] | {"images": pictures}
        if self.teacher_images is not None:
            sample["teacher_images"] = [self._image(image, self.teacher_images, name) for image in images]
        return sample

    def _count(self, pictures: list[Any]) -> list[int]:
        """Return the number of tokens of each image."""
        if not self.tiles:
            return [self.num_image_tokens] * len(pictures)
        sizes = [(picture.height, picture.width) for picture in pictures]
        return self.processor._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"]

    def _text(self, messages: list[dict[str, str]], counts: list[int], name: str) -> dict[str, Any]:
        check_messages(messages, len(counts), self.processor.image_token, name)
        ids, labels = self._tokenize(messages, counts, name)
        cut, labels = ids[self.max_length :], labels[: self.max_length]
        images_cut = bool((cut == self.processor.image_token_id).any())
        supervised = int((labels != IGNORED).sum())
        if images_cut or not supervised:
            raise BadSampleError(
                "too long",
                f"The sample {name!r} has {len(ids)} tokens and would lose "
                f"{'image tokens' if images_cut else 'all answers'} at `max_length={self.max_length}`. Text may be "
                f"cut, but not every answer and no image. Pass `max_length={len(ids)}` or more.",
            )
        counted = {"supervised": supervised, "truncated": len(cut) > 0}
        return {"input_ids": ids[: self.max_length], "labels": labels} | counted

    def _tokenize(
        self, messages: list[dict[str, str]], counts: list[int], name: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        token, left = self.processor.image_token, iter(counts)
        expanded = [
            {**m, "content": re.sub(re.escape(token), lambda _: token * next(left), m["content"])} for m in messages
        ]
        try:
            encoded = self.processor.tokenizer.apply_chat_template(
                expanded, chat_template=self.jinja, return_dict=True, return_assistant_tokens_mask=True
            )
        except Exception as error:  # A template is a program of others, and may raise errors of any type.
            raise BadSampleError(
                "no conversation",
                f"The chat template refuses the sample {name!r}: {error}. Its turns are of "
                f"{[m['role'] for m in messages]}. Repair it, or choose another template.",
            ) from error
        ids, mask = torch.tensor(encoded["input_ids"]), torch.tensor(encoded["assistant_masks"])
        # An image in an answer is given, not generated.
        return ids, ids.masked_fill((mask == 0) | (ids == self.processor.image_token_id), IGNORED)

    def _image(self, image: Any, read: Callable[[Any], torch.Tensor] | None, name: str) -> Any:
        try:
            return training_picture(image) if read is None else read(image)
        except ValueError as error:  # `training_picture` raises a BrokenImageError.
            raise BadSampleError(
                "no usable image",
                f"The image {image_path(image)!r} of the sample {name!r} cannot be used: {reason_of(error)}. It must "
                "be a file that Pillow reads. Repair or download it, or correct `image_folder`.",
            ) from error

    def _nothing(self) -> dict[str, Any]:
        messages = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]
        texts = dict(zip(("input_ids", "labels"), self._tokenize(messages, [], ""), strict=True))
        return texts | {"images": [], "teacher_images": []}

    def _batch(self, samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        lengths = [len(sample["labels"]) for sample in samples]
        rows = pack(lengths, self.max_length) if self.packing else [[i] for i in range(len(samples))]
        samples, lengths = [samples[i] for row in rows for i in row], [[lengths[i] for i in row] for row in rows]
        filled = torch.tensor([sum(row) for row in lengths])

        def padded(key: str, value: int) -> torch.Tensor:
            texts = torch.cat([sample[key] for sample in samples]).split(filled.tolist())
            return pad_sequence(texts, batch_first=True, padding_value=value)

        batch = {"input_ids": padded("input_ids", self.processor.tokenizer.pad_token_id)}
        batch["labels"] = padded("labels", IGNORED)
        self.counts.lay_out(batch["labels"].numel())
        if self.packing:
            batch["position_ids"] = packed_positions(lengths)
            # The last token of a sample does not predict the first of the next.
            batch["labels"][batch["position_ids"] == 0] = IGNORED
        else:
            batch["attention_mask"] = (torch.arange(filled.max()) < filled[:, None]).long()
        images = [image for sample in samples for image in sample["images"]]
        if images and self.teacher_images is not None:
            batch["teacher_pixel_values"] = torch.stack([x for sample in samples for x in sample["teacher_images"]])
        if images and self.tower_features is not None:
            batch["pixel_values"] = torch.stack(images)
        elif images:
            batch |= self.processor.image_processor(images, return_tensors="pt")
        return batch


def _marked_template(processor: Any) -> str:
    jinja = processor.chat_template or processor.tokenizer.chat_template
    if not isinstance(jinja, str) or not _GENERATION.search(jinja):
        raise ValueError(
            f"The processor's chat template {'does not mark its answers' if jinja else 'is missing'}. Labels come "
            "from its `{% generation %}` spans. Set `processor.chat_template = get_chat_template(name).jinja`, name "
            f"one of {', '.join(map(repr, list_chat_templates()))}."
        )
    return jinja


def _blank_image(processor: Any) -> dict[str, torch.Tensor]:
    """Return the inputs of a black image, if all images have its size or are cut into tiles."""
    found, other = (dict(processor.image_processor([probe], return_tensors="pt")) for probe in _PROBES)
    blank, other = found["pixel_values"], other["pixel_values"]
    if blank.shape != other.shape and not isinstance(processor, LlavaNextProcessor):
        raise ValueError(
            f"The processor's images are not all of one size: {tuple(blank.shape)} and {tuple(other.shape)}. A batch "
            "needs one. Use an image processor that crops or squeezes: `build_llava(..., image_mode='square')`."
        )
    return found


def count_image_tokens(processor: Any) -> int:
    """Return the processor's number of tokens for an image."""
    ids = processor(images=_PROBES[0], text=processor.image_token)["input_ids"][0]
    return list(ids).count(processor.image_token_id)
