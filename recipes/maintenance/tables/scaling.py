"""Scaling: bytes sent per step and held per GPU, for three pairs of models on 8, 64 and 512 GPUs. All is computed."""

from dataclasses import dataclass

import torch
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

import hf_clip_kd as kd

from .markdown import render

BATCH, GPUS = 128, (8, 64, 512)
PAIRS = (("B/16", "T/16"), ("L/14", "B/16"), ("SO400M", "B/16"))


FULL = 4  # Bytes of a float32.
ADAM = 2 * FULL  # Two moments.
ENGINES = ("ddp", "zero1", "zero2", "zero3", "fsdp2")


@dataclass(frozen=True)
class Setting:
    """
    Sizes of a distillation on several processes.

    Args:
        processes (`int`): Processes, one per GPU.
        batch (`int`): Pairs per process and step.
        student_dim, teacher_dim (`int`): Widths of the embeddings.
        student_parameters (`int`): Number of trained parameters, heads included.
        teacher_parameters (`int`): Number of the teacher's.
        half (`bool`): Half precision of the student's computation and of the teacher's weights.
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
        Return the bytes that a process receives per step to see all embeddings of the whole batch.

        The student's come as they were computed, the teacher's in float32. Each process gets those of all others. The
        way back is a sum over processes of the gradients of the student's, in float32.
        """
        others = self.batch * (self.processes - 1)
        forward = 2 * others * (self.student_dim * (FULL // 2 if self.half else FULL) + self.teacher_dim * FULL)
        gradients = 2 * self.batch * self.processes * self.student_dim * FULL
        return forward + ring_bytes(gradients, self.processes)

    def gradient_bytes(self) -> int:
        """Return the bytes that a process receives per step to average float32 gradients under DDP."""
        return ring_bytes(self.student_parameters * FULL, self.processes)

    def state_bytes(self, engine: str) -> int:
        """
        Return the bytes that a process holds of the student: weights, gradients, AdamW's two moments.

        Args:
            engine (`str`):
                One of `ENGINES`. ZeRO steps on float32 copies of the weights, and makes these half precision.
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
        """Return the bytes that a process holds of the teacher's weights; sharded is a lower bound."""
        size = self.teacher_parameters * (FULL // 2 if self.half else FULL)
        return -(-size // self.processes) if sharded else size

    def feature_bytes(self) -> int:
        """Return the bytes of the whole batch's embeddings in float32, and of the gradients of the student's."""
        rows = 2 * self.batch * self.processes
        return rows * (2 * self.student_dim + self.teacher_dim) * FULL

    def similarity_flops(self) -> int:
        """Return the operations per process and step of both models' similarities, with the student's backward."""
        pairs = (self.batch * self.processes) ** 2
        return 2 * pairs * (3 * self.student_dim + self.teacher_dim)


def ring_bytes(size: int, processes: int) -> int:
    """Return the bytes that a process receives in a ring sum of `size` bytes: two rounds without its own share."""
    return 2 * size * (processes - 1) // processes


def tower(width: int, layers: int, **others) -> dict:
    return {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers, **others}


def model(name: str) -> torch.nn.Module:
    """Build a model of this size without its weights."""
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
    """Yield each pair's name with its [`Setting`] on each number of GPUs."""
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
