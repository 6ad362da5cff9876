"""A cache gives what its teachers would have given of the same crops and captions, and nothing else."""

import json
import pickle

import pytest
import torch
from cache_world import CROPS, ROWS, SEED, VIEWS, dataset, ensemble, rows, teacher, writer
from miniature import logs
from safetensors.torch import load_file, save_file
from teacher_models import tiny_clip, tiny_siglip

import hf_clip_kd as kd
from hf_clip_kd.losses import requested, requested_by_all
from hf_clip_kd.teachers.cache.manifest import drop_alpha
from hf_clip_kd.teachers.cache.sample_id import probe, sample_id

BF16 = 2.0**-8  # more than half of its last bit


def features_of(cache, batch):
    features = cache.of_batch(batch)
    return features.members or (features,)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.bfloat16, BF16)])
def test_a_batch_is_what_the_teachers_see_online(tmp_path, dtype, tolerance):
    teachers = ensemble()
    cache = writer(tmp_path, teachers, dtype=dtype).write()
    assert len(cache) == ROWS - 1
    replay = kd.ReplayCollator(tiny_clip()[1], cache, seed=SEED, max_broken_fraction=1.0)
    online = kd.CLIPDataCollator(tiny_clip()[1], teachers.processor, **VIEWS, max_broken_fraction=1.0)
    seen = []
    for epoch in range(CROPS):
        replay.epoch = online.epoch = epoch
        stored, asked = replay(rows()[3:15]), online(rows()[3:15])
        for name in ("pixel_values", "input_ids", "synthetic_input_ids"):
            assert torch.equal(stored[name], asked[name]), name
        for member, expected in zip(features_of(cache, stored), teachers.of_batch(asked).members, strict=True):
            assert set(member.tensors()) == set(expected.tensors())
            for name, values in expected.tensors().items():
                torch.testing.assert_close(getattr(member, name), values, rtol=tolerance, atol=tolerance / 10)
        seen.append(stored["pixel_values"])
    assert not torch.allclose(seen[0], seen[1]), "each epoch has a crop of its own"
    replay.epoch = CROPS
    assert torch.equal(replay(rows()[3:15])["pixel_values"], seen[0]), "then they come again"


def test_a_cache_of_an_older_version_lies_on_white(tmp_path):
    made = writer(tmp_path / "old", teacher(), views={"drop_alpha": 0.0})
    cache = made.write()
    # The files of an older version name no rule.
    assert (
        "drop_alpha" not in cache.settings and "drop_alpha" in writer(tmp_path / "new", teacher()).manifest["settings"]
    )
    assert "dropped" not in load_file(next((tmp_path / "old").glob("shard-*.safetensors")))
    replay = kd.ReplayCollator(tiny_clip()[1], cache, seed=SEED, max_broken_fraction=1.0)
    white = kd.CLIPDataCollator(tiny_clip()[1], **VIEWS, drop_alpha=0.0, max_broken_fraction=1.0)
    assert torch.equal(replay(rows())["pixel_values"], white(rows())["pixel_values"])
    # A cache that was begun so goes on so; a new one takes the default.
    assert [drop_alpha(tmp_path / name) for name in ("old", "new", "none")] == [0.0, 0.5, 0.5]


def test_a_vision_teacher_and_patches(tmp_path):
    online = kd.TeacherEnsemble([teacher(), kd.FunctionTeacher(_pooled, **_declared())])
    request = requested({"patch": {"teacher_layer": -1}, "patch_text": 1.0})
    cache = writer(tmp_path, online.members[0], request=request, dtype=torch.float32).write()
    with pytest.raises(ValueError, match="lacks what the losses read: tokens of teacher_layer=-2"):
        cache.prepare(requested({"patch": {"teacher_layer": -2}}))
    cache.prepare(request)
    online.members[0].prepare(request)
    assert cache.dims == online.members[0].dims
    replay = kd.ReplayCollator(tiny_clip()[1], cache, seed=SEED)
    collator = kd.CLIPDataCollator(tiny_clip()[1], online.members[0].processor, **VIEWS)
    found = cache.of_batch(replay(rows()[:4]))
    expected = online.members[0].of_batch(collator(rows()[:4]))
    assert found.image_grid == expected.image_grid == (4, 4)
    for name in ("image_tokens", "patch_embeds"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5)

    both = writer(tmp_path / "both", online).write()
    assert [dims.has_text for dims in both.dims.members] == [True, False] and both.dims.has_text
    batch = kd.ReplayCollator(tiny_clip()[1], both, seed=SEED)(rows()[:4])
    assert "teacher_1_image_embeds" in batch and "teacher_1_text_embeds" not in batch


@pytest.mark.parametrize("losses", ["clip_kd", {"patch": 1.0}, {"patch_text": 1.0}], ids=str)
def test_a_cache_that_holds_more_serves_a_run_as_its_own(tmp_path, losses):
    all_of_it = requested_by_all(["clip_kd", {"patch": {"teacher_layer": -1}}, {"patch_text": 1.0}])
    losses = {"patch": {"teacher_layer": -1}} if "patch" in losses else losses
    large = writer(tmp_path / "large", teacher(), request=all_of_it, dtype=torch.float32).write()
    own = writer(tmp_path / "own", teacher(), request=requested(losses), dtype=torch.float32).write()
    found = []
    for cache in (large, own):
        cache.prepare(requested(losses))
        batch = kd.ReplayCollator(tiny_clip()[1], cache, seed=SEED)(rows()[:4])
        found.append((batch, cache.of_batch(batch)))
    (batch, features), (own_batch, own_features) = found
    assert batch.keys() == own_batch.keys() and features.image_grid == own_features.image_grid
    assert all(torch.equal(values, own_batch[name]) for name, values in batch.items())
    assert large.identity() == own.identity()  # An interrupted run goes on with either.


def _pooled(pixel_values, **texts):
    return {"image_embeds": pixel_values.mean(dim=(2, 3))}


def _declared():
    return {"processor": tiny_clip()[1], "dims": kd.CLIPDims(3, has_text=False)}


# ---- Training ----


def trained(folder, teacher, collator, losses, epochs):
    torch.manual_seed(1)
    student, processor = kd.load_clip("shapes-vit-t")
    args = kd.DistillationTrainingArguments(
        str(folder),
        losses=losses,
        per_device_train_batch_size=5,
        num_train_epochs=epochs,
        learning_rate=1e-3,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=SEED,
    )
    keep = [i for i in range(ROWS) if i != 7]
    trainer = kd.DistillationTrainer(
        student,
        args,
        teacher_model=teacher,
        train_dataset=dataset().select(keep),
        data_collator=collator(processor),
        processing_class=processor,
    )
    trainer.train()
    return logs(trainer, "loss"), trainer.student.state_dict()


@pytest.mark.parametrize(
    "many, losses",
    [
        (False, {"clip": 1, "crd": 1, "icl": 1, "fd": 4}),
        (False, {"clip": 1, "patch": 1}),
        (True, {"reinforced": 1, "fd": 4}),
        pytest.param(
            ({0: 1, 0.5: 0}, {0: 0, 0.25: 1}),
            {"clip": 1, "icl": {"weight": {"ramp": {0: 2, 1: 0.5}}}, "fd": {"weight": {0: 0, 0.25: 4}}},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_training_from_the_cache_is_training_online(tmp_path, many, losses):
    online = ensemble(*(many if isinstance(many, tuple) else ())) if many else teacher()
    cache = writer(tmp_path / "cache", online, dtype=torch.float32, request=requested(losses)).write()
    cache = kd.TeacherCache(tmp_path / "cache", getattr(online, "weights", None))

    def draw(processor):
        return kd.CLIPDataCollator(processor, online.processor, **VIEWS)

    def replay(processor):
        return kd.ReplayCollator(processor, cache, seed=SEED)

    # The run has as many epochs as crops, because a live teacher sees other crops after that.
    expected, weights = trained(tmp_path, online, draw, losses, CROPS)
    found, same = trained(tmp_path, cache, replay, losses, CROPS)
    assert found == pytest.approx(expected, rel=1e-4) and len(found) == 4 * CROPS
    for name, value in weights.items():
        torch.testing.assert_close(same[name], value, rtol=1e-3, atol=1e-4)

    if "crd" in losses:
        cache = writer(tmp_path / "half", online).write()
        rounded, _ = trained(tmp_path, cache, replay, losses, CROPS)
        assert rounded == pytest.approx(expected, rel=BF16) and rounded != found


def test_a_cache_is_a_teacher(tmp_path):
    cache = writer(tmp_path, teacher()).write()
    assert isinstance(cache, kd.Teacher) and kd.load_teacher(cache) is cache
    assert not list(cache.parameters()) and not cache.state_dict()
    with pytest.raises(ValueError, match="has the member TeacherCache, which sees no images.*one cache of the whole"):
        kd.load_teacher([cache, teacher()])


def test_a_batch_without_the_cache_is_refused(tmp_path):
    cache = writer(tmp_path / "cache", teacher()).write()
    with pytest.raises(
        ValueError, match=r"holds no features of the teacher cache.*ReplayCollator\(processor, cache\)"
    ):
        trained(tmp_path, cache, kd.CLIPDataCollator, {"crd": 1.0}, 1)


def test_workers_read_what_the_main_process_reads(tmp_path):
    cache = writer(tmp_path, teacher()).write()
    collator = kd.ReplayCollator(tiny_clip()[1], pickle.loads(pickle.dumps(cache)), max_broken_fraction=1.0)
    collator.epoch = 1
    loader = torch.utils.data.DataLoader(dataset(), batch_size=6, collate_fn=collator, num_workers=2)
    for start, batch in zip(range(0, ROWS, 6), loader, strict=True):
        expected = collator(rows()[start : start + 6])
        assert all(torch.equal(batch[name], values) for name, values in expected.items())


# ---- Errors ----


def other_teacher():
    changed = teacher()
    with torch.no_grad():
        next(changed.model.parameters()).view(-1)[0] += 1e-3
    return changed


@pytest.mark.parametrize(
    "change, told",
    [
        ({"teacher": other_teacher}, r"teachers\[0\].weights is \w+ in the cache, \w+ here"),
        ({"teacher": lambda: teacher(tiny_siglip)}, r"settings.views\[0\].images.mean"),
        (
            {"teacher": lambda: teacher().bfloat16()},
            r"teachers\[0\].dtype is torch.float32 in the cache, torch.bfloat16",
        ),
        ({"views": {"flip": 0.0}}, "settings.flip is 0.5 in the cache, 0.0 here"),
        ({"views": {"crop_scale": (0.4, 1.0)}}, r"settings.crop_scale\[0\] is 0.3 in the cache, 0.4 here"),
        ({"views": {"seed": 4}}, "settings.seed is 3 in the cache, 4 here"),
        ({"fingerprint": {"rows": 23, "samples": []}}, "dataset.rows is 22 in the cache, 23 here"),
        ({"dtype": torch.float16}, "dtype is torch.bfloat16 in the cache, torch.float16 here"),
        ({"request": requested({"patch": 1.0})}, "request.teacher_layer is None in the cache, -2 here"),
        ({"shard_size": 4}, "shard_size is 8 in the cache, 4 here"),
    ],
)
def test_what_changed_is_named(tmp_path, change, told):
    writer(tmp_path, teacher())
    change = dict(change)
    with pytest.raises(ValueError, match=told):
        writer(tmp_path, change.pop("teacher", teacher)(), **change)


def test_a_run_is_compared_with_the_cache(tmp_path):
    cache = writer(tmp_path, teacher()).write()
    cache.check(teacher=teacher(), samples=probe(dataset()), crop_scale=[0.3, 1.0], flip=0.5)
    with pytest.raises(ValueError, match=r"teachers\[0\].weights"):
        cache.check(teacher=other_teacher())
    with pytest.raises(ValueError, match="settings.flip is 0.5 in the cache, 0.0 here"):
        cache.check(flip=0.0)
    other = dataset().map(lambda row: {"text": ["another caption"]})
    with pytest.raises(ValueError, match="16 of the samples that were looked up are not among its 21"):
        cache.check(samples=probe(other))


def test_an_unfinished_cache_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        kd.TeacherCache(tmp_path)
    writer(tmp_path, teacher())
    with pytest.raises(ValueError, match="is not finished"):
        kd.TeacherCache(tmp_path)


def test_arguments_are_checked(tmp_path):
    writer(tmp_path, teacher()).write()
    with pytest.raises(ValueError, match=r"was given the weights \[1.0, 2.0\] for 1 teachers"):
        kd.TeacherCache(tmp_path, weights=[1.0, 2.0])
    for views, told in (({"augmentations": 0}, "leaves nothing to see"), ({"crop_scale": (2, 3)}, "is not a range")):
        with pytest.raises(ValueError, match=told):
            kd.AugmentationCollator(tiny_clip()[1], **views)


def test_tokens_of_a_function_are_refused(tmp_path):
    function = kd.FunctionTeacher(_pooled, processor=tiny_clip()[1], dims=kd.CLIPDims(3, token_dim=3, has_text=False))
    with pytest.raises(ValueError, match="does not tell their grid"):
        writer(tmp_path, function, request=requested({"patch": 1.0}))


def test_generated_captions_must_be_there(tmp_path):
    cache = writer(tmp_path, teacher(), views={"synthetic": False}).write()
    replay = kd.ReplayCollator(tiny_clip()[1], cache)
    with pytest.raises(ValueError, match="holds none.*synthetic_text_column"):
        replay(rows()[:4])
    plain = [{key: value for key, value in row.items() if key != "synthetic_text"} for row in rows()[:4]]
    assert "teacher_0_text_embeds" in replay(plain)


def test_a_sample_that_is_not_there_counts_as_broken(tmp_path):
    cache = writer(tmp_path, teacher()).write()
    replay = kd.ReplayCollator(tiny_clip()[1], cache, max_broken_fraction=1.0)
    changed = rows()[:4]
    changed[2]["text"] = ["another caption"]
    assert len(replay(changed)["pixel_values"]) == 3 and replay.broken.broken == 1
    # Nothing usable so far: a grey picture in the place of the batch, as online.
    empty = kd.ReplayCollator(tiny_clip()[1], cache, max_broken_fraction=1.0)
    assert len(empty(rows()[7:8])["teacher_0_text_embeds"]) == 1


def test_other_generated_captions_are_not_in_the_cache(tmp_path):
    cache = writer(tmp_path, teacher()).write()
    replay = kd.ReplayCollator(tiny_clip()[1], cache, max_broken_fraction=1.0)
    changed = rows()[:4]
    changed[1]["synthetic_text"] = changed[2]["synthetic_text"]
    assert len(replay(changed)["pixel_values"]) == 3 and replay.broken.broken == 1


def test_a_cache_of_an_older_version_knows_no_texts_but_captions(tmp_path):
    cache = writer(tmp_path, teacher()).write()
    shard, _ = cache._samples.shard(0)
    assert "synthetic_ids" in shard
    del shard["synthetic_ids"]
    changed = rows()[:4]
    changed[1]["synthetic_text"] = changed[2]["synthetic_text"]
    replay = kd.ReplayCollator(tiny_clip()[1], cache, max_broken_fraction=0.0)
    assert len(replay(changed)["pixel_values"]) == 4


def test_a_probe_looks_at_rows_that_a_cache_holds():
    data = rows()
    data[2]["__error__"], data[3]["synthetic_text"], data[5]["synthetic_text"] = "two files", [" "], None
    held = [sample_id(row["image"], row["text"]) for row in data[:6] if row["__index__"] not in (2, 3, 5)]
    assert probe(data[:6]) == held
    assert probe(data[:6], count=3) == held[:1] + held[2:], "rows 0, 2 and 4"


def test_a_sample_is_known_by_its_contents(tmp_path):
    image = rows()[0]["image"]
    path = tmp_path / "moved.png"
    path.write_bytes(image["bytes"])
    number = sample_id(image, ["a", "b"])
    assert number == sample_id({"bytes": None, "path": str(path)}, ["a", "b"]) == sample_id(str(path), ["a", "b"])
    others = [sample_id(image, ["a"]), sample_id(image, ["ab"]), sample_id(image, ["b", "a"])]
    others.append(sample_id(rows()[1]["image"], ["a", "b"]))
    assert len({number, *others}) == 5


# ---- Verification ----


def test_verification_recomputes(tmp_path):
    made = writer(tmp_path, teacher())
    made.write()
    assert made.verify(batches=100) == 0.0, "bit by bit on the same machine"


@pytest.mark.parametrize(
    "name, told",
    [
        ("0.image_embeds", "`0.image_embeds` differ by"),
        ("0.text_embeds", "`0.text_embeds` differ by"),
        ("boxes", "`boxes` differ by"),
        ("flips", "`flips` are others"),
        ("ids", "`ids` are others"),
    ],
)
def test_verification_finds_one_changed_number(tmp_path, name, told):
    made = writer(tmp_path, teacher())
    made.write()
    path = tmp_path / "shard-000001.safetensors"
    tensors = load_file(path)
    last = tensors[name].view(-1)[-3:]
    last.copy_(~last if last.dtype == torch.bool else last + 1)
    save_file(tensors, path)
    with pytest.raises(ValueError, match=rf"shard-000001.safetensors is not what the teachers say now: its {told}"):
        made.verify(batches=100)


def test_the_manifest_is_readable(tmp_path):
    writer(tmp_path, ensemble())
    manifest = json.loads((tmp_path / "cache.json").read_text())
    assert [entry["dims"]["embed_dim"] for entry in manifest["teachers"]] == [24, 32]
    assert manifest["dtype"] == "torch.bfloat16" and manifest["settings"]["augmentations"] == CROPS


# ---- Checksums ----


@pytest.mark.parametrize("checksums", ["read", "open"])
def test_a_flipped_bit_in_a_shard_is_found(tmp_path, checksums):
    writer(tmp_path, teacher()).write()
    path = tmp_path / "shard-000001.safetensors"
    data = bytearray(path.read_bytes())
    data[-9] ^= 4
    path.write_bytes(data)
    whole = pytest.raises(
        ValueError, match="shard-000001.safetensors: its checksum is .*Delete this file and run recipes"
    )
    if checksums == "open":
        with whole:
            kd.TeacherCache(tmp_path, checksums="open")
        return
    cache = kd.TeacherCache(tmp_path)
    cache.images(range(7), [0] * 7)  # The first shard is whole. It lacks the broken row.
    for found in (cache, pickle.loads(pickle.dumps(cache))):
        with whole:
            found.images([8], [0])
    path.unlink()
    writer(tmp_path, teacher()).write().images([8], [0])


def test_a_damaged_index_is_found(tmp_path):
    writer(tmp_path, teacher()).write()
    path = tmp_path / "index.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ValueError, match="index.safetensors: its checksum is"):
        kd.TeacherCache(tmp_path)
    with pytest.raises(ValueError, match="`checksums='never'` of the teacher cache .*'read' or 'open'. Leave it out"):
        kd.TeacherCache(tmp_path, checksums="never")


def test_files_without_a_checksum_are_read(tmp_path):
    """Caches of older versions have none."""
    cache = writer(tmp_path, teacher()).write()
    expected = cache.images([3], [1])
    for path in tmp_path.glob("*.safetensors"):
        save_file(load_file(path), path)
    found = kd.TeacherCache(tmp_path, checksums="open").images([3], [1])
    assert all(torch.equal(found[name], values) for name, values in expected.items())
