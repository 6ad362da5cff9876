"""Folders of runs for tests of model cards, and the rules that every card keeps."""

import json
import re
from pathlib import Path

import yaml
from huggingface_hub import DatasetCard, ModelCard

CARDS = Path(__file__).parents[2] / "model_cards"


def make_run(folder, scores=True, config=None, **changes):
    """Make a folder as `distill.py` leaves it, on photographs, with a teacher from the Hub."""
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
    assert not re.search(r"hf_[A-Za-z0-9]{30,}", text), "a token"
    assert "None" not in text and "{{" not in text and "\n\n\n" not in text
    card = (DatasetCard if "pretty_name" in text else ModelCard)(text)
    head = yaml.safe_load(text.split("---\n")[1])
    # The client's own check: it understands the metadata, and would write the same.
    assert card.data.to_dict() == head
    return card, head
