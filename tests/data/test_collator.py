import io
import logging
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from clip_processor import clip_images, noise, plain, processor, rows, siglip_images
from datasets import Dataset
from PIL import Image
from torch.utils.data import DataLoader
from transformers import (
    CLIPImageProcessor,
    CLIPImageProcessorPil,
)

from hf_clip_kd.data import CLIPDataCollator, load_image_text
from hf_clip_kd.models.tokenizer import clip_tokenizer


class OtherTokenizer:
    """A tokenizer of a family of its own: one number per letter, full length, no mask."""

    model_max_length = 12

    def __call__(self, texts, padding, truncation, max_length, return_tensors):
        assert (padding, truncation, max_length, return_tensors) == ("max_length", True, 12, "pt")
        return {"input_ids": torch.tensor([[ord(c) for c in text[:12].ljust(12)] for text in texts])}


def gradient(width, height):
    """Red grows to the right, green downwards: a pixel tells where it was."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 0 * x], axis=-1).round().astype(np.uint8))


BROKEN = {"image": {"bytes": b"not a picture", "path": "bad.jpg"}, "text": "a dog"}


def test_the_same_crop_reaches_both():
    batch = [{"image": gradient(320, 256), "text": "x"}] * 16
    both = CLIPDataCollator(processor(plain(32)), processor(plain(64)), crop_scale=(0.1, 0.5), flip=0.5)(batch)
    student, teacher = both["pixel_values"], both["teacher_pixel_values"]
    assert student.shape == (16, 3, 32, 32) and teacher.shape == (16, 3, 64, 64)
    assert torch.allclose(torch.nn.functional.avg_pool2d(teacher, 2), student, atol=2.5 / 255)
    corners = {tuple((255 * image[:2, 0, 0]).round().tolist()) for image in student}
    assert len(corners) > 12, "every row has a crop of its own"
    mirrored = student[:, 0, 0, 0] > student[:, 0, 0, -1]
    assert 0 < mirrored.sum() < 16


@pytest.mark.parametrize("index", [{}, {"__index__": 0}])
def test_the_same_colours_reach_both(index):
    """Every pixel of a plain picture shows the colours."""
    picture = Image.new("RGB", (64, 64), (200, 90, 40))
    batch = [{"image": picture, "text": "x"} | {key: i for key in index} for i in range(32)]
    jitter = {"color_jitter": (0.4, 0.4, 0.4, 0.1), "color_jitter_prob": 0.75, "gray_scale_prob": 0.25}
    both = CLIPDataCollator(processor(plain(32)), processor(siglip_images(48)), **jitter)(batch)
    student, teacher = both["pixel_values"][..., 7, 7], both["teacher_pixel_values"][..., 30, 2]
    assert torch.allclose(student, teacher / 2 + 0.5, atol=1e-6)  # SigLIP's mean and std are a half
    colors = {tuple((255 * pixel).round().tolist()) for pixel in student}
    assert (200, 90, 40) in colors and len(colors) > 16
    assert 2 <= sum(len(set(pixel)) == 1 for pixel in student.tolist()) <= 16
    assert not torch.equal(
        CLIPDataCollator(processor(plain(32)), **jitter, seed=1)(batch)["pixel_values"], both["pixel_values"]
    )


def test_colours_leave_crops_and_captions_alone():
    batch = [row | {"__index__": i, "text": ["one", "two", "three"]} for i, row in enumerate(rows())]
    views = [processor(plain(32))]
    plain_batch = CLIPDataCollator(*views, crop_scale=(0.3, 1.0))(batch)
    gray = CLIPDataCollator(*views, crop_scale=(0.3, 1.0), gray_scale_prob=1.0)(batch)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    assert torch.allclose((plain_batch["pixel_values"] * weights).sum(1), gray["pixel_values"][:, 0], atol=1.01 / 255)
    assert torch.equal(plain_batch["input_ids"], gray["input_ids"])


SQUASH = CLIPImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False)
STUDENT = {"pixel_values", "input_ids", "attention_mask"}


@pytest.mark.parametrize(
    "teacher, train, extra",
    [
        (None, True, set()),
        (processor(), True, set()),
        (processor(), False, set()),
        (processor(siglip_images(32)), True, {"teacher_pixel_values"}),  # mean and std
        (processor(clip_images(32, resample=2)), True, {"teacher_pixel_values"}),
        (processor(clip_images(48)), True, {"teacher_pixel_values"}),
        (processor(SQUASH), True, set()),
        (
            processor(SQUASH),
            False,
            {"teacher_pixel_values"},
        ),
        (processor(clip_images(32, CLIPImageProcessor)), True, set()),
        (processor(clip_images(32, CLIPImageProcessor)), False, {"teacher_pixel_values"}),
        (processor(tokenizer=clip_tokenizer(2048, 16)), True, {"teacher_input_ids", "teacher_attention_mask"}),
        (processor(tokenizer=clip_tokenizer(2049, 24)), True, {"teacher_input_ids", "teacher_attention_mask"}),
        (processor(tokenizer=OtherTokenizer()), True, {"teacher_input_ids"}),
        (SimpleNamespace(image_processor=clip_images(), tokenizer=None), True, set()),
    ],
)
def test_teacher_keys_only_where_it_differs(teacher, train, extra):
    batch = CLIPDataCollator(processor(), teacher, train=train)(rows())
    assert set(batch) == STUDENT | extra
    assert all(len(value) == 6 and value.device.type == "cpu" for value in batch.values())


def test_one_of_several_captions_is_drawn_in_training():
    collator = CLIPDataCollator(processor(tokenizer=clip_tokenizer(2048, 24)))
    batch = [{"image": noise(4, 4), "text": ["one", "two", "", None, "three"]}] * 300
    ids = collator(batch)["input_ids"]
    drawn, counts = ids.unique(dim=0, return_counts=True)
    assert len(drawn) == 3 and counts.min() > 60


def test_captions_in_evaluation():
    texts = [["one", "two"], "three", ["four", "five", "six"]]
    batch = [{"image": noise(4, 4), "text": text} for text in texts]
    tokenizer = clip_tokenizer(2048, 24)

    def spelled(ids):
        return [tokenizer.decode(i, skip_special_tokens=True) for i in ids]

    first = CLIPDataCollator(processor(tokenizer=tokenizer), train=False)(batch)
    assert spelled(first["input_ids"]) == ["one", "three", "four"] and "text_image" not in first
    everything = CLIPDataCollator(processor(tokenizer=tokenizer), train=False, captions="all")(batch)
    assert spelled(everything["input_ids"]) == ["one", "two", "three", "four", "five", "six"]
    assert everything["text_image"].tolist() == [0, 0, 1, 2, 2, 2] and len(everything["pixel_values"]) == 3


SYNTHETIC = {"synthetic_input_ids", "synthetic_attention_mask"}


@pytest.mark.parametrize(
    "teacher, extra",
    [
        (None, set()),
        (processor(), set()),
        (
            processor(tokenizer=clip_tokenizer(2048, 16)),
            {
                "teacher_input_ids",
                "teacher_attention_mask",
                "teacher_synthetic_input_ids",
                "teacher_synthetic_attention_mask",
            },
        ),
        (processor(tokenizer=OtherTokenizer()), {"teacher_input_ids", "teacher_synthetic_input_ids"}),
    ],
)
@pytest.mark.parametrize("train", [True, False])
def test_generated_captions_come_in_every_form_the_captions_do(teacher, extra, train):
    collator = CLIPDataCollator(processor(), teacher, train=train)
    batch = collator([row | {"synthetic_text": f"number {i}"} for i, row in enumerate(rows())])
    assert set(batch) == STUDENT | SYNTHETIC | extra
    expected = collator([row | {"text": f"number {i}"} for i, row in enumerate(rows())])
    assert not torch.equal(batch["input_ids"], expected["input_ids"])
    for name in expected:
        if name.endswith(("input_ids", "attention_mask")):
            generated = (
                f"teacher_synthetic_{name.removeprefix('teacher_')}" if "teacher" in name else f"synthetic_{name}"
            )
            assert torch.equal(batch[generated], expected[name])


def test_one_of_several_generated_captions_is_drawn_on_its_own():
    words = ["one", "two", "three"]
    row = {"image": noise(4, 4), "text": words, "synthetic_text": [*words, "", None]}
    batch = CLIPDataCollator(processor())([row] * 600)
    pairs = torch.cat([batch["input_ids"], batch["synthetic_input_ids"]], dim=1)
    _, counts = pairs.unique(dim=0, return_counts=True)
    assert len(counts) == 9 and counts.min() > 40, "all pairs of a caption and a generated one, equally often"
    first = CLIPDataCollator(processor(), train=False)([row] * 3)
    assert torch.equal(first["synthetic_input_ids"], first["input_ids"])


def test_generated_captions_leave_crops_and_captions_of_a_batch_alone():
    batch = rows(text=["one", "two", "three"])
    torch.manual_seed(5)
    plain = CLIPDataCollator(processor())(batch)
    both = CLIPDataCollator(processor())([row | {"synthetic_text": ["four", "five"]} for row in batch])
    assert all(torch.equal(both[key], value) for key, value in plain.items())


def test_the_draws_of_rows_without_generated_captions_are_pinned():
    torch.manual_seed(0)
    collator = CLIPDataCollator(processor())
    for _ in range(2):  # the second batch shows how much chance the first one took
        batch = collator([{"image": gradient(40, 40), "text": list("abcdefgh")}] * 6)
    letters = [clip_tokenizer(2048, 24).decode(ids, skip_special_tokens=True) for ids in batch["input_ids"]]
    assert letters == list("dfhhcg")


@pytest.mark.parametrize("missing", [None, "", [], [" "]])
def test_a_row_without_its_generated_caption_is_dropped_and_named(missing, caplog):
    collator = CLIPDataCollator(processor())
    good = [row | {"synthetic_text": "x"} for row in rows(3)]
    batch = collator([*good, {"image": noise(9, 9), "text": "a cat", "synthetic_text": missing}])
    assert {len(value) for value in batch.values()} == {3} and collator.broken.broken == 1
    assert "no generated caption" in caplog.text
    nothing = CLIPDataCollator(processor())([BROKEN | {"synthetic_text": "x"}])
    assert set(nothing) == STUDENT | SYNTHETIC


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    "bad", [BROKEN, *({"image": noise(9, 9), "text": t} for t in (None, "", "  ", [], ["", None], 1.5))]
)
def test_broken_rows_are_dropped_counted_and_named(train, bad, caplog):
    collator = CLIPDataCollator(processor(), processor(clip_images(48)), train=train)
    good = rows(3)
    with caplog.at_level(logging.WARNING):
        batch = collator([good[0], bad, *good[1:]])
    assert {len(value) for value in batch.values()} == {3}
    assert (collator.broken.seen, collator.broken.broken) == (4, 1)
    assert "bad.jpg" in caplog.text if bad is BROKEN else "no caption" in caplog.text


def test_a_batch_with_no_usable_row_does_not_end_the_run():
    collator = CLIPDataCollator(processor())
    first = collator([BROKEN, BROKEN])
    assert len(first["pixel_values"]) == 1 and torch.isfinite(first["pixel_values"]).all()
    collator(rows(3))
    again = collator([BROKEN, BROKEN])
    assert len(again["pixel_values"]) == 3
    assert (collator.broken.seen, collator.broken.broken) == (7, 4)


def test_too_many_broken_rows_end_the_run():
    collator = CLIPDataCollator(processor(), max_broken_fraction=0.2)
    batch = [*rows(3), BROKEN]
    with pytest.raises(
        ValueError, match=r"25 of the first 100 rows.*bad\.jpg.*max_broken_fraction=0\.2.*CLIPDataCollator"
    ):
        for _ in range(25):
            collator(batch)
    assert collator.broken.seen == 100


@pytest.mark.parametrize("text", ["", ["one", "two"]])
def test_the_drawn_words_and_crops_follow_the_seed(text):
    batch = rows(text=text or "x")
    torch.manual_seed(5)
    collate, same = CLIPDataCollator(processor()), CLIPDataCollator(processor())
    first, second = collate(batch), collate(batch)
    assert all(torch.equal(first[key], value) for key, value in same(batch).items())
    assert not torch.equal(first["pixel_values"], second["pixel_values"])
    other = CLIPDataCollator(processor(), seed=1)(batch)
    assert not torch.equal(first["pixel_values"], other["pixel_values"])


def test_ranks_crop_differently(monkeypatch):
    torch.manual_seed(5)
    batches = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        batches.append(CLIPDataCollator(processor())(rows())["pixel_values"])
    assert not torch.equal(*batches)


def test_the_generator_of_torch_is_not_touched():
    collator = CLIPDataCollator(processor())
    before = torch.get_rng_state()
    collator(rows())
    assert torch.equal(before, torch.get_rng_state())


def worker_batches(seed, num_workers=2):
    buffer = io.BytesIO()
    gradient(60, 60).save(buffer, "PNG")
    data = Dataset.from_dict({"image": [{"bytes": buffer.getvalue(), "path": None}] * 40, "text": ["a cat"] * 40})
    data = data.map(lambda row, i: {"text": "" if i % 10 == 0 else row["text"]}, with_indices=True)
    torch.manual_seed(seed)
    collator = CLIPDataCollator(processor(), max_broken_fraction=0.5)
    loader = DataLoader(data, batch_size=10, collate_fn=collator, num_workers=num_workers)
    return list(loader), collator


def test_with_dataloader_workers():
    first, collator = worker_batches(1)
    again, _ = worker_batches(1)
    other, _ = worker_batches(2)
    pixels = [[batch["pixel_values"] for batch in run] for run in (first, again, other)]
    assert all(torch.equal(a, b) for a, b in zip(pixels[0], pixels[1], strict=True))
    assert not torch.equal(pixels[0][0], pixels[2][0])
    assert not torch.equal(pixels[0][0], pixels[0][1]), "two workers crop alike"
    assert [len(batch) for batch in pixels[0]] == [9] * 4
    assert str(collator.broken) == "4 of 40 rows skipped as broken"


def test_the_collator_travels_to_workers_that_are_spawned():
    collator = CLIPDataCollator(processor())
    collator(rows())
    torch.manual_seed(0)
    assert set(pickle.loads(pickle.dumps(collator))(rows())) == STUDENT


def test_the_world_of_shapes_and_paths(tmp_path):
    data = load_image_text("shapes", max_samples=4)
    batch = CLIPDataCollator(processor())(list(data))
    assert batch["pixel_values"].shape == (4, 3, 32, 32) and batch["pixel_values"].dtype == torch.float32
    noise(20, 20).save(tmp_path / "a.png")
    kinds = (noise(20, 20), str(tmp_path / "a.png"), {"bytes": (tmp_path / "a.png").read_bytes(), "path": None})
    pixels = [CLIPDataCollator(processor())([{"image": value, "text": "x"}])["pixel_values"] for value in kinds]
    assert torch.equal(pixels[0], pixels[1]) and torch.equal(pixels[0], pixels[2])


@pytest.mark.parametrize(
    "options, match",
    [
        ({"flip": 2}, "`flip=2` is not a probability"),
        ({"captions": "some"}, "`captions='some'` is unknown.*'draw', 'first', 'all'"),
        ({"max_broken_fraction": 5}, "max_broken_fraction=5` is not a share"),
        ({"processor": clip_tokenizer(2048)}, "`processor` is a CLIPTokenizer without `.image_processor`.*load_clip"),
        ({"processor": SimpleNamespace(image_processor=clip_images())}, "without `.tokenizer`"),
        ({"teacher_processor": object()}, "`teacher_processor` is a object without `.image_processor`"),
        (
            {"processor": processor(tokenizer=clip_tokenizer(2048, int(1e30)))},
            r"context length of CLIPTokenizer is not known.*processor\.tokenizer\.model_max_length",
        ),
    ],
)
def test_bad_arguments(options, match):
    with pytest.raises(ValueError, match=match):
        CLIPDataCollator(**{"processor": processor(), **options})


def test_a_teacher_that_reads_other_tokens_is_refused():
    student, teacher = processor(), processor(tokenizer=clip_tokenizer(2048, 16))
    for collator in (
        CLIPDataCollator(student),
        CLIPDataCollator(student, processor(tokenizer=clip_tokenizer(600, 16))),
    ):
        with pytest.raises(ValueError, match="texts of the teacher 'teacher_' with a CLIPTokenizer, .* other tokens"):
            collator.check_teacher(teacher)
        collator.check_teacher(None)
        collator.check_teacher(SimpleNamespace(tokenizer=None))
    CLIPDataCollator(student).check_teacher(processor())
    several = {"teacher_0_": teacher, "teacher_1_": processor()}
    CLIPDataCollator(student, several).check_teacher(several)
    with pytest.raises(ValueError, match="teacher 'teacher_0_'"):
        CLIPDataCollator(student, dict(zip(several, reversed(several.values()), strict=True))).check_teacher(several)
