"""ReusedProjector: the teacher's projector behind an adapter, which becomes one stock projector in a folder."""

import pytest
import torch
from llava_runs import make_model, make_rows, make_teacher, make_trainer, uneven_scale
from teacher_models import tiny_clip
from transformers import LlavaForConditionalGeneration
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector
from vlm_parts import image_processor, language_model

from hf_clip_kd.vlm import FeatureScale, build_llava, load_llava
from hf_clip_kd.vlm.reused_projector import ADAPTER_NAME, ReusedProjector


def logits(model, batch):
    with torch.no_grad():
        return model.eval()(**{name: value for name, value in batch.items() if name != "labels"}).logits


@pytest.mark.parametrize(
    ("tower", "scaled"),
    [
        ("convnext", False),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("convnext", True), ("clip", False), ("clip", True))
        ),
    ],
)
def test_folder_is_a_stock_llava_that_computes_what_was_trained(tower, scaled, tmp_path):
    """A student whose tower is as wide as the teacher's, and one whose tower is narrower."""
    teacher = make_teacher()
    model, processor = make_model(tower)
    scale = FeatureScale(model, uneven_scale(model)) if scaled else None
    settings = {"reuse_projector": True, "kl_weight": 0.0, "stage": "pretrain"}
    images = teacher.images(processor)
    trainer = make_trainer(tmp_path, model, processor, scale, teacher=teacher, images=images, **settings)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {f"model.multi_modal_projector.adapter.{name}" for name in ("weight", "bias")}
    before = model.model.multi_modal_projector.adapter.weight.clone()
    trainer.train()
    projector, theirs = model.model.multi_modal_projector, teacher.model.model.multi_modal_projector
    assert not torch.equal(projector.adapter.weight, before)
    for layer in ("linear_1", "linear_2"):
        assert torch.equal(getattr(projector, layer).weight, getattr(theirs, layer).weight), layer
    batch = trainer.data_collator(list(make_rows(4)))
    batch.pop("teacher_pixel_values", None)
    expected = logits(model, batch)
    trainer.save_model(str(tmp_path / "saved"))
    loaded, _ = load_llava(tmp_path / "saved")
    assert type(loaded) is LlavaForConditionalGeneration
    assert type(loaded.model.multi_modal_projector) is LlavaMultiModalProjector
    torch.testing.assert_close(logits(loaded, batch), expected, rtol=1e-3, atol=1e-4)

    # A second stage goes on with the adapter that is in the folder.
    if not scaled:
        again = ReusedProjector(loaded, teacher.model)
        torch.testing.assert_close(again.linear_1.weight, theirs.linear_1.weight)
        torch.testing.assert_close(logits(loaded, batch), expected, rtol=1e-3, atol=1e-4)


def test_towers_of_one_width_begin_with_the_teachers_projector():
    teacher, (model, _) = make_teacher(), make_model()
    states = torch.randn(2, 5, 32)
    with torch.no_grad():
        expected = teacher.model.model.multi_modal_projector(states)
        assert torch.equal(ReusedProjector(model, teacher.model)(states), expected)


def test_language_models_of_two_widths_are_refused():
    causal, tokenizer = language_model("qwen2", hidden_size=48)
    tower = tiny_clip()[0].vision_model
    model, _ = build_llava(tower, causal, tokenizer=tokenizer, image_processor=image_processor(32))
    with pytest.raises(ValueError, match="is 48 wide and a teacher whose is 32.*Leave `reuse_projector` out"):
        ReusedProjector(model, make_teacher().model)


def test_checkpoint_without_its_adapter_is_refused(tmp_path):
    model, _ = make_model()
    projector = ReusedProjector(model, make_teacher().model)
    with pytest.raises(ValueError, match=f"no {ADAPTER_NAME}.*resumes only with it"):
        projector.load(str(tmp_path))
    projector.save(model.state_dict(), str(tmp_path))
    with torch.no_grad():
        projector.adapter.weight.zero_()
    projector.load(str(tmp_path))
    assert torch.equal(projector.adapter.weight, torch.eye(32))
