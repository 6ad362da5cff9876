"""Statistics of tokens, probes and patch-text alignment: against scipy, numpy, scikit-learn and by hand."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from sklearn.model_selection import KFold

from hf_clip_kd.data.shapes.scenes import draw_scenes
from hf_clip_kd.evaluation.representation import (
    TokenStatistics,
    align_patches,
    effective_rank,
    knn_probe,
    linear_probe,
    object_masks,
    points_at,
    share_of_outliers,
)


@pytest.mark.parametrize(
    ("singular_values", "expected"),
    [([3, 3, 3, 3, 3], 5), ([7, 0, 0], 1), ([2, 1, 1], 2**1.5), ([0, 0], 0)],
)
def test_effective_rank_closed_forms(singular_values, expected):
    assert effective_rank(torch.tensor(singular_values, dtype=torch.float64)) == pytest.approx(expected)


def test_effective_rank_is_the_entropy_of_the_spectrum():
    values = np.random.default_rng(0).exponential(size=50)
    assert effective_rank(torch.tensor(values)) == pytest.approx(np.exp(scipy.stats.entropy(values)))


def test_token_statistics_against_numpy():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(30, 7, 12)) @ np.diag(np.geomspace(1, 0.01, 12)) + 5
    statistics = TokenStatistics()
    for batch in np.array_split(tokens, [10, 11]):
        statistics.update(torch.tensor(batch))
    values = statistics.compute()
    rows = tokens.reshape(-1, 12)
    norms = np.linalg.norm(rows, axis=1)
    spectrum = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
    assert values["effective_rank"] == pytest.approx(np.exp(scipy.stats.entropy(spectrum)), rel=1e-6)
    assert values["token_norm"] == pytest.approx(norms.mean())
    assert values["token_norm_cv"] == pytest.approx(scipy.stats.variation(norms))
    assert values["token_outliers"] == 0
    assert tuple(values) == TokenStatistics.metric_names


def test_planted_outliers_are_counted():
    tokens = torch.randn(50, 16, 64)
    tokens[:, :, 3] *= 100  # one channel of massive activations
    statistics = TokenStatistics()
    statistics.update(tokens)
    assert statistics.compute()["channel_outliers"] == 1 / 64
    tokens = F.normalize(torch.randn(50, 16, 64), dim=-1) * (1 + 0.1 * torch.rand(50, 16, 1))
    tokens[::2, 5] *= 10  # an artefact in half of the images
    statistics = TokenStatistics()
    statistics.update(tokens)
    assert statistics.compute()["token_outliers"] == pytest.approx(25 / 800)


def test_collapsed_tokens():
    statistics = TokenStatistics()
    statistics.update(torch.zeros(4, 3, 5))
    assert set(statistics.compute().values()) == {0.0}


def test_outer_fence():
    values = torch.arange(1.0, 101)  # quartiles 25 and 75, so the fence is at 225
    assert share_of_outliers(values) == 0
    assert share_of_outliers(torch.cat([values[:-2], torch.tensor([224.0, 226.0])])) == 0.01
    assert share_of_outliers(torch.tensor([3.0])) == 0
    assert share_of_outliers(torch.randn(100_000).double()) < 1e-4


def clusters(classes=4, each=30, spread=0.1):
    labels = torch.arange(classes).repeat(each)
    return F.one_hot(labels, 8).float() + spread * torch.randn(len(labels), 8), labels.tolist()


@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
def test_probes_find_what_is_there_and_no_more(probe):
    features, labels = clusters()
    assert probe(features, labels) == 1
    assert probe(features, [f"class {label}" for label in labels]) == 1
    features = torch.randn(400, 4)
    assert probe(features, torch.randint(4, (400,)).tolist()) == pytest.approx(0.25, abs=0.1)


def test_linear_probe_does_not_mind_the_scale_of_channels():
    features, labels = clusters(spread=0.4)
    assert linear_probe(features * torch.logspace(-4, 4, 8), labels) == pytest.approx(
        linear_probe(features, labels), abs=0.01
    )


def test_knn_probe_by_hand():
    """Votes of the 20 nearest by cosine, weighted as DINO does, each fifth judged by the rest."""
    features, labels = clusters(spread=0.6)
    unit, labels_array = F.normalize(features, dim=-1).double().numpy(), np.array(labels)
    right = 0
    for known, asked in KFold(5, shuffle=True, random_state=0).split(unit):
        for row in asked:
            cosines = unit[known] @ unit[row]
            nearest = np.argsort(-cosines)[:20]
            votes = np.bincount(labels_array[known][nearest], np.exp(cosines[nearest] / 0.07), minlength=4)
            right += votes.argmax() == labels_array[row]
    assert 0.5 < right / len(labels) < 1
    assert knn_probe(features, labels) == pytest.approx(right / len(labels))


def test_knn_probe_of_few_samples():
    features, labels = clusters(classes=2, each=4)
    assert 0 <= knn_probe(features, labels) <= 1


def test_patches_and_texts_by_hand():
    texts = torch.eye(3)
    patches = torch.tensor(
        [
            [
                [1.0, 0, 0],
                [0, 0.9, 0.1],
                [0, 0.6, 0.4],
                [0.5, 0.5, 0.5],
            ],  # the first patch is nearest, to the first text
            [[0.3, 0.3, 0.4], [0, 0, 5], [0.3, 0.4, 0.3], [1, 1, 1]],
        ]
    )
    near_texts, near_patches = align_patches(patches, texts, torch.tensor([1, 2]))
    assert near_texts.tolist() == [0, 2]
    assert near_patches.tolist() == [1, 1]


def test_how_deep_in_its_cone_a_patch_lies_says_nothing():
    """All texts share a direction, and the first patch is background that lies in it."""
    cone = torch.tensor([0.0, 0, 3])
    texts = F.normalize(torch.tensor([[1.0, 0, 0], [0, 1, 0]]) + cone, dim=-1)
    patches = torch.tensor([[[0.0, 0, 9], [0.2, -1, 1], [0, 0, 8], [0, 0, 7]]])
    own = torch.tensor([0])
    assert (F.normalize(patches[0], dim=-1) @ texts[0]).argmax() != 1  # plain cosines point at the background
    near_texts, near_patches = align_patches(patches, texts, own)
    assert (near_texts.item(), near_patches.item()) == (0, 1)


@pytest.mark.parametrize(("patches", "mask_side"), [(4, 2), (16, 2), (4, 8), (9, 9)])
def test_pointing(patches, mask_side):
    """The object fills the lower right quarter."""
    mask = np.zeros((mask_side, mask_side), dtype=int)
    mask[mask_side // 2 :, mask_side // 2 :] = 1
    side = math.isqrt(patches)
    on = [points_at(patch, patches, mask.tolist()) for patch in range(patches)]
    expected = [row >= side // 2 and column >= side // 2 for row in range(side) for column in range(side)]
    assert on == expected


def test_object_masks_are_where_the_objects_are():
    scenes = draw_scenes(3, "zero_shot", 0)
    masks = np.array(object_masks("zero_shot", 600, seed=3))
    assert masks.shape == (600, 4, 4)
    assert (masks.sum(axis=(1, 2)) == 4).all()
    for mask, (x, y) in zip(masks[:512], scenes.center[:, 0], strict=True):
        assert mask[int(y // 8), int(x // 8)] == 1
