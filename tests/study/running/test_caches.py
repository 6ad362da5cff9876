"""The losses that one cache of a teacher is written for."""

from hf_clip_kd.losses import requested, requested_by_all
from hf_clip_kd.study.running.caches import cache_losses

PATCH = {"clip": 1.0, "patch": 1.0}
HEAVY = {"clip": 1.0, "patch": 5.0}
TEXT = {"clip": 1.0, "patch_text": 1.0}
LAST = {"clip": 1.0, "patch": {"teacher_layer": -1}}


def test_embeddings_are_enough_for_losses_without_tokens():
    assert cache_losses({"fd": {"clip": 1.0, "fd": 4.0}, "mfd": "mfd"}) == {"fd": "clip_kd", "mfd": "clip_kd"}


def test_one_cache_is_written_for_the_union():
    assert cache_losses({"clip_kd": "clip_kd", "one": PATCH, "five": HEAVY}) == dict.fromkeys(
        ["clip_kd", "one", "five"], PATCH
    )
    found = cache_losses({"clip_kd": "clip_kd", "patch": PATCH, "text": TEXT})
    assert found == dict.fromkeys(["clip_kd", "patch", "text"], [PATCH, TEXT])
    assert requested_by_all(found["text"]) == requested_by_all([PATCH, TEXT])


def test_another_layer_of_the_teacher_needs_a_cache_of_its_own():
    found = cache_losses({"clip_kd": "clip_kd", "patch": PATCH, "last": LAST, "text": TEXT})
    assert found["last"] == LAST and found["clip_kd"] == found["patch"] == found["text"] == [PATCH, TEXT]


def test_each_objective_finds_what_it_reads():
    objectives = {"clip_kd": "clip_kd", "last": LAST, "patch": PATCH, "text": TEXT}
    for name, losses in cache_losses(objectives).items():
        runs = losses if isinstance(losses, list) else [losses]
        stored, read = requested_by_all(runs), requested(objectives[name])
        assert read.teacher_layer in (None, stored.teacher_layer) and read.patch_embeds <= stored.patch_embeds
