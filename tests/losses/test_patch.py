"""The losses that read tokens or a second, masked pass: `patch`, `patch_text` and `mfd`, value by value."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from loss_inputs import BATCH, PAIRS, STUDENT, TEACHER, build, features

from hf_clip_kd.losses import LOSSES, chunks, requested
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures, FeatureRequest
from hf_clip_kd.losses.patch import standardised


def double(dims: CLIPDims, seed: int) -> CLIPFeatures:
    return features(dims, seed, torch.float64)


def test_patch_is_the_formula():
    loss, student, teacher = build("patch", PAIRS["same width"]).double(), double(STUDENT, 1), double(STUDENT, 2)
    flat = teacher.image_tokens.flatten(0, 1)
    targets = (teacher.image_tokens - flat.mean(0)) / flat.std(0, correction=0)
    expected = []
    for z, n in zip(student.image_tokens.flatten(0, 1), targets.flatten(0, 1), strict=True):
        d = (z - n).abs()
        smooth = torch.where(d < 1, d.square() / 2, d - 0.5).mean()
        expected.append(0.9 * (1 - z @ n / (z.norm() * n.norm())) + 0.1 * smooth)
    values = loss.values(student, teacher)
    torch.testing.assert_close(values, torch.stack(expected).reshape(BATCH, -1).mean(dim=1))
    torch.testing.assert_close(loss(student, teacher), values.mean())


def test_patch_is_perfect_at_the_standardised_teacher_whatever_its_scale_and_grid():
    loss, teacher = build("patch", PAIRS["same width"]).double(), double(STUDENT, 2)
    student = replace(teacher, image_tokens=standardised(teacher.image_tokens))
    assert loss(student, teacher).item() == pytest.approx(0, abs=1e-12)
    far = replace(teacher, image_tokens=50 * teacher.image_tokens + 7, token_moments=None)
    assert loss(student, far).item() == pytest.approx(0, abs=1e-12)


def test_patch_standardises_with_the_moments_of_the_whole_batch():
    """One process holds a third of the images and the moments of all of them."""
    loss, student, teacher = build("patch", PAIRS["wider teacher"]), double(STUDENT, 1), double(TEACHER, 2)
    loss = loss.double()
    part = slice(2, 4)
    own = loss.values(
        replace(student, image_tokens=student.image_tokens[part]),
        replace(teacher, image_tokens=teacher.image_tokens[part]),
    )
    torch.testing.assert_close(own, loss.values(student, teacher)[part])


def test_patch_without_moments_takes_those_of_the_tokens():
    loss, student, teacher = build("patch", PAIRS["wider teacher"]).double(), double(STUDENT, 1), double(TEACHER, 2)
    torch.testing.assert_close(loss(student, replace(teacher, token_moments=None)), loss(student, teacher))


def test_standardised_channels():
    tokens = 100 + torch.randn(4, 9, 3, generator=torch.Generator().manual_seed(0))
    tokens[..., 1] = 5.0  # never varies
    tokens[..., 2] = 0.0
    out = standardised(tokens.double())
    torch.testing.assert_close(out[..., 0].mean(), torch.tensor(0.0, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(out[..., 0].std(correction=0), torch.tensor(1.0, dtype=torch.float64))
    assert torch.equal(out[..., 1:], torch.zeros_like(out[..., 1:]))
    # The fp32 variance of a nearly constant channel is rounding, perhaps below 0. It is not blown up.
    still = 1000 + 0.001 * torch.randn(4, 9, 8, generator=torch.Generator().manual_seed(1))
    assert standardised(still).abs().max() < 0.01


def test_patch_of_texts_is_the_formula():
    loss, student, teacher = build("patch_text", PAIRS["same width"]).double(), double(STUDENT, 1), double(STUDENT, 2)
    texts, expected = F.normalize(teacher.text_embeds, dim=-1), []
    tokens = student.image_tokens @ loss.token_proj.weight.T + loss.token_proj.bias
    for image in range(BATCH):
        divergences, weights = [], []
        for z, u in zip(tokens[image], teacher.patch_embeds[image], strict=True):
            q_s, q_t = (torch.softmax(14.0 * texts @ (x / x.norm()), dim=0) for x in (z, u))
            divergences.append((q_t * (q_t / q_s).log()).sum())
            weights.append(1 + (q_t * q_t.log()).sum() / math.log(BATCH))
        divergences, weights = torch.stack(divergences), torch.stack(weights)
        expected.append((weights * divergences).sum() / weights.sum())
    torch.testing.assert_close(loss.values(student, teacher), torch.stack(expected))


def test_patch_text_is_perfect_where_the_head_gives_the_teachers_patches():
    dims = CLIPDims(STUDENT.embed_dim, token_dim=STUDENT.embed_dim)
    loss, teacher = build("patch_text", (dims, STUDENT)).double(), double(STUDENT, 2)
    with torch.no_grad():
        loss.token_proj.weight.copy_(torch.eye(STUDENT.embed_dim))
        loss.token_proj.bias.zero_()
    student = replace(double(STUDENT, 1), image_tokens=5 * teacher.patch_embeds)
    assert loss(student, teacher).item() == pytest.approx(0, abs=1e-12)


def test_patch_text_scales():
    student, teacher = double(STUDENT, 1), double(TEACHER, 2)

    def value(**options):
        return build("patch_text", PAIRS["wider teacher"], **options).double()(student, teacher)

    torch.testing.assert_close(value(logit_scale=14.0, teacher_logit_scale=14.0), value())
    torch.testing.assert_close(value(teacher_logit_scale=3.0), value(logit_scale=3.0, teacher_logit_scale=3.0))
    assert abs(value(logit_scale=3.0) - value()) > 1e-3


def test_patch_text_in_blocks_is_the_same(monkeypatch):
    def run():
        loss, student = build("patch_text", PAIRS["wider teacher"]).double(), double(STUDENT, 1)
        student.image_tokens.requires_grad_()
        value = loss(student, double(TEACHER, 2))
        value.backward()
        return value.detach(), student.image_tokens.grad, loss.token_proj.weight.grad

    whole = run()
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 1)  # every image on its own
    torch.testing.assert_close(run(), whole, rtol=1e-12, atol=1e-12)


def test_patch_text_holds_one_block_of_similarities_for_the_backward_pass(monkeypatch):
    texts, patches, images = 64, 4, 32
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 2 * patches * texts)
    loss, saved = build("patch_text", (STUDENT, STUDENT)), []
    student = CLIPFeatures(torch.randn(texts, 16), image_tokens=torch.randn(images, patches, 10), image_grid=(2, 2))
    teacher = CLIPFeatures(
        torch.randn(texts, 16),
        torch.randn(texts, 16),
        torch.tensor(10.0),
        patch_embeds=torch.randn(images, patches, 16),
        image_grid=(2, 2),
    )
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
        loss(student, teacher)
    assert max(saved) <= max(images * patches * 16, texts * 16) < images * patches * texts


@pytest.mark.parametrize("case", ["one text", "teacher without a preference"])
def test_patch_text_with_nothing_to_learn_is_finite(case):
    loss, student, teacher = build("patch_text", PAIRS["wider teacher"]), features(STUDENT, 1), features(TEACHER, 2)
    texts = teacher.text_embeds[:1]
    student.image_tokens.requires_grad_()
    value = loss(student, replace(teacher, text_embeds=texts if case == "one text" else texts.expand(BATCH, -1)))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-5)
    assert student.image_tokens.grad.abs().max() < 1e-5


def test_mfd_is_fd_of_the_masked_image():
    student, teacher = features(STUDENT, 1), features(TEACHER, 2)
    for options in ({}, {"reduction": "mean"}, {"upstream_compat": True}):
        expected = build("fd", PAIRS["wider teacher"], **options)(
            replace(student, image_embeds=student.masked_image_embeds), teacher
        )
        assert torch.equal(build("mfd", PAIRS["wider teacher"], **options)(student, teacher), expected)


@pytest.mark.parametrize("ratio", [-0.1, 1, 1.5, math.nan])
def test_mask_ratio_that_is_no_share(ratio):
    with pytest.raises(ValueError, match=r"mask_ratio=.*'mfd'.*less than 1.*'mask_ratio': 0\.75"):
        build("mfd", PAIRS["same width"], mask_ratio=ratio)


def test_mfd_without_masked_embeds():
    with pytest.raises(ValueError, match=r"no `masked_image_embeds`.*CLIPFeatures\(\.\.\., masked_image_embeds="):
        build("mfd", PAIRS["same width"])(
            replace(features(STUDENT, 1), masked_image_embeds=None), features(STUDENT, 2)
        )


def test_what_they_ask_for():
    assert requested("mfd") == FeatureRequest(mask_ratio=0.75)
    assert requested({"mfd": {"mask_ratio": 0}}).mask_ratio == 0
    assert requested("patch") == FeatureRequest(layer=-2, teacher_layer=-2, token_moments=True)
    assert requested({"patch": {"layer": 3, "teacher_layer": 5}}).teacher_layer == 5
    assert requested("patch_text").patch_embeds and requested("patch_text").layer == -2


@pytest.mark.parametrize("name", ["patch", "patch_text"])
def test_tokens_of_unknown_width(name):
    with pytest.raises(ValueError, match="reads the student's image tokens, whose width is unknown.*token_dim="):
        LOSSES[name](replace(STUDENT, token_dim=None), TEACHER)
    if name == "patch":
        with pytest.raises(ValueError, match="reads the teacher's image tokens, whose width is unknown"):
            LOSSES[name](STUDENT, replace(TEACHER, token_dim=None))


@pytest.mark.parametrize(("name", "read"), [("patch", "image_tokens"), ("patch_text", "patch_embeds")])
def test_tokens_that_are_missing_or_do_not_fit(name, read):
    loss, student, teacher = build(name, (STUDENT, TEACHER)), features(STUDENT, 1), features(TEACHER, 2)
    with pytest.raises(ValueError, match=r"student's features have no `image_tokens`.*requested\(losses\)"):
        loss(replace(student, image_tokens=None), teacher)
    with pytest.raises(ValueError, match=rf"teacher's features have no `{read}`.*'{name}'.*{read}=tokens"):
        loss(student, replace(teacher, **{read: None}))
    with pytest.raises(ValueError, match="teacher's features have no `image_grid`"):
        loss(student, replace(teacher, image_grid=None))
    with pytest.raises(ValueError, match=r"student's `image_tokens` are 14 wide\. .* width 10\..*token_dim=14"):
        loss(replace(student, image_tokens=teacher.image_tokens), teacher)
    with pytest.raises(ValueError, match=rf"teacher's `{read}` are 3 wide"):
        loss(student, replace(teacher, **{read: torch.randn(BATCH, 12, 3)}))
    with pytest.raises(ValueError, match="need a teacher"):
        loss(student)
