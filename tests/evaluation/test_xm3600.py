"""XM3600's file: languages, protocols, and what is missing."""

import pytest
from caption_files import write_lines, write_pictures

from hf_clip_kd.evaluation.xm3600 import read_xm3600


@pytest.fixture
def place(tmp_path):
    write_pictures(tmp_path / "images", ["a.jpg", "b.jpg"])
    rows = []
    for key in "ab":
        blocks = {
            language: {"caption": [f"{language} {key} {i}" for i in range(n)], "caption/tokenized": ["x"]}
            for language, n in (("en", 2), ("de", 1 + (key == "b")))
        }
        rows.append({"image/key": key, "image/locale": "de"} | blocks)
    write_lines(tmp_path / "captions.jsonl", rows)
    return tmp_path


def test_languages_and_protocols(place):
    arguments = place / "captions.jsonl", place / "images"
    files, captions = read_xm3600(*arguments)
    assert files == [str(place / "images/a.jpg"), str(place / "images/b.jpg")]
    assert captions == {
        "en": [["en a 0", "en a 1"], ["en b 0", "en b 1"]],
        "de": [["de a 0"], ["de b 0", "de b 1"]],
    }
    assert read_xm3600(*arguments, ["de"], "clip_benchmark")[1] == {"de": [["de a 0"], ["de b 0"]]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"languages": ["de", "qq"]}, r"captions\.jsonl: it has no captions in \['qq'\] \(but in \['en', 'de'\]\)"),
        ({"protocol": "first"}, "`protocol: 'first'` does not exist. There are all_captions and clip_benchmark"),
    ],
)
def test_bad_options(place, options, message):
    with pytest.raises(ValueError, match=message):
        read_xm3600(place / "captions.jsonl", place / "images", **options)


def test_what_is_missing_is_named(place):
    (place / "images/b.jpg").unlink()
    with pytest.raises(ValueError, match=r"lacks 1 of 2 pictures .*the first is .*b\.jpg"):
        read_xm3600(place / "captions.jsonl", place / "images")
    write_lines(place / "captions.jsonl", [{"image/key": "a", "en": {"caption": []}}])
    with pytest.raises(ValueError, match="'en' of line 1 has no caption"):
        read_xm3600(place / "captions.jsonl", place / "images")
