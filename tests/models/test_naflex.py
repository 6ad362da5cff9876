"""NaFlex students: images keep their shape in training and evaluation, and the folder is a stock SigLIP 2."""

import json

import pytest
import torch
from PIL import Image
from teacher_models import images, tiny_siglip2
from transformers import AutoModel, Siglip2ImageProcessorPil

from hf_clip_kd.data import CLIPDataCollator
from hf_clip_kd.data.transforms.naflex import packed
from hf_clip_kd.distillation import DistillationTrainer, DistillationTrainingArguments
from hf_clip_kd.evaluation.cost import measure_run
from hf_clip_kd.evaluation.encode import encode_images
from hf_clip_kd.hub.cards import cost_notes
from hf_clip_kd.models import fit_processor, load_clip
from hf_clip_kd.models.naflex import read_packed
from hf_clip_kd.models.towers.tokens import pooled
from hf_clip_kd.teachers import CLIPTeacher
from hf_clip_kd.vlm.saving import load_folder

SHAPES = [(40, 80), (80, 40), (32, 32), (24, 96)]


def make():
    model, processor = tiny_siglip2()
    return read_packed(model), fit_processor(processor, model)


def rows():
    return [{"image": images(1, size)[0], "text": word} for size, word in zip(SHAPES, "abcd", strict=True)]


def test_packed_pixels_are_the_processor_s_three_outputs():
    model, processor = make()
    pictures = [row["image"] for row in rows()]
    stock = processor.image_processor(pictures, return_tensors="pt")
    assert len({tuple(shape) for shape in stock["spatial_shapes"].tolist()}) > 2, "the shapes differ"
    with torch.no_grad():
        expected = pooled(tiny_siglip2()[0].get_image_features(**stock))
        assert torch.equal(pooled(model.get_image_features(**stock)), expected)
        batch = packed(processor.image_processor)(pictures)
        assert torch.equal(pooled(model.get_image_features(**batch)), expected)
    found, _ = encode_images(model, processor, pictures, batch_size=2)
    torch.testing.assert_close(found, torch.nn.functional.normalize(expected, dim=-1))
    assert read_packed(model) is model and len(model.vision_model._forward_pre_hooks) == 1


def test_a_student_trains_and_its_folder_is_stock(tmp_path):
    model, processor = make()
    teacher = CLIPTeacher(tiny_siglip2()[0], processor=tiny_siglip2()[1])
    collator = CLIPDataCollator(processor, teacher.processor)
    assert "teacher_pixel_values" not in collator(rows()), "both see alike"
    args = DistillationTrainingArguments(
        str(tmp_path),
        losses={"siglip": 1.0, "crd": 1.0},
        per_device_train_batch_size=4,
        max_steps=3,
        learning_rate=1e-2,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = DistillationTrainer(model, args, teacher, rows(), data_collator=collator, processing_class=processor)
    before = model.vision_model.embeddings.position_embedding.weight.detach().clone()
    trainer.train()
    assert not torch.equal(model.vision_model.embeddings.position_embedding.weight, before)
    trainer.save_model()
    stock, (loaded, again) = AutoModel.from_pretrained(tmp_path), load_clip(tmp_path)
    assert isinstance(again.image_processor, Siglip2ImageProcessorPil)
    inputs = again.image_processor([Image.new("RGB", (90, 30), "red")], return_tensors="pt")
    with torch.no_grad():
        expected = pooled(stock.get_image_features(**inputs))
        assert torch.equal(pooled(loaded.get_image_features(**inputs)), expected)


@pytest.mark.parametrize("crop_scale", [(1.0, 1.0), (0.5, 1.0)])
def test_a_training_batch_keeps_the_shapes(crop_scale):
    _, processor = make()
    crops = {"crop_scale": crop_scale, "drop_alpha": 0.0}
    stock = processor.image_processor([row["image"] for row in rows()], return_tensors="pt")
    batch = CLIPDataCollator(processor, **crops, crop_ratio=(1.0, 1.0))(rows())
    grids = batch["pixel_values"][:, 0, -2:].long()
    assert torch.equal(grids, stock["spatial_shapes"]) and (grids[3, 1] == 4 * grids[3, 0])
    drawn = CLIPDataCollator(processor, **crops)
    grids = torch.cat([drawn(rows()[3:])["pixel_values"][:, 0, -2:] for _ in range(10)])
    assert set(grids[:, 0].tolist()) <= {2, 3} and (grids[:, 1] >= 6).all(), "a wide picture stays wide"


def test_the_cost_of_a_run_is_that_of_packed_patches(tmp_path):
    model, processor = make()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    cost = json.loads(measure_run(tmp_path, load_folder).read_text())["this model"]
    read = [model.vision_model]  # the head of attention included
    assert cost["image"]["parameters"] == sum(p.numel() for part in read for p in part.parameters())
    assert cost["patches"] == processor.image_processor.max_num_patches == 16 and "image_size" not in cost
    assert cost_notes({"student": cost})[0].startswith("student: images of 16 patches, texts of ")


def test_tokens_of_any_shape_are_refused(tmp_path):
    model, processor = make()
    args = DistillationTrainingArguments(str(tmp_path), losses={"patch": 1.0}, use_cpu=True, report_to="none")
    teacher = CLIPTeacher(tiny_siglip2()[0], processor=tiny_siglip2()[1])
    with pytest.raises(ValueError, match="grid of an image tower of type 'siglip2_vision_model' is unknown"):
        DistillationTrainer(
            model, args, teacher, rows(), data_collator=CLIPDataCollator(processor), processing_class=processor
        )
