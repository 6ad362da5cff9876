"""The contract of every loss in `LOSSES`, and of their weighted sum."""

import math
from dataclasses import replace

import pytest
import torch

from hf_clip_kd.features import CLIPDims, CLIPFeatures
from hf_clip_kd.losses import LOSSES, DistillationLoss, LossSum

BATCH, NARROW, WIDE = 6, 16, 24
STUDENT = CLIPDims(NARROW)
# Equal widths need no head, a wider teacher does, and SigLIP-like students bring their own bias.
PAIRS = {
    "same width": (STUDENT, CLIPDims(NARROW)),
    "wider teacher": (STUDENT, CLIPDims(WIDE)),
    "biased": (CLIPDims(NARROW, has_bias=True), CLIPDims(WIDE, has_bias=True)),
}
every_loss = pytest.mark.parametrize("name", LOSSES)
every_pair = pytest.mark.parametrize("dims", PAIRS.values(), ids=PAIRS)


def features(dims: CLIPDims, seed: int, dtype=torch.float32, scale=14.0, requires_grad=False) -> CLIPFeatures:
    generator = torch.Generator().manual_seed(seed)
    values = CLIPFeatures(
        image_embeds=3 * torch.randn(BATCH, dims.embed_dim, generator=generator),
        text_embeds=3 * torch.randn(BATCH, dims.embed_dim, generator=generator),
        logit_scale=torch.tensor(scale),
        logit_bias=torch.tensor(-10.0) if dims.has_bias else None,
    )
    return apply(values, lambda x: x.to(dtype).requires_grad_(requires_grad))


def tensors(values: CLIPFeatures) -> dict[str, torch.Tensor]:
    return {k: v for k, v in vars(values).items() if isinstance(v, torch.Tensor) and k not in ("image", "text")}


def apply(values: CLIPFeatures, function) -> CLIPFeatures:
    return replace(values, **{name: function(value) for name, value in tensors(values).items()})


def build(name: str, dims, **options) -> DistillationLoss:
    torch.manual_seed(0)
    return LOSSES[name](*dims, **options)


@every_loss
@every_pair
def test_is_finite_and_not_negative(name, dims):
    value = build(name, dims)(features(dims[0], 1), features(dims[1], 2))
    assert value.shape == () and value.dtype == torch.float32
    assert torch.isfinite(value) and value >= 0


@every_loss
@every_pair
def test_gradient_reaches_student_and_heads_but_not_teacher(name, dims):
    loss = build(name, dims)
    student, teacher = features(dims[0], 1, requires_grad=True), features(dims[1], 2, requires_grad=True)
    before = {key: value.detach().clone() for key, value in tensors(teacher).items()}
    loss(student, teacher).backward()

    for parameter in [student.image_embeds, student.text_embeds, *loss.parameters()]:
        assert parameter.grad.abs().sum() > 0 and torch.isfinite(parameter.grad).all()
    assert all(value.grad is None for value in tensors(teacher).values())
    assert all(torch.equal(value, before[key]) for key, value in tensors(teacher).items())


@every_loss
@every_pair
def test_gradient_is_that_of_finite_differences(name, dims):
    loss = build(name, dims).double()
    student = features(dims[0], 1, torch.float64)
    teacher = features(dims[1], 2, torch.float64)

    def value(image, text, scale):
        return loss(replace(student, image_embeds=image, text_embeds=text, logit_scale=scale), teacher)

    inputs = [x.clone().requires_grad_() for x in (student.image_embeds, student.text_embeds, student.logit_scale)]
    torch.autograd.gradcheck(value, inputs, atol=1e-6)


@every_loss
@every_pair
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 1e3])
def test_half_precision_is_computed_in_fp32(name, dims, dtype, magnitude):
    loss = build(name, dims)
    halves = [apply(features(d, seed), lambda x: x.to(dtype)) for seed, d in enumerate(dims)]
    halves = [
        replace(h, image_embeds=h.image_embeds * magnitude, text_embeds=h.text_embeds * magnitude) for h in halves
    ]
    expected = loss(*[apply(h, lambda x: x.float()) for h in halves])

    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(*halves)
    assert value.dtype == torch.float32 and torch.isfinite(value)
    torch.testing.assert_close(value, expected)  # the same numbers in fp32: nothing was computed in halves
    assert torch.isfinite(loss.to(dtype)(*halves))  # heads in halves, as DeepSpeed keeps them


@every_loss
@every_pair
def test_bf16_is_close_to_fp32(name, dims):
    loss = build(name, dims)
    pairs = [features(dims[0], 1), features(dims[1], 2)]
    half = loss(*[apply(p, lambda x: x.bfloat16()) for p in pairs])
    torch.testing.assert_close(half, loss(*pairs), rtol=5e-2, atol=5e-2)


@every_loss
@every_pair
def test_order_of_pairs_does_not_matter(name, dims):
    loss = build(name, dims).double()
    pairs = [features(dims[0], 1, torch.float64), features(dims[1], 2, torch.float64)]
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(3))
    shuffled = [apply(p, lambda x: x[order] if x.ndim else x) for p in pairs]
    torch.testing.assert_close(loss(*shuffled), loss(*pairs), rtol=1e-12, atol=1e-12)


@every_loss
@every_pair
def test_state_dict_round_trip(name, dims):
    first = build(name, dims)
    torch.manual_seed(1)
    second = LOSSES[name](*dims)
    second.load_state_dict(first.state_dict())
    pair = features(dims[0], 1), features(dims[1], 2)
    assert torch.equal(first(*pair), second(*pair))
    # DeepSpeed and FSDP 2 refuse 0-dim parameters.
    assert all(parameter.ndim >= 1 for parameter in first.parameters())


@every_loss
def test_has_paper_and_a_first_sentence(name):
    cls = LOSSES[name]
    assert set(cls.paper) == {"title", "id"}
    first_line = cls.__doc__.strip().splitlines()[0]
    assert first_line.endswith(".") and first_line.count(". ") == 0
    assert f"https://huggingface.co/papers/{cls.paper['id']}" in cls.__doc__
    assert cls.__module__ == f"hf_clip_kd.losses.{name}"


@pytest.mark.parametrize("name", ["crd", "fd"])
def test_imitation_is_perfect_where_student_is_the_teacher(name):
    loss = build(name, PAIRS["same width"])
    assert loss(features(STUDENT, 1), features(STUDENT, 1)).item() == 0


@pytest.mark.parametrize("name", ["clip", "siglip", "crd", "fd", "icl"])
def test_zero_padding_the_width_changes_nothing(name):
    def pad(values):
        return apply(values, lambda x: torch.nn.functional.pad(x, (0, 8)) if x.ndim else x)

    pair = features(STUDENT, 1), features(STUDENT, 2)
    padded = CLIPDims(NARROW + 8)
    torch.testing.assert_close(build(name, (padded, padded))(*map(pad, pair)), build(name, (STUDENT, STUDENT))(*pair))


def test_crd_ignores_a_bias_and_stays_finite_where_a_target_underflows():
    loss = build("crd", PAIRS["same width"])
    student, teacher = features(STUDENT, 1, scale=100.0), features(STUDENT, 2, scale=100.0)
    value = loss(student, teacher)
    assert torch.isfinite(value)
    torch.testing.assert_close(loss(student, replace(teacher, logit_bias=torch.tensor(-10.0))), value)


def test_fd_mean_is_the_sum_over_the_width_divided_by_it():
    pair = features(STUDENT, 1), features(CLIPDims(WIDE), 2)
    total, mean, published = (
        build("fd", PAIRS["wider teacher"], **options)(*pair)
        for options in ({}, {"reduction": "mean"}, {"upstream_compat": True})
    )
    torch.testing.assert_close(mean, total / WIDE)
    assert torch.equal(mean, published)


def test_siglip_of_a_student_without_bias_learns_its_own():
    loss = build("siglip", PAIRS["same width"])
    student = features(STUDENT, 1)
    own = build("siglip", PAIRS["biased"])
    assert loss.logit_bias.tolist() == [-10.0]
    assert own.logit_bias is None
    torch.testing.assert_close(loss(student), own(replace(student, logit_bias=torch.tensor(-10.0))))


def test_learned_scales_are_clamped():
    losses = LossSum({"icl": 1}, STUDENT, STUDENT)
    assert losses.terms["icl"].logit_scale.exp().item() == pytest.approx(1 / 0.07)
    losses.terms["icl"].logit_scale.data.fill_(9.0)
    losses.clamp_scales_()
    assert losses.terms["icl"].logit_scale.exp().item() == pytest.approx(100.0)


def test_published_icl_scale_is_a_raw_factor_and_unclamped():
    losses = LossSum({"icl": {"upstream_compat": True}}, STUDENT, STUDENT)
    losses.terms["icl"].logit_scale.data.fill_(9.0)
    losses.clamp_scales_()
    assert losses.terms["icl"].logit_scale.item() == 9.0


def test_sum_weights_its_parts():
    losses = {"clip": 1, "crd": {"weight": 0.5}, "fd": {"weight": 2000, "reduction": "mean"}, "icl": {}, "siglip": 0}
    module = LossSum(losses, *PAIRS["wider teacher"])
    student, teacher = features(STUDENT, 1, requires_grad=True), features(CLIPDims(WIDE), 2)
    total, parts = module(student, teacher)
    assert list(parts) == ["clip", "crd", "fd", "icl"]  # weight 0 keeps a loss out
    torch.testing.assert_close(total, parts["clip"] + 0.5 * parts["crd"] + 2000 * parts["fd"] + parts["icl"])
    assert total.requires_grad and not any(part.requires_grad for part in parts.values())
    assert module.needs_teacher


def test_sum_without_teacher():
    module = LossSum({"clip": 1.0, "crd": 0.0}, STUDENT)
    assert not module.needs_teacher
    total, parts = module(features(STUDENT, 1))
    assert torch.equal(total, parts["clip"])


def test_sum_state_dict_round_trip():
    torch.manual_seed(0)
    losses = {"fd": 4, "icl": 1, "hf_clip_kd.losses.siglip.SigLIPLoss": 1}
    first, second = (LossSum(losses, *PAIRS["wider teacher"]) for _ in range(2))
    second.load_state_dict(first.state_dict())
    pair = features(STUDENT, 1), features(CLIPDims(WIDE), 2)
    assert torch.equal(first(*pair)[0], second(*pair)[0])


def test_dotted_path_names_a_loss_outside_the_table():
    total, parts = LossSum({"hf_clip_kd.losses.clip.CLIPLoss": 2}, STUDENT)(features(STUDENT, 1))
    assert list(parts) == ["hf_clip_kd.losses.clip.CLIPLoss"]
    torch.testing.assert_close(total, 2 * build("clip", (STUDENT, None))(features(STUDENT, 1)))


def test_weight_that_yaml_left_a_string():
    assert LossSum({"clip": "1e8"}, STUDENT).weights == {"clip": 1e8}  # YAML 1.1 reads 1e8 as text


BAD_LOSSES = {
    "unknown loss": ({"crdd": 1}, r"'crdd' in `losses` is no loss\. Allowed are \['clip', .*Did you mean .*'crd'"),
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


def test_missing_teacher():
    with pytest.raises(ValueError, match=r"The losses \['crd', 'fd'\] need a teacher.*teacher_model_name_or_path"):
        LossSum({"clip": 1, "crd": 1, "fd": 4}, STUDENT, None)
    with pytest.raises(ValueError, match=r"The losses \['FDLoss'\] need a teacher"):
        LOSSES["fd"](STUDENT, None)
    with pytest.raises(ValueError, match=r"The losses \['FDLoss'\] need a teacher"):
        LOSSES["fd"](STUDENT, STUDENT)(features(STUDENT, 1))


@every_loss
def test_width_that_does_not_fit(name):
    loss = build(name, PAIRS["same width"])
    wide = features(CLIPDims(WIDE), 1)
    with pytest.raises(ValueError, match=r"student's `image_embeds` are 24 wide, .* width 16\. .*embed_dim=24"):
        loss(wide, features(STUDENT, 2))
    if loss.needs_teacher:
        with pytest.raises(ValueError, match=r"teacher's `image_embeds` are 24 wide"):
            loss(features(STUDENT, 1), wide)


def test_tower_without_text():
    blind = CLIPDims(NARROW, has_text=False)
    with pytest.raises(ValueError, match="the teacher has no text tower.*leave this loss out"):
        LossSum({"clip": 1, "crd": 1}, STUDENT, blind)
    assert LossSum({"clip": 1}, STUDENT, blind).weights == {"clip": 1.0}
