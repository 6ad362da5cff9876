"""The contract of every loss in `LOSSES`, and the properties that all of them share."""

import inspect
from dataclasses import replace

import pytest
import torch
from loss_inputs import (
    BATCH,
    NARROW,
    PAIRS,
    STUDENT,
    WIDE,
    build,
    features,
    leaves,
    padded,
    rows_of,
    scaled,
    with_moments,
)

from hf_clip_kd.losses import LOSSES
from hf_clip_kd.losses.features import CLIPDims

every_loss = pytest.mark.parametrize("name", LOSSES)
# An ensemble's members have features of their own, and only `reinforced` reads several teachers.
CASES = [(name, pair) for name in LOSSES for pair in PAIRS if pair != "ensemble" or name == "reinforced"]
every_case = pytest.mark.parametrize(
    ("name", "dims"), [(name, PAIRS[pair]) for name, pair in CASES], ids=["-".join(case) for case in CASES]
)

# Student features that a loss trains, if they are not both embeddings.
TRAINS = {
    "mfd": ["masked_image_embeds", "text_embeds"],
    "inter_image": ["image_embeds"],
    "patch": ["image_tokens"],
    "patch_text": ["image_tokens"],
    "reader": ["image_tokens"],
    "caption": ["image_tokens"],
}
# Losses whose value is 0 where the student's features are the teacher's: distances, and divergences less the entropy.
ZERO_AT_TEACHER = ["crd", "cross_kd", "fd", "mfd", "gd", "siglip_kd", "relation", "inter_image", "cka"]
# Losses that learn a head even where the widths are equal; a wider input makes it another head.
ALWAYS_A_HEAD = ["afd", "patch_text"]
FAST = [(1e-3, "bf16"), (1.0, "fp32"), (1e3, "fp16")]  # Each precision and each magnitude once.


def pair_of(dims, dtype=torch.float32):
    return features(dims[0], 1, dtype), features(dims[1], 2, dtype)


@every_case
def test_is_finite_and_not_negative(name, dims):
    value = build(name, dims)(*pair_of(dims))
    assert value.shape == () and value.dtype == torch.float32
    assert torch.isfinite(value) and value >= 0


@every_case
def test_gradient_reaches_student_and_heads_but_not_teacher(name, dims):
    loss = build(name, dims)
    student, teacher = map(leaves, pair_of(dims))
    teachers = [tensor for owner in (teacher, *teacher.members) for tensor in owner.tensors().values()]
    before = [tensor.detach().clone() for tensor in teachers]
    loss(student, teacher).backward()

    gradients = {key: value.grad for key, value in student.tensors().items() if value.grad is not None}
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    for key in TRAINS.get(name, ["image_embeds", "text_embeds"]):
        assert gradients[key].abs().sum() > 0, key
    for key, parameter in loss.named_parameters():
        assert parameter.grad.abs().sum() > 0 and torch.isfinite(parameter.grad).all(), key
    assert all(tensor.grad is None for tensor in teachers)
    assert all(torch.equal(*pair) for pair in zip(teachers, before, strict=True))


@every_case
def test_gradient_is_that_of_finite_differences(name, dims):
    loss = build(name, dims).double()
    student, teacher = pair_of(dims, torch.float64)
    student = leaves(student)

    def value(*inputs):
        values = dict(zip(student.tensors(), inputs, strict=False))
        return loss(replace(student, **values), teacher)

    # The heads and scales follow the features: gradcheck varies them in place.
    inputs = [*student.tensors().values(), *loss.parameters()]
    torch.autograd.gradcheck(value, inputs, atol=1e-6, fast_mode=True)


@every_case
@pytest.mark.parametrize(
    ("magnitude", "dtype"),
    [
        pytest.param(size, dtype, id=f"{size}-{name}", marks=[pytest.mark.slow] * ((size, name) not in FAST))
        for size in (1e-3, 1.0, 1e3)
        for name, dtype in {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}.items()
    ],
)
def test_any_precision_and_magnitude_is_computed_in_fp32(name, dims, dtype, magnitude):
    loss = build(name, dims)
    given = [scaled(values, magnitude) for values in pair_of(dims, dtype)]
    given[0] = leaves(given[0])
    expected = loss(*[values.map(torch.Tensor.float) for values in given])

    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(*given)
    assert value.dtype == torch.float32 and torch.isfinite(value)
    torch.testing.assert_close(value, expected)  # the same numbers in fp32: nothing was computed in halves

    value.backward()
    gradients = [x.grad for x in (*given[0].tensors().values(), *loss.parameters()) if x.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert torch.isfinite(loss.to(dtype)(*given))  # heads in halves, as DeepSpeed keeps them


@every_case
def test_bf16_is_close_to_fp32(name, dims):
    loss = build(name, dims)
    pair = pair_of(dims)
    half = loss(*[with_moments(values.map(torch.Tensor.bfloat16)) for values in pair])
    torch.testing.assert_close(half, loss(*pair), rtol=5e-2, atol=5e-2)


@every_case
def test_says_whether_it_learns_from_one_pair(name, dims):
    loss = build(name, dims)
    student, teacher = (leaves(rows_of(values, torch.tensor([0]))) for values in pair_of(dims))
    loss(student, teacher).backward()
    features_of_rows = [x for x in student.tensors().values() if x.ndim and x.grad is not None]
    learns = any(x.grad.abs().max() > 1e-6 for x in features_of_rows)
    # The answer to one right pair is a gradient, but the student never sees a wrong pair.
    assert loss.needs_others == (not learns or name in ("siglip", "siglip_kd"))


@every_case
def test_order_of_pairs_does_not_matter(name, dims):
    loss = build(name, dims).double()
    pair = pair_of(dims, torch.float64)
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(3))
    shuffled = [rows_of(values, order) for values in pair]
    torch.testing.assert_close(loss(*shuffled), loss(*pair), rtol=1e-12, atol=1e-12)


@every_case
def test_state_dict_round_trip(name, dims):
    first, second = build(name, dims), build(name, dims)
    for parameter in second.parameters():
        torch.nn.init.normal_(parameter)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(*pair_of(dims)), second(*pair_of(dims)))
    # DeepSpeed and FSDP 2 refuse 0-dim parameters.
    assert all(parameter.ndim >= 1 for parameter in first.parameters())


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ALWAYS_A_HEAD])
def test_zero_padding_the_width_changes_nothing(name):
    wide = replace(STUDENT, embed_dim=NARROW + 8)
    pair = pair_of((STUDENT, STUDENT))
    loss, wider = build(name, (STUDENT, STUDENT)), build(name, (wide, wide))
    torch.testing.assert_close(wider(*[padded(values, 8) for values in pair]), loss(*pair))


@pytest.mark.parametrize("name", ALWAYS_A_HEAD)
def test_these_learn_a_head_for_equal_widths(name):
    assert any(parameter.ndim == 2 for parameter in build(name, PAIRS["same width"]).parameters())


@pytest.mark.parametrize("name", ZERO_AT_TEACHER)
def test_imitation_is_perfect_where_student_is_the_teacher(name):
    dims = PAIRS["biased"][0]
    loss, same = build(name, (dims, dims)).double(), features(dims, 1, torch.float64)
    if hasattr(loss, "logit_scale") and isinstance(loss.logit_scale, torch.nn.Parameter):
        loss.logit_scale.data.fill_(same.logit_scale.log())
    same = replace(same, masked_image_embeds=same.image_embeds)
    student = leaves(same)
    value = loss(student, same)
    assert value.item() == pytest.approx(0, abs=1e-12)
    value.backward()
    for gradient in (x.grad for x in student.tensors().values() if x.grad is not None):
        assert gradient.abs().max() < 1e-7


@every_loss
def test_has_the_facts_that_tables_and_cards_show(name):
    cls = LOSSES[name]
    own = vars(cls)
    assert {"teaches", "formula", "paper", "reported"} <= set(own), "facts of its own, not those of its base class"
    assert cls.teaches[0].isupper() and cls.teaches.endswith(".") and cls.teaches.count(".") == 1
    assert len(cls.teaches.split()) <= 20 and cls.formula and not cls.formula.endswith(".")
    assert set(cls.paper) == {"title", "id"}
    assert cls.reported is None or 0 < cls.reported < 100


@every_loss
def test_docstring_has_a_first_sentence_the_paper_and_the_weight(name):
    cls = LOSSES[name]
    first_line = cls.__doc__.strip().splitlines()[0]
    assert first_line.endswith(".") and first_line.count(". ") == 0
    assert f"https://huggingface.co/papers/{cls.paper['id']}" in cls.__doc__
    assert cls.default_weight > 0 and f"efault weight {cls.default_weight:g}" in " ".join(cls.__doc__.split())
    assert cls.__module__ == f"hf_clip_kd.losses.{name}"


@every_loss
def test_request_and_constructor_have_the_same_defaults(name):
    request, init = (inspect.signature(f).parameters for f in (LOSSES[name].request, LOSSES[name].__init__))
    options = {k: p.default for k, p in request.items() if p.kind is p.KEYWORD_ONLY}
    assert options == {k: init[k].default for k in options}


@every_loss
def test_width_that_does_not_fit(name):
    loss = build(name, PAIRS["same width"])
    fits, wide = features(STUDENT, 1), features(CLIPDims(WIDE, token_dim=STUDENT.token_dim), 1)
    with pytest.raises(ValueError, match=r"student's `image_embeds` are 24 wide\. .* width 16\. .*embed_dim=24"):
        loss(wide, fits)
    if loss.needs_teacher:
        with pytest.raises(ValueError, match=r"teacher's `image_embeds` are 24 wide"):
            loss(fits, wide)


@every_loss
def test_tower_without_text(name):
    if LOSSES[name].needs_text:
        blind = replace(STUDENT, has_text=False)
        with pytest.raises(ValueError, match="The student has no text tower.*leave this loss out"):
            LOSSES[name](blind, STUDENT)
    if LOSSES[name].needs_text and LOSSES[name].needs_teacher:
        with pytest.raises(ValueError, match="The teacher has no text tower.*leave this loss out"):
            LOSSES[name](STUDENT, blind)
    if not LOSSES[name].needs_text:
        dims = replace(STUDENT, has_text=False)
        pair = [replace(features(dims, seed), text_embeds=None, synthetic_text_embeds=None) for seed in (1, 2)]
        assert torch.isfinite(build(name, (dims, dims))(*pair))


def test_crd_ignores_a_bias_and_stays_finite_where_a_target_underflows():
    loss = build("crd", PAIRS["same width"])
    student, teacher = features(STUDENT, 1, scale=100.0), features(STUDENT, 2, scale=100.0)
    value = loss(student, teacher)
    assert torch.isfinite(value)
    torch.testing.assert_close(loss(student, replace(teacher, logit_bias=torch.tensor(-10.0))), value)


def test_fd_mean_is_the_sum_over_the_width_divided_by_it():
    dims = PAIRS["wider teacher"]
    total, mean, published = (
        build("fd", dims, **options)(*pair_of(dims))
        for options in ({}, {"reduction": "mean"}, {"upstream_compat": True})
    )
    torch.testing.assert_close(mean, total / WIDE)
    assert torch.equal(mean, published)


def test_siglip_of_a_student_without_bias_learns_its_own():
    loss, own = build("siglip", PAIRS["same width"]), build("siglip", PAIRS["biased"])
    student = features(STUDENT, 1)
    assert loss.logit_bias.tolist() == [-10.0]
    assert own.logit_bias is None
    torch.testing.assert_close(loss(student), own(replace(student, logit_bias=torch.tensor(-10.0))))


def test_published_icl_scale_is_a_raw_factor_and_unclamped():
    loss = build("icl", PAIRS["same width"], upstream_compat=True)
    loss.logit_scale.data.fill_(9.0)
    loss.clamp_scales_()
    assert loss.logit_scale.item() == 9.0
