"""Real pictures in small: made-up packages go down the whole way of docs/pictures.md and docs/pictures_vlm.md."""

import itertools
import json
from pathlib import Path

import pytest
import timm
import yaml
from picture_packages import draw_with_stub, drawing, put, svg, write_packages
from safetensors.torch import save_file
from tiny_gguf import tiny_llama

from hf_clip_kd.data.pictures.sets import is_drawn
from hf_clip_kd.vlm import get_chat_template
from recipes import cache_teacher, distill, evaluate, train_vlm, write_picture_questions, write_pictures
from recipes.maintenance import pictures_tables

CONFIGS = Path(__file__).parents[2] / "recipes/configs"
FOLDERS = {"animals": "animals", "food": "food", "tools": "tools", "plants": "plants"}
GROUPS = {"animals-nature,animal-mammal": 0x1F400, "food-drink,food-fruit": 0x1F500}
SMALL = {"max_steps": 2, "per_device_train_batch_size": 8, "logging_steps": 1, "warmup_steps": 0, "save_steps": 2}
STUDENTS = ("alone", "distilled", "tokens", "vision")
SETS = ("style", "unseen", "category", "photographs")


def made_up_names():
    """Yield words of letters, known and new ones in turn."""
    syllables = ["".join(pair) for pair in itertools.product("bdfgklmnprstvz", "aeiou")]
    words = list(map("".join, itertools.product(syllables, syllables)))
    for pair in zip((w for w in words if not is_drawn(w)), (w for w in words if is_drawn(w)), strict=False):
        yield from pair


def colours():
    return ((i * 37 % 256, i * 91 % 256, i % 256) for i in itertools.count(1))


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """The helper's packages, with more clip art and emoji: each has a name and a colour of its own."""
    draw_with_stub(monkeypatch)
    found, names, colour = write_packages(tmp_path / "outputs/packages"), made_up_names(), colours()
    for folder in FOLDERS:
        for name in itertools.islice(names, 12):
            place = f"usr/share/openclipart/{{}}/{folder}/{name}"
            put(found["openclipart-svg"] / f"{place.format('svg')}.svg", svg(name))
            put(found["openclipart-png"] / f"{place.format('png')}.png", drawing(next(colour)))
    table = found["openmoji"] / "data/openmoji.csv"
    rows = table.read_text()
    for group, first in GROUPS.items():
        for code, name in enumerate(itertools.islice(names, 16), first):
            rows += f"x,{code:X},{group},{name},,\n"
            put(found["openmoji"] / f"color/svg/{code:X}.svg", "<svg/>")
            put(found["emoji-datasource-twitter"] / f"img/twitter/64/{code:x}.png", drawing(next(colour)))
    table.write_text(rows)


def run(recipe, name, **changes):
    """Run a recipe by its own YAML with a few values that make it small."""
    values = yaml.safe_load((CONFIGS / recipe.__name__.rpartition(".")[2] / f"{name}.yaml").read_text()) | changes
    path = Path(f"{name}.yaml")
    path.write_text(yaml.safe_dump(values))
    return recipe.main(["--config", str(path)])


def losses(folder):
    logged = map(json.loads, Path("outputs/pictures", folder, "metrics.jsonl").read_text().splitlines())
    return [entry["loss/clip"] for entry in logged if "loss/clip" in entry]


@pytest.mark.slow
def test_from_packages_to_answers(packages, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures.main(["--max_side", "64"])
    trunk = timm.create_model("tf_efficientnet_lite0").state_dict()
    save_file(trunk, tmp_path / "outputs/pictures/lite0.safetensors")

    run(distill, "pictures_teacher", **SMALL)
    for name in ("pictures", "pictures_vision"):
        run(cache_teacher, name, augmentations=2)
    for name in ("pictures_alone", "pictures", "pictures_tokens", "pictures_vision"):
        run(distill, name, **SMALL)
    # All students see the same crops and captions in the same order.
    first = {name: losses(name)[0] for name in STUDENTS}
    assert first == dict.fromkeys(STUDENTS, pytest.approx(first["alone"], rel=1e-6))
    run(evaluate, "pictures")
    results = [json.loads(path.read_text()) for path in Path("outputs/pictures/results").glob("*.json")]
    assert len(results) == 5 * (1 + len(STUDENTS))

    counts = write_picture_questions.main(["outputs/pictures", "outputs/pictures_questions"])
    assert all(counts[name]["name"] >= 4 and counts[name]["exists"] >= 4 for name in SETS)
    model, tokenizer = tiny_llama()
    tokenizer.chat_template = get_chat_template("smollm2").jinja
    model.save_pretrained("outputs/smollm2"), tokenizer.save_pretrained("outputs/smollm2")
    values = yaml.safe_load((CONFIGS / "train_vlm/pictures_lora.yaml").read_text())
    stage = values["first_stage"] | {"max_steps": 2, "per_device_train_batch_size": 8}
    small = {name: value for name, value in SMALL.items() if name != "warmup_steps"}
    rows = run(train_vlm, "pictures_lora", first_stage=stage, **small)
    assert {row["name"] for row in rows} == {"blind", "untrained", "alone", "distilled", "tokens", "teacher"}

    made = pictures_tables.tables(Path("none"), Path("outputs/pictures_vlm"))
    assert len(made) == 4
    for name in SETS:
        assert f"| {name}, name | `teacher` |" in made["questions"] and f"| {name} | `alone` |" in made["exists"]
    assert "| `distilled` over `alone` |" in made["differences"] and "| `teacher` |" in made["together"]
