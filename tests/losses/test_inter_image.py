"""The similarity to the teacher's images against torch's divergence, row by row."""

import pytest
import torch
import torch.nn.functional as F
from loss_inputs import PAIRS, STUDENT, TEACHER, build, features


@pytest.mark.parametrize("dims", ["same width", "wider teacher"])
def test_inter_image_is_the_divergence_of_each_images_neighbours(dims):
    dims = PAIRS[dims]
    loss, student, teacher = build("inter_image", dims), features(dims[0], 1), features(dims[1], 2)
    images, targets = loss.image_proj(student.image_embeds), teacher.image_embeds
    rows = []
    for own, target in zip(images, targets, strict=True):
        # The student's image and the teacher's, each compared with all images as the teacher sees them.
        p, q = (torch.stack([F.cosine_similarity(x, y, dim=0) for y in targets]) / 0.2 for x in (own, target))
        p, q = (torch.distributions.Categorical(logits=x) for x in (p, q))
        rows.append(torch.distributions.kl_divergence(q, p))
    built = build("inter_image", dims, temperature=0.2)
    torch.testing.assert_close(built(student, teacher), torch.stack(rows).mean())


def test_temperature():
    student, teacher = features(STUDENT, 1), features(TEACHER, 2)
    default, written, warm = (
        build("inter_image", (STUDENT, TEACHER), **options)(student, teacher)
        for options in ({}, {"temperature": 0.07}, {"temperature": 1.0})
    )
    assert torch.equal(default, written) and warm < default
    for temperature in (0, -1.0, float("inf"), 10**400, True, "warm"):
        with pytest.raises(
            ValueError, match=r"temperature=.* in the loss 'inter_image'.*above 0.*'temperature': 0.07"
        ):
            build("inter_image", (STUDENT, TEACHER), temperature=temperature)
