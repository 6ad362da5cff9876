"""The world `shapes`: the same everywhere, true to itself, balanced."""

import hashlib
import io
from collections import Counter

import numpy as np
import PIL.Image
import pytest
from datasets import ClassLabel

from hf_clip_kd.data.shapes import COLORS, QUESTION_TYPES, SHAPES, SHAPES_CLASS_NAMES, SHAPES_TEMPLATES, load_shapes
from hf_clip_kd.data.shapes.render import PALETTE
from hf_clip_kd.data.shapes.scenes import CHANGES, CHUNK, PAIRED, SIZES, SPLITS, TEXTURES, draw_scenes
from hf_clip_kd.data.shapes.text import MAX_WORDS, captions, questions, synthetic_captions


def digest(dataset):
    """sha256 of the pixels and of every other column, row by row."""
    total = hashlib.sha256()
    for row in dataset:
        total.update(np.asarray(row.pop("image")).tobytes())
        total.update(repr(sorted(row.items())).encode())
    return total.hexdigest()


def scenes_of(split, chunks=4):
    return [draw_scenes(0, split, chunk) for chunk in range(chunks)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"split": "train", "size": 16}, "982d39d2817ba5ba4853a8581b95af37eadf0fbae4445c732fd93f3becb44b3a"),
        (
            {"split": "validation", "size": 12, "vqa": True},
            "32a964b6f07e23e468050daf877252c15dff5f8205473e514cdb30648d5309be",
        ),
        (
            {"split": "zero_shot", "size": 8, "seed": 3},
            "0857e134b5ce8a83bc7969f36661ffdfd5b6eee22174e65895f2221422bf7621",
        ),
        (
            {"split": "retrieval", "size": 4, "image_size": 77},
            "882feb2d3d36accc3a3f5e41c17652d02baa5ba33e14aaef4e14d4ee802fe442",
        ),
        (
            {"split": "compositional", "size": 12},
            "b925446d141efea95c948aeacff692c85aa771e379853e6f93a1b1216741e748",
        ),
    ],
)
def test_pixels_and_words_are_pinned(options, expected):
    assert digest(load_shapes(**options)) == expected


@pytest.mark.parametrize("options", [{}, {"image_size": 45}, {"vqa": True}])
def test_a_longer_set_begins_with_the_shorter_one(options):
    longer = load_shapes("test", size=CHUNK + 30, **options)
    for size in (1, 131, CHUNK + 1):
        short = load_shapes("test", size=size, **options)
        assert len(short) == size
        for name in longer.column_names:
            assert short.data.column(name).equals(longer.data.column(name).slice(0, size))


def test_splits_and_seeds_share_no_image():
    sets = [load_shapes(split, size=100) for split in SPLITS]
    sets += [load_shapes("train", size=100, seed=seed) for seed in (1, 2**40)]
    pixels = [image["bytes"] for dataset in sets for image in dataset.data.column("image").to_pylist()]
    assert len(set(pixels)) == len(pixels)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("image_size", [16, 32, 45])
def test_columns(split, image_size):
    dataset = load_shapes(split, size=3, image_size=image_size)
    others = {"zero_shot": ["label"], "compositional": ["pair", "change"]}
    assert dataset.column_names == ["image", "text", *others.get(split, [])]
    assert dataset.split == split
    image = dataset[2]["image"]
    assert (image.size, image.mode) == ((image_size, image_size), "RGB")
    assert isinstance(dataset[0]["text"], str)


def test_images_survive_saving(tmp_path):
    dataset = load_shapes("train", size=5)
    dataset.to_parquet(tmp_path / "shapes.parquet")
    stored = type(dataset).from_parquet(str(tmp_path / "shapes.parquet"), cache_dir=str(tmp_path))
    assert digest(stored) == digest(dataset)


def test_equal_calls_have_equal_fingerprints():
    names = [load_shapes(size=2, seed=seed)._fingerprint for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("split", SPLITS)
def test_objects_of_an_image_differ(split):
    _, fewest, most = SPLITS[split]
    for scenes in scenes_of(split):
        assert set(scenes.count.tolist()) == set(range(fewest, most + 1))
        present = np.arange(4) < (2 if split == PAIRED else 4)
        kinds = np.sort((scenes.color * len(SHAPES) + scenes.shape)[:, present], axis=1)
        assert (np.diff(kinds, axis=1) > 0).all()
        assert ((0 <= kinds) & (kinds < 64)).all()
        assert (np.sort(scenes.cell, axis=1) == np.arange(4)).all()
        assert (scenes.shape[:, present][:, 1:] != scenes.shape[:, :1]).all()


def test_attributes_are_uniform():
    scenes = scenes_of("train", chunks=40)
    present = [np.arange(4) < chunk.count[:, None] for chunk in scenes]
    for name, values in (("color", COLORS), ("shape", SHAPES), ("size", SIZES), ("texture", TEXTURES)):
        seen = np.concatenate([getattr(chunk, name)[there] for chunk, there in zip(scenes, present, strict=True)])
        share = np.bincount(seen, minlength=len(values)) / len(seen)
        assert np.abs(share * len(values) - 1).max() < 0.04, name


@pytest.mark.parametrize("image_size", [32, 50, 96])
def test_objects_have_their_colour_where_they_should_be(image_size):
    scenes = draw_scenes(0, "test", 0)
    dataset = load_shapes("test", size=CHUNK, image_size=image_size)
    pixels = np.stack([np.asarray(image) for image in dataset[:]["image"]]).astype(np.float32)
    plain = (scenes.texture == 0) & (scenes.shape != SHAPES.index("ring")) & (np.arange(4) < scenes.count[:, None])
    rows, objects = np.nonzero(plain)
    x, y = (scenes.center[rows, objects] * image_size / 32).astype(int).T
    expected = PALETTE[scenes.color[rows, objects]]
    nearest = np.linalg.norm(pixels[rows, y, x][:, None] - PALETTE, axis=-1).argmin(axis=1)
    assert (nearest == scenes.color[rows, objects]).mean() > 0.99
    assert np.abs(pixels[rows, y, x] - expected).max() <= 16 + 15 + 1


def test_larger_images_show_the_same_scenes():
    small, large = (load_shapes("test", size=20, image_size=size)[:]["image"] for size in (32, 128))
    for a, b in zip(small, large, strict=True):
        shrunk = np.asarray(b.resize((32, 32), PIL.Image.Resampling.BOX)).astype(np.float32)
        assert np.abs(shrunk - np.asarray(a)).mean() < 8


def test_captions_are_short_and_of_few_words():
    texts = [text for split in SPLITS for scenes in scenes_of(split, chunks=8) for text in captions(scenes)]
    assert max(len(text.split()) for text in texts) <= 18
    words = {word for text in texts for word in text.split()}
    asked = {word for text in load_shapes("test", 600, vqa=True)["question"] for word in text.rstrip("?").split()}
    assert 40 <= len(words) <= len(words | asked) <= 75
    openings = {" ".join(text.split(" a ")[0].split()) for text in texts}
    assert {template.removesuffix(" a {}") for template in SHAPES_TEMPLATES if template != "a {}"} <= openings


def test_captions_are_true():
    told = Counter()
    for scenes in scenes_of("train"):
        for row, text in enumerate(captions(scenes)):
            words = text.split()
            spots = [i for i, word in enumerate(words) if word in SHAPES]
            assert len(spots) == min(scenes.count[row], 3)
            for item, spot in enumerate(spots):
                name = f"{COLORS[scenes.color[row, item]]} {SHAPES[scenes.shape[row, item]]}"
                assert " ".join(words[spot - 1 : spot + 1]) == name
                start = max(i for i in range(spot) if words[i] == "a")
                rest = words[start + 1 : spot - 1]
                allowed = [SIZES[scenes.size[row, item]], TEXTURES[scenes.texture[row, item]]]
                assert rest in (allowed, allowed[:1], allowed[1:], [])
                told.update(rest)
                told["objects"] += 1
            (x, y), (other_x, other_y) = scenes.center[row, :2]
            if len(spots) > 1:
                relation = words[spots[0] + 1]
                holds = {"left": x < other_x, "right": x > other_x, "above": y < other_y, "below": y > other_y}
                holds |= {"over": holds["above"], "under": holds["below"]}
                assert holds[relation], text
            elif " at the " in text:
                corner = ("top", "bottom")[int(y > 16)] + " " + ("left", "right")[int(x > 16)]
                assert text.endswith(corner)
    for names in (SIZES, TEXTURES):
        assert sum(told[name] for name in names) / told["objects"] == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize(
    "options", [{"split": "train", "size": CHUNK + 3}, {"split": "test", "size": 20, "vqa": True}]
)
def test_a_second_caption_changes_nothing_else(options):
    plain, both = load_shapes(**options), load_shapes(**options, synthetic_text=True)
    assert both.column_names == [*plain.column_names, "synthetic_text"]
    assert digest(both.remove_columns("synthetic_text")) == digest(plain)
    assert both._fingerprint not in (
        plain._fingerprint,
        load_shapes(**options, synthetic_text=False, seed=1)._fingerprint,
    )
    repeats = len(QUESTION_TYPES) if options.get("vqa") else 1
    expected = [text for text in synthetic_captions(draw_scenes(0, options["split"], 0)) for _ in range(repeats)]
    assert both["synthetic_text"][: CHUNK if repeats == 1 else 20] == expected[: len(both)]
    differ = [a != b for a, b in zip(both["text"], both["synthetic_text"], strict=True)]
    assert sum(differ) > 0.95 * len(both)


def test_second_captions_are_true_and_pinned():
    told = Counter()
    for scenes in scenes_of("train"):
        for row, text in enumerate(synthetic_captions(scenes)):
            assert len(text.split()) <= MAX_WORDS
            phrases = text.split(", ")
            assert len(set(phrases)) == len(phrases) == min(scenes.count[row], 2)
            for phrase in phrases:
                size, texture, color, shape, corner = phrase.removeprefix("a ").replace(" at the ", " ").split(" ", 4)
                center = [(corner.split()[1] == "right"), (corner.split()[0] == "bottom")]
                (item,) = [
                    i
                    for i in range(scenes.count[row])
                    if (scenes.color[row, i], scenes.shape[row, i]) == (COLORS.index(color), SHAPES.index(shape))
                ]
                assert (SIZES[scenes.size[row, item]], TEXTURES[scenes.texture[row, item]]) == (size, texture)
                assert ((scenes.center[row, item] > 16) == center).all()
                told[scenes.count[row], item] += 1
    for count in range(2, 5):  # every object is as likely to be told of
        numbers = [told[count, item] for item in range(count)]
        assert max(numbers) < 1.25 * min(numbers)
    words = "\n".join(synthetic_captions(draw_scenes(0, "train", 0)))
    assert (
        hashlib.sha256(words.encode()).hexdigest()
        == "f61d53606425c4580b445e8ef459e3f6b17593158fcf89fb44eff53334cc7dc8"
    )


def is_true(text, scenes, row):
    """Read a caption of two objects again, and look for them and for their relation in a scene."""
    words = text.split()
    first, second = (i for i, word in enumerate(words) if word in SHAPES)
    found = []
    for spot in (first, second):
        start = max(i for i in range(spot) if words[i] == "a")
        told = {*words[start + 1 : spot + 1]}
        names = (COLORS, scenes.color), (SHAPES, scenes.shape), (SIZES, scenes.size), (TEXTURES, scenes.texture)
        known = [{values[numbers[row, i]] for values, numbers in names} for i in range(2)]
        found.append({i for i in range(2) if told <= known[i]})
    holds = {
        (i, j)
        for i in found[0]
        for j in found[1] - {i}
        for dx, dy in [scenes.center[row, i] - scenes.center[row, j]]
        if {"left": dx < 0, "right": dx > 0, "above": dy < 0, "over": dy < 0, "below": dy > 0, "under": dy > 0}[
            words[first + 1]
        ]
    }
    return bool(holds)


def test_pairs_differ_in_a_single_thing():
    seen, changed = Counter(), Counter()
    for chunk, scenes in enumerate(scenes_of(PAIRED)):
        texts = captions(scenes)
        for row in range(0, CHUNK, 2):
            change = CHANGES[(chunk * CHUNK + row) // 2 % 3]
            seen[change] += 1
            facts = {name: getattr(scenes, name)[:, :2] for name in ("color", "shape", "size", "texture")}
            differ = {name for name, values in facts.items() if (values[row] != values[row + 1]).any()}
            words = [sorted(text.split()) for text in texts[row : row + 2]]
            assert (scenes.background[row] == scenes.background[row + 1]).all()
            assert (scenes.cell[row] == scenes.cell[row + 1]).all()
            assert len(texts[row].split()) == len(texts[row + 1].split())
            if change == "changed_attribute":
                (name,) = differ
                assert (facts[name][row] != facts[name][row + 1]).sum() == 1
                assert len(set(words[0]) ^ set(words[1])) <= 2 and words[0] != words[1]
                changed[name] += 1
                continue
            assert words[0] == words[1] and texts[row] != texts[row + 1]
            expected = {"color"} if change == "swapped_colors" else {"color", "shape"}
            assert expected <= differ and (change == "swapped_places" or differ == expected)
            for name in differ:
                assert (facts[name][row] == facts[name][row + 1, ::-1]).all()
    assert max(seen.values()) - min(seen.values()) <= 1
    assert set(changed) == {"color", "shape", "size", "texture"}
    assert max(changed.values()) < 1.1 * min(changed.values())


def test_the_caption_of_a_pair_is_false_about_the_other():
    for scenes in scenes_of(PAIRED):
        for row, text in enumerate(captions(scenes)):
            assert is_true(text, scenes, row), text
            assert not is_true(text, scenes, row ^ 1), text


def test_rows_of_a_pair_stand_together():
    rows = load_shapes(PAIRED, size=CHUNK + 6)
    assert rows["pair"][:] == [i // 2 for i in range(CHUNK + 6)]
    assert rows["change"][:] == [CHANGES[i // 2 % 3] for i in range(CHUNK + 6)]
    assert len(load_shapes(PAIRED, image_size=16)) == 3000


def test_zero_shot_labels():
    dataset = load_shapes("zero_shot", size=640)
    assert dataset.features["label"] == ClassLabel(names=list(SHAPES_CLASS_NAMES))
    assert len(set(SHAPES_CLASS_NAMES)) == 64
    assert set(Counter(dataset["label"]).values()) == {10}
    assert sorted(dataset[64:128]["label"]) == list(range(64))
    for label, text in zip(dataset["label"], dataset["text"], strict=True):
        assert SHAPES_CLASS_NAMES[label] in text


def test_questions_have_true_answers():
    """Answered again from the positions of the objects, not from the cells the questions were made of."""
    dataset = load_shapes("validation", size=6 * CHUNK, vqa=True).remove_columns("image")
    scenes = draw_scenes(0, "validation", 0)
    for index, row in enumerate(dataset):
        image, kind = divmod(index, len(QUESTION_TYPES))
        assert row["question_type"] == QUESTION_TYPES[kind]
        words = row["question"].rstrip("?").split()
        there = range(scenes.count[image])
        if row["question_type"] == "count":
            answers = [("one", "two", "three", "four")[len(there) - 1]]
        elif row["question_type"] == "color_of":
            answers = [COLORS[scenes.color[image, i]] for i in there if SHAPES[scenes.shape[image, i]] == words[-1]]
        else:
            corner = np.array([words[-1] == "right", words[-2] == "bottom"])
            names = {"color": COLORS, "shape": SHAPES, "texture": TEXTURES, "size": SIZES}[words[1]]
            values = getattr(scenes, words[1])[image]
            answers = [names[values[i]] for i in there if ((scenes.center[image, i] > 16) == corner).all()]
        assert row["answers"] == answers, row


def test_answers_are_balanced():
    """Knowing the question tells nothing of the answer: within three points of chance, for each question of a type."""
    chance = {"color_at": 8, "shape_at": 8, "texture_at": 3, "size_at": 2, "count": 4, "color_of": 8}
    rows = [row for scenes in scenes_of("train", chunks=16) for row in questions(scenes)]
    images = len(rows) // len(QUESTION_TYPES)
    counts = {kind: Counter() for kind in chance}
    blind = {}
    for question, answer, kind in rows:
        counts[kind][answer] += 1
        blind.setdefault((kind, question), Counter())[answer] += 1
    for kind, number in chance.items():
        assert len(counts[kind]) == number
        assert max(counts[kind].values()) / images < 1 / number + 0.015
        best = sum(max(answers.values()) for (of, _), answers in blind.items() if of == kind) / images
        assert best < 1 / number + 0.03


def test_rows_of_one_image_stand_together():
    dataset = load_shapes("test", size=20, vqa=True)
    plain = load_shapes("test", size=4)
    assert len(dataset) == 20
    for index, row in enumerate(dataset):
        assert row["text"] == plain[index // 6]["text"]
        assert row["image"].tobytes() == plain[index // 6]["image"].tobytes()


def test_pixels_are_stored_as_they_are():
    stored = load_shapes("train", size=2).data.column("image").to_pylist()[1]
    assert stored["path"] is None
    assert PIL.Image.open(io.BytesIO(stored["bytes"])).format == "PPM"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"split": "val"},
            r"split='val'.*'train', 'validation', 'test', 'zero_shot', 'retrieval'.*load_shapes\('train'",
        ),
        ({"split": "zero_shot", "vqa": True}, r"vqa=True with split='zero_shot'.*'validation'.*vqa=True\)"),
        ({"split": "train", "size": 0}, r"size=0.*at least 1.*Leave it out.*40,000"),
        ({"split": "test", "size": -4}, r"size=-4.*at least 1.*2,000"),
        ({"split": "train", "seed": -1}, r"seed=-1.*at least 0.*seed=0\)"),
        ({"split": "train", "image_size": 15}, r"image_size=15.*at least 16.*image_size=32\)"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        load_shapes(**options)
