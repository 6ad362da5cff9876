"""A miniature run under any loss. The teacher gives tokens, patches and features of generated captions, too."""

import torch
import torch.nn.functional as F
from made_up_reader import VOCABULARY, LinearReader
from miniature import BATCH, STEPS, Pairs, make_args, make_clip
from teacher_models import tiny_clip

from hf_clip_kd.distillation.trainer import DistillationTrainer
from hf_clip_kd.teachers.clip import CLIPTeacher

TRAINER_ONLY = ("eval_dataset", "evaluator", "callbacks", "readers")


def collate(rows):
    """Pairs with generated captions, and what the teacher reads: larger images and an end of its own."""
    batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
    batch["synthetic_input_ids"] = torch.cat([batch["input_ids"][:, :-1].flip(1), batch["input_ids"][:, -1:]], dim=1)
    batch["teacher_pixel_values"] = F.interpolate(batch["pixel_values"], size=(32, 32))
    for name in ("input_ids", "synthetic_input_ids"):
        batch[f"teacher_{name}"] = batch[name].masked_fill(batch[name] == 39, 599)
    words = batch["input_ids"] % VOCABULARY
    texts = {"input_ids": words[:, :-1], "attention_mask": torch.ones_like(words[:, 1:])}
    texts["labels"] = words[:, 1:].masked_fill(words[:, 1:] == 3, -100)
    return batch | {f"reader_0_{name}": value for name, value in texts.items()}


def make_run(
    folder, names=(), student=None, compile_teacher=False, eager_teacher=False, dataset=None, dtype=None, **changes
):
    """A trainer with these losses, the same at every call but for `changes` of the arguments."""
    trainer_only = {key: changes.pop(key) for key in TRAINER_ONLY if key in changes}
    trainer_only.setdefault("readers", [LinearReader(32, 16)])
    student = make_clip() if student is None else student
    model, processor = tiny_clip()
    if eager_teacher:
        model.set_attn_implementation("eager")
    torch.manual_seed(0)
    settings = {
        "losses": dict.fromkeys(names, 1.0),
        "optim": "sgd",
        "learning_rate": 0.05,
        "per_device_train_batch_size": BATCH,
    }
    return DistillationTrainer(
        model=student,
        args=make_args(folder, **settings | changes),
        teacher_model=CLIPTeacher(model, processor=processor, dtype=dtype, compile=compile_teacher),
        train_dataset=Pairs(BATCH * STEPS) if dataset is None else dataset,
        data_collator=collate,
        **trainer_only,
    )
