"""Every loss against values that the authors' own code computed, in float64.

`reference/loss_vectors.json` holds those values for the inputs in `reference/loss_vectors.safetensors`; names that end in
a bracket are the corrected forms, computed from the formulas.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_clip_kd.features import CLIPDims, CLIPFeatures
from hf_clip_kd.losses import LOSSES

REFERENCE = Path(__file__).parent / "reference"
CASES = json.loads((REFERENCE / "loss_vectors.json").read_text())

# published name -> loss, options, prefix of the student's scale and bias
PUBLISHED = {
    "clipkd/task": ("clip", {}, "s"),
    "openclip/contrastive": ("clip", {}, "s"),
    "tinyclip/hard": ("clip", {}, "s"),
    "mobileclip/contrastive": ("clip", {}, "s"),
    "openclip/siglip": ("siglip", {}, "siglip"),
    "mobileclip/siglip_contrastive": ("siglip", {}, "siglip"),
    "clipkd/ckd": ("crd", {}, "s"),
    "clipkd/fd": ("fd", {"upstream_compat": True}, "s"),
    "clipkd/fd(sum over D, mean over batch)": ("fd", {}, "s"),
    "clipkd/icl": ("icl", {"upstream_compat": True}, "s"),
    "clipkd/icl(exp scale)": ("icl", {}, "s"),
}


@pytest.fixture(scope="module")
def vectors():
    return load_file(REFERENCE / "loss_vectors.safetensors")


@pytest.mark.parametrize("published", PUBLISHED)
@pytest.mark.parametrize("case", CASES)
def test_matches_published_value(vectors, case, published):
    x = {name.removeprefix(f"{case}/"): value for name, value in vectors.items() if name.startswith(f"{case}/")}
    name, options, owner = PUBLISHED[published]
    student = CLIPFeatures(x["s_img"], x["s_txt"], x[f"{owner}_scale"], x.get(f"{owner}_bias"))
    teacher = CLIPFeatures(x["t_img"], x["t_txt"], x["t_scale"])
    loss = LOSSES[name](
        CLIPDims(student.image_embeds.shape[1], has_bias=student.logit_bias is not None),
        CLIPDims(teacher.image_embeds.shape[1]),
        **options,
    ).double()

    published_names = {
        "image_proj.weight": "visual_proj.weight",
        "image_proj.bias": "visual_proj.bias",
        "text_proj.weight": "text_proj.weight",
        "text_proj.bias": "text_proj.bias",
        "logit_scale": "cross_logit_scale",
    }
    loss.load_state_dict({key: x[published_names[key]].reshape(v.shape) for key, v in loss.state_dict().items()})

    value = loss(student, teacher)
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(CASES[case]["values"][published], rel=1e-9, abs=1e-9)


def test_every_loss_has_a_published_value():
    assert {name for name, _, _ in PUBLISHED.values()} == set(LOSSES)
