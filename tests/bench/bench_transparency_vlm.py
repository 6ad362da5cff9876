"""
Answers of a LLaVA about transparent pictures, laid on white and with dropped transparency.

    python tests/bench/bench_transparency_vlm.py

writes outputs/bench/transparency_vlm.json. The pictures and the students are those of bench_transparency.py. Each
student is the frozen tower of a small LLaVA that learns to name the picture. The first rule lays every picture on
white, in both trainings. The second is that of hf_clip_kd.
"""

import itertools
import os
import statistics
import tempfile
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import datasets
import numpy as np
import torch
from bench_transparency import NAMES, SEEDS, TEST, TRAIN, train, world
from report import machine, write
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.utils import logging
from words import tokenizer_of

import hf_clip_kd as kd
from hf_clip_kd.data import decode_image
from hf_clip_kd.data.reading.images import decode_with_alpha
from hf_clip_kd.data.reading.transparency import flatten
from hf_clip_kd.evaluation.vqa import Sample, generate_answers
from hf_clip_kd.vlm import training_picture

RULES = {"white": (0.0, decode_image), "white or dropped": (0.5, training_picture)}
TOWER_STEPS, STEPS, BATCH = 400, 400, 32
QUESTION = "what ?"
FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "messages": datasets.List({"role": datasets.Value("string"), "content": datasets.Value("string")}),
        "images": datasets.List(datasets.Image(decode=False)),
        "num_images": datasets.Value("int64"),
        "num_words": datasets.Value("int64"),
    }
)


def language_model(seed):
    """Return an untrained language model and a tokenizer that knows the words of the world."""
    tokenizer = tokenizer_of([f"{QUESTION} {name}" for name in NAMES])
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    return Qwen2ForCausalLM(config), tokenizer


def conversations(rows):
    """Return the pictures of [`world`] as questions and answers."""
    found = []
    for row in rows:
        turns = [("user", f"<image>\n{QUESTION}"), ("assistant", row["text"])]
        messages = [{"role": role, "content": content} for role, content in turns]
        found.append({"id": str(row["__index__"]), "messages": messages, "images": [row["image"]]})
    return datasets.Dataset.from_list([row | {"num_images": 1, "num_words": 5} for row in found], FEATURES)


def train_llava(tower, decode, seed, rows, folder):
    """Train a LLaVA on a tower and return it with its processor."""
    lm, tokenizer = language_model(seed)
    model, processor = kd.build_llava(
        vision_tower=tower, language_model=lm, tokenizer=tokenizer, chat_template="short", vision_feature_layer=-1
    )
    args = kd.LlavaTrainingArguments(
        folder,
        stage="finetune",
        seed=seed,
        max_steps=STEPS,
        per_device_train_batch_size=BATCH,
        learning_rate=2e-3,
        warmup_steps=20,
        logging_steps=STEPS,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = kd.LlavaTrainer(
        model=model,
        args=args,
        processor=processor,
        train_dataset=rows,
        data_collator=kd.LlavaDataCollator(processor),
    )
    with mock.patch("hf_clip_kd.vlm.collator.training_picture", decode):
        trainer.train()
    return model, processor


def score(model, processor, rows):
    """Return the shares of right answers in percent, about all pictures and about the visible ones."""
    found, visible = {}, np.array(rows["visible"])
    for name in ("white", "dropped"):
        pictures = [flatten(decode_with_alpha(row["image"]), name == "dropped") for row in rows]
        samples = [Sample(number, picture, QUESTION) for number, picture in enumerate(pictures)]
        answers = generate_answers(model, processor, samples, batch_size=60, max_new_tokens=8)
        right = np.array([answer == text for answer, text in zip(answers, rows["text"], strict=True)])
        found |= {f"{name}/all": 100 * float(right.mean()), f"{name}/visible": 100 * float(right[visible].mean())}
    return found


def main():
    """Measure, write the JSON and return it."""
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    rows, test = world(TRAIN, 1), world(TEST, 2)
    asked = conversations(rows)
    scores = {}
    for (rule, (drop_alpha, decode)), seed in itertools.product(RULES.items(), SEEDS):
        with tempfile.TemporaryDirectory() as folder:
            train(drop_alpha, TOWER_STEPS, seed, rows, f"{folder}/tower")
            found = score(*train_llava(f"{folder}/tower", decode, seed, asked, f"{folder}/vlm"), test)
        for name, value in found.items():
            scores.setdefault(rule, {}).setdefault(name, []).append(round(value, 1))
        print(rule, seed, found, flush=True)
    accuracy = {
        rule: {name: {"mean": round(statistics.mean(values), 1), "seeds": values} for name, values in found.items()}
        for rule, found in scores.items()
    }
    return write(
        "transparency_vlm",
        {
            "accuracy": accuracy,
            "steps": STEPS,
            "batch": BATCH,
            "machine": machine(),
        },
    )


if __name__ == "__main__":
    main()
