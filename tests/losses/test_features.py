"""CLIPFeatures, CLIPDims, pooled."""

from dataclasses import FrozenInstanceError

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures
from hf_clip_kd.models.towers.tokens import pooled


def test_unit_norm_forms_are_computed_once_and_keep_the_gradient():
    raw = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    features = CLIPFeatures(image_embeds=raw, text_embeds=2 * raw)
    torch.testing.assert_close(features.image, raw / raw.pow(2).sum(1, keepdim=True).sqrt(), rtol=0, atol=1e-12)
    torch.testing.assert_close(features.text, features.image, rtol=0, atol=1e-12)
    assert features.image is features.image
    # The gradient of a normalised vector has no part along that vector.
    (features.image * torch.randn_like(raw)).sum().backward()
    torch.testing.assert_close((raw.grad * raw).sum(1), torch.zeros(3, dtype=raw.dtype), rtol=0, atol=1e-12)


def test_what_a_model_does_not_have_is_none():
    features = CLIPFeatures(text_embeds=torch.ones(1, 2))
    assert features.image is None and features.image_tokens is None and features.logit_scale is None
    assert CLIPFeatures().text is None


def test_dims_are_frozen_and_comparable():
    assert CLIPDims(8) == CLIPDims(8, token_dim=None, has_text=True, has_bias=False)
    with pytest.raises(FrozenInstanceError):
        CLIPDims(8).embed_dim = 9


def test_pooled_takes_tensor_and_output():
    embeds = torch.randn(2, 4)
    assert pooled(embeds) is embeds
    assert pooled(BaseModelOutputWithPooling(last_hidden_state=torch.randn(2, 3, 4), pooler_output=embeds)) is embeds
