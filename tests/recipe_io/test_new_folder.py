"""`new_folder`: whole or not at all, and never over files."""

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


def test_files_are_not_replaced(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="holds files already. Allowed .*. Take another"), new_folder(tmp_path):
        pass
