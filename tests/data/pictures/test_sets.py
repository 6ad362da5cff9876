"""Sets: which names are new, and what no training may see."""

import hashlib
import io

import pytest
from picture_packages import drawing
from PIL import Image

from hf_clip_kd.data.pictures import Picture, divide
from hf_clip_kd.data.pictures import sets as module
from hf_clip_kd.data.pictures.sets import is_drawn, is_giant, new_names
from hf_clip_kd.recipe_io.foreign import ForeignFileError

# SHA-256, as `sha256sum` prints it: a multiple of 7 draws a name.
DIGESTS = {
    "cup": "c6171781d65f3ccce1135e3c89850cfbaa7f332fd72a1f8f6a841fbcf7fd362a",
    "fish": "b474a99a2705e23cf905a484ec6d14ef58b56bbe62e9292783466ec363b5072d",
}
KNOWN, NEW, OTHER = "apple", "cup", "fish"


def picture(source, name, content=None, captions=None, **facts):
    """Return a picture in a colour of its own, unless it has a content."""
    colour = f"#{hashlib.sha256(f'{source} {name}'.encode()).hexdigest()[:6]}"
    packaged = drawing(colour) if content is None else content
    return Picture(f"{source}/{name}.png", name, captions or (name,), "MIT", packaged, **facts)


@pytest.fixture
def divided():
    def divided(*pictures):
        sets = divide(list(pictures))
        return {name: sorted(part.file for part in parts) for name, parts in sets.items() if parts}

    return divided


def test_a_seventh_of_the_names_is_drawn():
    words = "apple banana cat dog horse owl lemon train bus car cup tree moon sun fish bird star".split()
    assert {word for word in words if is_drawn(word)} == set(DIGESTS)
    assert all(int(digest, 16) % 7 == 0 for digest in DIGESTS.values())
    assert 110 <= sum(is_drawn(f"name {number}") for number in range(1000)) <= 175


@pytest.mark.parametrize(
    ("caption", "new"),
    [
        (f"big {NEW} pie", False),
        (f"Pie of {NEW.upper()}!", False),
        (f"pie, {NEW}", False),
        (f"pie with {NEW}s", True),
        ("pie", True),
    ],
)
def test_a_name_in_the_caption_of_another_is_not_new(caption, new):
    pictures = [picture("clipart", NEW), picture("noto", "pie", captions=("pie", caption))]
    assert new_names(pictures) == ({NEW} if new else set())
    # Its own captions may repeat it.
    own = picture("noto", NEW, captions=(NEW, f"{NEW}, yellow {NEW}"))
    assert new_names([*pictures, own]) == ({NEW} if new else set())


def test_names_of_several_words_are_found_inside_of_captions():
    two = next(f"{NEW} pie {number}x" for number in range(99) if is_drawn(f"{NEW} pie {number}x"))
    inside = picture("clipart", "table", captions=(f"a table, one {two.replace(' ', '-')}, a cup",))
    assert new_names([picture("clipart", two)]) == {two}
    assert new_names([picture("clipart", two), inside]) == set()


def test_sets_by_source_and_name(divided):
    pictures = [picture(source, name) for source in ("clipart", "noto", "twemoji") for name in (KNOWN, NEW)]
    pictures += [picture("stamps", KNOWN, photograph=True), picture("gcompris", NEW, photograph=True)]
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
    found = divided(picture("clipart", NEW, category="food"), picture("stamps", OTHER))
    assert found == {
        "retrieval": [f"clipart/{NEW}.png", f"stamps/{OTHER}.png"],
        "category": [f"clipart/{NEW}.png"],
    }


def test_a_caption_finds_a_single_picture(divided):
    pictures = [picture(source, NEW, category="food") for source in ("clipart", "gcompris")]
    pictures += [picture(source, KNOWN, photograph=True) for source in ("gcompris", "stamps")]
    found = divided(*pictures)
    assert found["category"] == [f"clipart/{NEW}.png", f"gcompris/{NEW}.png"]
    assert found["retrieval"] == [f"clipart/{NEW}.png"] and found["photographs"] == [f"gcompris/{KNOWN}.png"]


def test_a_picture_in_two_folders_is_tested_once(divided):
    """Its keywords are in another order there, so its captions differ."""
    same = drawing("white")
    pictures = [
        picture(source, NEW, same, (NEW, f"{NEW}, {source}"), category=source) for source in ("clipart", "gcompris")
    ]
    photographs = [picture("stamps", name, same, photograph=True) for name in (KNOWN, OTHER)]
    assert divided(*pictures, *photographs) == {
        "retrieval": [f"clipart/{NEW}.png"],
        "category": [f"clipart/{NEW}.png"],
        "photographs": [f"stamps/{KNOWN}.png"],
    }


@pytest.mark.parametrize("category", ["flags", "people"])
def test_emoji_that_look_alike_only_train(category, divided):
    pictures = [picture(source, name, category=category) for source in ("noto", "twemoji") for name in (KNOWN, NEW)]
    assert divided(*pictures) == {"train": [f"noto/{KNOWN}.png"]}


@pytest.mark.parametrize("kind", ["the same file", "another file", "below transparency"])
def test_a_training_picture_is_not_tested_under_another_name(kind, divided):
    content = {
        "the same file": drawing("white"),
        "another file": drawing("white", kind="WEBP"),
        "below transparency": transparent(),
    }[kind]
    assert divided(picture("clipart", KNOWN, drawing("white")), picture("clipart", NEW, content)) == {
        "train": [f"clipart/{KNOWN}.png"]
    }
    larger = picture("clipart", NEW, drawing("white", (9, 6)))
    assert divided(picture("clipart", KNOWN, drawing("white")), larger)["retrieval"] == [f"clipart/{NEW}.png"]


def transparent():
    """Return a PNG of which nothing is seen."""
    file = io.BytesIO()
    Image.new("RGBA", (8, 6), (255, 0, 0, 0)).save(file, "PNG")
    return file.getvalue()


def test_giants_are_trained_on_and_not_tested(divided, monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS", 47)
    found = divided(*(picture("clipart", name) for name in (KNOWN, NEW)))
    assert found == {"train": [f"clipart/{KNOWN}.png"]}


@pytest.mark.parametrize("content", [b"no picture", drawing(size=(200, 200))[:70]], ids=["header", "pixels"])
@pytest.mark.parametrize("name", [KNOWN, NEW])
def test_a_damaged_picture_is_named(name, content):
    with pytest.raises(ForeignFileError, match=f"clipart/{name}.png: it cannot be read .*Unpack its package anew"):
        divide([picture("clipart", name, content)])


def test_giants_are_known_by_their_header(monkeypatch):
    small = picture("clipart", NEW, drawing(size=(30, 20)))
    assert not is_giant(small)
    monkeypatch.setattr(module, "MAX_PIXELS", 599)
    assert is_giant(small)
    monkeypatch.setattr(module, "MAX_PIXELS", 10_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow refuses twice as many.
    assert is_giant(small)
