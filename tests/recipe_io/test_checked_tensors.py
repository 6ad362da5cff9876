"""Files of tensors with a checksum: any flipped bit is found, and files without a checksum are read."""

import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_clip_kd.recipe_io.checked_tensors import CHECKSUM, read_metadata, read_tensors, write_tensors
from hf_clip_kd.recipe_io.foreign import ForeignFileError

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3).T,
    "b": torch.tensor([True, False]),
    "c": torch.empty(0, dtype=torch.int64),
    "d": torch.ones(3, dtype=torch.bfloat16),
}


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.fixture
def path(tmp_path):
    write_tensors(tmp_path / "a.safetensors", TENSORS, {"images": "red"})
    return tmp_path / "a.safetensors"


def test_what_was_written_is_read(path):
    assert same(read_tensors(path, fix="Fix."), TENSORS) and same(load_file(path), TENSORS)
    assert read_metadata(path, "Fix.")["images"] == "red"


def test_any_flipped_bit_is_found_or_changes_nothing(path):
    data, rng, found = path.read_bytes(), random.Random(0), 0
    for _ in range(300):
        spot, bit = rng.randrange(len(data)), rng.randrange(8)
        path.write_bytes(data[:spot] + bytes([data[spot] ^ 1 << bit]) + data[spot + 1 :])
        try:
            assert same(read_tensors(path, fix="Delete it."), TENSORS), (spot, bit)
        except ForeignFileError as error:
            assert str(error).startswith(f"{path}: it") and str(error).endswith("Delete it.")
            found += 1
    assert found > 200


def test_a_bit_of_its_name_does_not_turn_the_checksum_off(path):
    """The tensors are damaged, too, which only a checksum can tell."""
    data, rng, name = path.read_bytes(), random.Random(0), CHECKSUM.encode()
    data = data[:-1] + bytes([data[-1] ^ 1])
    place = data.index(name)
    for spot in range(place, place + len(name)):
        path.write_bytes(data[:spot] + bytes([data[spot] ^ 1 << rng.randrange(5)]) + data[spot + 1 :])
        with pytest.raises(ForeignFileError, match="its checksum is missing|it cannot be read"):
            read_tensors(path, fix="Fix.")


def test_a_file_that_is_cut_short_or_missing_is_named(path):
    path.write_bytes(path.read_bytes()[:-1])
    for file in (path, path.with_name("b")):
        with pytest.raises(ForeignFileError, match=f"{file.name}: it cannot be read"):
            read_tensors(file, fix="Fix.")


def test_without_a_checksum_or_a_check_it_is_read(path):
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ForeignFileError, match=r"its checksum is \w{8}, and \w{8} was written"):
        read_tensors(path, fix="Fix.")
    assert read_tensors(path, fix="Fix.", check=False).keys() == TENSORS.keys()
    save_file({"a": torch.ones(2)}, path)
    assert same(read_tensors(path, fix="Fix."), {"a": torch.ones(2)})
