"""Pictures of gcompris: photographs and drawn words, named as their files."""

from picture_packages import write_packages

from hf_clip_kd.data.pictures.gcompris import gcompris


def test_photographs_and_drawn_words(tmp_path):
    found = {picture.file: picture for picture in gcompris(write_packages(tmp_path)["gcompris-qt-data"])}
    assert {file: (picture.captions, picture.category, picture.photograph) for file, picture in found.items()} == {
        "gcompris/categorization/images/tools/hammer1.webp": (("a photo of hammer",), "tools", True),
        "gcompris/explore_farm_animals/animals/cow.webp": (("a photo of cow",), "animals", True),
        "gcompris/explore_monuments/france/eiffelTower.webp": (("a photo of eiffel tower",), "buildings", True),
        "gcompris/explore_world_animals/animals/polar_bear.webp": (("a photo of polar bear",), "animals", True),
        "gcompris/lang/words_sample/lemon.webp": (("lemon",), "", False),
    }
    assert all(picture.content()[8:12] == b"WEBP" for picture in found.values())
