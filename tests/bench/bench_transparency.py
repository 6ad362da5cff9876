"""
Scores of a student on transparent pictures, laid on white and as a stock pipeline shows them.

    python tests/bench/bench_transparency.py

writes outputs/bench/transparency.json. Students learn the name of a coloured shape on a transparent ground. Below the
ground lies what an editor left there. Black lies in half of the files, white and any colour in a quarter each. The old
rule laid each picture on white in training. The new one drops the transparency of half of the crops. Each student is
scored by `ZeroShotClassificationEvaluator`, and from its folder by `pipeline("zero-shot-image-classification")`. Black
shapes on black are invisible in the pipeline, so the pictures without them also have a score.
"""

import io
import itertools
import os
import statistics
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import datasets
import numpy as np
import torch
from PIL import Image, ImageDraw
from report import machine, write
from transformers import pipeline
from transformers.utils import logging

import hf_clip_kd as kd

STUDENT, SIDE = "shapes-conv", 32
RULES = {"white": 0.0, "white or dropped": 0.5, "dropped": 1.0}  # Name of a rule -> `drop_alpha`.
SEEDS, STEPS, BATCH, TRAIN, TEST = (0, 1, 2), (150, 400), 64, 6000, 480
COLORS = {"red": (225, 35, 35), "green": (30, 165, 45), "blue": (40, 70, 230), "yellow": (240, 215, 30)}
COLORS |= {"pink": (255, 130, 190), "black": (0, 0, 0)}
# Corners of each shape in shares of its size.
SHAPES = {
    "square": [(0, 0), (1, 0), (1, 1), (0, 1)],
    "triangle": [(0.5, 0), (1, 1), (0, 1)],
    "diamond": [(0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)],
    "arrow": [(0, 0.35), (0.5, 0.35), (0.5, 0), (1, 0.5), (0.5, 1), (0.5, 0.65), (0, 0.65)],
    "cross": [(0.35, 0), (0.65, 0), (0.65, 0.35), (1, 0.35), (1, 0.65), (0.65, 0.65)]
    + [(0.65, 1), (0.35, 1), (0.35, 0.65), (0, 0.65), (0, 0.35), (0.35, 0.35)],
    "hourglass": [(0, 0), (1, 0), (0.6, 0.5), (1, 1), (0, 1), (0.4, 0.5)],
}
NAMES = [f"a {color} {shape}" for color, shape in itertools.product(COLORS, SHAPES)]


def draw(rng, color, shape):
    """Return a transparent PNG and the colour below its ground. Edges are soft."""
    size, scale = int(rng.integers(14, 28)), 4
    left, top = rng.integers(0, SIDE - size + 1, 2)
    mask = Image.new("L", (SIDE * scale, SIDE * scale))
    corners = [((left + x * size) * scale, (top + y * size) * scale) for x, y in SHAPES[shape]]
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    mask = mask.resize((SIDE, SIDE), Image.Resampling.BOX)
    below = [(0, 0, 0), (0, 0, 0), (255, 255, 255), tuple(map(int, rng.integers(0, 256, 3)))][rng.integers(4)]
    picture = Image.new("RGB", (SIDE, SIDE), below)
    picture.paste(COLORS[color], mask=mask.point(lambda alpha: 255 * (alpha > 0)))
    picture.putalpha(mask)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue(), below


def world(size, seed):
    """Return rows `image`, `text`, `label`, `visible` and `__index__`."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(size):
        label = int(rng.integers(len(NAMES)))
        _, color, shape = NAMES[label].split()
        picture, below = draw(rng, color, shape)
        rows.append(
            {
                "image": {"bytes": picture, "path": None},
                "text": NAMES[label],
                "label": label,
                "visible": max(below) > 64 or color != "black",
                "__index__": index,
            }
        )
    features = datasets.Features(
        {
            "image": datasets.Image(decode=False),
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=NAMES),
            "visible": datasets.Value("bool"),
            "__index__": datasets.Value("int64"),
        }
    )
    return datasets.Dataset.from_list(rows, features)


def train(drop_alpha, steps, seed, rows, folder):
    """Train a student on captions and return it with its processor."""
    torch.manual_seed(seed)
    student, processor = kd.load_clip(STUDENT)
    args = kd.DistillationTrainingArguments(
        folder,
        losses={"clip": 1.0},
        seed=seed,
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=2e-3,
        warmup_steps=20,
        logging_steps=steps,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    collator = kd.CLIPDataCollator(processor, crop_scale=(1.0, 1.0), seed=seed, drop_alpha=drop_alpha)
    trainer = kd.DistillationTrainer(
        model=student, args=args, train_dataset=rows, data_collator=collator, processing_class=processor
    )
    trainer.train()
    trainer.save_model(folder)
    return student, processor


def score(student, processor, rows, folder):
    """Return accuracies in percent, here and in the stock pipeline."""
    files = []
    for number, row in enumerate(rows):
        files.append(str(Path(folder) / f"{number}.png"))
        Path(files[-1]).write_bytes(row["image"]["bytes"])
    stock = pipeline("zero-shot-image-classification", model=folder, device="cpu")
    answers = [answer[0]["label"] for answer in stock(files, candidate_labels=NAMES, hypothesis_template="{}")]
    right = np.array([answer == text for answer, text in zip(answers, rows["text"], strict=True)])
    found = {}
    for kind, wanted in (("all", np.ones(len(rows), bool)), ("visible", np.array(rows["visible"]))):
        chosen = rows.select(np.flatnonzero(wanted))
        here = kd.ZeroShotClassificationEvaluator(chosen, templates=["{}"])(student, processor)["acc1"]
        found |= {f"evaluator/{kind}": 100 * here, f"pipeline/{kind}": 100 * float(right[wanted].mean())}
    return found


def main():
    """Measure, write the JSON and return it."""
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    rows, test = world(TRAIN, 1), world(TEST, 2)
    scores = {}
    for steps, (rule, drop_alpha), seed in itertools.product(STEPS, RULES.items(), SEEDS):
        with tempfile.TemporaryDirectory() as folder:
            found = score(*train(drop_alpha, steps, seed, rows, folder), test, folder)
        for name, value in found.items():
            scores.setdefault(f"{rule}, {steps} steps", {}).setdefault(name, []).append(round(value, 1))
    return write(
        "transparency",
        {
            "accuracy": {
                rule: {
                    name: {"mean": round(statistics.mean(values), 1), "seeds": values}
                    for name, values in found.items()
                }
                for rule, found in scores.items()
            },
            "classes": len(NAMES),
            "batch": BATCH,
            "visible_share": round(float(np.mean(test["visible"])), 3),
            "machine": machine(),
        },
    )


if __name__ == "__main__":
    main()
