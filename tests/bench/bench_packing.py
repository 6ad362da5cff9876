"""
Tokens per second of a LLaVA's training with packed samples, as a ratio to that without, and both losses.

    python tests/bench/bench_packing.py

writes outputs/bench/packing.json. The LLaVA has the sizes of the VLM demo: the student `shapes-vit-t` and a language
model of 0.3 M parameters. `questions` are the demo's data, one question in each sample, all about equally long.
`conversations` have one to six questions about an image. Both runs of a pair have the same samples in each step. Runs
alternate, and the ratio is that of their medians. Padding counts as no token.
"""

import os
import random
import runpy
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import datasets
import torch
from report import machine, row, write
from step_times import StepTimes
from transformers.utils import logging

import hf_clip_kd as kd
from hf_clip_kd.data.instruct import FEATURES
from hf_clip_kd.data.shapes.instruct import load_shapes_instruct
from hf_clip_kd.vlm import LlavaDataCollator, LlavaTrainer, LlavaTrainingArguments, build_llava

PRIME = runpy.run_path(str(Path(__file__).parents[2] / "recipes" / "prime_lm.py"))
BATCH, STEPS, WARM_UP, REPEATS = 96, 12, 2, 5
LENGTHS = (128, 256)  # Tokens of a packed row.


def make_rows(per_sample):
    """Return conversations of up to so many questions about one image each, 96 for each step."""
    draw, rows = random.Random(0), []
    asked = load_shapes_instruct("train", 6 * BATCH * STEPS)
    for start in range(0, len(asked), 6):
        group = asked[start : start + 6]
        turns = [turn for messages in group["messages"][: draw.randint(1, per_sample)] for turn in messages]
        turns = [turns[0], *({**turn, "content": turn["content"].replace("<image>\n", "")} for turn in turns[1:])]
        words = sum(len(turn["content"].split()) for turn in turns)
        row = {"id": group["id"][0], "messages": turns, "images": group["images"][0]}
        rows.append(row | {"num_words": words, "num_images": 1})
    return datasets.Dataset.from_list(rows, features=FEATURES)


def train(rows, tokenizer, folder, length):
    """Return seconds of a step by wall clock and CPU clock, tokens of a step, share of padding and losses."""
    torch.manual_seed(0)
    causal = PRIME["symbolic_llava"](PRIME["PrimeArguments"](), tokenizer)[0]
    student, processor = kd.load_clip("shapes-vit-t")
    language_model = PRIME["Qwen2ForCausalLM"](causal.config.text_config)
    model, processor = build_llava(
        student, language_model, tokenizer=tokenizer, image_processor=processor.image_processor, chat_template="short"
    )
    collator = LlavaDataCollator(processor, packing=length is not None, max_length=length or 2048)
    times = StepTimes(lambda: (time.perf_counter(), time.process_time()))
    args = LlavaTrainingArguments(
        folder,
        per_device_train_batch_size=BATCH,
        max_steps=STEPS,
        learning_rate=1e-3,
        group_by_modality_length=False,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = LlavaTrainer(model, args, processor, rows, collator, callbacks=[times])
    trainer.train()
    moments = times.moments[WARM_UP:]
    steps = [
        [b - a for a, b in zip(first, second, strict=True)]
        for first, second in zip(moments[:-1], moments[1:], strict=True)
    ]
    wall, cpu = (statistics.median(values) for values in zip(*steps, strict=True))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    counts = collator.counts
    return wall, cpu, counts.counts.total("tokens") / STEPS, counts.padding_fraction, losses


def measure(rows, tokenizer, folder):
    """Return speeds and padding of each row length, and tokens per second of the shortest rows and of plain ones."""
    found = {length: [] for length in (None, *LENGTHS)}
    for _ in range(REPEATS):
        for length, runs in found.items():
            runs.append(train(rows, tokenizer, folder, length))
    plain = found[None]
    result = {"tokens_per_step": round(plain[0][2]), "padding": round(plain[0][3], 3), "packed": {}}
    result["tokens_per_second"] = round(plain[0][2] / statistics.median(run[0] for run in plain))
    for length in LENGTHS:
        runs = found[length]
        ratios = [a[0] / b[0] for a, b in zip(plain, runs, strict=True)]
        result["packed"][length] = {
            "ratio": round(statistics.median(ratios), 3),
            "spread": [round(min(ratios), 3), round(max(ratios), 3)],
            "cpu_ratio": round(statistics.median(a[1] / b[1] for a, b in zip(plain, runs, strict=True)), 3),
            "padding": round(runs[0][3], 3),
            "largest_difference_of_losses": max(abs(a - b) for a, b in zip(plain[0][4], runs[0][4], strict=True)),
        }
    return result, [[run[2] / run[0] for run in runs] for runs in (found[LENGTHS[0]], plain)]


def main():
    """Measure, write the JSON and return it."""
    logging.set_verbosity_error()
    data = {"questions": make_rows(1), "conversations": make_rows(6)}
    tokenizer = PRIME["make_tokenizer"](data["conversations"]["messages"][:])
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: measure(rows, tokenizer, folder) for name, rows in data.items()}
    found = {name: result for name, (result, _) in runs.items()}
    speeds = runs["conversations"][1]
    found["rows"] = [row("LLaVA step, packed conversations", "the same with padding", *speeds, "tokens/s")]
    about = machine(threads=torch.get_num_threads())
    return write("packing", found | {"batch": BATCH, "steps": STEPS, "repeats": REPEATS, "machine": about})


if __name__ == "__main__":
    main()
