"""`new_folder`: whole or not at all, and never over files."""

from pathlib import Path

import pytest

from hf_clip_kd.recipe_io.new_folder import new_folder


def test_a_folder_appears_whole_at_the_end(tmp_path):
    output = tmp_path / "below" / "output"
    with new_folder(output) as made:
        (made / "file").write_text("a")
        assert not output.exists()
    assert (output / "file").read_text() == "a" and list(output.parent.iterdir()) == [output]


def test_nothing_is_left_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "output") as made:
        (made / "file").touch()
        raise RuntimeError
    assert not any(tmp_path.iterdir())


def test_a_link_to_an_empty_folder_stays_one(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "output").symlink_to(tmp_path / "disk")
    with new_folder(tmp_path / "output") as made:
        (made / "file").write_text("a")
    assert (tmp_path / "output").is_symlink() and (tmp_path / "disk" / "file").read_text() == "a"


@pytest.mark.parametrize("name", [".", "mount"])
def test_what_cannot_be_replaced_is_refused_before_the_work(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "mount")
    with pytest.raises(ValueError, match=f"output_dir='{name}' is .*. Allowed .*. Take another"), new_folder(name):
        pytest.fail("the work began")


def test_files_are_not_replaced(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="holds files already. Allowed .*. Take another"), new_folder(tmp_path):
        pass
