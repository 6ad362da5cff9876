"""A saved LLaVA loads in plain transformers, without this package. A tower of ours brings its own code."""

import json
import subprocess
import sys

import pytest
import torch
from teacher_models import tiny_clip
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration
from vlm_parts import image_processor, language_model, picture, timm_tower

from hf_clip_kd.models import TimmVisionModel
from hf_clip_kd.models.towers.checksum import tower_checksum
from hf_clip_kd.vlm.build import build_llava
from hf_clip_kd.vlm.saving import load_llava, save_llava

ELSEWHERE = """
import sys
sys.modules["hf_clip_kd"] = None  # as if it were not installed
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline
folder, remote = sys.argv[1], sys.argv[2] == "remote"
answer = pipeline("image-text-to-text", model=folder, trust_remote_code=remote)
question = [{"type": "image", "image": folder + "/picture.png"}, {"type": "text", "text": "What shape?"}]
chat = [{"role": "user", "content": question}]
print(answer(text=chat, max_new_tokens=4, return_full_text=False))
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=remote)
inputs = torch.load(folder + "/inputs.pt")
logits = model(**inputs["inputs"]).logits
assert torch.equal(logits, inputs["logits"]), (logits - inputs["logits"]).abs().max()
print("tower:", type(model.model.vision_tower).__module__.split(".")[0])
"""


def llava(tower, **geometry):
    causal, tokenizer = language_model()
    if tower == "clip":
        dual, processor = tiny_clip()
        return build_llava(dual, causal, tokenizer=tokenizer, image_processor=processor.image_processor, **geometry)
    geometry["vision_feature_layer"] = [-2, -1]
    return build_llava(timm_tower(tower), causal, tokenizer=tokenizer, image_processor=image_processor(), **geometry)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tower", "where", "geometry"),
    [
        ("clip", "plain", {}),
        ("convnext", "remote", {}),
        ("clip", "remote", {"image_tokens": 4, "token_reduction": "shuffle"}),
        ("clip", "plain", {"tiles": [[1, 2], [2, 1]]}),
        ("convnext", "remote", {"image_tokens": 1, "tiles": [[1, 2], [2, 1]]}),
    ],
    ids=str,
)
def test_pipeline_in_a_process_without_the_package(tower, where, geometry, tmp_path):
    model, processor = llava(tower, **geometry)
    save_llava(model, processor, tmp_path / "vlm")
    picture().save(tmp_path / "vlm" / "picture.png")
    inputs = dict(processor(images=[picture()], text="<image>\nWhat shape?", return_tensors="pt"))
    with torch.no_grad():
        torch.save({"inputs": inputs, "logits": model(**inputs).logits}, tmp_path / "vlm" / "inputs.pt")
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "vlm"), where]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert "generated_text" in done.stdout
    assert f"tower: {'transformers' if where == 'plain' else 'transformers_modules'}\n" in done.stdout


def test_stock_folder_has_no_code(tmp_path):
    model, processor = llava("clip")
    save_llava(model, processor, tmp_path)
    assert not list(tmp_path.glob("*.py"))
    assert "auto_map" not in json.loads((tmp_path / "config.json").read_text())


def test_timm_folder_loads_plainly_where_the_package_is(tmp_path):
    model, processor = llava("convnext")
    checksum = tower_checksum(model.model.vision_tower)
    save_llava(model, processor, tmp_path)
    names = {path.name for path in tmp_path.glob("*.py")}
    own = {"modeling_timm_llava.py", "modeling_timm_clip.py", "configuration_timm_clip.py", "levels.py"}
    assert names == own | {"tower_registration.py"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "llava" and config["vision_config"]["feature_layers"] == [-2, -1]

    plain = LlavaForConditionalGeneration.from_pretrained(tmp_path)
    auto = AutoModelForImageTextToText.from_pretrained(tmp_path)
    trusted = AutoModelForImageTextToText.from_pretrained(tmp_path, trust_remote_code=True)
    AutoProcessor.from_pretrained(tmp_path)
    assert type(plain) is type(auto) is LlavaForConditionalGeneration
    for loaded in (plain, auto, trusted):
        # The folder's code gives way to the package's own.
        assert type(loaded.model.vision_tower) is TimmVisionModel
        assert tower_checksum(loaded.model.vision_tower) == checksum

    # Once more, from the model that brought its own code.
    save_llava(trusted, processor, tmp_path / "again")
    assert {path.name for path in (tmp_path / "again").glob("*.py")} == names
    again, _ = load_llava(tmp_path / "again", dtype=torch.bfloat16)
    assert again.dtype == torch.bfloat16


def test_load_llava_refuses_what_is_none(tmp_path):
    causal, tokenizer = language_model()
    causal.save_pretrained(tmp_path / "text")
    with pytest.raises(ValueError, match="cannot be loaded as a LLaVA .*'qwen2'"):
        load_llava(tmp_path / "text")
    with pytest.raises(ValueError, match="cannot be loaded as a LLaVA"):
        load_llava(tmp_path / "nothing")
    model, processor = llava("clip")
    weights = model.state_dict()
    del weights["model.multi_modal_projector.linear_2.bias"]
    save_llava(model, processor, tmp_path / "incomplete", state_dict=weights)
    with pytest.raises(ValueError, match="lack 1 tensors .*linear_2.bias"):
        load_llava(tmp_path / "incomplete")
