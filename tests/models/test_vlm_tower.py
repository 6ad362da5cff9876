"""Towers inside of vision-language models other than LLaVA, by the folder of the whole model."""

import pytest
import torch
from teacher_models import TOWER
from transformers import (
    BlipConfig,
    CLIPConfig,
    FuyuConfig,
    FuyuForCausalLM,
    LlavaConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
)

from hf_clip_kd.models.load_tower import load_tower
from hf_clip_kd.models.towers.checksum import tower_checksum
from hf_clip_kd.models.vlm_tower import is_vlm

TEXT = TOWER | {"vocab_size": 50, "num_key_value_heads": 1, "head_dim": 16}


def test_dual_encoders_are_none():
    assert [is_vlm(config) for config in (CLIPConfig(), BlipConfig(), LlavaConfig())] == [False, False, True]


def test_tower_and_a_square_view_of_a_paligemma(tmp_path):
    """Its processor makes 48 pixels, and the tower was made for 32."""
    torch.manual_seed(0)
    config = PaliGemmaConfig(
        vision_config=TOWER | {"model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8},
        text_config=TEXT | {"model_type": "gemma"},
        image_token_index=49,
        projection_dim=32,
    )
    model = PaliGemmaForConditionalGeneration(config).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    SiglipImageProcessorPil(size={"height": 48, "width": 48}, image_mean=[0.1] * 3).save_pretrained(tmp_path)
    tower, processor = load_tower(str(tmp_path))
    assert isinstance(tower.config, SiglipVisionConfig) and tower.dtype == torch.float32 and not tower.training
    assert tower_checksum(tower.to(torch.bfloat16)) == tower_checksum(model.model.vision_tower)
    assert processor.size == {"height": 32, "width": 32} and list(processor.image_mean) == [0.1] * 3


def test_a_model_without_a_tower_is_refused(tmp_path):
    config = FuyuConfig(**TEXT, image_size=32, patch_size=8, text_config=TEXT | {"model_type": "persimmon"})
    FuyuForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="FuyuForCausalLM, in which no vision tower can be told from the rest"):
        load_tower(str(tmp_path))
