"""recipes/train_captioner.py: a decoder that learns, and a student that is distilled through it."""

import json

import pytest
import torch
from recipe_runs import TINY
from safetensors.torch import load_file
from teacher_models import tiny_clip

from hf_clip_kd.teachers.reader import load_reader
from recipes import distill, train_captioner

pytestmark = pytest.mark.slow


def flags(**values):
    return [
        word
        for name, value in values.items()
        for word in (f"--{name}", value if isinstance(value, str) else json.dumps(value))
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A teacher, and a decoder trained on its tokens for a few steps."""
    root = tmp_path_factory.mktemp("captioner")
    model, processor = tiny_clip()
    model.save_pretrained(root / "teacher")
    processor.save_pretrained(root / "teacher")
    shared = {name: value for name, value in TINY.items() if name != "model_name_or_path"}
    own = {"hidden_size": 16, "num_heads": 2, "max_length": 30, "max_steps": 6, "report_to": "none"}
    loss = train_captioner.main(
        flags(
            **shared | own,
            teacher_model_name_or_path=str(root / "teacher"),
            output_dir=str(root / "teacher" / "captioner"),
            learning_rate=0.01,
        )
    )
    return root, loss


def test_the_folder_is_a_reader_of_the_teacher(folders):
    root, loss = folders
    reader = load_reader(root / "teacher" / "captioner")
    assert (reader.token_dim, reader.num_tokens, reader.layer) == (32, 16, -2)
    assert loss < torch.tensor(600.0).log(), "better than any word alike"
    assert (root / "teacher" / "captioner" / "recipe.yaml").is_file()


def test_a_student_is_distilled_through_it(folders):
    root, _ = folders
    distill.main(
        flags(
            **TINY,
            report_to="none",
            teacher_model_name_or_path=str(root / "teacher"),
            losses={"clip": 1.0, "reader": {"reader": "{teacher}/captioner"}},
            output_dir=str(root / "student"),
            evaluation="null",
        )
    )
    heads = load_file(root / "student" / "losses.safetensors")
    assert not any("decoder" in name for name in heads)
    assert '"loss/reader": ' in (root / "student" / "metrics.jsonl").read_text()
