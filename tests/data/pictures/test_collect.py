"""All pictures of all packages, and no more than eight that are called alike."""

from picture_packages import draw_with_stub, drawing, put, write_packages

from hf_clip_kd.data.pictures import collect
from hf_clip_kd.data.pictures.collect import MAX_ALIKE


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
