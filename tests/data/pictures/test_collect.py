"""All pictures of all packages, and no more than eight that are called alike."""

import shutil

import pytest
from picture_packages import draw_with_stub, drawing, put, write_packages

from hf_clip_kd.data.pictures import collect
from hf_clip_kd.data.pictures.collect import MAX_ALIKE, SOURCES


def test_pictures_of_all_packages_are_sorted(tmp_path, monkeypatch):
    draw_with_stub(monkeypatch)
    found = collect(write_packages(tmp_path))
    files = [picture.file for picture in found]
    assert files == sorted(files) and len(files) == len(set(files)) == 15
    assert {picture.source for picture in found} == {
        "clipart", "stamps", "gcompris", "noto", "twemoji", "openmoji", "fluent",
    }  # fmt: skip
    assert all(picture.encoded() for picture in found)


def test_few_pictures_of_a_source_are_called_alike(tmp_path):
    packages = write_packages(tmp_path)
    folder = packages["tuxpaint-stamps-default"] / "usr/share/tuxpaint/stamps/food"
    for number in range(MAX_ALIKE + 3):
        put(folder / f"plum{number:02}.png", drawing())
        put(folder / f"plum{number:02}.txt", "A plum.\n")
    found = [picture.file for picture in collect(packages) if picture.name == "plum"]
    assert found == [f"stamps/food/plum{number:02}.png" for number in range(MAX_ALIKE)]


@pytest.mark.parametrize(
    ("source", "inside"),
    [
        ("clipart", "openclipart-svg/usr/share/openclipart/svg"),
        ("clipart", "openclipart-png/usr/share/openclipart/png"),
        ("stamps", "tuxpaint-stamps-default/usr"),
        ("openmoji", "openmoji/color"),
        ("twemoji", "emoji-datasource-twitter/img"),
        ("fluent", "fluentui-emoji/icons"),
    ],
)
def test_a_package_of_another_layout_is_named(source, inside, tmp_path):
    packages = write_packages(tmp_path)
    shutil.move(tmp_path / inside, tmp_path / f"{inside}-other")
    with pytest.raises(
        ValueError, match=f"no picture of '{source}' in .*{inside.partition('/')[0]}.*Delete the folder"
    ):
        collect(packages)


def test_each_package_belongs_to_a_source(tmp_path):
    assert {name for names in SOURCES.values() for name in names} == set(write_packages(tmp_path))
