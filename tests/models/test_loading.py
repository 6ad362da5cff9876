"""`load_clip`: folders open in plain transformers, and whatever cannot be loaded is refused in one sentence."""

import json
import subprocess
import sys

import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from preset_files import write_json
from transformers import (
    AutoModel,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    BertConfig,
    CLIPProcessor,
    pipeline,
)

from hf_clip_kd.models import load_clip
from hf_clip_kd.models.presets import preset_folder

TEXTS = ["a photo of a red circle", "two small dogs & a cat!"]


def picture(side):
    return Image.effect_mandelbrot((side, side), (-2, -1.5, 1, 1.5), 60).convert("RGB")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of the two tiny students, one of each class."""
    folders = {}
    for name in ("test-vit", "test-resnet"):
        torch.manual_seed(0)
        model, processor = load_clip(name)
        folders[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(folders[name])
        processor.save_pretrained(folders[name])
    return folders


@pytest.mark.parametrize("name", ["test-vit", "test-resnet"])
def test_auto_classes_and_pipeline(name, saved):
    folder = saved[name]
    model, processor = load_clip(folder)
    assert type(AutoModel.from_pretrained(folder)) is type(model)
    assert type(AutoModelForZeroShotImageClassification.from_pretrained(folder)) is type(model)
    assert isinstance(AutoProcessor.from_pretrained(folder), CLIPProcessor)
    # Nothing is resized at the student's own size, so the pipeline's torchvision backend makes the same pixels.
    image = picture(model.config.vision_config.image_size)
    inputs = processor(images=image, text=TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).logits_per_image.softmax(-1)[0]
    classify = pipeline("zero-shot-image-classification", model=str(folder))
    scores = {row["label"]: row["score"] for row in classify(image, candidate_labels=TEXTS, hypothesis_template="{}")}
    assert [scores[text] for text in TEXTS] == pytest.approx(expected.tolist(), abs=1e-5)


WITHOUT_US = """
import json, sys
sys.modules["hf_clip_kd"] = None  # makes `import hf_clip_kd` fail
import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor, pipeline

folder, texts = sys.argv[1], json.loads(sys.argv[2])
model, processor = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)
image = Image.open(folder + "/picture.png")
with torch.no_grad():
    logits = model(**processor(images=image, text=texts, padding=True, return_tensors="pt")).logits_per_image[0]
classify = pipeline("zero-shot-image-classification", model=folder)
rows = classify(image, candidate_labels=texts, hypothesis_template="{}")
scores = {row["label"]: row["score"] for row in rows}
print(json.dumps([logits.tolist(), [scores[text] for text in texts]]))
"""


def test_vit_student_loads_where_this_package_is_not(saved):
    folder = saved["test-vit"]
    model, processor = load_clip(folder)
    image = picture(model.config.vision_config.image_size)
    image.save(folder / "picture.png")
    with torch.no_grad():
        inputs = processor(images=image, text=TEXTS, padding=True, return_tensors="pt")
        logits = model(**inputs).logits_per_image[0]
    command = [sys.executable, "-c", WITHOUT_US, str(folder), json.dumps(TEXTS)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout
    their_logits, their_scores = json.loads(output.strip().splitlines()[-1])
    assert their_logits == pytest.approx(logits.tolist(), abs=1e-5)
    assert their_scores == pytest.approx(logits.softmax(-1).tolist(), abs=1e-5)


# Both libraries round the margins of these sizes in the same way. Half an odd margin is rounded down by transformers,
# and to the even neighbour by torchvision.
@pytest.mark.parametrize("size", [(32, 32), (64, 48), (61, 100), (500, 375)])
def test_pixels_are_those_of_open_clip(size, saved):
    image = Image.effect_noise(size, 80).convert("RGB")
    for processor in (load_clip("test-vit")[1], load_clip(saved["test-vit"])[1]):
        pixels = processor.image_processor(image, return_tensors="pt").pixel_values[0]
        assert torch.equal(pixels, image_transform(32, is_train=False)(image))


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("ViT-T16", r"no preset, file or folder 'ViT-T16'. Allowed .*ViT-T-16.*Did you mean load_clip\('ViT-T-16'\)"),
        ("nothing like it", r"Allowed are the presets .*shapes-conv.* Call load_clip with one of these"),
        ("./missing.json", r"no preset, file or folder './missing.json'"),
        ("somebody/some-clip", r"'somebody/some-clip' is no preset.*Hub.*hf download somebody/some-clip"),
    ],
)
def test_unknown_name(name, match, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=match):
        load_clip(name)


def test_preset_has_no_stored_weights():
    with pytest.raises(ValueError, match="got revision, but a preset has no stored weights. A preset takes .* Leave"):
        load_clip("test-vit", revision="main")


def test_folder_that_is_no_model(tmp_path):
    with pytest.raises(ValueError, match="no saved model, as it has no config.json. Allowed are .* Give the folder"):
        load_clip(tmp_path)
    BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"holds a 'bert' model \(BertModel\), which is no dual encoder. Allowed"):
        load_clip(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "no_such_type"}')
    with pytest.raises(ValueError, match="cannot be loaded as a model .*no_such_type.* Save it again"):
        load_clip(tmp_path)


def test_folder_with_a_part_missing(saved, tmp_path):
    model, processor = load_clip(saved["test-vit"])
    model.config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="cannot be loaded as a model .*model.safetensors"):
        load_clip(tmp_path)
    state = {key: value for key, value in model.state_dict().items() if "projection" not in key}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ValueError, match=r"lack 2 tensors of CLIPModel \(such as text_projection.weight\)"):
        load_clip(tmp_path)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"no processor that can be loaded .*processor.save_pretrained"):
        load_clip(tmp_path)
    processor.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="the tokenizer has no vocabulary.*processor.save_pretrained"):
        load_clip(tmp_path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_type": "bert"}, "model_type='bert'. Allowed are clip and timm_clip. Write"),
        ({"projektion_dim": 3}, "Unknown key projektion_dim in .*x.json. Allowed are .*projection_dim.*. Correct"),
        (
            {"image_processor": {"size": 3}},
            "Unknown key size in image_processor of .*. Allowed are image_mean, image_std",
        ),
        ({"vision_config": {"widht": 3}}, "Unknown key widht in vision_config of .*. Allowed are architecture"),
        ({"architecture": "resnet99"}, "architecture='resnet99' of .* no model of timm .*. Allowed is .*. Correct"),
        ({"image_size": 7, "architecture": "vit_tiny_patch16_224"}, "cannot run with image_size=7 .*img_size"),
        ({"model_args": {"no_such": 1}}, "cannot run with .*no_such.*. timm must accept the arguments"),
    ],
)
def test_bad_json(changes, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        load_clip(write_json(tmp_path / "x.json", **changes))


def test_a_json_may_have_its_own_pixels(tmp_path):
    values = json.loads((preset_folder() / "test-vit.json").read_text())
    pixels = {"image_mean": [0.5, 0.25, 0.5], "image_std": [0.5, 0.125, 0.5], "resample": 2}
    (tmp_path / "x.json").write_text(json.dumps(values | {"image_processor": pixels}))
    _, processor = load_clip(tmp_path / "x.json")
    side = values["vision_config"]["image_size"]
    gray = processor.image_processor(Image.new("RGB", (side, side), (255, 0, 255)), return_tensors="pt")[
        "pixel_values"
    ]
    expected = torch.tensor([1.0, -2.0, 1.0]).view(1, 3, 1, 1).expand_as(gray)
    assert torch.allclose(gray, expected) and processor.image_processor.resample == 2


def test_json_without_a_tower_or_unreadable(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"model_type": "clip", "vision_config": {}}')
    with pytest.raises(ValueError, match="has no text_config. A student needs .*. Add"):
        load_clip(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="x.json: line 1 is no JSON .*. Compare it with"):
        load_clip(path)
