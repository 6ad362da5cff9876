"""Every loss against values that the authors' own code computed, in float64.

`reference/loss_vectors.json` holds those values for the inputs in `reference/loss_vectors.safetensors`. Names that end
in a bracket are the corrected forms, computed from the formulas.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from hf_clip_kd.losses import LOSSES
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures
from hf_clip_kd.losses.similarity import Similarities, Term, evaluate

REFERENCE = Path(__file__).parent / "reference"
CASES = json.loads((REFERENCE / "loss_vectors.json").read_text())
# Losses without a published value. Other tests have theirs.
FORMULA_ONLY = {"caption", "cka", "inter_image", "patch", "patch_text", "reader", "relation"}


class Published(NamedTuple):
    """
    Computation of a published value.

    Args:
        loss (`str`): Its name here.
        options (`dict`): Its options.
        factor (`float`): What the authors multiply it by.
        owner (`str`): Prefix of the student's scale and bias among the inputs.
        ensemble (`bool`): Whether there are two teachers.
        synthetic (`bool`): Whether there are generated captions.
    """

    loss: str
    options: dict[str, Any] = {}
    factor: float = 1.0
    owner: str = "s"
    ensemble: bool = False
    synthetic: bool = False


AS_PUBLISHED = {"upstream_compat": True}
SIGMOID_TEACHER = {"teacher_logit_scale": 10.0, "teacher_logit_bias": -10.0}
PUBLISHED = {
    "clipkd/task": Published("clip"),
    "openclip/contrastive": Published("clip"),
    "tinyclip/hard": Published("clip"),
    "mobileclip/contrastive": Published("clip"),
    "mobileclip/dr_contrastive_w.25": Published("clip", {"synthetic": True}, factor=0.25, synthetic=True),
    "openclip/siglip": Published("siglip", owner="siglip"),
    "mobileclip/siglip_contrastive": Published("siglip", owner="siglip"),
    "mobileclip/siglip_distill": Published("siglip_kd", AS_PUBLISHED | SIGMOID_TEACHER, owner="siglip"),
    "clipkd/ckd": Published("crd"),
    "clipkd/fd": Published("fd", AS_PUBLISHED),
    "clipkd/fd(sum over D, mean over batch)": Published("fd"),
    "clipkd/gd": Published("gd", AS_PUBLISHED),
    "clipkd/gd(true gradient, multiply by scale)": Published("gd", {"reduction": "mean"}),
    "clipkd/icl": Published("icl", AS_PUBLISHED),
    "clipkd/icl(exp scale)": Published("icl"),
    "clipkd/afd": Published("afd", AS_PUBLISHED),
    "clipkd/afd(exp scale)": Published("afd"),
    "clipkd/cross_kd": Published("cross_kd", AS_PUBLISHED),
    "tinyclip/soft": Published("affinity"),
    "openclip/distill": Published("affinity"),
    "mobileclip/distill": Published("reinforced", {"teacher_logit_scale": [100.0, 100.0]}, ensemble=True),
    "mobileclip/dr_distill_w.75": Published(
        "reinforced", {"teacher_logit_scale": [70.0, 60.0]}, factor=0.75, ensemble=True, synthetic=True
    ),
}
# TinyCLIP's two halves: which side's similarities have the rows.
HALVES = {"tinyclip/soft_i2t": ("img", "txt"), "tinyclip/soft_t2i": ("txt", "img")}


@pytest.fixture(scope="module")
def vectors() -> dict[str, dict[str, torch.Tensor]]:
    """The inputs of each case, by name."""
    inputs = {case: {} for case in CASES}
    for name, value in load_file(REFERENCE / "loss_vectors.safetensors").items():
        case, _, name = name.partition("/")
        inputs[case][name] = value
    return inputs


def dims(features: CLIPFeatures) -> CLIPDims:
    width = None if features.image_embeds is None else features.image_embeds.shape[1]
    members = tuple(map(dims, features.members))
    return CLIPDims(width or members[0].embed_dim, has_bias=features.logit_bias is not None, members=members)


def compute(name: str, options: dict[str, Any], x: dict[str, torch.Tensor], student, teacher) -> float:
    loss = LOSSES[name](dims(student), dims(teacher), **options).double()
    authors = {key: key.replace("image_", "visual_") for key in loss.state_dict()}
    authors["logit_scale"] = "fusion_logit_scale" if name == "afd" else "cross_logit_scale"
    loss.load_state_dict({key: x[authors[key]].reshape(v.shape) for key, v in loss.state_dict().items()})
    value = loss(student, teacher)
    assert value.dtype == torch.float64
    return value.item()


def pairs(x: dict[str, torch.Tensor], owner: str, synthetic: bool = False, **scales) -> CLIPFeatures:
    synthetic_text = x[f"{owner}_syn"] if synthetic else None
    return CLIPFeatures(x[f"{owner}_img"], x[f"{owner}_txt"], synthetic_text_embeds=synthetic_text, **scales)


@pytest.mark.parametrize(
    ("case", "name"), [(case, name) for case in CASES for name in CASES[case]["values"] if name in PUBLISHED]
)
def test_matches_published_value(vectors, case, name):
    x, published = vectors[case], PUBLISHED[name]
    student = pairs(
        x,
        "s",
        published.synthetic,
        logit_scale=x[f"{published.owner}_scale"],
        logit_bias=x.get(f"{published.owner}_bias"),
    )
    teacher = pairs(x, "t", published.synthetic, logit_scale=x["t_scale"])
    if published.ensemble:
        teacher = CLIPFeatures(members=(teacher, pairs(x, "t2", published.synthetic)))

    value = published.factor * compute(published.loss, published.options, x, student, teacher)
    assert value == pytest.approx(CASES[case]["values"][name], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("case", CASES)
def test_each_direction_of_tinyclip(vectors, case, name):
    x, (queries, keys) = vectors[case], HALVES[name]
    student, targets = (
        Similarities(
            *(torch.nn.functional.normalize(x[f"{owner}_{side}"]) for side in (queries, keys)), x[f"{owner}_scale"]
        )
        for owner in ("s", "t")
    )
    value, _ = evaluate([{Term(student, (targets,), columns=False): 1.0}], [1.0])
    assert value.item() == pytest.approx(CASES[case]["values"][name], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "name"), [({}, "clipkd/fd(sum over D, mean over batch)"), (AS_PUBLISHED, "clipkd/fd")]
)
@pytest.mark.parametrize("case", CASES)
def test_mfd_of_a_student_that_sees_everything_is_fd(vectors, case, options, name):
    x = vectors[case]
    student = CLIPFeatures(torch.zeros_like(x["s_img"]), x["s_txt"], masked_image_embeds=x["s_img"])
    value = compute("mfd", options, x, student, pairs(x, "t"))
    assert value == pytest.approx(CASES[case]["values"][name], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_default_gd_is_the_corrected_value_times_the_width(vectors, case):
    x = vectors[case]
    student, teacher = (pairs(x, owner, logit_scale=x[f"{owner}_scale"]) for owner in ("s", "t"))
    expected = CASES[case]["values"]["clipkd/gd(true gradient, multiply by scale)"] * x["t_img"].shape[1]
    assert compute("gd", {}, x, student, teacher) == pytest.approx(expected, rel=1e-9)


def test_every_published_value_is_checked():
    assert {name for case in CASES.values() for name in case["values"]} == {*PUBLISHED, *HALVES}


def test_every_loss_has_a_published_value_or_a_formula_to_test():
    assert {published.loss for published in PUBLISHED.values()} | {"mfd"} | FORMULA_ONLY == set(LOSSES)
