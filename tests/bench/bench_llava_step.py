"""
Time of a step of our LlavaTrainer, compared with the stock Trainer on the same model and batches.

    python tests/bench/bench_llava_step.py

writes outputs/bench/llava_step.json. The LLaVA has the tower of a ViT-T/16 at 224 pixels, frozen, and a small Qwen2
with random weights. Batches are collated beforehand. Runs take turns, each in a process of its own.
"""

import json
import logging
import sys
import tempfile

import torch
from online import use_all_cores
from report import machine, row, write
from step_times import StepTimes
from transformers import Trainer, TrainingArguments
from turns import median_gap, memory, of, peak_memory, take_turns
from words import tokenizer_of

import hf_clip_kd as kd
from hf_clip_kd.data.shapes.instruct import load_shapes_instruct

BATCH, WARM_UP, STEPS, REPEATS = 16, 1, 6, 5
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LM = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 6}
SMALL_LM = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
SETTINGS = {
    "per_device_train_batch_size": 1,  # a row of the data set is a whole batch
    "num_train_epochs": 1,
    "learning_rate": 1e-4,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "lr_scheduler_type": "constant",
    "logging_steps": 1000,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "remove_unused_columns": False,
    "use_cpu": DEVICE == "cpu",
}


def build(student):
    """Return a LLaVA with random weights, and its processor."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tower, processor = kd.load_clip(student)
    asked = load_shapes_instruct("train", 64)
    tokenizer = tokenizer_of([turn["content"] for row in asked for turn in row["messages"]])
    sizes = LM if student == "ViT-T-16" else SMALL_LM
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    config = Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=2, **ends, **sizes)
    with tempfile.TemporaryDirectory() as folder:
        tower.save_pretrained(folder)
        processor.save_pretrained(folder)
        return kd.build_llava(
            vision_tower=folder, language_model=Qwen2ForCausalLM(config), tokenizer=tokenizer, chat_template="short"
        )


class Collated(kd.LlavaDataCollator):
    """The collator of batches that are collated already."""

    def __call__(self, rows):
        return rows[0]


def batches(processor, count, batch):
    """Return batches of questions with answers about pictures of the embedded world."""
    rows = load_shapes_instruct("train", batch)
    made = kd.LlavaDataCollator(processor)([rows[i] for i in range(batch)])
    return [dict(made) for _ in range(count)]


def ours(model, processor, data, times, folder):
    args = kd.LlavaTrainingArguments(folder, stage="finetune", group_by_modality_length=False, **SETTINGS)
    kd.LlavaTrainer(
        model=model,
        args=args,
        processor=processor,
        train_dataset=data,
        data_collator=Collated(processor),
        callbacks=[times],
    ).train()


def stock(model, processor, data, times, folder):
    kd.vlm.set_trainable(model, kd.LlavaTrainingArguments(folder, stage="finetune", **SETTINGS))
    args = TrainingArguments(folder, **SETTINGS)
    Trainer(model=model, args=args, train_dataset=data, data_collator=lambda rows: rows[0], callbacks=[times]).train()


RUNS = {"ours": ours, "stock": stock}


def child(name, batch, steps, student):
    """Measure in one process."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    use_all_cores()
    torch.manual_seed(0)
    model, processor = build(student)
    data, times = batches(processor, WARM_UP + int(steps) + 1, int(batch)), StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        RUNS[name](model, processor, data, times, folder)
    return {"seconds": median_gap(times.moments, WARM_UP), "megabytes": peak_memory(DEVICE)}


def main(batch=BATCH, steps=STEPS, repeats=REPEATS, student="ViT-T-16"):
    """Measure, write the JSON and return it."""
    results = take_turns(__file__, RUNS, repeats, batch, steps, student)
    seconds = [of(results, name, "seconds") for name in RUNS]
    limits = {"at_most": 1.05, "memory": memory(results, *RUNS)}
    rows = [row("LLaVA step, `finetune`", "stock `Trainer`", *seconds, "s", **limits)]
    facts = {
        "batch": batch,
        "steps": steps,
        "student": student,
        "machine": machine(torch.get_num_threads(), DEVICE),
    }
    return write("llava_step", {"rows": rows, **facts})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(child(*sys.argv[1:])))
    else:
        use_all_cores()
        main()
