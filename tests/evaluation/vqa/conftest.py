"""Small files in the benchmarks' own formats, and answers that no model gives."""

import json

import pytest
from PIL import Image

from hf_clip_kd.evaluation.vqa import evaluator


@pytest.fixture
def put(tmp_path):
    """Write text or JSON to a file, and return its path."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.fixture
def measured(monkeypatch):
    """Give every accepted answer one bit for each of its letters; the list holds each call's samples and options."""
    calls = []

    def bits(model, processor, samples, **options):
        calls.append((list(samples), options))
        return [float(len(sample.answers[0])) for sample in samples]

    monkeypatch.setattr(evaluator, "answer_bits", bits)
    return calls


@pytest.fixture
def asked(monkeypatch, measured):
    """Answer from a dict, prompt to text (`yes` by default); the list holds each call's prompts and options."""
    calls = []

    def answers(model, processor, samples, **options):
        calls.append(([sample.prompt for sample in samples], options))
        return [model.get(sample.prompt, "yes") for sample in samples]

    monkeypatch.setattr(evaluator, "generate_answers", answers)
    return calls


@pytest.fixture
def images(tmp_path):
    """Make a folder of two images."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("1.jpg", "2.jpg"):
        Image.new("RGB", (4, 4)).save(folder / name)
    return str(folder)


@pytest.fixture
def gqa(put, images):
    """Make GQA of two questions, and return a recipe's block for it."""
    rows = {
        "a": {"question": "Is it red?", "imageId": "1", "answer": "yes", "types": {"structural": "verify"}},
        "b": {"question": "What is it?", "imageId": "2", "answer": "cup", "types": {"structural": "query"}},
    }
    return {"questions": str(put("gqa.json", rows)), "image_folder": images}
