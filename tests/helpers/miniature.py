"""A miniature run: student, teacher, data and trainer."""

import torch
from transformers import CLIPConfig, CLIPModel

from hf_clip_kd.distillation.trainer import DistillationTrainer
from hf_clip_kd.distillation.training_args import DistillationTrainingArguments
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures, FeatureRequest
from hf_clip_kd.models.towers.tokens import pooled
from hf_clip_kd.teachers.base import Teacher as BaseTeacher

BATCH, STEPS, LEARNING_RATE = 8, 4, 1e-2
TRAINER_ONLY = (
    "eval_dataset",
    "evaluator",
    "callbacks",
    "compute_loss_func",
    "compute_metrics",
    "preprocess_logits_for_metrics",
    "model_init",
    "optimizers",
    "optimizer_cls_and_kwargs",
)
ALL_LOSSES = {"clip": 1.0, "crd": 0.5, "icl": 1.0, "fd": 4.0}


def make_clip(width=16, projection=12, seed=0, **changes):
    torch.manual_seed(seed)
    tower = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2, "num_attention_heads": 2}
    tower |= changes
    return CLIPModel(
        CLIPConfig(
            vision_config={**tower, "image_size": 16, "patch_size": 8},
            text_config={
                **tower,
                "vocab_size": 40,
                "max_position_embeddings": 8,
                "eos_token_id": 39,
                "bos_token_id": 38,
            },
            projection_dim=projection,
        )
    )


class Teacher(BaseTeacher):
    """A frozen CLIP behind the interface that the trainer asks of a teacher."""

    def __init__(self, model):
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.dims = CLIPDims.of(model)
        self.calls = 0

    def prepare(self, request):
        assert request == FeatureRequest(), "only embeddings here"

    @torch.no_grad()
    def forward(self, pixel_values, input_ids):
        self.calls += 1
        return CLIPFeatures(
            pooled(self.model.get_image_features(pixel_values=pixel_values)),
            pooled(self.model.get_text_features(input_ids=input_ids)),
            logit_scale=self.model.logit_scale.exp(),
        )


class AnyTeacher(Teacher):
    """The same for any objective and any batch; it gives embeddings alone."""

    def prepare(self, request):
        pass

    def forward(self, pixel_values, input_ids, **others):
        return super().forward(pixel_values, input_ids)


class Pairs(torch.utils.data.Dataset):
    def __init__(self, size=BATCH * STEPS):
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randn(size, 3, 16, 16, generator=generator)
        self.ids = torch.randint(0, 38, (size, 6), generator=generator)
        self.ids[:, -1] = 39

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        return {"pixel_values": self.pixels[index], "input_ids": self.ids[index]}


def collate(rows):
    return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


def make_args(folder, **changes):
    settings = {
        "losses": ALL_LOSSES,
        "per_device_train_batch_size": BATCH,
        "max_steps": STEPS,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "train_sampling_strategy": "sequential",
    }
    return DistillationTrainingArguments(str(folder), **settings | changes)


def make_trainer(folder, student=None, teacher=True, dataset=None, **changes):
    trainer_only = {key: changes.pop(key) for key in TRAINER_ONLY if key in changes}
    return DistillationTrainer(
        model=make_clip() if student is None else student,
        args=make_args(folder, **changes),
        teacher_model=Teacher(make_clip(24, 20, seed=1)) if teacher is True else teacher or None,
        train_dataset=Pairs() if dataset is None else dataset,
        data_collator=collate,
        **trainer_only,
    )


def best_of(*scores):
    """Return arguments of a run that has these scores after its steps, and loads the best in the end."""
    given = iter(scores)
    return {
        "evaluator": lambda model, processor: {"acc1": next(given)},
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "acc1",
        "greater_is_better": True,
    }


def logs(trainer, key):
    return [entry[key] for entry in trainer.state.log_history if key in entry]
