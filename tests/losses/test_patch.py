"""The losses that read tokens or a second, masked pass: `patch`, `patch_text` and `mfd`, value by value."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from loss_inputs import BATCH, PAIRS, STUDENT, TEACHER, build, features, layered

from hf_clip_kd.losses import LOSSES, requested
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures, FeatureRequest
from hf_clip_kd.losses.parts import chunks
from hf_clip_kd.losses.parts.statistics import standardised


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


@pytest.mark.parametrize("dims", ["same width", "wider teacher"])
def test_patch_without_options_is_what_it_always_was_to_the_last_bit(dims):
    dims = PAIRS[dims]
    loss, student, teacher = build("patch", dims), features(dims[0], 1), features(dims[1], 2)
    assert list(loss.state_dict()) == (["token_proj.weight", "token_proj.bias"] if dims[0] != dims[1] else [])
    tokens = student.image_tokens
    if dims[0] != dims[1]:
        tokens = F.linear(tokens, loss.token_proj.weight, loss.token_proj.bias)
    mean, square = teacher.token_moments.mean(dim=0)
    variance = torch.maximum(square - mean.square(), 1e-6 * square)
    targets = (teacher.image_tokens - mean) / variance.clamp_min(torch.finfo(torch.float32).tiny).sqrt()
    if teacher.image_grid != student.image_grid:
        maps = targets.transpose(1, 2).unflatten(2, teacher.image_grid)
        maps = F.interpolate(maps, student.image_grid, mode="bilinear", align_corners=False, antialias=True)
        targets = maps.flatten(2).transpose(1, 2)
    cosine = 1 - F.cosine_similarity(tokens, targets, dim=-1)
    absolute = F.smooth_l1_loss(tokens, targets, reduction="none").mean(dim=-1)
    expected = (0.9 * cosine + 0.1 * absolute).mean(dim=1)
    assert torch.equal(loss.values(student, teacher), expected)
    # The random numbers of a run are those of before, too.
    state = torch.get_rng_state()
    torch.manual_seed(0)
    if dims[0] != dims[1]:
        torch.nn.Linear(dims[0].token_dim, dims[1].token_dim)
    assert torch.equal(torch.get_rng_state(), state)


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


def distance(tokens, targets):
    """Compute the two distances of tokens, a mean over patches."""
    d = (tokens - targets).abs()
    smooth = torch.where(d < 1, d.square() / 2, d - 0.5).mean(dim=-1)
    return (0.9 * (1 - F.cosine_similarity(tokens, targets, dim=-1)) + 0.1 * smooth).mean(dim=1)


def test_patch_with_an_mlp_between_equal_widths_and_raw_targets():
    loss = build("patch", PAIRS["same width"], hidden_dim=7, statistics="none").double()
    student, teacher = double(STUDENT, 1), double(STUDENT, 2)
    first, norm, last = (loss.token_proj[i] for i in (0, 1, 3))
    hidden = F.layer_norm(student.image_tokens @ first.weight.T, (7,), norm.weight, norm.bias)
    expected = distance(F.gelu(hidden) @ last.weight.T, teacher.image_tokens)
    torch.testing.assert_close(loss.values(student, teacher), expected)
    assert first.bias is last.bias is None


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_patch_on_the_larger_grid(interpolation):
    """The student's coarser map is resampled after its head, as torch does by default."""
    options = {"grid": "larger", "interpolation": interpolation, "statistics": "none"}
    loss = build("patch", PAIRS["wider teacher"], **options).double()
    student, teacher = double(STUDENT, 1), double(TEACHER, 2)
    maps = loss.token_proj(student.image_tokens).mT.unflatten(2, (2, 3))
    tokens = F.interpolate(maps, (3, 4), mode=interpolation).flatten(2).mT
    torch.testing.assert_close(loss.values(student, teacher), distance(tokens, teacher.image_tokens))
    swapped = build("patch", (TEACHER, STUDENT), **options).double()
    targets = F.interpolate(student.image_tokens.mT.unflatten(2, (2, 3)), (3, 4), mode=interpolation).flatten(2).mT
    expected = distance(swapped.token_proj(teacher.image_tokens), targets)
    torch.testing.assert_close(swapped.values(teacher, student), expected)


def test_patch_of_fixed_statistics():
    loss = build("patch", PAIRS["same width"], statistics=2).double()
    student, teachers = double(STUDENT, 1), [double(STUDENT, seed) for seed in (2, 3, 4)]
    values = [loss.values(student, teacher) for teacher in teachers]
    for index, value in enumerate(values):
        seen = torch.cat([teacher.image_tokens.flatten(0, 1) for teacher in teachers[: min(index + 1, 2)]])
        targets = (teachers[index].image_tokens - seen.mean(0)) / seen.std(0, correction=0)
        torch.testing.assert_close(value, distance(student.image_tokens, targets), rtol=1e-5, atol=1e-6)
    assert set(loss.state_dict()) == {"statistics.0.moments", "statistics.0.seen"}


def test_patch_of_several_layers_is_the_weighted_sum():
    layers = {-4: double(STUDENT, 1), -2: double(STUDENT, 2)}
    targets = {-9: double(TEACHER, 3), -1: double(TEACHER, 4)}
    dims = STUDENT.with_layers({-4: 10, -2: 10}), TEACHER.with_layers({-9: 14, -1: 14})
    pairs = [[-4, -9, 0.5], [-2, -1], [-2, -9, 2]]
    loss = build("patch", dims, pairs=pairs, statistics=3).double()
    value = loss.values(layered(layers), layered(targets))
    expected = 0
    for index, (layer, teacher_layer, weight) in enumerate([(-4, -9, 0.5), (-2, -1, 1.0), (-2, -9, 2.0)]):
        single = build("patch", PAIRS["wider teacher"]).double()
        single.load_state_dict(loss.token_proj[index].state_dict(prefix="token_proj."))
        expected = expected + weight * single.values(layers[layer], targets[teacher_layer])
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert [module.seen.item() for module in loss.statistics] == [1, 1, 1]
    with pytest.raises(ValueError, match="reads the teacher's image tokens, whose width is unknown"):
        build("patch", dims, pairs=[[-2, -5]])
    with pytest.raises(ValueError, match=r"teacher's features have no `image_tokens`"):
        loss(layered(layers), layered({-9: targets[-9], -3: targets[-1]}))


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
    student = replace(double(STUDENT, 1), image_tokens=5 * teacher.patch_embeds, class_token=None)
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
    assert requested({"patch": {"statistics": "none"}}) == FeatureRequest(layer=-2, teacher_layer=-2)
    assert requested({"patch": {"summary": "class_token"}}).class_token
    assert not requested({"patch": {"summary": "image_embeds"}}).class_token
    pairs = requested({"patch": {"pairs": [[-2, -1], [-4, -9, 0.5]]}})
    assert (pairs.layer, pairs.student_reads, pairs.teacher_reads) == (-4, (-4, -2), (-9, -1))
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
