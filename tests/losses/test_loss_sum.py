"""Weighted sums of losses: the allowed forms of `losses`, and the errors."""

import math
from dataclasses import replace

import pytest
import torch
from loss_inputs import BATCH, PAIRS, STUDENT, TEACHER, build, features, layered, leaves

from hf_clip_kd.losses import LOSSES, OBJECTIVES, LossSum, requested, requested_by_all
from hf_clip_kd.losses.features import CLIPDims, FeatureRequest
from hf_clip_kd.losses.specification import specification

WIDER = PAIRS["wider teacher"]


def pair():
    return features(STUDENT, 1), features(TEACHER, 2)


def test_sum_weights_its_parts():
    losses = {"clip": 1, "crd": {"weight": 0.5}, "fd": {"weight": 2000, "reduction": "mean"}, "icl": {}, "siglip": 0}
    module = LossSum(losses, *WIDER)
    student, teacher = map(leaves, pair())
    total, parts = module(student, teacher)
    assert list(parts) == ["clip", "crd", "fd", "icl"]  # weight 0 keeps a loss out
    torch.testing.assert_close(total, parts["clip"] + 0.5 * parts["crd"] + 2000 * parts["fd"] + parts["icl"])
    assert total.requires_grad and not any(part.requires_grad for part in parts.values())
    assert module.needs_teacher


def test_all_losses_together():
    losses = dict.fromkeys(LOSSES, 0.5)
    total, parts = LossSum(losses, *WIDER)(*pair())
    assert list(parts) == list(LOSSES)
    torch.testing.assert_close(total, sum(parts.values()) / 2)
    assert requested(losses) == FeatureRequest(
        layer=-2, teacher_layer=-2, patch_embeds=True, token_moments=True, mask_ratio=0.75, readers=()
    )


def test_a_loss_with_a_value_per_image_is_the_mean_over_all_processes():
    """Its rows are gathered; what is a number already is not."""
    gathered = []

    def gather(rows):
        gathered.append(rows.shape)
        return torch.cat([rows, rows + 4])

    student, teacher = pair()
    module = LossSum({"patch": 1, "fd": 1}, *WIDER)
    alone, _ = module(student, teacher)
    both, parts = module(student, teacher, gather)
    assert gathered == [(BATCH,)]
    torch.testing.assert_close(both, alone + 2)
    torch.testing.assert_close(parts["patch"], module.terms["patch"](student, teacher) + 2)


def test_sum_without_teacher():
    module = LossSum({"clip": 1.0, "crd": 0.0}, STUDENT)
    assert not module.needs_teacher
    total, parts = module(features(STUDENT, 1))
    assert torch.equal(total, parts["clip"])


def test_sum_state_dict_round_trip():
    torch.manual_seed(0)
    losses = {"fd": 4, "icl": 1, "patch_text": 1, "hf_clip_kd.losses.siglip.SigLIPLoss": 1}
    first, second = (LossSum(losses, *WIDER) for _ in range(2))
    assert not torch.equal(first(*pair())[0], second(*pair())[0])
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(*pair())[0], second(*pair())[0])


def test_dotted_path_names_a_loss_outside_the_table():
    total, parts = LossSum({"hf_clip_kd.losses.clip.CLIPLoss": 2}, STUDENT)(features(STUDENT, 1))
    assert list(parts) == ["hf_clip_kd.losses.clip.CLIPLoss"]
    torch.testing.assert_close(total, 2 * build("clip", (STUDENT, None))(features(STUDENT, 1)))


def test_default_weights():
    assert LossSum({"fd": {}, "mfd": {}, "crd": {}}, *WIDER).weights == {"fd": 4.0, "mfd": 4.0, "crd": 1.0}
    assert LossSum({"fd": {"reduction": "mean"}}, *WIDER).weights == {"fd": 4.0}
    assert LossSum("crd", *WIDER).weights == {"crd": 1.0}


def test_weight_that_yaml_left_a_string():
    assert LossSum({"clip": "1e8"}, STUDENT).weights == {"clip": 1e8}  # YAML 1.1 reads 1e8 as text


LAST = {"layer": -1, "teacher_layer": -1}
DENSE = {**LAST, "summary": "class_token", "summary_weight": 1.0, "grid": "larger"}
LINEAR_TO_TEACHER = {"head": True, "grid": "teacher"}
# Losses of each shorthand, with weight and options.
SHORTHANDS = {
    "clip_kd": {"clip": (1.0, {}), "crd": (1.0, {}), "icl": (1.0, {}), "fd": (4.0, {})},
    "tinyclip": {"affinity": (1.0, {"logit_scale": 50.0, "teacher_logit_scale": 50.0})},
    "mobileclip": {"clip": (0.25, {"synthetic": True}), "reinforced": (0.75, {})},
    # 2603.22387, sections 3.2 and 4.1.
    "eupe": {"patch": (1.0, {**DENSE, "hidden_dim": 3072, "statistics": 500, "interpolation": "bicubic"})},
    # 2312.06709, sections 3.2, 3.4 and 4.
    "am_radio": {
        "patch": (1.0, {**DENSE, "hidden_dim": "teacher", "statistics": "none", "interpolation": "bilinear"})
    },
    # DistillationV3Args of lightly-train 0.16, in the package's distillationv3.py.
    "lightly": {
        "inter_image": (1.0, {"temperature": 0.07}),
        "relation": (1.0, {**LAST, "level": "tokens", "form": "kl", "temperature": 0.07} | LINEAR_TO_TEACHER),
    },
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_shorthand_stands_for_its_losses(name):
    terms = {part: (weight.plain, options) for part, (_, weight, options) in specification(name).items()}
    assert terms == SHORTHANDS[name]
    assert {k: w.plain for k, (_, w, _) in specification({name: 2}).items()} == {
        k: 2 * w for k, (w, _) in SHORTHANDS[name].items()
    }
    total, parts = LossSum(name, *WIDER)(*pair())
    torch.testing.assert_close(total, sum(SHORTHANDS[name][part][0] * value for part, value in parts.items()))


def test_published_clip_kd():
    terms = specification({"clip_kd": {"upstream_compat": True}})
    found = {name: (weight.plain, options) for name, (_, weight, options) in terms.items()}
    assert found["fd"] == (2000.0, {"upstream_compat": True})
    assert found["icl"] == (1.0, {"upstream_compat": True})


def test_a_loss_named_beside_a_shorthand_wins_over_its_part():
    for losses in ({"clip_kd": 1, "fd": 10}, {"fd": 10, "clip_kd": 1}):
        assert {name: weight.plain for name, (_, weight, _) in specification(losses).items()} == {
            "clip": 1.0,
            "crd": 1.0,
            "icl": 1.0,
            "fd": 10.0,
        }
    assert "icl" not in specification({"clip_kd": 1, "icl": 0})


def test_learned_scales_are_clamped():
    losses = LossSum({"icl": 1, "afd": 1}, STUDENT, STUDENT)
    for name in ("icl", "afd"):
        assert losses.terms[name].logit_scale.exp().item() == pytest.approx(1 / 0.07)
        losses.terms[name].logit_scale.data.fill_(9.0)
    losses.clamp_scales_()
    for name in ("icl", "afd"):
        assert losses.terms[name].logit_scale.exp().item() == pytest.approx(100.0)


BAD_LOSSES = {
    "unknown loss": ({"crdd": 1}, r"'crdd' in `losses` is no loss\. Allowed are \['afd', .*Did you mean .*'crd'"),
    "unknown shorthand": (
        "clip-kd",
        r"'clip-kd' in `losses` is no loss.*shorthands \['am_radio', 'clip_kd'.*Did you mean.*'clip_kd'",
    ),
    "nothing alike": ({"xyzzy": 1}, r"'xyzzy' in `losses` is no loss\. .*For example `losses=\{'clip': 1\.0\}`"),
    "module missing": ({"no.such.Loss": 1}, r"'no\.such\.Loss' in `losses` cannot be imported.*PYTHONPATH"),
    "class missing": ({"hf_clip_kd.losses.Nope": 1}, r"'hf_clip_kd\.losses\.Nope' .*cannot be imported.*Class"),
    "no loss class": ({"torch.nn.Linear": 1}, r"'torch\.nn\.Linear' .*not a loss.*subclass of"),
    "negative": ({"clip": -1}, r"weight -1 of the loss 'clip'.*at least 0"),
    "nan": ({"clip": math.nan}, r"weight nan of the loss 'clip'.*finite"),
    "infinite": ({"clip": {"weight": math.inf}}, r"weight inf of the loss 'clip'.*finite"),
    "word": ({"clip": "much"}, r"weight 'much' of the loss 'clip'"),
    "none": ({"clip": None}, r"weight None of the loss 'clip'"),
    "bool": ({"clip": True}, r"weight True of the loss 'clip'"),
    "option": (
        {"fd": {"reducton": "mean"}},
        r"'fd'.*no option 'reducton'\. Allowed are \['weight', 'reduction', .*Did",
    ),
    "option of a shorthand": ({"clip_kd": {"upstream": 1}}, r"'clip_kd'.*no option 'upstream'.*'upstream_compat'"),
    "option of unused": ({"clip": 1, "fd": {"weight": 0, "x": 1}}, r"'fd'.*no option 'x'\. Allowed are"),
    "weight misspelt": ({"clip": {"wieght": 2}}, r"'clip'.*no option 'wieght'.*Did you mean 'weight'"),
    "option's value": ({"fd": {"reduction": "max"}}, r"reduction='max'.*Allowed are \['sum', 'mean'\]"),
    "empty": ({}, r"losses=\{\} leaves nothing to train on\..*losses=\{'clip': 1\.0\}"),
    "all zero": ({"clip": 0, "fd": 0.0}, r"leaves nothing to train on"),
    "no mapping": (["clip"], r"losses=\['clip'\] is no mapping.*Write for example"),
}


@pytest.mark.parametrize(("losses", "message"), BAD_LOSSES.values(), ids=BAD_LOSSES)
def test_bad_losses(losses, message):
    with pytest.raises(ValueError, match=message):
        LossSum(losses, STUDENT, STUDENT)


def test_losses_that_ask_for_different_layers_get_all_of_them():
    found = requested({"patch": 1, "patch_text": {"layer": 3}})
    assert (found.layer, found.layers, found.student_reads) == (-2, (-2, 3), (-2, 3))
    assert (found.teacher_layer, found.teacher_layers, found.teacher_reads) == (-2, (), (-2,))
    single = requested({"patch": {"layer": 3}, "patch_text": {"layer": 3}})
    assert (single.layer, single.layers, single.student_reads) == (3, (), (3,))
    assert requested({"patch": 1, "patch_text": {"layer": 3, "weight": 0}}).student_reads == (-2,)  # not used
    assert requested("clip_kd") == FeatureRequest() and requested("clip_kd").student_reads == ()
    again = "hf_clip_kd.losses.mfd.MFDLoss"
    with pytest.raises(ValueError, match=rf"'mfd' and '{again}' .*`mask_ratio`: 0\.75 and 0\.5.*only one of them"):
        requested({"mfd": 1, again: {"mask_ratio": 0.5}})


def test_losses_of_different_layers_read_their_own():
    """The sum of both is that of each on features of its layer alone."""
    student = {-2: features(STUDENT, 1), -1: features(STUDENT, 3)}
    teacher = features(TEACHER, 2)
    losses = {"patch": 1.0, "patch_text": {"layer": -1}, "relation": {"level": "tokens", "layer": -1}}
    total = LossSum(losses, STUDENT.with_layers({-2: 10, -1: 10}), TEACHER)
    _, parts = total(layered(student), teacher)
    for name, layer in (("patch", -2), ("patch_text", -1), ("relation", -1)):
        assert torch.equal(parts[name], total.terms[name](replace(student[layer]), teacher).detach()), name
    assert not torch.equal(parts["patch"], total.terms["patch"](student[-1], teacher))


def test_what_several_runs_read_of_one_teacher():
    runs = ["clip_kd", {"mfd": 1.0}, {"clip": 1.0, "patch": {"layer": -3, "teacher_layer": -1}}]
    assert requested_by_all(runs) == FeatureRequest(teacher_layer=-1)
    assert requested_by_all([*runs, {"patch_text": 1.0}]) == FeatureRequest(teacher_layer=-1, patch_embeds=True)
    several = requested_by_all([*runs, {"patch": {"teacher_layer": -2, "summary": "class_token"}}])
    assert several == FeatureRequest(teacher_layer=-2, teacher_layers=(-2, -1), class_token=True)


def test_missing_teacher():
    with pytest.raises(ValueError, match=r"The losses \['crd', 'fd'\] need a teacher.*teacher_model_name_or_path"):
        LossSum({"clip": 1, "crd": 1, "fd": 4}, STUDENT, None)
    with pytest.raises(ValueError, match=r"The losses \['FDLoss'\] need a teacher"):
        LOSSES["fd"](STUDENT, None)
    with pytest.raises(ValueError, match=r"The losses \['FDLoss'\] need a teacher"):
        LOSSES["fd"](STUDENT, STUDENT)(features(STUDENT, 1))


def test_tower_without_text():
    blind = replace(STUDENT, has_text=False)
    with pytest.raises(
        ValueError,
        match=r"losses \['crd'\].* the teacher has no text tower.*can serve \[\].*\['relation', 'inter_image', ",
    ):
        LossSum({"clip": 1, "crd": 1}, STUDENT, blind)
    assert LossSum({"clip": 1}, STUDENT, blind).weights == {"clip": 1.0}


def test_ensemble_given_to_a_loss_of_one_teacher():
    ensemble = CLIPDims(16, members=(CLIPDims(16), CLIPDims(24)))
    with pytest.raises(ValueError, match=r"CRDLoss got an ensemble of 2 as its teacher\. .*'reinforced': 1\.0"):
        LOSSES["crd"](CLIPDims(16), ensemble)
