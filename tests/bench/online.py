"""Steps of our trainer, of open_clip's own loop and of a plain loop, on the same batches in memory."""

import logging
import math
import os
import tempfile
import time
from argparse import Namespace
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPConfig, CLIPModel, TrainerCallback
from turns import peak_memory

import hf_clip_kd as kd
from hf_clip_kd.data.transforms.view import TextView

LEARNING_RATE, WEIGHT_DECAY, BETAS, EPSILON, MAX_GRAD_NORM, MAX_LOG_SCALE = 1e-3, 0.1, (0.9, 0.98), 1e-6, 1.0, 4.6052
# Width, blocks, heads and patch of the image tower; width, blocks and heads of the text tower; joint width.
TEACHERS = {
    "B/16": ((768, 12, 12, 16), (512, 12, 8), 512),
    "L/14": ((1024, 24, 16, 14), (768, 12, 12), 768),
    "small": ((96, 4, 3, 8), (64, 2, 2), 64),
    "tiny": ((32, 2, 2, 8), (32, 1, 2), 32),
}


@dataclass
class Setting:
    """
    Settings that all implementations share.

    `student` is a preset, `teacher` a key of TEACHERS. `losses`, `cached` and `bf16_teacher` are for our trainer
    alone: a cached step has the teacher's features in memory. No teacher runs for losses without one. `padding` is
    that of our captions, by default to the longest of the batch. Times are of `steps` steps behind `warm_up` ones.
    """

    student: str = "ViT-T-16"
    teacher: str = "B/16"
    batch: int = 32
    steps: int = 3
    warm_up: int = 1
    bf16: bool = False
    bf16_teacher: bool = False
    compiled: bool = False
    cached: bool = False
    padding: str | None = None
    losses: str | dict = "clip_kd"
    device: str = "cpu"


@dataclass
class Run:
    """A training: seconds of a step by the wall's and the CPU's clock, both models, and its mean loss."""

    seconds: float
    cpu_seconds: float
    student: nn.Module
    teacher: nn.Module | None
    loss: float | None = None


class Stopwatch(TrainerCallback):
    """Seconds of a step: from the end of the warm-up to the end, when the device has done its work."""

    def __init__(self, setting):
        self.setting, self.done, self.start, self.found = setting, 0, (0.0, 0.0), (0.0, 0.0)

    def step(self):
        self.done += 1
        if self.done in (self.setting.warm_up, self.setting.warm_up + self.setting.steps):
            if self.setting.device == "cuda":
                torch.cuda.synchronize()
            now = time.perf_counter(), time.process_time()
            self.found = tuple((b - a) / self.setting.steps for a, b in zip(self.start, now, strict=True))
            self.start = now

    def on_step_end(self, args, state, control, **kwargs):
        self.step()


class InMemory:
    """A teacher whose features lie there already, the same for every batch."""

    def __init__(self, dims, features):
        self.dims, self.features = dims, features

    def prepare(self, request):
        pass

    def place(self, device):
        self.features = self.features.map(lambda x: x.to(device))

    def identity(self):
        return {}

    def of_batch(self, batch):
        return self.features


def teacher_model(setting):
    """Return a teacher with random weights, which sees the student's pictures and tokens."""
    torch.manual_seed(1)
    (width, blocks, heads, patch), (text_width, text_blocks, text_heads), joint = TEACHERS[setting.teacher]
    student = kd.load_clip(setting.student)[0].config
    vision = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": blocks, "patch_size": patch}
    vision |= {"num_attention_heads": heads, "image_size": student.vision_config.image_size, "hidden_act": "gelu"}
    known = {name: getattr(student.text_config, name) for name in ("vocab_size", "max_position_embeddings")}
    known |= {name: getattr(student.text_config, name) for name in ("eos_token_id", "bos_token_id", "pad_token_id")}
    text = {"hidden_size": text_width, "intermediate_size": 4 * text_width, "num_hidden_layers": text_blocks, **known}
    text |= {"num_attention_heads": text_heads, "hidden_act": "gelu"}
    return CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=joint))


def batches(setting):
    """Return pictures and captions for each step, always the same. They lie in memory that a GPU copies from."""
    size = kd.load_clip(setting.student)[0].config.vision_config.image_size
    captions = list(kd.load_image_text("shapes", max_samples=min(setting.batch, 1024))["text"])
    captions = (captions * (1 + setting.batch // len(captions)))[: setting.batch]
    pictures = torch.randn(setting.batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    if setting.device == "cuda":
        pictures = pictures.pin_memory()
    return [(pictures, captions)] * (setting.warm_up + setting.steps)


def tokenized(setting, processor):
    """Return our batches."""
    view = TextView(processor, setting.padding)
    return [{"pixel_values": pictures, **view(captions)} for pictures, captions in batches(setting)]


def ours(setting):
    """Train by [`DistillationTrainer`]."""
    student, processor = kd.load_clip(setting.student)
    dtype = torch.bfloat16 if setting.bf16_teacher else None
    # The stored features come from two samples, which need no compiled teacher.
    compiled = setting.compiled and not setting.cached
    live = kd.CLIPTeacher(teacher_model(setting), processor=processor, dtype=dtype, compile=compiled)
    teacher, data, watch = live, tokenized(setting, processor), Stopwatch(setting)
    if setting.cached:
        few = {name: value[:2] for name, value in data[0].items()}
        teacher = InMemory(live.dims, live.of_batch(few).map(lambda x: grown(x, setting.batch)))
    with tempfile.TemporaryDirectory() as folder:
        args = kd.DistillationTrainingArguments(
            folder,
            losses=setting.losses,
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            max_grad_norm=MAX_GRAD_NORM,
            lr_scheduler_type="constant",
            per_device_train_batch_size=1,  # a row of the data set is a whole batch
            num_train_epochs=1,
            logging_steps=1000,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            bf16=setting.bf16,
            torch_compile=setting.compiled,
            use_cpu=setting.device == "cpu",
        )
        trainer = kd.DistillationTrainer(
            model=student,
            args=args,
            teacher_model=teacher,
            train_dataset=data,
            data_collator=lambda rows: rows[0],
            processing_class=processor,
            callbacks=[watch],
        )
        loss = trainer.train().training_loss
    return Run(*watch.found, student, live.model, loss)


def grown(features, batch):
    """Repeat the features of two samples to a batch; a scale stays what it is."""
    return features if features.ndim == 0 else features.repeat(batch // 2, *[1] * (features.ndim - 1)).contiguous()


def open_clip_model(setting, config):
    """Return open_clip's model of the sizes of a transformers CLIP."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision, text = config.vision_config, config.text_config
    image_tower = CLIPVisionCfg(
        layers=vision.num_hidden_layers,
        width=vision.hidden_size,
        head_width=vision.hidden_size // vision.num_attention_heads,
        patch_size=vision.patch_size,
        image_size=vision.image_size,
    )
    text_tower = CLIPTextCfg(
        context_length=text.max_position_embeddings,
        vocab_size=text.vocab_size,
        width=text.hidden_size,
        heads=text.num_attention_heads,
        layers=text.num_hidden_layers,
    )
    model = CLIP(config.projection_dim, image_tower, text_tower, output_dict=True).to(setting.device)
    return torch.compile(model) if setting.compiled else model


class Loader(list):
    """Batches as open_clip's loop asks for them. Its next question is the end of a step."""

    def __init__(self, batches, watch):
        super().__init__(batches)
        self.num_batches, self.num_samples, self.watch = len(batches), sum(len(x) for x, _ in batches), watch

    def __iter__(self):
        for batch in super().__iter__():
            yield batch
            self.watch.step()


def open_clip(setting):
    """Train by open_clip's own `train_one_epoch`, made as its `main.py` makes it."""
    import open_clip
    from open_clip.loss import DistillClipLoss
    from open_clip_train.train import train_one_epoch

    model = open_clip_model(setting, kd.load_clip(setting.student)[0].config)
    teacher = open_clip_model(setting, teacher_model(setting).config)
    length, words = model.context_length, model.vocab_size
    data = [(pixels, open_clip.tokenize(texts, length).clamp(max=words - 1)) for pixels, texts in batches(setting)]
    optimizer = torch.optim.AdamW(groups(model), lr=LEARNING_RATE, betas=BETAS, eps=EPSILON)
    watch = Stopwatch(setting)
    args = Namespace(
        device=setting.device,
        precision="amp_bf16" if setting.bf16 else "fp32",
        distill=True,
        accum_freq=1,
        skip_scheduler=True,
        horovod=False,
        grad_clip_norm=MAX_GRAD_NORM,
        log_every_n_steps=1000,
        batch_size=setting.batch,
        world_size=1,
        rank=0,
        wandb=False,
    )
    epoch = {"train": Namespace(dataloader=Loader(data, watch), set_epoch=lambda number: None)}
    train_one_epoch(model, epoch, DistillClipLoss(), 0, optimizer, None, None, teacher, args)
    return Run(*watch.found, model, teacher)


def plain(setting):
    """Train by a plain loop with CLIP-KD's formulas."""
    model, processor = kd.load_clip(setting.student)
    model, watch = model.to(setting.device).train(), Stopwatch(setting)
    teacher = teacher_model(setting).to(setting.device).eval().requires_grad_(False)
    icl_scale = torch.nn.Parameter(torch.tensor(2.6593, device=setting.device))
    optimizer = torch.optim.AdamW(
        [*groups(model), {"params": [icl_scale], "weight_decay": 0.0}],
        lr=LEARNING_RATE,
        betas=BETAS,
        eps=EPSILON,
        fused=True,
    )
    parameters, losses = [*model.parameters(), icl_scale], []
    for batch in tokenized(setting, processor):
        pixels, ids = batch["pixel_values"].to(setting.device), batch["input_ids"].to(setting.device)
        with torch.autocast(setting.device, torch.bfloat16, enabled=setting.bf16):
            with torch.no_grad():
                teacher_image, teacher_text = embeds(teacher, pixels, ids)
            image, text = embeds(model, pixels, ids)
        labels = torch.arange(len(image), device=setting.device)
        logits = model.logit_scale.exp() * image @ text.T
        targets = teacher.logit_scale.exp() * teacher_image @ teacher_text.T
        task = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        crd = sum(
            F.kl_div(a.log_softmax(1), b.log_softmax(1), reduction="batchmean", log_target=True) / 2
            for a, b in ((logits, targets), (logits.T, targets.T))
        )
        across = icl_scale.exp() * image @ teacher_text.T, icl_scale.exp() * text @ teacher_image.T
        icl = sum(F.cross_entropy(x, labels) / 2 for x in across)
        fd = sum((a - b).square().sum(dim=1).mean() for a, b in ((image, teacher_image), (text, teacher_text)))
        loss = task + crd + icl + 4 * fd
        loss.backward()
        losses.append(loss.detach())
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            model.logit_scale.clamp_(max=MAX_LOG_SCALE)
        watch.step()
    return Run(*watch.found, model, teacher, torch.stack(losses).mean().item())


def embeds(model, pixels, ids):
    """Return unit-norm embeddings in float32."""
    found = model.get_image_features(pixel_values=pixels), model.get_text_features(input_ids=ids)
    found = [x if torch.is_tensor(x) else x.pooler_output for x in found]
    return [F.normalize(x.float(), dim=-1) for x in found]


def groups(model):
    """Return the weights that decay, and those that do not."""
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": rest, "weight_decay": 0.0}, {"params": decayed, "weight_decay": WEIGHT_DECAY}]


def weights_of(model):
    """Return the number of weights. A trained student has its scale as a buffer."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.ndim)


def measured(train, setting):
    """Return in JSON's types what a process tells of its training."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    use_all_cores()
    torch.manual_seed(0)
    run = train(setting)
    return {
        "rate": setting.batch / run.seconds,
        "seconds": run.seconds,
        "cpu_seconds": run.cpu_seconds,
        "megabytes": peak_memory(setting.device),
        "weights": [weights_of(run.student), weights_of(run.teacher)],
        "loss": run.loss,
    }


def check_same_work(results, *pair):
    """End with an error if models of the runs differ in size, or losses of a pair by 1 %."""
    weights = {name: runs[0]["weights"] for name, runs in results.items()}
    if len({tuple(numbers) for numbers in weights.values()}) > 1:
        raise SystemExit(f"The students and teachers are not of one size: {weights}.")
    losses = [run["loss"] for name in pair for run in results[name]]
    if not all(math.isclose(loss, losses[0], rel_tol=0.01) for loss in losses):
        raise SystemExit(f"The runs {pair} did not do the same work: their losses are {losses}.")


def use_all_cores():
    """Let torch use all cores, unless the environment says otherwise; called before torch computes."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
