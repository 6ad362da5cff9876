"""The one module that a trainer wraps: the student, the losses' heads and every learned scale."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..losses import LossSum, requested
from ..losses.answers import Captions
from ..losses.features import CLIPDims, CLIPFeatures
from ..models import (
    PatchDropping,
    check_class_token,
    context_length,
    encode_images,
    encode_layers,
    token_shape,
)
from ..models.processing import text_mask
from ..models.towers.tokens import pooled
from ..training.distributed import gather
from ..training.sharded import whole_values
from .student import check_embeds, check_student, take_over

STUDENT_PREFIX = "student."
GATHERED = (
    "image_embeds",
    "text_embeds",
    "masked_image_embeds",
    "synthetic_text_embeds",
    "token_moments",
    "class_token",
)


def gather_features(features: CLIPFeatures) -> CLIPFeatures:
    """
    Return features with the embeddings of all processes, in rank order; each row's gradient flows back to its process.

    Tokens stay: they are large, and a loss that reads them looks at one image at a time.
    """
    rows = {name: gather(value) for name, value in features.tensors().items() if name.rpartition(".")[2] in GATHERED}
    members = tuple(gather_features(member) for member in features.members)
    return replace(features.with_tensors(rows), members=members)


@torch.no_grad()
def variance(embeds: torch.Tensor) -> torch.Tensor:
    """
    Return the variance of the embeddings' directions, summed over the axes: their spread on the unit sphere.

    Args:
        embeds (`torch.Tensor` of shape `(batch, dim)`): Embeddings of any length.

    Returns:
        0-dim `torch.Tensor`, between 0, where all point the same way, and 1.
    """
    embeds = embeds.float()
    norms = torch.linalg.vector_norm(embeds, dim=-1)
    inverse = 1 / norms.clamp_min(1e-12)
    # It is the mean square of the directions less the square of their mean. That mean is a product of a vector and the
    # embeddings. A variance for each axis took 90 times as long at 4,096 rows, in every step.
    return ((norms * inverse).square().mean() - (inverse @ embeds / len(embeds)).square().sum()).clamp_min(0)


class DistillationModel(nn.Module):
    """A student together with everything else that has a gradient.

    DDP, ZeRO and FSDP then see the heads and scales, and a checkpoint holds them. The student's `logit_scale` (and
    `logit_bias`) live here as parameters of shape (1,), in float32 whatever the student's dtype. Updates
    do not fit into bfloat16. DeepSpeed and FSDP 2 refuse 0-dim parameters. The student keeps a buffer of the same name
    and shape. It is brought up to date after every optimizer step, so that the student's own `forward` and
    `save_pretrained` stay right. Frozen ones stay frozen.

    Args:
        student ([`~transformers.PreTrainedModel`]): A dual encoder with `get_image_features`, `get_text_features` and
            `logit_scale` (a logarithm), such as [`~transformers.CLIPModel`].
        losses (`str` or `dict[str, float | dict]`): See [`LossSum`].
        teacher_dims ([`CLIPDims`] or `None`): The teacher's widths; `None` trains without a teacher.
        max_logit_scale (`float`, *optional*, defaults to 100.0):
            Upper bound of every learned scale, those of the losses too, after the exponential.

    Raises:
        ValueError: `student` is none, see [`check_student`].
    """

    # The Trainer asks this before it hands `num_items_in_batch` to `forward`.
    accepts_loss_kwargs = False

    def __init__(
        self, student, losses: str | dict[str, Any], teacher_dims: CLIPDims | None, max_logit_scale: float = 100.0
    ):
        super().__init__()
        check_student(student)
        self.request = requested(losses)
        self.student_dims = CLIPDims.of(student)
        shapes = {layer: token_shape(student, layer) for layer in self.request.student_reads}
        self.grids = {layer: grid for layer, (_, grid) in shapes.items()}
        self.student_dims = self.student_dims.with_layers({layer: width for layer, (width, _) in shapes.items()})
        if self.request.class_token:
            check_class_token(student)
        self.patch_dropping = None if self.request.mask_ratio is None else PatchDropping(student)
        self.losses = LossSum(losses, self.student_dims, teacher_dims)
        self.student = student
        self.context_length = context_length(student)
        self.max_log_scale = math.log(max_logit_scale)
        self.logit_scale = take_over(student, "logit_scale")
        self.logit_bias = take_over(student, "logit_bias") if self.student_dims.has_bias else None
        self.clamp_scales_()
        self.set_share(0.0)

    def set_share(self, share: float) -> None:
        """Take the weights of a share of the steps, see [`LossSum.set_share`]."""
        self.losses.set_share(share)
        # Tokens come from the same pass as embeddings. Masked images need a pass of their own.
        self.request = replace(self.request, mask_ratio=self.losses.request.mask_ratio)

    @torch.no_grad()
    def clamp_scales_(self) -> None:
        """Bound all learned scales from above and copy the student's own into its buffers."""
        self.losses.clamp_scales_(self.max_log_scale)
        if self.logit_scale.requires_grad:  # a frozen scale stays what it is
            self.logit_scale.clamp_(max=self.max_log_scale)
        own = {"logit_scale": self.logit_scale, "logit_bias": self.logit_bias}
        own = {name: parameter for name, parameter in own.items() if parameter is not None}
        for name, value in zip(own, whole_values(own.values()), strict=True):
            getattr(self.student, name).copy_(value[0])

    def scale_bounds(self) -> dict[nn.Parameter, float]:
        """Return the upper bound of every learned scale, both as logarithms."""
        return dict.fromkeys([*self.losses.bounded_scales(), self.logit_scale], self.max_log_scale)

    def forward(
        self,
        pixel_values: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        synthetic_input_ids: torch.Tensor | None = None,
        synthetic_attention_mask: torch.Tensor | None = None,
        teacher_features: CLIPFeatures | None = None,
        objective: Callable | None = None,
    ) -> dict[str, Any]:
        """
        Args:
            pixel_values (`torch.Tensor` of shape `(b, 3, H, W)`): This process's images.
            input_ids (`torch.LongTensor` of shape `(b, L)`), attention_mask (same shape, *optional*): Their captions.
            synthetic_input_ids, synthetic_attention_mask (*optional*): Their generated captions, likewise.
            teacher_features ([`CLIPFeatures`], *optional*): The teacher's features of this process's samples.
            objective (`Callable`, *optional*): Called in the place of [`~DistillationModel.objective`], with this
                module, the student's features and the teacher's. GradCache needs the heads as a wrapper prepares them.

        Returns:
            `dict`: `loss` is the 0-dim weighted sum over the global batch. `losses` has each unweighted part by name.
            `statistics` has 0-dim numbers for the log by name.
        """
        features = self.student_features(
            pixel_values, input_ids, attention_mask, synthetic_input_ids, synthetic_attention_mask
        )
        return (objective or type(self).objective)(self, features, teacher_features)

    def student_features(
        self,
        pixel_values: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        synthetic_input_ids: torch.Tensor | None = None,
        synthetic_attention_mask: torch.Tensor | None = None,
    ) -> CLIPFeatures:
        """Return all features of this process's samples that the losses ask for; arguments as in `forward`."""
        image_embeds, tokens, _ = encode_layers(self.student, pixel_values, self.request.student_reads)
        masked = None
        if self.request.mask_ratio is not None:
            with self.patch_dropping.hiding(self.request.mask_ratio):
                masked, _ = encode_images(self.student, pixel_values)
        synthetic = None
        if synthetic_input_ids is not None:
            synthetic = self._encode_texts(synthetic_input_ids, synthetic_attention_mask)
        text_embeds = self._encode_texts(input_ids, attention_mask)
        check_embeds(image_embeds, text_embeds)
        features = CLIPFeatures(
            image_embeds=image_embeds,
            text_embeds=text_embeds,
            logit_scale=self.logit_scale[0].exp(),
            logit_bias=None if self.logit_bias is None else self.logit_bias[0],
            masked_image_embeds=masked,
            synthetic_text_embeds=synthetic,
            captions=Captions.of(input_ids, attention_mask),
        )
        return features.with_tokens(tokens, self.grids, self.request)

    def _encode_texts(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        if self.context_length is not None and input_ids.shape[1] > self.context_length:
            raise ValueError(
                f"A batch has texts of {input_ids.shape[1]} tokens, and the student's text tower takes "
                f"{self.context_length} at most. The collator must cut them. Pass `truncation=True, "
                f"max_length={self.context_length}` to its tokenizer."
            )
        # Some text towers (SigLIP's) are trained without a mask and their processors give none.
        attention_mask = text_mask(self.student, attention_mask)
        mask = {} if attention_mask is None else {"attention_mask": attention_mask}
        return pooled(self.student.get_text_features(input_ids=input_ids, **mask))

    def objective(self, features: CLIPFeatures, teacher_features: CLIPFeatures | None) -> dict[str, Any]:
        """Return what `forward` returns, for the batch of all processes, from this process's features."""
        # Losses are float32 work: under autocast their matmuls would round the logits to half precision.
        with torch.autocast(features.image_embeds.device.type, enabled=False):
            teacher = None if teacher_features is None else gather_features(teacher_features)
            student = gather_features(features)
            loss, parts = self.losses(student, teacher, gather)
            return {"loss": loss, "losses": parts, "statistics": self.statistics(student, teacher)}

    @torch.no_grad()
    def statistics(self, student: CLIPFeatures, teacher: CLIPFeatures | None) -> dict[str, torch.Tensor]:
        """Return 0-dim numbers by the name under which every log has their mean; a new statistic is one line here.

        Args:
            student ([`CLIPFeatures`]), teacher ([`CLIPFeatures`], *optional*): The features of all processes.
        """
        if len(student.image_embeds) == 1:
            return {}  # one pair has no spread, which is no collapse
        return {
            "embedding_variance/image": variance(student.image_embeds),
            "embedding_variance/text": variance(student.text_embeds),
        }

    @property
    def _no_split_modules(self) -> list[str]:
        # FSDP reads here the names of the blocks to shard one by one.
        return self.student._no_split_modules

    def gradient_checkpointing_enable(self, **kwargs) -> None:
        self.student.gradient_checkpointing_enable(**kwargs)

    def activation_checkpointing_enable(self, **kwargs) -> None:
        self.student.activation_checkpointing_enable(**kwargs)

    def split_state_dict(self, state_dict: dict[str, torch.Tensor]) -> tuple[dict, dict]:
        """Separate the weights of the exported student from those that only training needs (heads and scales)."""
        student = {k.removeprefix(STUDENT_PREFIX): v for k, v in state_dict.items() if k.startswith(STUDENT_PREFIX)}
        training = {k: v for k, v in state_dict.items() if not k.startswith(STUDENT_PREFIX)}
        return student, training

    def load_training_state(self, state_dict: dict[str, torch.Tensor]) -> None:
        """Restore the training state that [`~DistillationModel.split_state_dict`] set apart.

        Raises:
            ValueError: The stored heads are not those of this run's losses.
        """
        own = set(self.split_state_dict(self.state_dict())[1])
        if own != set(state_dict):
            raise ValueError(
                f"The checkpoint's heads and scales {sorted(state_dict)} are not those of this run, {sorted(own)}. "
                "Both must have the same losses. Resume with the same `losses`, or start anew from the saved student "
                "with `model_name_or_path`."
            )
        self.load_state_dict(state_dict, strict=False)
