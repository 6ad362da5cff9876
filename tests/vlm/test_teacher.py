"""LlavaTeacher: the same words around another number of image tokens, and the same answers as the model itself."""

import pytest
import torch
from llava_runs import make_model, make_rows
from PIL import Image

from hf_clip_kd.vlm import LlavaDataCollator, LlavaTeacher
from hf_clip_kd.vlm.teacher import patch_grid, with_image_tokens


def test_images_get_another_number_of_tokens():
    """9 is an image's token. A row has two images side by side, of two tokens each."""
    batch = {
        "input_ids": torch.tensor([[1, 9, 9, 9, 9, 2], [3, 9, 9, 4, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]),
        "labels": torch.tensor([[-100, -100, -100, -100, -100, 2], [-100, -100, -100, 4, -100, -100]]),
    }
    more = with_image_tokens(batch, 9, 2, 3, padding=0)
    assert more["input_ids"].tolist() == [[1, 9, 9, 9, 9, 9, 9, 2], [3, 9, 9, 9, 4, 0, 0, 0]]
    assert more["attention_mask"].tolist() == [[1] * 8, [1, 1, 1, 1, 1, 0, 0, 0]]
    assert more["labels"].tolist() == [[-100] * 7 + [2], [-100] * 4 + [4, -100, -100, -100]]
    fewer = with_image_tokens(batch, 9, 2, 1, padding=0)
    assert fewer["input_ids"].tolist() == [[1, 9, 9, 2, 0], [3, 9, 4, 0, 0]]
    assert with_image_tokens(batch, 9, 2, 2, padding=0)["labels"] is batch["labels"]


def test_answers_are_those_of_the_model_on_its_own_batch():
    """The student has 16 tokens per image, the teacher another tower with 4."""
    (model, processor), (_, own) = make_model("resnet", -1), make_model()
    teacher = LlavaTeacher(model, processor)
    collator = LlavaDataCollator(own, teacher_images=teacher.images(own))
    assert (collator.num_image_tokens, teacher.num_image_tokens) == (16, 4)
    rows = [make_rows()[i] for i in (0, 3, 5)]
    batch = collator(rows)
    pixels = batch.pop("teacher_pixel_values")
    logits, visual = teacher(batch, pixels, 16)
    expected = LlavaDataCollator(processor)(rows)
    with torch.no_grad():
        outputs = model(**{name: value for name, value in expected.items() if name != "labels"})
    keep = expected["labels"][:, 1:] != -100
    torch.testing.assert_close(logits, outputs.logits[:, :-1][keep], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(visual, outputs.image_hidden_states.reshape(2, 4, -1), rtol=1e-4, atol=1e-5)
    nothing, alone = teacher(batch, pixels, 16, answers=False)
    assert nothing is None
    torch.testing.assert_close(alone, visual, rtol=1e-4, atol=1e-5)
    assert teacher({}, None, 16, answers=False) == (None, None)


def test_pixels_are_those_of_its_processor():
    model, processor = make_model()
    teacher = LlavaTeacher(model, processor)
    picture = Image.new("RGB", (50, 30), "red")
    expected = processor.image_processor([picture], return_tensors="pt")["pixel_values"][0]
    assert torch.equal(teacher.pixels(picture), expected)
    assert teacher.images(processor) is None  # the student's pixels serve both
    assert teacher.images(processor, tower_features=len) == teacher.pixels
    assert teacher.images(processor, tower_features=len, stored=max) is max


def test_patches_stand_behind_class_and_register_tokens():
    _, processor = make_model()
    assert patch_grid(processor, 16, "student") == (4, 4)  # the class token is dropped
    processor.num_additional_image_tokens, processor.vision_feature_select_strategy = 4, "full"
    assert patch_grid(processor, 20, "student") == (4, 4)
    with pytest.raises(ValueError, match="The student has 16 tokens per image, of which 12.*no square"):
        patch_grid(processor, 16, "student")
