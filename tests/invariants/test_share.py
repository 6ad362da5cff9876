"""Complete way of a model: recipes train and push it, and a process without this package loads it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from teacher_models import TEXTS, images

import hf_clip_kd as kd
from recipes import distill, prime_lm, push, train_vlm

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
REPO = "me/student"
TINY = {
    "max_train_samples": 64,
    "max_steps": 3,
    "per_device_train_batch_size": 16,
    "use_cpu": True,
    "save_strategy": "no",
}
SMALL = {"zero_shot": {"dataset_name": "shapes", "split": "zero_shot", "max_samples": 32}}

# Every way in which others load a student; prints the logits that each gives for one picture and all texts.
LOADERS = {
    "transformers": """
model = CLIPModel.from_pretrained(repo).eval()
processor = AutoProcessor.from_pretrained(repo)
inputs = processor(images=picture, text=texts, padding=True, return_tensors="pt")
logits = model(**inputs).logits_per_image[0]
""",
    "remote code": """
model = AutoModel.from_pretrained(repo, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(repo, trust_remote_code=True)
inputs = processor(images=picture, text=texts, padding=True, return_tensors="pt")
logits = model(**inputs).logits_per_image[0]
""",
    "zero-shot pipeline": """
classify = pipeline("zero-shot-image-classification", model=repo)
rows = classify(picture, candidate_labels=texts, hypothesis_template="{}")
scores = {row["label"]: row["score"] for row in rows}
logits = torch.tensor([scores[text] for text in texts]).log()
""",
    "zero-shot pipeline, remote code": """
classify = pipeline("zero-shot-image-classification", model=repo, trust_remote_code=True)
scores = {row["label"]: row["score"] for row in classify(picture, candidate_labels=texts, hypothesis_template="{}")}
logits = torch.tensor([scores[text] for text in texts]).log()
""",
    "open_clip": """
import open_clip
model, _, transform = open_clip.create_model_and_transforms(f"hf-hub:{repo}")
image, text, scale = model.eval()(transform(picture)[None], open_clip.get_tokenizer(f"hf-hub:{repo}")(texts))
logits = (scale * image @ text.T)[0]
""",
    "onnx": """
import onnxruntime
processor = AutoProcessor.from_pretrained(repo)
scale = AutoModel.from_pretrained(repo).logit_scale.exp()
length = processor.tokenizer.model_max_length
tokens = processor.tokenizer(texts, padding="max_length", max_length=length, return_tensors="pt")
pixels = processor.image_processor(picture, return_tensors="pt")["pixel_values"]
given = {"vision_model": pixels, "text_model": tokens["input_ids"]}
parts = []
for name, value in given.items():
    session = onnxruntime.InferenceSession(hf_hub_download(repo, f"onnx/{name}.onnx"))
    parts.append(torch.from_numpy(session.run(None, {session.get_inputs()[0].name: value.numpy()})[0]))
image, text = (part / part.norm(dim=-1, keepdim=True) for part in parts)
logits = (scale * image @ text.T)[0]
""",
    "image features pipeline": """
folder = snapshot_download(repo, allow_patterns="vision_model/*")
logits = torch.tensor(pipeline("image-feature-extraction", model=f"{folder}/vision_model")(picture)[0]).flatten()
""",
    "image features pipeline, remote code": """
folder = snapshot_download(repo)
extract = pipeline("image-feature-extraction", model=f"{folder}/vision_model", trust_remote_code=True)
logits = torch.tensor(extract(picture)[0]).flatten()
""",
    "image-text-to-text pipeline": """
ask = pipeline("image-text-to-text", model=repo)
messages = [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": texts[0]}]}]
options = {"tokenize": True, "add_generation_prompt": True, "return_dict": True, "return_tensors": "pt"}
inputs = ask.processor.apply_chat_template(messages, **options)
logits = ask.model(**inputs).logits[0, -1]
assert isinstance(ask(text=messages, max_new_tokens=4)[0]["generated_text"], list)
""",
}
ELSEWHERE = """
import json, sys
sys.modules["hf_clip_kd"] = None
import torch
from huggingface_hub import hf_hub_download, snapshot_download
from PIL import Image
from transformers import AutoModel, AutoProcessor, CLIPModel, pipeline
loaders, repo, path, *texts = sys.argv[1:]
picture = Image.open(path)
for loader, code in json.loads(loaders).items():
    with torch.no_grad():
        exec(code)
    print(json.dumps([loader, logits.tolist()]))
"""


def write_yaml(path, values):
    path.write_text(yaml.safe_dump(values))
    return str(path)


def load_elsewhere(folder, names, picture, texts=TEXTS):
    """Load with each loader, in a process without this package and with an empty home."""
    picture.save(folder / "picture.png")
    home = folder / "clean_home"
    env = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("HF_HUB_CACHE", "HF_MODULES", "PYTHONPATH"))
    }
    command = [sys.executable, "-c", ELSEWHERE, json.dumps({name: LOADERS[name] for name in names}), REPO]
    done = subprocess.run(
        [*command, str(folder / "picture.png"), *texts],
        cwd=folder,
        env=env | {"HF_HOME": str(home)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert any(home.rglob("*.safetensors")), "nothing came from the Hub"
    answers = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith('["'))
    assert set(answers) == set(names)
    return {name: torch.tensor(values) for name, values in answers.items()}


def distil(folder, **values):
    """A run of the demo, cut short."""
    demo = yaml.safe_load((ROOT / "recipes/configs/distill/demo.yaml").read_text())
    values = {"teacher_model_name_or_path": str(folder / "teacher"), "output_dir": str(folder / "run"), **values}
    distill.main(["--config", write_yaml(folder / "recipe.yaml", demo | TINY | {"evaluation": SMALL} | values)])
    return folder / "run"


def make_teacher(folder):
    for part in kd.load_clip("shapes-vit-s"):
        part.save_pretrained(folder)


def check(answers, expected, loaders):
    for name in loaders:
        difference = (answers[name] - (expected.log_softmax(-1) if "pipeline" in name else expected)).abs().max()
        assert difference < 1e-4, f"{name}: {difference}"


def test_the_demo_student(hub, wipe_cache, tmp_path):
    make_teacher(tmp_path / "teacher")
    run = distil(tmp_path)
    push.main([str(run), REPO, "--export", "native,open_clip,onnx"])
    assert len(hub.titles(REPO)) == 1, "one commit"
    names = set(hub.files(REPO))
    assert {
        "README.md",
        "recipe.yaml",
        "config.json",
        "tokenizer.json",
        "open_clip_config.json",
        "parity.json",
    } < names
    assert any(name.startswith("results/") for name in names)
    wipe_cache()

    model, processor = kd.load_clip(run)
    picture = images(1, (32, 32))[0]  # the student's own size: nothing is resized, whatever the backend
    with torch.no_grad():
        inputs = processor(images=picture, text=TEXTS, padding=True, return_tensors="pt")
        expected = model.eval()(**inputs).logits_per_image[0]
        tokens = model.vision_model(inputs["pixel_values"]).last_hidden_state.flatten()
    classify = ["transformers", "zero-shot pipeline", "open_clip", "onnx"]
    answers = load_elsewhere(tmp_path, [*classify, "image features pipeline"], picture)
    check(answers, expected, classify)
    torch.testing.assert_close(answers["image features pipeline"], tokens, atol=1e-4, rtol=1e-4)


def test_a_mobilevit_student(hub, wipe_cache, tmp_path):
    make_teacher(tmp_path / "teacher")
    text = {"vocab_size": 600, "max_position_embeddings": 24, "hidden_size": 32, "intermediate_size": 64}
    student = {
        "model_type": "timm_clip",
        "projection_dim": 64,
        "vision_config": {"architecture": "mobilevitv2_050", "image_size": 64},
        "text_config": text | {"num_hidden_layers": 1, "num_attention_heads": 2},
    }
    (tmp_path / "mobilevit.json").write_text(json.dumps(student))
    run = distil(tmp_path, model_name_or_path=str(tmp_path / "mobilevit.json"))
    push.main([str(run), REPO, "--export", "remote-code,onnx"])
    wipe_cache()

    model, processor = kd.load_clip(run)
    picture = images(1, (64, 64))[0]
    with torch.no_grad():
        inputs = processor(images=picture, text=TEXTS, padding=True, return_tensors="pt")
        expected = model.eval()(**inputs).logits_per_image[0]
        tokens = model.vision_model(inputs["pixel_values"]).last_hidden_state.flatten()
    classify = ["remote code", "zero-shot pipeline, remote code"]
    answers = load_elsewhere(tmp_path, [*classify, "image features pipeline, remote code"], picture)
    check(answers, expected, classify)
    torch.testing.assert_close(answers["image features pipeline, remote code"], tokens, atol=1e-4, rtol=1e-4)


def test_a_vision_language_model(hub, wipe_cache, tmp_path):
    make_teacher(tmp_path / "tower")
    small = {key: TINY[key] for key in ("max_train_samples", "max_steps", "use_cpu", "save_strategy")}
    prime = {"output_dir": str(tmp_path / "lm"), "hidden_size": 32, "num_attention_heads": 2, "max_test_samples": 24}
    prime_lm.main(["--config", write_yaml(tmp_path / "prime.yaml", prime | small)])
    settings = {
        "vision_tower": str(tmp_path / "tower"),
        "language_model": str(tmp_path / "lm"),
        "dataset_name": "shapes",
        "evaluation": {"shapes": {"split": "test", "max_samples": 24}},
        "output_dir": str(tmp_path / "run"),
    }
    train_vlm.main(["--config", write_yaml(tmp_path / "vlm.yaml", settings | small)])
    push.main([str(tmp_path / "run"), REPO, "--export", "native"])
    wipe_cache()

    model, processor = kd.load_llava(tmp_path / "run")
    picture: Image.Image = images(1, (32, 32))[0]
    content = [{"type": "image", "image": picture}, {"type": "text", "text": TEXTS[0]}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        expected = model.eval()(**inputs).logits[0, -1]
    answer = load_elsewhere(tmp_path, ["image-text-to-text pipeline"], picture)["image-text-to-text pipeline"]
    torch.testing.assert_close(answer, expected, atol=1e-4, rtol=1e-4)
