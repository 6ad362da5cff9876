"""The one module that a trainer wraps: the student, the losses' heads and every learned scale."""

import math
from typing import Any

import torch
from torch import nn

from .distributed import gather
from .features import CLIPDims, CLIPFeatures, pooled
from .losses import LossSum

STUDENT_PREFIX = "student."


def gather_features(features: CLIPFeatures) -> CLIPFeatures:
    """The features of all processes, in rank order; gradients flow back to the process each row came from."""
    return CLIPFeatures(
        image_embeds=None if features.image_embeds is None else gather(features.image_embeds),
        text_embeds=None if features.text_embeds is None else gather(features.text_embeds),
        logit_scale=features.logit_scale,
        logit_bias=features.logit_bias,
    )


class DistillationModel(nn.Module):
    """A student together with everything else that has a gradient.

    DDP, ZeRO and FSDP then see the heads and scales, and a checkpoint holds them. The student's `logit_scale` (and
    `logit_bias`) live here as parameters of shape (1,), in float32 whatever the student's dtype: bfloat16 cannot hold
    their updates, and DeepSpeed and FSDP 2 refuse 0-dim parameters. The student keeps a 0-dim buffer of the same name,
    brought up to date after every optimizer step, so that its own `forward` and `save_pretrained` stay right.

    Args:
        student ([`~transformers.PreTrainedModel`]): A dual encoder with `get_image_features`, `get_text_features` and
            `logit_scale` (a logarithm), such as [`~transformers.CLIPModel`].
        losses (`dict[str, float | dict]`): See [`LossSum`].
        teacher_dims ([`CLIPDims`], *optional*): The teacher's widths; `None` trains without a teacher.
        max_logit_scale (`float`): Upper bound of every learned scale, after the exponential.
    """

    # The Trainer asks this before it hands `num_items_in_batch` to `forward`.
    accepts_loss_kwargs = False

    def __init__(self, student, losses: dict[str, Any], teacher_dims: CLIPDims | None, max_logit_scale: float = 100.0):
        super().__init__()
        self.student_dims = CLIPDims.of(student)
        self.losses = LossSum(losses, self.student_dims, teacher_dims)
        self.student = student
        self.max_log_scale = math.log(max_logit_scale)
        self.logit_scale = self._take_over("logit_scale")
        self.logit_bias = self._take_over("logit_bias") if self.student_dims.has_bias else None
        self.clamp_scales_()

    def _take_over(self, name: str) -> nn.Parameter:
        value = getattr(self.student, name).detach()
        dtype = torch.promote_types(value.dtype, torch.float32)
        delattr(self.student, name)
        self.student.register_buffer(name, value.reshape(()).clone())
        return nn.Parameter(value.reshape(1).to(dtype, copy=True))

    @torch.no_grad()
    def clamp_scales_(self) -> None:
        """Bound all learned scales from above and copy the student's own into its buffers."""
        self.losses.clamp_scales_()
        self.logit_scale.clamp_(max=self.max_log_scale)
        self.student.logit_scale.copy_(self.logit_scale[0])
        if self.logit_bias is not None:
            self.student.logit_bias.copy_(self.logit_bias[0])

    def forward(
        self,
        pixel_values: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        teacher_features: CLIPFeatures | None = None,
    ) -> dict[str, Any]:
        """
        Args:
            pixel_values (`torch.Tensor` of shape `(b, 3, H, W)`): This process's images.
            input_ids (`torch.LongTensor` of shape `(b, L)`), attention_mask (same shape, *optional*): Their captions.
            teacher_features ([`CLIPFeatures`], *optional*): The teacher's embeddings of this process's samples.

        Returns:
            `dict`: `loss`, the 0-dim weighted sum over the global batch, and `losses`, each unweighted part by name.
        """
        # Some text towers (SigLIP's) are trained without a mask and their processors give none.
        text = (
            {"input_ids": input_ids}
            if attention_mask is None
            else {
                "input_ids": input_ids,
                "attention_mask": attention_mask,
            }
        )
        features = CLIPFeatures(
            image_embeds=pooled(self.student.get_image_features(pixel_values=pixel_values)),
            text_embeds=pooled(self.student.get_text_features(**text)),
            logit_scale=self.logit_scale[0].exp(),
            logit_bias=None if self.logit_bias is None else self.logit_bias[0],
        )
        # Losses are float32 work: under autocast their matmuls would round the logits to half precision.
        with torch.autocast(pixel_values.device.type, enabled=False):
            teacher = None if teacher_features is None else gather_features(teacher_features)
            loss, parts = self.losses(gather_features(features), teacher)
        return {"loss": loss, "losses": parts}

    def gradient_checkpointing_enable(self, **kwargs) -> None:
        self.student.gradient_checkpointing_enable(**kwargs)

    def activation_checkpointing_enable(self, **kwargs) -> None:
        self.student.activation_checkpointing_enable(**kwargs)

    def split_state_dict(self, state_dict: dict[str, torch.Tensor]) -> tuple[dict, dict]:
        """Separate what the exported student holds from what only training needs (heads and scales)."""
        student = {k.removeprefix(STUDENT_PREFIX): v for k, v in state_dict.items() if k.startswith(STUDENT_PREFIX)}
        training = {k: v for k, v in state_dict.items() if not k.startswith(STUDENT_PREFIX)}
        return student, training

    def load_training_state(self, state_dict: dict[str, torch.Tensor]) -> None:
        """Restore what [`~DistillationModel.split_state_dict`] set apart as training state.

        Raises:
            ValueError: if the stored heads are not those of this run's losses.
        """
        own = set(self.split_state_dict(self.state_dict())[1])
        if own != set(state_dict):
            raise ValueError(
                f"The checkpoint's heads and scales {sorted(state_dict)} are not those of this run, {sorted(own)}: it "
                "was trained with other losses. Resume with the same `losses`, or start anew from the saved student "
                "with `model_name_or_path`."
            )
        self.load_state_dict(state_dict, strict=False)
