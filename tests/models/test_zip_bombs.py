"""Weights in a zip are refused where the zip stands for more than it is, and only there."""

import struct
import zipfile

import pytest
import torch

from hf_clip_kd.models.zip_bombs import refuse_zip_bomb


def test_what_torch_and_others_save_is_taken(tmp_path):
    state = {"a": torch.zeros(1000), "b": torch.arange(3)}
    torch.save(state, tmp_path / "a.pt")
    torch.save(state, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "c.bin").write_bytes(b"no zip")
    for name in ("a.pt", "b.pt", "c.bin"):
        refuse_zip_bomb(tmp_path / name)


@pytest.mark.parametrize("how", ["packed", "shared"])
def test_a_zip_that_stands_for_more_is_refused(how, tmp_path):
    path = tmp_path / "a.pt"
    kind = zipfile.ZIP_DEFLATED if how == "packed" else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("0", bytes(10**5))
        archive.writestr("1", b"")
    if how == "shared":  # The second name in the list of contents leads to the first part.
        data = bytearray(path.read_bytes())
        entry = data.rindex(b"PK\x01\x02")
        data[entry + 20 : entry + 28] = struct.pack("<II", 10**5, 10**5)
        path.write_bytes(data)
    with pytest.raises(ValueError, match=r"would unpack to \d+,000 bytes from .*Allowed are files that `torch.save`"):
        refuse_zip_bomb(path)
