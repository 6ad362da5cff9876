"""Losses of a LLaVA that learns from another LLaVA: its answers, and how its visual tokens relate to each other."""

from __future__ import annotations

import torch
from torch import Tensor

from ..losses.parts.divergences import forward_kl
from ..losses.parts.resample import resample
from ..losses.relation import token_distance, token_divergence
from .teacher import LlavaTeacher, answer_positions, patch_grid
from .training_args import LlavaTrainingArguments

Told = tuple[Tensor | None, Tensor | None]  # logits where a label follows, and visual tokens of each image


class AnswerDistillation:
    """
    Compute what a teacher adds to the loss of a [`LlavaTrainer`].

    Args:
        teacher ([`LlavaTeacher`]): The teacher, already checked against the student.
        args ([`LlavaTrainingArguments`]): Weights, temperatures and the form of the relation.
        processor ([`~transformers.LlavaProcessor`]): The student's processor.
        num_image_tokens (`int`): Tokens of each image in the student's language model.

    Raises:
        ValueError: A relation is asked for, and a model's visual tokens form no square grid.
    """

    def __init__(self, teacher: LlavaTeacher, args: LlavaTrainingArguments, processor, num_image_tokens: int):
        self.teacher, self.args, self.num_image_tokens = teacher, args, num_image_tokens
        if args.relation_weight:
            self.grid = patch_grid(processor, num_image_tokens, "student")
            self.teacher_grid = patch_grid(teacher.processor, teacher.num_image_tokens, "teacher")

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term that counts, by its name in the log."""
        weights = {"kl": self.args.kl_weight, "relation": self.args.relation_weight}
        return {name: weight for name, weight in weights.items() if weight}

    def ask(self, batch: dict[str, Tensor], pixels: Tensor | None) -> Told:
        """
        Ask the teacher about a micro-batch.

        Args:
            batch (`dict[str, Tensor]`): The collated batch, without a blank image.
            pixels (`Tensor`, *optional*): The teacher's view of the images.
        """
        return self.teacher(batch, pixels, self.num_image_tokens, answers="kl" in self.weights)

    def __call__(
        self,
        labels: Tensor,
        outputs: dict[str, Tensor],
        told: Told,
        tokens: Tensor | None,
        images: Tensor | None,
    ) -> dict[str, Tensor]:
        """
        Return each term of a micro-batch, 0-dim and in fp32, before its weight.

        Args:
            labels (`Tensor` of shape `(batch, length)`): Labels of the micro-batch.
            outputs (`dict[str, Tensor]`): `logits` and `image_hidden_states` of the student.
            told (`tuple`): What the teacher says, from `ask`.
            tokens (0-dim `Tensor`, *optional*): Supervised tokens of the whole step; those of the batch by default.
            images (0-dim `Tensor`, *optional*): Images of the whole step; those of the batch by default.
        """
        logits, visual = told
        terms = {}
        if "kl" in self.weights:
            # A blank image may stand behind the batch, see [`LlavaTrainer`].
            own = answer_positions(outputs["logits"][:, : labels.shape[1]], labels)
            values = answer_kl(own, logits, self.args.kl_temperature)
            terms["kl"] = values.sum() / (len(values) if tokens is None else tokens)
        if "relation" in self.weights:
            tokens_of_images = outputs["image_hidden_states"]
            terms["relation"] = labels.new_zeros((), dtype=torch.float32)
            if tokens_of_images is not None:
                # ZeRO-3 demands equal paths of the gradient on all processes, also where the only image is blank.
                terms["relation"] = 0 * tokens_of_images.float().sum()
            if visual is not None:
                # A student's tokens come one image behind the other.
                own = tokens_of_images.unflatten(0, (-1, self.num_image_tokens))
                targets = resample(patches(visual.float(), self.teacher_grid), self.teacher_grid, self.grid)
                values = visual_relation(
                    patches(own, self.grid), targets, self.args.relation_form, self.args.relation_temperature
                )
                terms["relation"] = values.sum() / (len(values) if images is None else images)
        return terms


def answer_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """
    Compute `T² · KL(softmax(t / T) ‖ softmax(s / T))` of each token.

    It is [`~hf_clip_kd.losses.parts.divergences.forward_kl`]. Vocabularies may be padded to two widths. The common
    part counts.

    Args:
        student (`Tensor` of shape `(labels, vocabulary)`), teacher (`Tensor` of shape `(labels, vocabulary)`): Logits.
        temperature (`float`, *optional*, defaults to 1.0): Above 0. A higher one shows more of unlikely answers.

    Returns:
        `Tensor` of shape `(labels,)`, in nats.
    """
    width = min(student.shape[-1], teacher.shape[-1])
    return forward_kl(teacher[:, :width].float(), student[:, :width].float(), temperature)


def visual_relation(student: Tensor, teacher: Tensor, form: str = "kl", temperature: float = 0.07) -> Tensor:
    """
    Compare the cosine similarities of all tokens of an image. Widths may differ.

    `S` and `T` of shape `(N, N)` are the similarities. `kl` is the mean over tokens of
    `KL(softmax(T / τ) ‖ softmax(S / τ))`, as in lightly-train. `square` is the mean of `(S - T)²`, see
    [`RelationLoss`].

    Args:
        student (`Tensor` of shape `(images, N, Ds)`), teacher (`Tensor` of shape `(images, N, Dt)`): Tokens.
        form (`str`, *optional*, defaults to `"kl"`): `"kl"` or `"square"`.
        temperature (`float`, *optional*, defaults to 0.07): `τ` of the softmax.

    Returns:
        `Tensor` of shape `(images,)`.
    """
    student, teacher = student.float(), teacher.float()
    if form == "square":
        return token_distance(student, teacher)
    return token_divergence(student, teacher, temperature)


def patches(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the tokens of the patches of each image, which stand behind class and register tokens."""
    return tokens[:, -grid[0] * grid[1] :]


__all__ = ["AnswerDistillation", "answer_kl", "visual_relation"]
