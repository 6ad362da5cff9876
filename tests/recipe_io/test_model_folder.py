"""Folders of trained models: what a kill leaves of one is no model."""

import pytest
from teacher_models import tiny_clip
from transformers import CLIPModel

from hf_clip_kd.recipe_io.model_folder import is_whole_model


@pytest.fixture(params=["5GB", "20KB"], ids=["one file", "shards"])
def folder(request, tmp_path):
    model, processor = tiny_clip()
    model.save_pretrained(tmp_path, max_shard_size=request.param)
    processor.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("model*.safetensors"))) > (request.param == "20KB")
    return tmp_path


def test_a_saved_model_is_whole(folder):
    assert is_whole_model(folder) and is_whole_model(str(folder))
    CLIPModel.from_pretrained(folder)


@pytest.mark.parametrize("part", ["config.json", "weights", "half of the weights", "processor"])
def test_a_part_of_a_model_is_none(part, folder):
    weights = sorted(folder.glob("model*.safetensors"))[-1]
    if part == "half of the weights":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif part == "processor":
        for path in [*folder.glob("*processor_config.json"), *folder.glob("tokenizer*")]:
            path.unlink()
    else:
        (weights if part == "weights" else folder / part).unlink()
    assert not is_whole_model(folder)


def test_a_folder_that_is_not_there_holds_none(tmp_path):
    assert not is_whole_model(tmp_path / "none")
