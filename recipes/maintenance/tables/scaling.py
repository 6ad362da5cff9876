"""Scaling: what a step sends and a GPU holds for three pairs of models on 8, 64 and 512 GPUs, computed, not measured."""

from dataclasses import dataclass

import torch
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

import hf_clip_kd as kd

from .markdown import render

BATCH, GPUS = 128, (8, 64, 512)
PAIRS = (("B/16", "T/16"), ("L/14", "B/16"), ("SO400M", "B/16"))


FULL = 4  # bytes of a float32
ADAM = 2 * FULL  # two moments
ENGINES = ("ddp", "zero1", "zero2", "zero3", "fsdp2")


@dataclass(frozen=True)
class Setting:
    """
    One distillation on several processes, as far as its size goes.

    Args:
        processes (`int`): Processes, one per GPU.
        batch (`int`): Pairs per process and step.
        student_dim, teacher_dim (`int`): Widths of the embeddings.
        student_parameters (`int`): All that learns, heads included.
        teacher_parameters (`int`): The teacher's.
        half (`bool`): Whether the student computes in bf16 or fp16, and the teacher's weights are in it.
    """

    processes: int
    batch: int
    student_dim: int
    teacher_dim: int
    student_parameters: int
    teacher_parameters: int
    half: bool = False

    def gathered_bytes(self) -> int:
        """
        Bytes that a process receives per step to see the embeddings of images and texts of the whole batch.

        The student's come as they were computed, the teacher's in float32; each process gets those of all others. The way back
        is a sum over processes of the gradients of the student's, in float32.
        """
        others = self.batch * (self.processes - 1)
        forward = 2 * others * (self.student_dim * (FULL // 2 if self.half else FULL) + self.teacher_dim * FULL)
        gradients = 2 * self.batch * self.processes * self.student_dim * FULL
        return forward + ring_bytes(gradients, self.processes)

    def gradient_bytes(self) -> int:
        """Bytes that a process receives per step to average the gradients of the weights, in float32, under DDP."""
        return ring_bytes(self.student_parameters * FULL, self.processes)

    def state_bytes(self, engine: str) -> int:
        """
        Bytes that a process holds of the student: weights, gradients, AdamW's two moments.

        Args:
            engine (`str`): One of `ENGINES`. ZeRO steps on float32 copies of the weights, and makes these half precision.
        """
        zero = engine.startswith("zero")
        weight = FULL // 2 if zero and self.half else FULL
        optimizer = ADAM + (FULL if zero else 0)
        shared = {
            "ddp": 0,
            "zero1": optimizer,
            "zero2": optimizer + weight,
            "zero3": optimizer + 2 * weight,
            "fsdp2": optimizer + 2 * weight,
        }[engine]
        whole = optimizer + 2 * weight - shared
        return self.student_parameters * whole + -(-self.student_parameters * shared // self.processes)

    def teacher_bytes(self, sharded: bool = False) -> int:
        """Bytes that a process holds of the teacher's weights; sharded, the least it can be: what is in no block stays whole."""
        size = self.teacher_parameters * (FULL // 2 if self.half else FULL)
        return -(-size // self.processes) if sharded else size

    def feature_bytes(self) -> int:
        """Bytes of the whole batch's embeddings in float32 and of the gradients of the student's; logits come in chunks."""
        rows = 2 * self.batch * self.processes
        return rows * (2 * self.student_dim + self.teacher_dim) * FULL

    def similarity_flops(self) -> int:
        """Operations per process and step for one matrix of similarities in both models: forward, and the student's backward."""
        pairs = (self.batch * self.processes) ** 2
        return 2 * pairs * (3 * self.student_dim + self.teacher_dim)


def ring_bytes(size: int, processes: int) -> int:
    """Bytes that a process receives while `size` bytes are summed over all processes in a ring: two rounds without its own share."""
    return 2 * size * (processes - 1) // processes


def tower(width: int, layers: int, **others) -> dict:
    return {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers, **others}


def model(name: str) -> torch.nn.Module:
    """A model of this size without its weights."""
    if name == "T/16":
        return kd.load_clip("ViT-T-16")[0]
    with torch.device("meta"):
        if name == "SO400M":
            both = tower(1152, 27, num_attention_heads=16) | {"intermediate_size": 4304}
            vision = {**both, "image_size": 384, "patch_size": 14}
            text = {**both, "bos_token_id": 1, "eos_token_id": 1}
            return SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
        dim, vision, text = {
            "B/16": (512, tower(768, 12, patch_size=16), tower(512, 12)),
            "L/14": (768, tower(1024, 24, num_attention_heads=16, patch_size=14), tower(768, 12)),
        }[name]
        return CLIPModel(CLIPConfig(projection_dim=dim, vision_config=vision, text_config=text))


def settings():
    """Each pair's name with what it is on each number of GPUs."""
    sizes = {}
    for name in dict.fromkeys(name for pair in PAIRS for name in pair):
        clip = model(name)
        sizes[name] = kd.CLIPDims.of(clip).embed_dim, sum(parameter.numel() for parameter in clip.parameters())
    for teacher, student in PAIRS:
        (teacher_dim, teacher_size), (student_dim, student_size) = sizes[teacher], sizes[student]
        for gpus in GPUS:
            yield (
                f"{teacher} → {student}",
                Setting(gpus, BATCH, student_dim, teacher_dim, student_size, teacher_size, half=True),
            )


def table() -> str:
    """Return the table."""
    header = ["teacher → student", "GPUs", "global batch", "embeddings, MB", "gradients, MB", "GFLOP"]
    header += [*ENGINES, "teacher", "sharded", "features"]
    rows = []
    for name, run in settings():
        states = [run.state_bytes(engine) for engine in ENGINES]
        held = [*states, run.teacher_bytes(), run.teacher_bytes(sharded=True), run.feature_bytes()]
        rows.append(
            [
                name,
                str(run.processes),
                f"{run.processes * run.batch:,}",
                f"{run.gathered_bytes() / 1e6:,.0f}",
                f"{run.gradient_bytes() / 1e6:,.0f}",
                f"{run.similarity_flops() / 1e9:,.0f}",
                *(f"{size / 1e6:,.0f}" for size in held),
            ]
        )
    return render(header, rows, right=header[1:])
