"""A kind of teachers is one line of a table."""

import pytest
import torch
from teacher_models import images, processor, tiny_clip

from hf_clip_kd.hub.cards.sources import hub_model
from hf_clip_kd.losses.features import CLIPDims
from hf_clip_kd.models.load_tower import LOADERS
from hf_clip_kd.models.names import parse_name
from hf_clip_kd.teachers import FunctionTeacher, TeacherEnsemble, load_teacher
from hf_clip_kd.teachers.clip import CLIPTeacher
from hf_clip_kd.teachers.kinds import KINDS


def ones(name, *, dtype, device, compile, trust_remote_code):
    """`ones:WIDTH`."""
    dims = CLIPDims(int(parse_name(name).rest), has_text=False)

    def features(pixel_values):
        return {"image_embeds": torch.ones(len(pixel_values), dims.embed_dim)}

    return FunctionTeacher(features, processor=processor(), dims=dims, dtype=dtype, device=device)


def test_a_new_kind_is_loaded_by_its_prefix(monkeypatch, tmp_path):
    monkeypatch.setitem(KINDS, "ones", ones)
    teacher = load_teacher("ones:7", dtype="bfloat16")
    pixels = teacher.processor.image_processor(images(), return_tensors="pt")["pixel_values"]
    assert teacher(pixels).image_embeds.shape == (len(images()), 7) and teacher.own_dtype == torch.bfloat16
    model, its_processor = tiny_clip()
    model.save_pretrained(tmp_path)
    its_processor.save_pretrained(tmp_path)
    several = load_teacher([str(tmp_path), {"name": "ones:5", "weight": 2.0}])
    assert isinstance(several, TeacherEnsemble) and isinstance(several.members[0], CLIPTeacher)
    assert several.members[1].dims.embed_dim == 5 and several.weights == [1.0, 2.0]
    assert hub_model("ones:5") is None, "a card names it and links nothing"


def test_an_unknown_prefix_is_refused():
    with pytest.raises(
        ValueError, match="'opn_clip:ViT-B-16/openai' has the unknown prefix 'opn_clip:'. Allowed are open"
    ):
        load_teacher("opn_clip:ViT-B-16/openai")


def test_every_library_of_towers_has_teachers():
    assert set(LOADERS) <= set(KINDS)
