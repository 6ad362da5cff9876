"""Sources of a run: where its models and data came from."""

from pathlib import Path

import pytest
import yaml

from hf_clip_kd.hub.cards.licences import licence_of
from hf_clip_kd.hub.cards.sources import Source, hub_model, sources


@pytest.mark.parametrize(
    "name, hub",
    [
        ("timm:vit_base_patch16_224.augreg_in21k//w.safetensors", None),
        ("timm:resnet50//w.safetensors", None),
        ("timm:vit_small_patch14_dinov2.lvd142m", "timm/vit_small_patch14_dinov2.lvd142m"),
        ("open_clip:ViT-B-16//epoch_1.pt", None),
        ("open_clip:local-dir:/models/mine", None),
        ("open_clip:hf-hub:me/model", "me/model"),
        ("outputs/teacher/checkpoint-20", None),
        ("./teacher", None),
        ("outputs/teacher/", None),
    ],
)
def test_hub_ids_of_names(name, hub):
    assert hub_model(name) == hub
    licence_of(name)  # a file of weights has no tag that timm knows


def test_sources_of_folders_that_name_each_other_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, other in (("a", "b"), ("b", "a")):
        Path(name).mkdir()
        Path(name, "recipe.yaml").write_text(yaml.safe_dump({"teacher_model_name_or_path": other}))
    assert Source("teacher", "a") in sources({"teacher_model_name_or_path": "a"})
