"""Functions as teachers of several layers; `test_ensemble.py` has the others."""

import pytest
import torch
from vision_teachers import crop

from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures, FeatureRequest
from hf_clip_kd.teachers import FunctionTeacher, TeacherProcessor

DIMS = CLIPDims(3, has_text=False, token_dims=((-4, 2), (-1, 3)))


def layers(pixel_values):
    """Return two layers, as features and as a dictionary, and a third that nobody declared."""
    tokens = pixel_values.flatten(2).mT
    return {
        "image_embeds": tokens.mean(1),
        "layers": {
            -1: CLIPFeatures(image_tokens=tokens, image_grid=(4, 4), class_token=tokens[:, 0]),
            -4: {"image_tokens": tokens[..., :2], "image_grid": (4, 4), "class_token": tokens[:, 1, :2]},
            -2: {"image_tokens": tokens, "image_grid": (4, 4)},
        },
    }


def teacher(function=layers, dims=DIMS):
    return FunctionTeacher(function, processor=TeacherProcessor(crop()), dims=dims)


def test_several_layers():
    made, pixels = teacher(), torch.randn(2, 3, 4, 4)
    tokens = pixels.flatten(2).mT
    made.prepare(FeatureRequest.of_layers((), (-1, -4), token_moments=True, class_token=True))
    features = made(pixels)
    assert list(features.layers) == [-4, -1]
    assert torch.equal(features.layers[-4].class_token, tokens[:, 1, :2])
    assert torch.equal(features.layers[-1].token_moments[:, 0], tokens.mean(1))
    made.prepare(FeatureRequest(teacher_layer=-4))
    single = made(pixels)
    assert (
        single.layers == {} and torch.equal(single.image_tokens, tokens[..., :2]) and made.dims.at(-4).token_dim == 2
    )
    made.prepare(FeatureRequest())
    assert made(pixels).layers == {} and made(pixels).image_tokens is None


def test_layers_that_are_not_declared_or_not_there():
    with pytest.raises(
        ValueError, match=r"read the layers \[-3\], and the teacher layers declares \[-4, -1\].*token_dims"
    ):
        teacher().prepare(FeatureRequest(teacher_layer=-3))
    with pytest.raises(ValueError, match=r"read the layers \[-2, -1\], .* declares \[\]\."):
        teacher(dims=CLIPDims(3, token_dim=3, has_text=False)).prepare(FeatureRequest.of_layers((), (-2, -1)))

    def forgetful(pixel_values):
        found = layers(pixel_values)
        del found["layers"][-4]
        del found["layers"][-2]
        return found

    made = teacher(forgetful)
    made.prepare(FeatureRequest.of_layers((), (-1, -4)))
    with pytest.raises(ValueError, match=r"`layers\[-4\]\.image_tokens` is missing in what the teacher forgetful"):
        made(torch.randn(2, 3, 4, 4))
    made = teacher(dims=CLIPDims(3, has_text=False, token_dims=((-2, 3),)))
    made.prepare(FeatureRequest(teacher_layer=-2, class_token=True))
    with pytest.raises(ValueError, match=r"`layers\[-2\]\.class_token` is missing"):
        made(torch.randn(2, 3, 4, 4))
