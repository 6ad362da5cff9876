"""Model cards: made of files alone, true to them, accepted by the Hub's client, and safe whatever a user wrote."""

import importlib
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard
from tiny_llava import make_llava

import hf_clip_kd as kd
from hf_clip_kd.export import export_model
from hf_clip_kd.hub.cards import record_sources, render_card, write_card
from hf_clip_kd.hub.cards.licences import Licence, inherit, known, licence_of, metadata
from hf_clip_kd.hub.cards.markdown import code, escape, public, table
from hf_clip_kd.hub.cards.sources import Source, hub_model, sources
from hf_clip_kd.models import TimmCLIPConfig

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "model_cards"
RUNS = sorted(path.name for path in (CARDS / "runs").iterdir())
PROCEDURAL = "A demonstration on a procedural world"


@pytest.fixture(scope="module")
def recipe():
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return importlib.import_module("recipes.maintenance.model_cards")


@pytest.fixture
def run(tmp_path):
    """A folder as `distill.py` leaves it, on photographs, with a teacher from the Hub; a function that makes it."""

    def make(scores=True, config=None, **changes):
        folder = tmp_path / "run"
        (folder / "results").mkdir(parents=True)
        config = config or json.loads((CARDS / "runs/demo_distilled/config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config))
        arguments = {
            "model_name_or_path": "ViT-T-16",
            "teacher_model_name_or_path": "open_clip:ViT-B-16/laion2b_s34b_b88k",
            "dataset_name": "nlphuji/flickr30k",
            "losses": {"clip": 1.0, "fd": {"weight": 2000.0, "reduction": "mean"}},
            "learning_rate": 0.001,
            "output_dir": "outputs/student",
        }
        (folder / "recipe.yaml").write_text(yaml.safe_dump(arguments | changes))
        if scores:
            write_scores(folder, acc1=0.25)
        return folder

    return make


def write_scores(folder, **metrics):
    result = {"dataset": "uoft-cs/cifar10/test", "task": "zeroshot_classification", "metrics": metrics}
    (folder / "results").mkdir(parents=True, exist_ok=True)
    (folder / "results" / "scores.json").write_text(json.dumps(result | {"model": str(folder), "config": {}}))


def sections(text):
    """Return level, heading and text of each section of a card, up to the next heading. Code is left out."""
    body = without_code_blocks(text.split("\n---\n", 1)[1])
    parts = re.split(r"^(#+) (.+)$", body, flags=re.MULTILINE)
    return [(len(parts[i]), parts[i + 1], parts[i + 2].strip()) for i in range(1, len(parts), 3)]


def without_code_blocks(text):
    return re.sub(r"^```.*?^```$", "CODE", text, flags=re.DOTALL | re.MULTILINE)


def check_form(text):
    """Check the rules for every card."""
    found = sections(text)
    assert [level for level, _, _ in found].count(1) == 1 and found[0][0] == 1
    for (level, title, below), following in zip(found, [*found[1:], (0, "", "")], strict=True):
        assert below or following[0] > level, f"the heading {title!r} is empty"
    assert not re.search(r"(?<![\w.~/:)])/(tmp|home|root|work|Users|data)\b", text), "a local path"
    assert not re.search(r"hf_[A-Za-z0-9]{16,}", text), "a token"
    assert "None" not in text and "{{" not in text and "\n\n\n" not in text
    card = (DatasetCard if "pretty_name" in text else ModelCard)(text)
    head = yaml.safe_load(text.split("---\n")[1])
    # The client's own check: it understands the metadata, and would write the same.
    assert card.data.to_dict() == head
    return card, head


# ---- The cards in the repository ----


@pytest.mark.parametrize(
    ("name", "unknown"), [("demo_teacher", "timm_clip"), ("vlm_demo_teacher", "timm_clip_vision")]
)
def test_the_first_words_on_loading_are_the_import_that_it_takes(name, unknown):
    """Name the cure: the error of transformers is a list of all types, and names no package."""
    loading = render_card(CARDS / "runs" / name).split("## How to load it")[1].strip()
    assert loading.startswith("`import hf_clip_kd` comes first") and f"`{unknown}`" in loading.split("```")[0]


@pytest.mark.parametrize("name", RUNS)
def test_committed_card_comes_out_again(recipe, name):
    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    assert text == render_card(CARDS / "runs" / name), "run `python recipes/maintenance/model_cards.py`"
    card, _ = check_form(text)
    card.validate()  # The Hub on loopback checks it.
    assert PROCEDURAL in text and "procedural-data" in card.data.tags
    # Every number in the metadata is one that was measured.
    results = [json.loads(path.read_text()) for path in (CARDS / "runs" / name / "results").glob("*.json")]
    measured = {
        (r["task"].startswith("vqa"), metric): value for r in results for metric, value in r["metrics"].items()
    }
    assert card.data.eval_results
    for result in card.data.eval_results:
        value = measured[result.task_type == "visual-question-answering", result.metric_name]
        assert result.metric_value == pytest.approx(value, abs=5e-5)
        assert result.dataset_type == "shapes" and "procedural" in result.dataset_name


def test_committed_index_comes_out_again(recipe):
    texts = recipe.render()
    assert {path.name for path in CARDS.glob("*.md")} == set(texts) == {f"{name}.md" for name in RUNS} | {"README.md"}
    assert (CARDS / "README.md").read_text(encoding="utf-8") == texts["README.md"]
    assert all(f"]({name}.md)" in texts["README.md"] for name in RUNS)


def test_committed_card_compares_teacher_alone_and_distilled():
    text = (CARDS / "demo_distilled.md").read_text(encoding="utf-8")
    scores = {}
    for name in ("teacher", "alone", "distilled"):
        (path,) = (CARDS / f"runs/demo_{name}/results").glob("*classification.json")
        scores[name] = f"{100 * json.loads(path.read_text())['metrics']['acc1']:.1f}"
    assert "|  | teacher | student alone | this model |" in text
    assert f"| `acc1` | {scores['teacher']} | {scores['alone']} | {scores['distilled']} |" in text
    assert "| teacher, image tower |" in text and "| this model, image tower |" in text


def test_collect_takes_a_run_over_and_refuses_a_foreign_recipe(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "measure_run", lambda run, load, folder: None)
    monkeypatch.chdir(tmp_path)  # away from a demo's teacher that may lie in the repository
    for name in ("alone", "distilled"):
        shutil.copytree(CARDS / f"runs/demo_{name}", tmp_path / "demo" / name)
        (tmp_path / "demo" / name / "card.json").unlink()
    folder = recipe.collect(tmp_path / "demo/distilled", tmp_path / "cards")
    assert folder == tmp_path / "cards/runs/demo_distilled"
    assert "|  | student alone | this model |" in render_card(folder)
    path = tmp_path / "demo/distilled/recipe.yaml"
    path.write_text(path.read_text().replace("max_steps: 450", "max_steps: 7"))
    with pytest.raises(ValueError, match="says `max_steps: 7`.*made with `450`"):
        recipe.collect(tmp_path / "demo/distilled", tmp_path / "cards")
    with pytest.raises(ValueError, match="no finished run"):
        recipe.collect(tmp_path, tmp_path / "cards")


# ---- Contents of a card ----


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


def test_what_a_run_took_from_the_hub_is_linked_still(run, tmp_path, monkeypatch):
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


def test_an_ensemble_and_several_data_sets(run, tmp_path):
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


# ---- A user's words stay text ----

HOSTILE = "a\n---\n# b | c\n![x](y) <script>z</script> ```d``` *e* ]( & hf_abcdefghijklmnopqrstuvwx \u202e"


def test_hostile_strings_are_text(run, tmp_path):
    folder = run(dataset_name=HOSTILE, label_template=HOSTILE, text_column="label", output_dir=HOSTILE)
    write_scores(tmp_path / "other", acc1=0.125)
    text = write_card(folder, name=HOSTILE, compare={HOSTILE: tmp_path / "other"}).read_text()
    card, head = check_form(text)
    assert head["model-index"][0]["name"].startswith("a --- # b | c")
    body = without_code_blocks(text.split("\n---\n", 1)[1])
    assert "<script" not in re.sub(r"(`+) ?.*? ?(?<!`)\1(?!`)", "", body)
    (row,) = [line for line in text.splitlines() if line.startswith("| `acc1`")]
    (head_row,) = [line for line in text.splitlines() if line.startswith("|  |") and "this model" in line]
    assert len(re.findall(r"(?<!\\)\|", row)) == len(re.findall(r"(?<!\\)\|", head_row)) == 4
    assert "\u202e" not in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain_words and 3.5", "plain_words and 3.5"),
        ("_em_ *b* [l](x) `c`", r"\_em\_ \*b\* \[l\](x) \`c\`"),
        ("<b> & |", r"&lt;b&gt; &amp; \|"),
        ("a\nb\tc", "a b c"),
    ],
)
def test_escape(value, expected):
    assert escape(value) == expected


def test_code_spans_and_tables_hold_anything():
    assert code("a`b") == "``a`b``" and code("`a`") == "`` `a` ``"
    assert table(["a", "b"], [[code("x|y"), 1.5], ["p|q", 2]]).splitlines() == [
        "| a | b |",
        "| --- | ---: |",
        r"| `x\|y` | 1.5 |",
        r"| p\|q | 2 |",
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("outputs/demo/teacher", "outputs/demo/teacher"),
        ("me/model", "me/model"),
        ("/home/me/runs/teacher", "teacher"),
        ("~/runs/teacher", "teacher"),
        ("../../me/teacher", "teacher"),
        (r"C:\Users\me\teacher", "teacher"),
        ("open_clip:ViT-B-16/laion2b_s34b_b88k", "open_clip:ViT-B-16/laion2b_s34b_b88k"),
        ("open_clip:ViT-B-16//home/me/ours.pt", "open_clip:ViT-B-16//ours.pt"),
        ("timm:resnet18//home/me/ours.safetensors", "timm:resnet18//ours.safetensors"),
        ("/data/{00000..00331}.tar", "{00000..00331}.tar"),
    ],
)
def test_public_names(name, shown):
    assert public(name) == shown


def test_no_local_path_of_a_recipe_gets_out(run):
    folder = run(
        dataset_name="imagefolder",
        data_dir="/home/me/pictures",
        teacher_model_name_or_path="/srv/secret/teacher",
        output_dir="/data/me/student",
        hub_token="hf_" + "a" * 34,
    )
    text = write_card(folder).read_text()
    check_form(text)
    assert all(name in text for name in ("`pictures`", "`teacher`", "# student")) and "secret" not in text


# ---- Licences ----

FREE = Licence("mit", "any", "", "")
NO_SALE = Licence("cc-by-nc-4.0", "non-commercial", "", "")
RESEARCH = Licence("apple-amlr", "research", "", "")


@pytest.mark.parametrize(
    ("found", "own", "licence", "warned"),
    [
        ({"t": FREE, "d": Licence("apache-2.0", "any", "", "")}, None, "mit", []),
        ({"t": FREE}, "apache-2.0", "apache-2.0", []),
        ({"t": FREE, "d": NO_SALE}, None, "cc-by-nc-4.0", ["Because of d (cc-by-nc-4.0)"]),
        ({"t": RESEARCH, "d": NO_SALE}, None, "apple-amlr", ["Because of t", "Because of d"]),
        ({"t": NO_SALE}, "mit", "mit", ["The licence mit gives more than t allows"]),
        ({"t": FREE, "d": None}, None, None, ["of d allows is not known"]),
        ({}, None, None, []),
    ],
)
def test_licence_is_the_strictest_of_its_sources(found, own, licence, warned):
    given, warnings = inherit(found, own)
    assert given == licence and len(warnings) == len(warned)
    assert all(part in warning for part, warning in zip(warned, warnings, strict=True))


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("openai/clip-vit-large-patch14", "mit"),
        ("apple/MobileCLIP-S1-OpenCLIP", "apple-amlr"),
        ("timm:vit_base_patch16_clip_224.metaclip_400m", "cc-by-nc-4.0"),
        ("timm/vit_base_patch16_dinov3.lvd1689m", "dinov3-license"),
        ("shapes", "apache-2.0"),
    ],
)
def test_known_licences(name, licence):
    assert licence_of(name).licence == licence


def test_licences_say_where_they_were_read_and_unknown_is_unknown():
    assert all(entry["names"] and entry["read_in"] and entry["licence"] for entry in known())
    assert licence_of("somebody/something") is None and licence_of("timm/no_such_model.x") is None
    assert metadata("dinov3-license") == {"license": "other", "license_name": "dinov3-license"}


def test_a_licence_that_the_teacher_does_not_allow_is_said_in_card_and_log(run, caplog):
    folder = run(teacher_model_name_or_path="facebook/metaclip-b16-400m", dataset_name="shapes")
    text = write_card(folder, licence="mit").read_text()
    sentence = "The licence mit gives more than facebook/metaclip-b16-400m allows"
    assert f"> **Warning:** {sentence}" in text and sentence in caplog.text


def test_sources_of_folders_that_name_each_other_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, other in (("a", "b"), ("b", "a")):
        Path(name).mkdir()
        Path(name, "recipe.yaml").write_text(yaml.safe_dump({"teacher_model_name_or_path": other}))
    assert Source("teacher", "a") in sources({"teacher_model_name_or_path": "a"})


# ---- The examples run ----


@pytest.mark.parametrize("preset", ["shapes-vit-t", "shapes-conv"])
def test_first_example_of_a_card_runs(preset, tmp_path, capsys):
    model, processor = kd.load_clip(preset)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    text = write_card(tmp_path, repo_id="me/student").read_text()
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    assert ("import hf_clip_kd" in example) == isinstance(model.config, TimmCLIPConfig)
    names = {}
    exec(example.replace('"me/student"', repr(str(tmp_path))), names)
    assert type(names["model"]) is type(model) and "a red image" in capsys.readouterr().out


def test_every_example_of_an_exported_folder_runs(tmp_path):
    model, processor = kd.load_clip("shapes-vit-t")
    for part in (model, processor):
        part.save_pretrained(tmp_path / "student")
    export_model(tmp_path / "student", tmp_path / "exported", ["native", "open_clip"])
    text = write_card(tmp_path / "exported").read_text()
    check_form(text)
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 4 and "build_llava" in examples.pop(), "the last one needs a language model"
    for example in examples:
        found = re.sub(
            r'"(local-dir:)?exported"', lambda match: repr((match[1] or "") + str(tmp_path / "exported")), example
        )
        assert found != example
        exec(found, {})


def test_example_of_a_vlm_card_runs(tmp_path, capsys):
    model, processor = make_llava()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    text = write_card(tmp_path, repo_id="me/vlm").read_text()
    check_form(text)
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1].replace('"me/vlm"', repr(str(tmp_path))), {})
    assert "generated_text" in capsys.readouterr().out
