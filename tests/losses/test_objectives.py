"""Published sums against their papers' formulas and their authors' computation; `test_loss_sum.py` has the numbers."""

import torch
import torch.nn.functional as F
from loss_inputs import PAIRS, STUDENT, TEACHER, features
from torch import nn

from hf_clip_kd.losses import LossSum, requested
from hf_clip_kd.losses.features import FeatureRequest

WIDER = PAIRS["wider teacher"]


def pair():
    return features(STUDENT, 1), features(TEACHER, 2)


def built(name):
    torch.manual_seed(0)
    return LossSum(name, *WIDER)


def mlp(head):
    """The head as torch's own modules."""
    shape = head[0].weight.shape
    twin = nn.Sequential(
        nn.Linear(shape[1], shape[0], bias=False),
        nn.LayerNorm(shape[0]),
        nn.GELU(),
        nn.Linear(shape[0], head[3].weight.shape[0], bias=False),
    )
    twin.load_state_dict(head.state_dict())
    return twin


def on_grid(tokens, grid, target, mode):
    return F.interpolate(tokens.mT.unflatten(2, grid), target, mode=mode, align_corners=False).flatten(2).mT


def agglomerative(losses, student, teacher, mode, normalise):
    """Equations 2 to 6 of EUPE, 2 and 3 of AM-RADIO. The student's map is the smaller here."""
    loss = losses.terms["patch"]
    tokens = on_grid(mlp(loss.token_proj)(student.image_tokens), (2, 3), (3, 4), mode)
    targets, first = normalise(teacher.image_tokens), normalise(teacher.class_token)
    cosine = nn.CosineSimilarity(dim=-1)
    patches = 0.9 * (1 - cosine(tokens, targets)).mean() + 0.1 * nn.SmoothL1Loss()(tokens, targets)
    return (1 - cosine(mlp(loss.summary.proj)(student.class_token), first)).mean() + patches


def centred(x):
    """Subtract the mean and divide by the deviation of each coordinate, measured on the first batch."""
    rows = x.flatten(0, -2)
    return (x - rows.mean(0)) / rows.std(0, correction=0)


def test_eupe():
    losses, (student, teacher) = built("eupe"), pair()
    expected = agglomerative(losses, student, teacher, "bicubic", centred)
    torch.testing.assert_close(losses(student, teacher)[0], expected, rtol=1e-4, atol=1e-5)
    assert losses.terms["patch"].token_proj[0].weight.shape == (3072, 10)
    later = losses(student, features(TEACHER, 5))[0]
    losses.eval()
    assert torch.equal(losses(student, features(TEACHER, 5))[0], later), "an evaluation counts nothing"
    assert requested("eupe") == FeatureRequest(layer=-1, teacher_layer=-1, token_moments=True, class_token=True)


def test_am_radio():
    losses, (student, teacher) = built("am_radio"), pair()
    expected = agglomerative(losses, student, teacher, "bilinear", lambda x: x)
    torch.testing.assert_close(losses(student, teacher)[0], expected)
    assert losses.terms["patch"].token_proj[0].weight.shape == (14, 10), "as wide as the teacher"
    assert losses.terms["patch"].summary.proj[0].weight.shape == (14, 10)
    assert requested("am_radio") == FeatureRequest(layer=-1, teacher_layer=-1, class_token=True)


def test_lightly():
    """The steps of its third method, the batch as the queue: batch means of divergences of row softmaxes."""
    losses, (student, teacher) = built("lightly"), pair()
    head_global, head_local = losses.terms["inter_image"].image_proj, losses.terms["relation"].token_proj
    divergence = nn.KLDivLoss(reduction="batchmean", log_target=False)

    def compare(own, target):
        return divergence((own / 0.07).log_softmax(dim=-1), (target / 0.07).softmax(dim=-1))

    queue = F.normalize(teacher.image_embeds, dim=-1)
    images = F.normalize(F.linear(student.image_embeds, head_global.weight, head_global.bias), dim=-1)
    inter = compare(torch.einsum("bd,cd->bc", images, queue), torch.einsum("bd,cd->bc", queue, queue))
    places = F.linear(student.image_tokens, head_local.weight, head_local.bias)
    places = F.normalize(on_grid(places, (2, 3), (3, 4), "bilinear"), dim=-1)
    targets = F.normalize(teacher.image_tokens, dim=-1)
    intra = compare(*(torch.einsum("bmd,bnd->bmn", x, x).flatten(0, 1) for x in (places, targets)))
    total, parts = losses(student, teacher)
    torch.testing.assert_close(
        parts, {"inter_image": inter.detach(), "relation": intra.detach()}, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(total, inter + 1.0 * intra, rtol=1e-4, atol=1e-5)


def test_layers_and_summary_by_option():
    found = requested({"eupe": {"layer": -2, "teacher_layer": -3, "summary": "image_embeds"}})
    assert found == FeatureRequest(layer=-2, teacher_layer=-3, token_moments=True)
    assert requested({"lightly": {"layer": -2}}) == FeatureRequest(layer=-2, teacher_layer=-1)
    assert built({"am_radio": {"summary": None}}).terms["patch"].summary is None
