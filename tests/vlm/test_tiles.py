"""Images in tiles: a stock LLaVA-NeXT on any tower, which trains, packed or not, and answers."""

import pytest
import torch
from llava_runs import losses, make_rows, make_teacher, make_trainer
from transformers import LlavaNextForConditionalGeneration, LlavaNextProcessor
from vlm_parts import image_processor, language_model, picture, timm_tower

from hf_clip_kd.vlm import FeatureCache, LlavaTeacher, build_llava, load_llava, save_llava

TILES = [[1, 2], [2, 1], [2, 2]]


def build(tower="vit", **arguments):
    causal, tokenizer = language_model()
    arguments = {"tiles": TILES, "image_processor": image_processor()} | arguments
    torch.manual_seed(0)
    return build_llava(timm_tower(tower), causal, tokenizer=tokenizer, **arguments)


@pytest.mark.parametrize(("tower", "count"), [("vit", None), ("vit_with_registers", 4), ("convnext", None)])
def test_answers_saves_and_reloads(tower, count, tmp_path):
    model, processor = build(tower, image_tokens=count)
    assert type(model) is LlavaNextForConditionalGeneration and type(processor) is LlavaNextProcessor
    assert not [name for name, value in model.state_dict().items() if value.is_meta]
    wide, tall = picture(40, 80), picture(120, 50)
    texts = ["<image>\nWhat shape?"] * 2
    inputs = processor(images=[wide, tall], text=texts, padding=True, return_tensors="pt")
    counts = (inputs["input_ids"] == model.config.image_token_id).sum(dim=1)
    whole = model.config.image_seq_length
    # An image of two tiles side by side fills them, with a line break behind each row of tokens.
    assert counts[0] == whole + 2 * whole + whole**0.5 and counts[1] > 2 * whole
    assert inputs["pixel_values"].shape[:2] == (2, 3)
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    parts = (model.model.vision_tower, model.model.multi_modal_projector)
    gradients = [[p.grad.abs().sum() for p in part.parameters() if p.grad is not None] for part in parts]
    assert all(sum(found) > 0 for found in gradients) and model.model.image_newline.grad.abs().sum() > 0
    with torch.no_grad():
        expected = model(**inputs).logits
        assert model.generate(**inputs, max_new_tokens=3).shape[1] > inputs["input_ids"].shape[1]
    save_llava(model, processor, tmp_path)
    loaded, again = load_llava(tmp_path)
    assert type(again) is LlavaNextProcessor
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, expected)
    assert torch.equal(
        again(images=[tall], text="<image>", return_tensors="pt")["input_ids"][0], _words(processor, tall)
    )


def _words(processor, image):
    return processor(images=[image], text="<image>", return_tensors="pt")["input_ids"][0]


@pytest.mark.parametrize("tune", [False, True])
def test_training_packed_or_not(tune, tmp_path):
    runs = []
    for packing in (False, True):
        model, processor = build()
        before = model.model.image_newline.detach().clone()
        settings = {"group_by_modality_length": False, "tune_vision_tower": tune, "packing": packing}
        trainer = make_trainer(tmp_path, model, processor, dataset=make_rows(16), **settings)
        trainer.train()
        assert not torch.equal(model.model.image_newline, before)
        runs.append(losses(trainer))
    assert runs[0] == pytest.approx(runs[1], abs=1e-5) and runs[0][-1] < runs[0][0]


@pytest.mark.parametrize("tiles", [[], [[1]], [[0, 2]], [[1, 2.0]], "2x2", [1, 2]])
def test_other_choices_are_refused(tiles):
    with pytest.raises(ValueError, match=r"is no choice of tiles\. It must be a list of pairs.*tiles=\[\[1, 2\]"):
        build(tiles=tiles)


def test_what_does_not_go_with_tiles_is_refused(tmp_path):
    with pytest.raises(ValueError, match="image_mode='pad' with tiles"):
        build(image_mode="pad")
    with pytest.raises(ValueError, match=r"4 tokens besides its 4x4 patches.*image_tokens=16"):
        build("vit_with_registers")
    model, processor = build()
    with pytest.raises(ValueError, match="FeatureCache.*several numbers of tiles"):
        FeatureCache(tmp_path, model, processor)
    with pytest.raises(ValueError, match="A teacher with tiles"):
        LlavaTeacher(model, processor)
    with pytest.raises(ValueError, match="A student with tiles"):
        make_trainer(tmp_path, model, processor, teacher=make_teacher())
