"""Scaling on paper: what a process receives from the others in a step, and what it holds, by the number of processes."""

from __future__ import annotations

from dataclasses import dataclass

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


__all__ = ["ENGINES", "Setting", "ring_bytes"]
