"""Emoji: names and tags of CLDR, and who draws them."""

import pytest
from picture_packages import COLUMNS, NAMES, write_packages

from hf_clip_kd.data.pictures.emoji import emoji, read_emoji
from hf_clip_kd.recipe_io.foreign import ForeignFileError


def test_names_without_skin_tones_and_additions(tmp_path):
    (tmp_path / "openmoji.csv").write_text(NAMES, encoding="utf-8")
    cat, germany, heart = read_emoji(tmp_path / "openmoji.csv")
    assert (cat.code, cat.captions, cat.category) == ("1F408", ("cat", "cat, animal, pet"), "animals")
    assert (germany.name, germany.captions[-1], germany.category) == ("flag germany", "flag germany, DE", "flags")
    # A heart is no face.
    assert (heart.captions, heart.category) == (("red heart", "red heart, emotion"), "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("emoji,hexcode\nx,1F408\n", "has no column annotation"),
        (f"{COLUMNS}\nx,../../etc,flags,a,b,c,\n", "line 2: it has the code '../../etc'"),
    ],
)
def test_another_table_is_named(text, message, tmp_path):
    (tmp_path / "openmoji.csv").write_text(text)
    with pytest.raises(ForeignFileError, match=f"openmoji.csv.*{message}.*OpenMoji's table.*Unpack openmoji anew"):
        read_emoji(tmp_path / "openmoji.csv")


def test_each_style_draws_what_its_package_has(tmp_path):
    packages = write_packages(tmp_path)
    names = ("openmoji", "emoji-datasource-twitter", "fluentui-emoji", "fonts-noto-color-emoji")
    found = {picture.file: picture for picture in emoji(*(packages[name] for name in names))}
    assert {file: picture.licence for file, picture in found.items()} == {
        "noto/1F408.png": "OFL-1.1",
        "noto/1F1E9-1F1EA.png": "OFL-1.1",
        "twemoji/1F408.png": "CC-BY-4.0",
        "twemoji/2764-FE0F.png": "CC-BY-4.0",  # Its file has the shorter code.
        "openmoji/1F408.png": "CC-BY-SA-4.0",
        "fluent/2764-FE0F.png": "MIT",
    }
    assert {picture.name for picture in found.values() if picture.source == "noto"} == {"cat", "flag germany"}
