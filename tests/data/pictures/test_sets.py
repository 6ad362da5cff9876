"""Sets: which names are new, and what no training may see."""

import pytest
from picture_packages import drawing
from PIL import Image

from hf_clip_kd.data.pictures import Picture, divide
from hf_clip_kd.data.pictures import sets as module
from hf_clip_kd.data.pictures.sets import is_giant, is_new

# SHA-256, as `sha256sum` prints it: a number whose last decimal digit is 0 makes a name new.
DIGESTS = {
    "banana": "b493d48364afe44d11c0165cf470a4164d1e2609911ef998be868d46ade3de4e",
    "tree": "dc9c5edb8b2d479e697b4b0b8ab874f32b325138598ce9e7b759eb8292110622",
}
KNOWN, NEW = "apple", "banana"


def picture(source, name, content=None, **facts):
    packaged = f"{source} {name}".encode() if content is None else content
    return Picture(f"{source}/{name}.png", name, (name,), "MIT", packaged, **facts)


@pytest.fixture
def divided(monkeypatch):
    monkeypatch.setattr(module, "is_giant", lambda picture: picture.category == "giant")

    def divided(*pictures):
        sets = divide(list(pictures))
        return {name: sorted(part.file for part in parts) for name, parts in sets.items() if parts}

    return divided


def test_a_tenth_of_the_names_is_new():
    words = "apple banana cat dog horse owl lemon train bus car cup tree moon sun fish bird star".split()
    assert {word for word in words if is_new(word)} == set(DIGESTS)
    assert all(str(int(digest, 16)).endswith("0") for digest in DIGESTS.values())
    assert 70 <= sum(is_new(f"name {number}") for number in range(1000)) <= 130


def test_sets_by_source_and_name(divided):
    pictures = [picture(source, name) for source in ("clipart", "noto", "twemoji") for name in (KNOWN, NEW)]
    pictures += [picture("stamps", KNOWN, photograph=True), picture("gcompris", NEW, b"x", photograph=True)]
    assert divided(*pictures) == divided(*reversed(pictures))
    assert divided(*pictures) == {
        "train": [f"clipart/{KNOWN}.png", f"noto/{KNOWN}.png"],
        "retrieval": [f"clipart/{NEW}.png"],
        "unseen": [f"noto/{NEW}.png", f"twemoji/{NEW}.png"],
        "style": [f"twemoji/{KNOWN}.png"],
        "photographs": [f"gcompris/{NEW}.png", f"stamps/{KNOWN}.png"],
    }


def test_a_style_is_tested_on_names_that_another_style_taught(divided):
    assert divided(picture("twemoji", KNOWN), picture("clipart", KNOWN)) == {"train": [f"clipart/{KNOWN}.png"]}


def test_categories_are_those_of_new_names(divided):
    found = divided(picture("clipart", NEW, category="food"), picture("stamps", "tree"))
    assert found == {
        "retrieval": [f"clipart/{NEW}.png", "stamps/tree.png"],
        "category": [f"clipart/{NEW}.png"],
    }


def test_a_caption_finds_a_single_picture(divided):
    pictures = [picture(source, NEW, category="food") for source in ("clipart", "gcompris")]
    pictures += [picture(source, KNOWN, photograph=True) for source in ("gcompris", "stamps")]
    found = divided(*pictures)
    assert found["category"] == [f"clipart/{NEW}.png", f"gcompris/{NEW}.png"]
    assert found["retrieval"] == [f"clipart/{NEW}.png"] and found["photographs"] == [f"gcompris/{KNOWN}.png"]


@pytest.mark.parametrize("category", ["flags", "people"])
def test_emoji_that_look_alike_only_train(category, divided):
    pictures = [picture(source, name, category=category) for source in ("noto", "twemoji") for name in (KNOWN, NEW)]
    assert divided(*pictures) == {"train": [f"noto/{KNOWN}.png"]}


def test_a_training_file_is_not_tested_under_another_name(divided):
    assert divided(picture("clipart", KNOWN, b"a"), picture("clipart", NEW, b"a")) == {
        "train": [f"clipart/{KNOWN}.png"]
    }


def test_giants_are_trained_on_and_not_tested(divided):
    found = divided(*(picture("clipart", name, category="giant") for name in (KNOWN, NEW)))
    assert found == {"train": [f"clipart/{KNOWN}.png"]}


def test_giants_are_known_by_their_header(monkeypatch):
    small = picture("clipart", NEW, drawing(size=(30, 20)))
    assert not is_giant(small)
    monkeypatch.setattr(module, "MAX_PIXELS", 599)
    assert is_giant(small)
    monkeypatch.setattr(module, "MAX_PIXELS", 10_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow refuses twice as many.
    assert is_giant(small)
