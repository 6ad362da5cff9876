"""`export_model`: which formats go together, the parity that decides, and that nothing is left of a refused export."""

import json
import subprocess
import sys

import pytest
import torch
from export_students import VIT, student
from teacher_models import images, tiny_clip
from vlm_parts import image_processor, language_model, timm_tower

from hf_clip_kd.export import export_model, folder, parity, vlm
from hf_clip_kd.models import TimmVisionModel, load_clip
from hf_clip_kd.vlm import build_llava, load_llava, save_llava


def saved(path, model, processor):
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


@pytest.fixture
def run(tmp_path):
    return saved(tmp_path / "run", *tiny_clip())


@pytest.mark.parametrize(
    ("formats", "options", "match"),
    [
        (["native", "gguf"], {}, "names gguf. Allowed are native, remote-code, open_clip, onnx. Write"),
        ([], {}, "names nothing. Allowed"),
        (["native", "remote-code"], {}, "both 'native' and 'remote-code', .*. Allowed is either. Take"),
        (["native"], {"quantize": True}, "quantize=True .* has no 'onnx'. Allowed .*. Add 'onnx'"),
        (["remote-code"], {}, "CLIPModel cannot be exported as 'remote-code': .*. Allowed .*. Export it as 'native'"),
    ],
)
def test_formats(formats, options, match, run, tmp_path):
    with pytest.raises(ValueError, match=match):
        export_model(run, tmp_path / "out", formats, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_with_files_is_left_alone(run):
    with pytest.raises(ValueError, match="holds files already. Allowed is a new or an empty folder. Take another"):
        export_model(run, run, ["native"])


@pytest.mark.parametrize("what", ["visual_projection", "text_projection", "logit_scale", "pixels", "tokens"])
def test_another_model_is_refused_and_leaves_nothing(what, run, tmp_path, monkeypatch):
    def spoiled(path):
        model, processor = load_clip(path)
        if what == "pixels":
            processor.image_processor.image_mean = [0.4, 0.5, 0.5]
        elif what == "tokens":
            processor.tokenizer.pad_token = "!"
        else:
            parameter = model.logit_scale if what == "logit_scale" else getattr(model, what).weight
            parameter.data.view(-1)[0] += 0.1
        return model, processor

    whole = export_model(run, tmp_path / "good", ["native"])["native"]
    assert {whole[row] for row in parity.ROWS} == {0.0}
    write = folder.write_native
    monkeypatch.setattr(folder, "write_native", lambda root, *model: write(root, *spoiled(run)))
    with pytest.raises(ValueError, match="'native' does not compute what the model computes .*. Allowed .*. Leave"):
        export_model(run, tmp_path / "out", ["native"])
    assert {path.name for path in tmp_path.iterdir()} == {"run", "good"}


def test_tolerance_and_own_images(run, tmp_path, monkeypatch):
    write = folder.write_native

    def nearly(root, model, processor):
        model.visual_projection.weight.data.view(-1)[0] += 0.02
        write(root, model, processor)

    monkeypatch.setattr(folder, "write_native", nearly)
    pictures = images(3, (41, 60))
    with pytest.raises(ValueError, match="real_images"):
        export_model(run, tmp_path / "out", ["native"], images=pictures)
    report = export_model(run, tmp_path / "out", ["native"], images=pictures, tolerance=0.5)
    assert json.loads((tmp_path / "out" / "parity.json").read_text()) == report
    assert 0 < report["native"]["real_images"] < 0.5 and report["native"]["tolerance"] == 0.5


ELSEWHERE = """
import sys
sys.modules["hf_clip_kd"] = None
from transformers import AutoProcessor, pipeline
folder, picture = sys.argv[1:]
AutoProcessor.from_pretrained(folder, trust_remote_code=True)
classify = pipeline("zero-shot-image-classification", model=folder, trust_remote_code=True)
print(classify(picture, candidate_labels=["a cat", "a dog"]))
features = pipeline("image-feature-extraction", model=folder + "/vision_model", trust_remote_code=True)
print(len(features(picture)[0]), type(features.model).__module__.split(".")[0])
"""


@pytest.mark.slow
def test_remote_code_in_pipelines(tmp_path):
    torch.manual_seed(0)
    run = saved(tmp_path / "run", *load_clip("test-resnet"))
    export_model(run, tmp_path / "out", ["remote-code"])
    images(1, (64, 64))[0].save(tmp_path / "picture.png")
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "out"), str(tmp_path / "picture.png")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert "a dog" in done.stdout and "transformers_modules" in done.stdout
    # A model saved later promises no code.
    model, _ = load_clip(tmp_path / "out")
    model.save_pretrained(tmp_path / "again")


def llava(path, family, **geometry):
    causal, tokenizer = language_model()
    geometry["vision_feature_layer"] = -1
    model, processor = build_llava(
        timm_tower(family), causal, tokenizer=tokenizer, image_processor=image_processor(), **geometry
    )
    save_llava(model, processor, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), [("vit", "native"), ("convnext", "remote-code")])
def test_llava(family, name, tmp_path):
    run = llava(tmp_path / "run", family)
    report = export_model(run, tmp_path / "out", [name])
    assert report[name]["token_agreement"] == 1
    tower = load_llava(tmp_path / "out")[0].model.vision_tower
    assert isinstance(tower, TimmVisionModel) == (name == "remote-code")
    assert bool(list((tmp_path / "out").glob("*.py"))) == (name == "remote-code")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "geometry"),
    [
        ("remote-code", {"image_tokens": 4, "token_reduction": "shuffle"}),
        ("native", {"tiles": [[1, 2], [2, 1]]}),
        ("remote-code", {"image_tokens": 1, "tiles": [[1, 2], [2, 1]]}),
    ],
    ids=str,
)
def test_llava_of_fewer_tokens_or_tiles(name, geometry, tmp_path):
    run = llava(tmp_path / "run", "vit", **geometry)
    report = export_model(run, tmp_path / "out", [name])
    assert report[name]["token_agreement"] == 1 and report[name]["real_logits"] <= 1e-5
    assert bool(list((tmp_path / "out").glob("*.py"))) == (name == "remote-code")


@pytest.mark.parametrize("part", ["real", "random"])
def test_a_llava_that_computes_no_number_is_refused(part, tmp_path, monkeypatch):
    """The logits of one half of the inputs are NaN, and those of the other half are right."""
    run = llava(tmp_path / "run", "vit")

    def read(root, inputs):
        found = {key: model(**value).logits.detach() for key, value in inputs.items()}
        return found | {part: torch.full_like(found[part], torch.nan)}

    model = load_llava(run, dtype=torch.float32)[0].eval()
    monkeypatch.setattr(vlm, "read_isolated", read)
    with pytest.raises(
        ValueError, match=f"'remote-code' does not compute what the LLaVA computes .*'{part}_logits': nan"
    ):
        export_model(run, tmp_path / "out", ["remote-code"])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_llava_refused(tmp_path):
    run = llava(tmp_path / "run", "convnext")
    few = llava(tmp_path / "few", "vit", image_tokens=4)
    with pytest.raises(ValueError, match="LLaVA with reduced tokens cannot be exported as 'native'.*'remote-code'"):
        export_model(few, tmp_path / "out", ["native"])
    with pytest.raises(ValueError, match="LLaVA on 'convnext_atto' cannot be exported as 'native': ConvNeXt"):
        export_model(run, tmp_path / "out", ["native"])
    with pytest.raises(ValueError, match="holds a LLaVA. Allowed is one of native, remote-code. For open_clip"):
        export_model(run, tmp_path / "out", ["open_clip"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few", "run"]


def test_a_timm_student_as_it_is_needs_no_code(tmp_path):
    run = saved(tmp_path / "run", *student(tmp_path, **VIT))
    export_model(run, tmp_path / "out", ["onnx"])
    assert not list((tmp_path / "out").glob("*.py")) and "auto_map" not in (tmp_path / "out/config.json").read_text()
