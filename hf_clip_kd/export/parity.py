"""Comparison of an export with its model, on real and random inputs, through each side's own preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from ..data.reading.images import decode_image
from ..data.shapes import load_shapes
from ..data.transforms.view import TextView
from ..evaluation.prompts import load_class_names, load_templates
from ..models.towers.tokens import pooled

NUM_IMAGES, NUM_RANDOM = 32, 4
# Side of the embedded world's pictures: larger than students see, so that resizing is compared, too.
PICTURE_SIDE = 96
ROWS = ("real_images", "real_texts", "random_images", "random_texts")


class Probe(NamedTuple):
    """Inputs that both sides are given."""

    pictures: list[Image.Image]
    texts: list[str]
    pixel_values: Tensor
    input_ids: Tensor


class Answer(NamedTuple):
    """Output of one side for a [`Probe`]: its inputs of pictures and texts, unit-norm embeddings, and its scale."""

    pixel_values: Tensor
    input_ids: Tensor
    real_images: Tensor
    real_texts: Tensor
    random_images: Tensor
    random_texts: Tensor
    logit_scale: Tensor


def make_probe(model: PreTrainedModel, processor: ProcessorMixin, images: Sequence | None) -> Probe:
    """
    Return real and random inputs for a comparison.

    Args:
        images (sequence, *optional*): Pictures as [`decode_image`] takes them, of which 32 are used. Default is the
            embedded world's. Each is cut square: open_clip and transformers crop an odd margin one pixel apart.
    """
    if images is None:
        pictures = load_shapes("zero_shot", size=NUM_IMAGES, image_size=PICTURE_SIDE)["image"][:]
    else:
        pictures = [square(decode_image(images[index])) for index in range(min(len(images), NUM_IMAGES))]
    texts = [
        template.replace("{}", name) for name in load_class_names("cifar100") for template in load_templates("simple")
    ]
    generator = torch.Generator().manual_seed(0)
    side = model.config.vision_config.image_size
    # The last two tokens of a CLIP vocabulary are begin and end.
    ids = torch.randint(
        model.config.text_config.vocab_size - 2, (NUM_RANDOM, TextView(processor).context_length), generator=generator
    )
    ids[:, -1] = processor.tokenizer.eos_token_id
    return Probe(pictures, texts, torch.randn(NUM_RANDOM, 3, side, side, generator=generator), ids)


def square(picture: Image.Image) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


@torch.no_grad()
def ask(
    encode_image, encode_text, pixel_values: Tensor, input_ids: Tensor, logit_scale: Tensor, probe: Probe
) -> Answer:
    """
    Return the answer of one side to a [`Probe`].

    Args:
        encode_image, encode_text: Functions from pixels or ids to embeddings of any norm.
        pixel_values, input_ids (`torch.Tensor`): This side's own inputs of the probe's pictures and texts.
        logit_scale (`torch.Tensor`): The factor on cosines, 0-dim.
    """
    embeds = [encode_image(pixel_values), encode_text(input_ids)]
    embeds += [encode_image(probe.pixel_values), encode_text(probe.input_ids)]
    embeds = [F.normalize(rows.float(), dim=-1) for rows in embeds]
    return Answer(pixel_values, input_ids, *embeds, logit_scale.float())


def ask_model(model: PreTrainedModel, processor: ProcessorMixin, probe: Probe) -> Answer:
    """Return the answer of a dual encoder of transformers."""
    model.eval()
    return ask(
        lambda pixels: pooled(model.get_image_features(pixel_values=pixels)),
        lambda ids: pooled(model.get_text_features(input_ids=ids)),
        processor.image_processor(images=probe.pictures, return_tensors="pt")["pixel_values"],
        TextView(processor, padding="max_length")(probe.texts)["input_ids"],
        model.logit_scale.detach().exp(),
        probe,
    )


def compare(expected: Answer, found: Answer, tolerance: float) -> dict[str, float | bool]:
    """
    Return the report of one format.

    Returns:
        `dict`: The largest absolute difference of unit-norm embeddings for each kind of input (`real_images`, ...) and
        of the real images' `pixels`. `same_token_ids` is `True` if all agree. `logit_scale` is a relative difference.
        `zero_shot_agreement` is the share of real images with the same class of 100, between 0 and 1. `tolerance` is
        the limit.
    """
    classes = [(answer.real_images @ answer.real_texts.T).argmax(dim=-1) for answer in (expected, found)]
    return {
        **{row: float((getattr(expected, row) - getattr(found, row)).abs().max()) for row in ROWS},
        "pixels": float((expected.pixel_values - found.pixel_values).abs().max()),
        "same_token_ids": torch.equal(expected.input_ids, found.input_ids),
        "logit_scale": float((found.logit_scale / expected.logit_scale - 1).abs()),
        "zero_shot_agreement": float((classes[0] == classes[1]).float().mean()),
        "tolerance": tolerance,
    }


def check(name: str, report: dict[str, float | bool]) -> None:
    """Raise a `ValueError` if a report of [`compare`] exceeds its tolerance."""
    tolerance = report["tolerance"]
    # NaN is not within the tolerance.
    beyond = [key for key in (*ROWS, "pixels", "logit_scale") if not report[key] <= tolerance]
    wrong = [f"{key} {report[key]:.1e}" for key in beyond]
    if not report["same_token_ids"]:
        wrong.append("other token ids")
    if wrong:
        raise ValueError(
            f"The export {name!r} does not compute what the model computes ({', '.join(wrong)}). Allowed are "
            f"differences up to tolerance={tolerance:g} and the same token ids. Leave this format out (the 8-bit "
            "towers: `quantize`), or raise the tolerance if you can live with that. Nothing was written."
        )


__all__ = ["Answer", "Probe", "ask", "ask_model", "check", "compare", "make_probe"]
