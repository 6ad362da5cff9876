"""A cache of several layers and class tokens gives each run what the teacher would. Old caches stay as they are."""

import json
from dataclasses import replace

import pytest
import torch
from cache_world import SEED, VIEWS, rows, teacher, writer
from safetensors.torch import load_file
from teacher_models import tiny_clip, tiny_siglip

import hf_clip_kd as kd
from hf_clip_kd.losses import requested, requested_by_all
from hf_clip_kd.losses.features import FeatureRequest
from hf_clip_kd.teachers.cache import manifest

TWO = {"patch": {"pairs": [[-2, -3], [-1, -1, 0.5]], "summary": "class_token"}}
LAST = {"patch": {"teacher_layer": -1}}
RUNS = {
    "both layers": TWO,
    "both without class tokens": {"patch": {"pairs": [[-2, -3], [-1, -1]]}},
    "the last": LAST,
    "the last with class tokens": {"patch": {"teacher_layer": -1, "summary": "class_token"}},
    "patches in the joint space": {"patch_text": 1.0},
    "all kinds": TWO | {"patch_text": 1.0},
    "embeddings": "clip_kd",
}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The cache of all of them."""
    request = requested_by_all(RUNS.values())
    return writer(tmp_path_factory.mktemp("large"), teacher(), request=request, dtype=torch.float32).write()


def assert_same(found, expected):
    assert found.tensors().keys() == expected.tensors().keys() and found.image_grid == expected.image_grid
    for name, values in expected.tensors().items():
        torch.testing.assert_close(found.tensors()[name], values, rtol=1e-4, atol=1e-5)
    assert {at: x.image_grid for at, x in found.layers.items()} == {
        at: x.image_grid for at, x in expected.layers.items()
    }


@pytest.mark.parametrize("losses", RUNS.values(), ids=RUNS)
def test_each_run_gets_what_the_teacher_gives_it(large, losses, tmp_path):
    online = teacher()
    online.prepare(requested(losses)), large.prepare(requested(losses))
    assert large.dims == online.dims
    batch = kd.ReplayCollator(tiny_clip()[1], large, seed=SEED)(rows()[:4])
    asked = kd.CLIPDataCollator(tiny_clip()[1], online.processor, **VIEWS)(rows()[:4])
    assert_same(large.of_batch(batch), online.of_batch(asked))
    # An interrupted run goes on with a cache of its own, which has this manifest and so this identity.
    writer(tmp_path, teacher(), request=requested(losses), dtype=torch.float32)
    assert manifest.narrowed(large.manifest, requested(losses)) == manifest.read(tmp_path)


def test_files_of_a_single_layer_are_as_they_always_were(tmp_path):
    made = writer(tmp_path, teacher(), request=requested({"clip": 1.0} | LAST))
    made.write()
    written = json.loads((tmp_path / "cache.json").read_text())
    assert written["request"] == {
        "layer": None,
        "teacher_layer": -1,
        "patch_embeds": False,
        "token_moments": False,
        "mask_ratio": None,
    }
    (entry,) = written["teachers"]
    assert entry.keys() == {"weights", "dtype", "dims", "logit_scale", "logit_bias", "image_grid"}
    assert entry["dims"] == {"embed_dim": 24, "token_dim": 32, "has_text": True, "has_bias": False}
    assert entry["image_grid"] == [4, 4]
    names = {name for name in load_file(tmp_path / "shard-000000.safetensors") if name.startswith("0.")}
    assert names == {"0.image_embeds", "0.image_tokens", "0.text_embeds", "0.synthetic_text_embeds"}


def test_the_manifest_of_several_layers(large):
    entry = large.manifest["teachers"][0]
    assert large.manifest["request"]["teacher_layers"] == [-3, -1] and large.manifest["request"]["class_token"]
    assert entry["dims"]["token_dims"] == [[-3, 32], [-1, 32]] and entry["grids"] == [[-3, [4, 4]], [-1, [4, 4]]]
    large.check(teacher=teacher())


def test_what_a_cache_lacks(tmp_path, large):
    small = writer(tmp_path, teacher(), request=requested(LAST)).write()
    for cache, losses, match in (
        (small, TWO, r"lacks .*: tokens of teacher_layer=-3 \(stored: -1\) and class tokens\."),
        (small, {"patch_text": 1.0}, "lacks .*: patch embeddings"),
        (large, {"patch": 1.0}, r"tokens of teacher_layer=-2 \(stored: -3, -1\)"),
    ):
        with pytest.raises(ValueError, match=match):
            cache.prepare(requested(losses))
    with pytest.raises(ValueError, match="has no class token"):
        writer(tmp_path / "siglip", teacher(tiny_siglip), request=requested(TWO))


def test_several_teachers_with_layers(tmp_path):
    both = kd.TeacherEnsemble([teacher(), teacher(tiny_siglip)])
    request = FeatureRequest.of_layers((), (-2, -1))
    cache = writer(tmp_path, both, request=request, dtype=torch.float32).write()
    cache.prepare(replace(request, token_moments=True)), both.prepare(replace(request, token_moments=True))
    batch = kd.ReplayCollator(tiny_clip()[1], cache, seed=SEED)(rows()[:4])
    asked = kd.CLIPDataCollator(tiny_clip()[1], both.processor, **VIEWS)(rows()[:4])
    for found, expected in zip(cache.of_batch(batch).members, both.of_batch(asked).members, strict=True):
        assert list(found.layers) == [-2, -1]
        assert_same(found, expected)


def test_verification_recomputes_layers(tmp_path):
    made = writer(tmp_path, teacher(), request=requested(TWO))
    made.write()
    assert made.verify(batches=100) == 0.0
