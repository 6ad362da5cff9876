"""Clip art: names from titles or files' names, keywords, licences and categories."""

import pytest
from picture_packages import drawing, put, svg

from hf_clip_kd.data.pictures.clip_art import clip_art
from hf_clip_kd.recipe_io.foreign import ForeignFileError


@pytest.fixture
def read(tmp_path):
    def read(pictures):
        for stem, facts in pictures.items():
            put(tmp_path / f"svg/usr/share/openclipart/svg/{stem}.svg", svg(**facts))
            put(tmp_path / f"png/usr/share/openclipart/png/{stem}.png", drawing())
        return {picture.file: picture for picture in clip_art(tmp_path / "png", tmp_path / "svg")}

    return read


def test_title_keywords_licence_and_category(read, tmp_path):
    facts = {"title": "Big Owl", "author": "Ann Lee", "keywords": ("bird", "owl", "Ann Lee", "icon", "hash 0x1")}
    (picture,) = read({"animals/birds/owl_01": facts}).values()
    assert picture.file == "clipart/animals/birds/owl_01.png" and picture.source == "clipart"
    assert (picture.name, picture.captions) == ("big owl", ("big owl", "big owl, bird"))
    assert (picture.category, picture.licence, picture.photograph) == ("animals", "public domain", False)
    assert picture.packaged == tmp_path / "png/usr/share/openclipart/png/animals/birds/owl_01.png"
    (picture,) = read(
        {"animals/birds/owl_01": facts | {"licence": "http://creativecommons.org/licenses/GPL/2.0/"}}
    ).values()
    assert picture.licence.endswith("GPL/2.0/")


@pytest.mark.parametrize("title", ["", "Lemon SVG theme", "owl.png", "Ann Lee", "Part of the Flat Icon Collection"])
def test_a_title_that_says_nothing_gives_way_to_the_name_of_the_file(title, read):
    (picture,) = read({"animals/grey_owl_ann_lee_01": {"title": title, "author": "Ann Lee"}}).values()
    assert picture.name == "grey owl"


def test_a_title_of_many_pictures_gives_way_to_the_names_of_the_files(read):
    names = {f"people/{letter * 4}": {"title": "Actor"} for letter in "abcdefghijklm"}
    assert [picture.name for picture in read(names).values()] == [letter * 4 for letter in "abcdefghijklm"]


def test_pictures_are_left_out(read, tmp_path):
    names = {"shapes/stars/star": {"title": "Star"}, "unsorted/duplicates/owl": {"title": "Owl"}}
    names |= {"tools/x": {"title": "ax"}, "tools/long": {"title": "word " * 20}}
    put(tmp_path / "svg/usr/share/openclipart/svg/food/no_png.svg", svg("Pear"))
    found = read(names | {"signs_and_symbols/flags/peru": {"title": "Peru"}})
    assert {file: picture.category for file, picture in found.items()} == {
        "clipart/signs_and_symbols/flags/peru.png": "flags"
    }


def test_an_svg_without_metadata_and_what_is_no_svg(read, tmp_path):
    place = tmp_path / "svg/usr/share/openclipart/svg/food/pear.svg"
    put(tmp_path / "png/usr/share/openclipart/png/food/pear.png", drawing())
    put(place, "<svg xmlns='http://www.w3.org/2000/svg'/>")
    (picture,) = read({}).values()
    assert (picture.name, picture.captions, picture.licence) == ("pear", ("pear",), "not stated")
    put(place, "<svg>")
    with pytest.raises(ForeignFileError, match="pear.svg: it is no XML .*must be an SVG.*Unpack"):
        read({})
