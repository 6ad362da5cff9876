"""Qt resource files: each version, compressed contents, and files that are none."""

import struct

import pytest
from picture_packages import qt_resources

from hf_clip_kd.data.pictures.qt_resources import read_qt_resources
from hf_clip_kd.recipe_io.foreign import ForeignFileError

FILES = {"a/b/one.txt": b"first" * 20, "a/c.txt": b"", "d.txt": "Füße".encode()}


@pytest.mark.parametrize("version", [1, 2, 3])
def test_files_come_with_their_paths_and_contents(version, tmp_path):
    path = tmp_path / "x.rcc"
    path.write_bytes(qt_resources(FILES, version, compressed=("a/b/one.txt",)))
    assert dict(read_qt_resources(path)) == FILES


# A single file: header, tree of a root and the file, contents, names.
BYTES = bytes.fromhex(
    "71726573 00000001 00000014 00000030 00000036"
    "00000000 0002 00000001 00000001"
    "00000000 0000 0000 0000 00000000"
    "00000002 4869"
    "0001 00000061 0061"
)


def test_a_file_written_by_hand(tmp_path):
    path = tmp_path / "x.rcc"
    path.write_bytes(BYTES)
    assert list(read_qt_resources(path)) == [("a", b"Hi")]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", BYTES[:30], BYTES[:52], b"xxxx" + BYTES[4:]])
def test_what_is_no_resource_file_is_named(damage, tmp_path):
    path = tmp_path / "x.rcc"
    path.write_bytes(damage)
    with pytest.raises(ForeignFileError, match="x.rcc: it cannot be read .* must be a Qt resource file.*Unpack"):
        list(read_qt_resources(path))
    with pytest.raises(ForeignFileError, match="nowhere: it cannot be read"):
        list(read_qt_resources(tmp_path / "nowhere"))


def test_folders_that_share_their_files_are_not_read_for_ever(tmp_path):
    """Each of 60 folders holds the next two nodes, so the last file has a trillion paths."""
    tree = b"".join(struct.pack(">IHII", 0, 2, 2, node + 1) for node in range(60)) + 2 * struct.pack(
        ">IHII", 0, 0, 0, 0
    )
    starts = (20, 20 + len(tree), 26 + len(tree))
    content, name = struct.pack(">I", 2) + b"Hi", struct.pack(">HI", 1, 0) + "a".encode("utf-16-be")
    (tmp_path / "x.rcc").write_bytes(b"qres" + struct.pack(">4I", 1, *starts) + tree + content + name)
    with pytest.raises(ForeignFileError, match="x.rcc: .*stands in two folders"):
        list(read_qt_resources(tmp_path / "x.rcc"))
