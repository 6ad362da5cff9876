"""Model cards: made of files alone, true to them, and accepted by the Hub's client."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from card_folders import CARDS, check_form, write_scores
from huggingface_hub import DatasetCard

import hf_clip_kd as kd
from hf_clip_kd.hub.cards import record_sources, render_card, write_card

PROCEDURAL = "A demonstration on a procedural world"


def test_student_card_says_what_it_was_made_of(run):
    folder = run()
    card, head = check_form(write_card(folder, repo_id="me/student").read_text())
    card.validate()
    assert card.data.base_model == ["laion/CLIP-ViT-B-16-laion2B-s34B-b88K"]
    assert card.data.datasets == ["nlphuji/flickr30k"]
    assert card.data.pipeline_tag == "zero-shot-image-classification" and head["library_name"] == "transformers"
    (result,) = card.data.eval_results
    assert (result.dataset_type, result.dataset_split, result.metric_value) == ("uoft-cs/cifar10", "test", 0.25)
    text = card.text
    for found in (
        'CLIPModel.from_pretrained("me/student")',
        "weight 2000",
        "`{reduction: mean}`",
        "papers/2307.12732",
    ):
        assert found in text
    # Nothing of what the folder does not have.
    for absent in (
        PROCEDURAL,
        "open_clip.create",
        "onnx",
        "## Exports",
        "## Features",
        "## Size",
        "trust_remote_code",
    ):
        assert absent not in text


def test_diagnostics_are_no_scores(run):
    folder = run()
    before = render_card(folder)
    record = {"dataset": "shapes/test", "task": "representation", "metrics": {"effective_rank": 31.5, "cka": 0.8}}
    (folder / "results" / "representation.json").write_text(json.dumps(record))
    assert render_card(folder) == before


@pytest.mark.parametrize("name", kd.LOSSES)
def test_every_loss_is_explained_by_the_facts_of_its_class(run, name):
    text = render_card(run(losses={name: 0.125}))
    check_form(text)
    (line,) = [line for line in text.splitlines() if line.startswith("- `") and "weight 0.125" in line]
    cls = kd.LOSSES[name]
    assert line.startswith(f"- `{name}`") and f"{cls.teaches} Formula: `{cls.formula}`." in line
    assert "Symbols: B pairs;" in text
    assert f"https://huggingface.co/papers/{cls.paper['id']}" in line


def test_shorthand_and_own_losses(run):
    folder = run(losses="clip_kd")
    assert all(f"- `{name}`, weight {weight}." in render_card(folder) for name, weight in (("icl", 1), ("fd", 4)))
    assert "calls it `clip_kd`" in render_card(folder)
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"losses": {"not.importable.Loss": 2, "clip": 0}}))
    text = render_card(folder)
    assert "- `not.importable.Loss`, weight 2." in text and "- `clip`" not in text and "Symbols:" not in text


def test_a_curriculum_is_told(run):
    losses = {"clip": 1.0, "patch": {"weight": {"0": 2.0, "0.5": 0.5}}, "patch/late": {"weight": {"0": 0, "0.5": 1}}}
    text = render_card(run(losses=losses))
    assert "- `patch`, weight 2 at 0 %, 0.5 at 50 % of the steps. The teacher's patch tokens" in text
    assert "- `patch/late`, weight 0 at 0 %, 1 at 50 % of the steps. The teacher's patch tokens" in text


@pytest.mark.parametrize(
    ("setting", "told"),
    [({"crop_scale": [0.9, 1]}, "| 0.9 to 1 |"), ({"vision_feature_layer": [-8, -2]}, "| -8, -2 |")],
    ids=str,
)
def test_settings_of_several_numbers(run, setting, told):
    assert told in render_card(run(**setting))


def test_nobody_mistakes_a_run_with_published_defects(run):
    losses = {"clip": 1.0, "fd": {"weight": 4.0, "frozen_heads": 8}}
    text = render_card(run(losses=losses, independent_crops=True))
    warning = (
        "> **Trained with defects of published code, on purpose:** `frozen_heads: 8 of fd`, `independent_crops`. It"
    )
    assert warning in text and "- published-defects" in text.split("\n---\n")[0]


def test_a_sound_run_has_no_such_warning(run):
    assert "defects" not in render_card(run())


def test_sections_come_with_their_files(run):
    folder = run()
    tower = {"parameters": 1_500_000, "flops": 3e9, "per_second": 12.0}
    on = {"device": "A | B", "threads": 2, "batch_size": 8, "dtype": "float32", "torch": "2"}
    cost = {"parameters": 2_000_000, "image": tower, "image_size": [32, 32], "measured_on": on}
    (folder / "cost.json").write_text(json.dumps({"this model": cost}))
    (folder / "parity.json").write_text(json.dumps({"onnx": {"real_images": 1.25e-7, "same_token_ids": True}}))
    values = {"token_statistics": {"teacher": {"norm": 2.5}, "student": {"norm": 3.5}}, "cka": {"image": 0.875}}
    (folder / "representation.json").write_text(json.dumps(values))
    (folder / "open_clip_config.json").write_text("{}")
    (folder / "onnx").mkdir()
    (folder / "onnx/vision_model.onnx").write_bytes(b"")
    (folder / "vision_model").mkdir()
    (folder / "vision_model/config.json").write_text('{"architectures": ["CLIPVisionModel"]}')
    text = write_card(folder, repo_id="me/student").read_text()
    check_form(text)
    assert "| this model, image tower | 1.5 M | 3 G | 12 |" in text and "A | B".replace("|", r"\|") in text
    assert "| `onnx` | 1.25e-07 | yes |" in text
    assert "### token statistics" in text and "| `cka` | 0.875 |" in text and "| `student` | 3.5 |" in text
    assert 'create_model_and_transforms("hf-hub:me/student")' in text
    assert 'InferenceSession(hf_hub_download("me/student", "onnx/vision_model.onnx"))' in text
    assert '"subfolder": "vision_model"' in text


def test_card_of_a_bare_folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip", "architectures": ["CLIPModel"]}')
    text = render_card(tmp_path)
    _, head = check_form(text)
    assert "It has not been evaluated." in text and "license" not in head and "## Training" not in text
    with pytest.raises(ValueError, match="nothing that a card could describe"):
        render_card(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("config.json", '{"model_type": 5}', "No card can be made of .*int.*Restore the file that was changed"),
        ("card.json", '{"sources": [[]]}', "No card can be made of .*Restore the file that was changed"),
        ("cost.json", "{", "cost.json: .*is no JSON.*It must be as this package wrote it"),
        ("recipe.yaml", "a: [", "recipe.yaml is no valid YAML"),
    ],
)
def test_a_file_that_was_changed_is_told(run, name, content, match):
    folder = run()
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=match) as error:
        render_card(folder)
    assert str(folder) in str(error.value)


def test_facts_outlive_their_call(run, tmp_path):
    folder = run()
    write_scores(tmp_path / "alone", acc1=0.125, acc5=0.5)
    write_card(folder, name="Mine", licence="mit", compare={"student alone": tmp_path / "alone"})
    shutil.rmtree(tmp_path / "alone")
    text = write_card(folder, repo_id="me/student").read_text()
    assert "# Mine" in text and "license: mit" in text and "| `acc1` | 12.5 | 25.0 |" in text
    assert "`acc5`" not in text, "the rows are what this model was measured on"


def test_local_teacher_brings_its_scores_its_sources_and_its_hub_id(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scores(Path("teacher"), acc1=0.5)
    Path("teacher/recipe.yaml").write_text(yaml.safe_dump({"dataset_name": "shapes"}))
    folder = run(teacher_model_name_or_path="teacher")
    text = write_card(folder).read_text()
    assert "|  | teacher | this model |" in text and "base_model" not in text
    assert "| `shapes` | data of teacher |" in text and PROCEDURAL not in text
    Path("teacher/card.json").write_text('{"repo_id": "me/teacher"}')
    assert "base_model:\n- me/teacher\n" in write_card(folder).read_text()


def test_what_was_a_folder_does_not_become_a_hub_id_elsewhere(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my/teacher").mkdir(parents=True)
    folder = run(teacher_model_name_or_path="my/teacher", dataset_name="shapes")
    text = write_card(folder).read_text()
    assert "base_model" not in text and "from `my/teacher`" in text
    shutil.rmtree("my")
    assert render_card(folder) == text == write_card(folder).read_text()


LOCAL = {
    "teacher": {"teacher_model_name_or_path": "runs/teacher"},
    "checkpoint": {"teacher_model_name_or_path": "runs/teacher/checkpoint-20"},
    "slash": {"teacher_model_name_or_path": "runs/teacher/"},
    "ensemble": {"teacher_model_name_or_path": [{"name": "runs/teacher"}, "runs/other"]},
    "starting weights": {"model_name_or_path": "runs/start"},
    "tower": {"vision_tower": "runs/tower", "language_model": "runs/words"},
    "data": {"dataset_name": "imgs/train"},
    "folder of pictures": {"dataset_name": "imagefolder", "data_dir": "imgs/train"},
    "several data sets": {"datasets": [{"dataset_name": "imgs/train"}, {"dataset_name": "imgs/more"}]},
}


@pytest.mark.parametrize("arguments", LOCAL.values(), ids=LOCAL)
def test_a_run_remembers_its_folders_after_they_have_moved(run, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    folder = run(scores=False, **{"teacher_model_name_or_path": None, "dataset_name": "shapes"} | arguments)
    names = re.findall(r"(?:runs|imgs)/[\w/-]+", repr(arguments))
    for name in names:
        Path(name).mkdir(parents=True)
    record_sources(folder)
    shutil.rmtree(Path(names[0]).parent)
    monkeypatch.chdir("/")  # the card may be written elsewhere, and twice
    for _ in range(2):
        text = write_card(folder).read_text()
        assert not re.search("huggingface.co/(datasets/|runs|imgs)", text)
        assert "base_model" not in text and "datasets:" not in text
        assert all(name.rstrip("/") in text for name in names)


def test_what_a_run_took_from_the_hub_is_linked_still(run):
    folder = run(teacher_model_name_or_path="openai/clip-vit-base-patch16", output_dir="openai/mine")
    record_sources(folder)
    text = write_card(folder).read_text()
    assert "base_model:\n- openai/clip-vit-base-patch16\n" in text and "datasets:\n- nlphuji/flickr30k\n" in text


def test_without_a_record_names_beside_the_run_are_paths(run):
    folder = run(teacher_model_name_or_path="outputs/teacher", dataset_name="outputs/pictures")
    for text in (render_card(folder), write_card(folder).read_text()):
        assert "huggingface.co/outputs" not in text and "base_model" not in text and "datasets:" not in text


@pytest.mark.parametrize(
    "output_dir, expected", [("outputs/student/", "student"), (".", "run"), ("..", "run"), ("./", "run"), ("", "run")]
)
def test_a_card_has_a_name(run, output_dir, expected):
    text = render_card(run(scores=False, output_dir=output_dir))
    assert f"\n# {expected}\n" in text and f"model_name: {expected}\n" in text


def test_an_ensemble_and_several_data_sets(run):
    teachers = ["openai/clip-vit-base-patch16", {"name": "timm:vit_small_patch14_dinov2.lvd142m", "weight": 0.5}]
    data = [
        {"dataset_name": "shapes", "weight": 2},
        {"dataset_name": "webdataset", "data_files": "/data/secret/{0..9}.tar", "weight": 1},
    ]
    text = render_card(run(teacher_model_name_or_path=teachers, datasets=data))
    card, _ = check_form(text)
    assert card.data.base_model == ["openai/clip-vit-base-patch16", "timm/vit_small_patch14_dinov2.lvd142m"]
    assert "- Data: `shapes`, weight 2" in text and "- Data: `{0..9}.tar`, weight 1" in text
    assert PROCEDURAL not in text, "not all of its images are drawings"


def test_procedural_data_and_a_teacher_that_knows_photographs(run):
    text = render_card(run(dataset_name="shapes", teacher_model_name_or_path="openai/clip-vit-base-patch16"))
    assert PROCEDURAL in text and "has never seen" not in text
    text = (CARDS / "demo_distilled.md").read_text()
    assert "has never seen a photograph" in text


def test_vlm_and_cache_have_cards_of_their_own(tmp_path):
    card, _ = check_form((CARDS / "vlm_demo_distilled.md").read_text())
    assert card.data.pipeline_tag == "image-text-to-text"
    assert "- vision tower `outputs/demo/distilled`" in card.text
    (tmp_path / "cache.json").write_text(
        json.dumps(
            {
                "teachers": [{"dims": {"embed_dim": 512, "has_text": True}, "weights": "abc" * 20}],
                "settings": {"augmentations": 4, "crop_scale": [0.9, 1.0], "flip": 0.5, "seed": 42},
                "dataset": {"rows": 7, "samples": [123]},
                "dtype": "torch.bfloat16",
            }
        )
    )
    text = write_card(
        tmp_path, repo_id="me/cache", teachers=["facebook/metaclip-b16-400m"], datasets=["me/pictures"]
    ).read_text()
    card, head = check_form(text)
    card.validate()
    assert isinstance(card, DatasetCard) and head["license"] == "cc-by-nc-4.0"
    assert head["source_datasets"] == ["me/pictures"] and "4 random crops" in text and "- 7 images" in text
    assert "--teacher_cache me/cache" in text and "123" not in text
