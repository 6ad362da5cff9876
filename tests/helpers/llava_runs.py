"""Miniature runs of LlavaTrainer: model, rows, trainer and losses."""

import torch
from PIL import Image
from teacher_models import tiny_clip
from vlm_parts import image_processor, language_model, timm_tower

from hf_clip_kd.data.instruct import FEATURES
from hf_clip_kd.vlm import (
    LlavaDataCollator,
    LlavaTeacher,
    LlavaTrainer,
    LlavaTrainingArguments,
    build_llava,
)

STEPS = 4


COLORS = ("red", "green", "blue", "white")


def make_rows(n=16, text_only=(3, 9)):
    """Conversations with pictures of one colour, and some without any."""
    import io

    from datasets import Dataset

    rows = []
    for i in range(n):
        file = io.BytesIO()
        Image.new("RGB", (40, 30), COLORS[i % 4]).save(file, "PNG")
        seeing = i not in text_only
        messages = [
            {"role": "user", "content": "<image>\n" * seeing + "What colour" + " is it" * (i % 3)},
            {"role": "assistant", "content": f"{COLORS[i % 4]} {i}"},
        ]
        images = [{"bytes": file.getvalue(), "path": None}] * seeing
        words = sum(len(message["content"].split()) for message in messages)
        rows.append(
            {"id": str(i), "messages": messages, "images": images, "num_words": words, "num_images": len(images)}
        )
    return Dataset.from_list(rows, features=FEATURES)


def make_model(tower="clip", layer=-2, **arguments):
    torch.manual_seed(0)
    tower = tiny_clip()[0].vision_model if tower == "clip" else timm_tower(tower)
    causal, tokenizer = language_model("qwen2")
    size = tower.config.image_size
    arguments |= {"tokenizer": tokenizer, "image_processor": image_processor(size), "vision_feature_layer": layer}
    return build_llava(tower, causal, **arguments)


def make_trainer(
    folder,
    model,
    processor,
    scale=None,
    features=None,
    dataset=None,
    teacher=None,
    images=None,
    packing=False,
    max_length=2048,
    **settings,
):
    settings = {
        "per_device_train_batch_size": 4,
        "max_steps": STEPS,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    } | settings
    names = ("eval_dataset", "callbacks", "compute_metrics", "compute_loss_func", "model_init", "optimizers")
    trainer_only = {key: settings.pop(key) for key in (*names, "optimizer_cls_and_kwargs") if key in settings}
    return LlavaTrainer(
        model=model,
        args=LlavaTrainingArguments(str(folder), **settings),
        processor=processor,
        train_dataset=make_rows() if dataset is None else dataset,
        data_collator=LlavaDataCollator(
            processor, tower_features=features, teacher_images=images, packing=packing, max_length=max_length
        ),
        feature_scale=scale,
        teacher=teacher,
        **trainer_only,
    )


def make_teacher(tower="clip", layer=-2, seed=3):
    """A LLaVA with other weights than the student, so that its answers differ."""
    model, processor = make_model(tower, layer)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return LlavaTeacher(model, processor)


def uneven_scale(model):
    """Powers of two that differ from channel to channel."""
    width = model.model.multi_modal_projector.linear_1.in_features
    return torch.exp2(torch.arange(width).remainder(7).float() - 3)


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
