"""The examples of a card run."""

import re

import pytest
from card_folders import CARDS, check_form
from tiny_llava import make_llava

import hf_clip_kd as kd
from hf_clip_kd.export import export_model
from hf_clip_kd.hub.cards import render_card, write_card
from hf_clip_kd.models import TimmCLIPConfig


@pytest.mark.parametrize(
    ("name", "unknown"), [("demo_teacher", "timm_clip"), ("vlm_demo_teacher", "timm_clip_vision")]
)
def test_the_first_words_on_loading_are_the_import_that_it_takes(name, unknown):
    """Name the cure: the error of transformers is a list of all types, and names no package."""
    loading = render_card(CARDS / "runs" / name).split("## How to load it")[1].strip()
    assert loading.startswith("`import hf_clip_kd` comes first") and f"`{unknown}`" in loading.split("```")[0]


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
