import numpy as np
import pytest
import torch
from clip_processor import clip_images, noise, plain, processor, rows, siglip_images
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    Siglip2ImageProcessor,
    SiglipImageProcessor,
    SiglipImageProcessorPil,
)

from hf_clip_kd.data import CLIPDataCollator
from hf_clip_kd.data.transforms.random_crop import Crop
from hf_clip_kd.data.transforms.view import ImageView, TextView
from hf_clip_kd.models.tokenizer import clip_tokenizer


def test_training_pixels_are_normalised_as_the_processor_says():
    image = noise(32, 32)
    collator = CLIPDataCollator(processor(), crop_scale=(1, 1), crop_ratio=(1, 1))
    expected = clip_images()(image, return_tensors="pt")["pixel_values"]
    assert torch.allclose(collator([{"image": image, "text": "x"}])["pixel_values"], expected, atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"do_rescale": False}, {"do_normalize": False}, {"do_rescale": False, "do_normalize": False}]
)
def test_rescale_and_normalize_can_be_off(options):
    image = noise(32, 32)
    collator = CLIPDataCollator(processor(clip_images(**options)), crop_scale=(1, 1), crop_ratio=(1, 1))
    expected = clip_images(**options)(image, return_tensors="pt")["pixel_values"]
    assert torch.allclose(collator([{"image": image, "text": "x"}])["pixel_values"], expected.float(), rtol=1e-5)


@pytest.mark.parametrize(
    "cls", [CLIPImageProcessor, CLIPImageProcessorPil, SiglipImageProcessor, SiglipImageProcessorPil]
)
def test_evaluation_equals_each_processor(cls):
    make = clip_images if "CLIP" in cls.__name__ else siglip_images
    student, teacher = make(32, cls), make(48, cls)
    images = [noise(*size) for size in [(33, 50), (50, 33), (32, 32), (1, 1), (70, 7), (31, 97)]]
    collator = CLIPDataCollator(processor(student), processor(teacher), train=False)
    batch = collator([{"image": image, "text": "x"} for image in images])
    for key, own in (("pixel_values", student), ("teacher_pixel_values", teacher)):
        expected = torch.cat([own(image, return_tensors="pt")["pixel_values"] for image in images])
        assert torch.equal(batch[key], expected)


def test_evaluation_rules_against_pil():
    """CLIP: shortest edge to 32 (the long one rounded down), centre cut. SigLIP: squashed to the square."""
    image = noise(50, 33)
    resized = image.resize((int(32 * 50 / 33), 32), Image.Resampling.BICUBIC)
    left = (resized.width - 32) // 2
    references = {plain(32): resized.crop((left, 0, left + 32, 32))}
    references[siglip_images(32, image_mean=[0] * 3, image_std=[1] * 3, resample=2)] = image.resize((32, 32), 2)
    for image_processor, expected in references.items():
        batch = CLIPDataCollator(processor(image_processor), train=False)([{"image": image, "text": "x"}])
        pixels = torch.from_numpy(np.array(expected)).permute(2, 0, 1) / 255
        assert torch.allclose(batch["pixel_values"][0], pixels, atol=1e-6)


def test_mean_and_std_alone_cost_no_second_resize(monkeypatch):
    calls = []
    crop = ImageView.crop
    monkeypatch.setattr(ImageView, "crop", lambda self, *args: calls.append(self) or crop(self, *args))
    batch = CLIPDataCollator(processor(), processor(siglip_images(32)))(rows())
    assert len(calls) == 1
    clip, siglip = ImageView.of(clip_images()), ImageView.of(siglip_images())
    pixels = [
        batch[key] * torch.tensor(view.std).view(3, 1, 1) + torch.tensor(view.mean).view(3, 1, 1)
        for key, view in (("pixel_values", clip), ("teacher_pixel_values", siglip))
    ]
    assert torch.allclose(*pixels, atol=1e-3)


def test_a_teacher_of_any_image_size_gets_the_crop_through_its_own_processor():
    naflex = Siglip2ImageProcessor(patch_size=4, max_num_patches=64)
    batch = CLIPDataCollator(processor(), processor(naflex), flip=0.5)(rows())
    assert batch["pixel_values"].shape == (6, 3, 32, 32)
    assert batch["teacher_pixel_values"].shape == (6, 64, 48 + 2), "rows and columns of the grid are beside the pixels"


def test_padding_to_the_longest_caption_changes_no_feature_of_clip():
    tokenizer = clip_tokenizer(2048, 24)
    config = CLIPTextConfig(
        vocab_size=2048, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=24, projection_dim=16, bos_token_id=2046, eos_token_id=2047, pad_token_id=2047,
    )  # fmt: skip
    model = CLIPTextModelWithProjection(config).eval()
    texts = ["a cat", "two dogs in the snow, seen from above", "", "word " * 100]
    for some in (texts[:3], texts):
        batch = CLIPDataCollator(processor(tokenizer=tokenizer))(
            [{"image": noise(8, 8), "text": t or "."} for t in some]
        )
        full = tokenizer(
            [t or "." for t in some], padding="max_length", truncation=True, max_length=24, return_tensors="pt"
        )
        assert (batch["input_ids"].shape[1] < 24) == (some is not texts)
        with torch.no_grad():
            short = model(batch["input_ids"], batch["attention_mask"]).text_embeds
            assert torch.allclose(short, model(**full).text_embeds, atol=1e-6)


CAPTIONS = [
    "a cat",
    "two dogs on a very, very long sofa",
    "",
    "a cat",
    " ".join(["word"] * 40),
    "a na\u00efve caf\u00e9",
]


@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_kept_tokens_are_those_of_the_tokenizer(padding):
    tokenizer = clip_tokenizer(2048, 24)
    view = TextView(processor(tokenizer=tokenizer), padding)
    for texts in (CAPTIONS[:2], CAPTIONS, CAPTIONS[::-1]):  # the second and third meet texts again
        tokens = view(texts)
        expected = tokenizer(texts, padding=padding, truncation=True, max_length=24, return_tensors="pt")
        assert tokens.keys() == {"input_ids", "attention_mask"}
        for name, values in tokens.items():
            assert values.dtype == torch.int64 and torch.equal(values, expected[name])


def test_a_text_is_tokenized_once_and_the_first_ones_are_kept(monkeypatch):
    monkeypatch.setattr("hf_clip_kd.data.transforms.view._KEPT_TEXTS", 2)
    view, met = TextView(processor()), []
    tokenize = type(view.tokenizer).__call__
    monkeypatch.setattr(
        type(view.tokenizer),
        "__call__",
        lambda self, texts, **options: met.append(texts) or tokenize(self, texts, **options),
    )
    for texts in (["a", "b", "a"], ["c", "a"], ["b", "c"]):
        view(texts)
    assert met == [["a", "b"], ["c"], ["c"]]


def test_a_whole_picture_of_the_right_size_is_taken_as_it_is():
    view = ImageView.of(plain(32))
    image = noise(32, 32)
    whole, mirrored = view.crop([image, image], [Crop((0, 0, 32, 32)), Crop((0, 0, 32, 32), flip=True)])
    assert np.array_equal(whole, np.asarray(image)) and np.array_equal(mirrored, np.asarray(image)[:, ::-1])


@pytest.mark.parametrize("info", [None, object()], ids=["main process", "worker"])
def test_pixels_of_a_worker_lie_in_shared_memory(info, monkeypatch):
    """They are those of the main process, to the last bit, and of the formula."""
    view = ImageView.of(CLIPImageProcessorPil(crop_size={"height": 8, "width": 6}))
    pixels = torch.randint(0, 256, (3, 8, 6, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    monkeypatch.setattr("hf_clip_kd.data.transforms.view.get_worker_info", lambda: info)
    values = view.normalize(pixels)
    mean, std = (torch.tensor(rows).view(1, 1, 1, 3) for rows in (view.mean, view.std))
    assert torch.equal(values, ((pixels.float() - mean) / std).permute(0, 3, 1, 2))
    assert values.is_shared() == (info is not None) and values.is_contiguous()
