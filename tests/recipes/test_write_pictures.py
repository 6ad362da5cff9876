"""The recipe of the pictures, from made-up packages to the sets and their checksum."""

import hashlib

import pytest
from picture_packages import draw_with_stub, write_packages

from recipes import write_pictures


@pytest.fixture
def recipe(monkeypatch):
    draw_with_stub(monkeypatch)
    return write_pictures


def test_sets_are_written_and_counted(recipe, tmp_path, capsys):
    write_packages(tmp_path / "packages")
    checksum = recipe.main([str(tmp_path / "sets"), "--packages", str(tmp_path / "packages"), "--max_side", "16"])
    assert checksum == hashlib.sha256((tmp_path / "sets/pictures.jsonl").read_bytes()).hexdigest()
    printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(printed) == ["train", "retrieval", "unseen", "style", "photographs", "category", "checksum"]
    # A stamp and four archives of gcompris are photographs.
    assert printed["photographs"].split()[0] == "5" and printed["checksum"] == checksum


def test_a_machine_without_the_packages_says_what_to_install(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="openclipart-png cannot be fetched .*Install it, or unpack"):
        recipe.main([str(tmp_path / "sets"), "--packages", str(tmp_path / "packages")])
    assert not (tmp_path / "sets").exists()


@pytest.mark.parametrize("side", ["0", "-5"])
def test_a_side_without_pixels_is_refused(recipe, tmp_path, side):
    with pytest.raises(ValueError, match=f"`--max_side {side}` leaves no pixel.*--max_side 144"):
        recipe.main([str(tmp_path / "sets"), "--packages", str(tmp_path / "packages"), "--max_side", side])
    assert not list(tmp_path.iterdir())


def test_a_folder_of_somebody_else_is_refused_before_anything_is_fetched(recipe, tmp_path):
    (tmp_path / "sets/train").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds 'train', which sets would replace"):
        recipe.main([str(tmp_path / "sets"), "--packages", str(tmp_path / "packages")])
    assert not (tmp_path / "packages").exists()
