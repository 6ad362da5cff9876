"""LlavaTrainer: a `transformers.Trainer` for the two stages of a LLaVA."""

import os
from functools import partial
from typing import Any

import torch
from peft import PeftModel
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from ..models.precision import warn_of_half_precision
from ..training.alarms import Alarms
from ..training.arguments import save_arguments
from ..training.base_trainer import BaseTrainer
from ..training.checkpoint_weights import check_adapter, load_weights
from ..training.distributed import sum_over_ranks
from ..training.trainer_arguments import refuse_arguments
from .adapters import add_lora
from .answer_distillation import AnswerDistillation
from .collator import IGNORED, LlavaDataCollator
from .feature_scale import FeatureScale
from .packing import check_packing
from .reused_projector import ReusedProjector
from .sampler import ModalityLengthSampler, check_counts, count_samples
from .saving import keep_names
from .teacher import LlavaTeacher, check_teacher
from .trainable import find_llava, freeze_unread, frozen_parts, parameter_groups, set_trainable
from .training_args import LlavaTrainingArguments

REFUSED = {"model_init": "The parts of a model that learn are chosen once. Pass `model=model_init()`."}


class LlavaTrainer(BaseTrainer):
    """Train the projector, the language model and, if asked, the vision tower of a LLaVA.

    Frozen parts stay in eval mode, so that a frozen tower's BatchNorm does not move. Each part has its own learning
    rate. Checkpoints are stock LLaVA folders, with `lora` those of `peft`. The average of weights (`ema_decay`) is of
    the parts that learn. Its file `ema.safetensors` holds them as they are trained, before `feature_scale` is folded
    in.

    Args:
        model ([`~transformers.LlavaForConditionalGeneration`]):
            From [`build_llava`] or [`load_llava`].
        args ([`LlavaTrainingArguments`]):
            `args.stage` names what learns.
        processor ([`~transformers.LlavaProcessor`]):
            The processor, saved beside the model.
        train_dataset ([`~datasets.Dataset`]):
            Rows as [`load_instruct`] gives them.
        data_collator ([`LlavaDataCollator`]):
            Rows to a batch.
        feature_scale ([`FeatureScale`], *optional*):
            Applied while training, folded into the weights of every checkpoint.
        teacher ([`LlavaTeacher`], *optional*):
            A frozen LLaVA to learn from besides the labels, see `args.kl_weight`, `args.relation_weight` and
            `args.reuse_projector`. Evaluations do not ask it: their loss is that of the labels.
        kwargs: The other arguments of [`~transformers.Trainer`].
    """

    _name = "LLaVA"
    _tag_names = ["llava", "vision-language", "hf_clip_kd"]

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        args: LlavaTrainingArguments,
        processor: LlavaProcessor,
        train_dataset,
        data_collator: LlavaDataCollator,
        feature_scale: FeatureScale | None = None,
        teacher: LlavaTeacher | None = None,
        **kwargs,
    ):
        refuse_arguments("LlavaTrainer", kwargs, REFUSED)
        check_teacher(teacher, args, processor, data_collator)
        if args.group_by_modality_length:
            check_counts(train_dataset)
        if data_collator.packing:
            check_packing(model)
            if teacher is not None and args.asks_teacher:
                check_packing(teacher.model)
        # An evaluation counts its rows, and processes share them. So it does not pack.
        self.eval_data_collator = data_collator.for_evaluation()
        set_trainable(model, args)
        keep_names(model)
        self.teacher, self.distillation = teacher, None
        self.reused = ReusedProjector(model, teacher.model) if args.reuse_projector else None
        if teacher is not None and args.asks_teacher:
            self.distillation = AnswerDistillation(teacher, args, processor, data_collator.num_image_tokens)
        if args.lora is not None:
            model = add_lora(model, args.lora, args.tune_vision_tower)
        if args.tune_vision_tower:
            freeze_unread(model)
        self.feature_scale = feature_scale
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            data_collator=data_collator,
            processing_class=processor,
            **kwargs,
        )
        if not self.is_deepspeed_enabled:  # It keeps the weights in float32 besides.
            warn_of_half_precision(self.model)
        if self.label_smoother is not None:
            # The Trainer shifts the labels of causal models alone, and a LLaVA is not on its list of them.
            self.label_smoother = partial(self.label_smoother, shift_labels=True)
        self.add_callback(Alarms())
        if feature_scale is not None:
            feature_scale.attach()
        if self.distillation is not None:
            teacher.model.to(self.args.device)

    @property
    def llava(self) -> LlavaForConditionalGeneration:
        """The LLaVA itself, below wrappers."""
        return find_llava(self.model)

    # ---- Training ----

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            model = self.model if model is None else model
            given = self.optimizer_cls_and_kwargs
            optimizer_class, options = given or self.get_optimizer_cls_and_kwargs(self.args, model)
            rate = options.get("lr", self.args.learning_rate)
            groups = parameter_groups(model, self.args, self.get_decay_parameter_names(model), rate)
            self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def _get_train_sampler(self, train_dataset=None):
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not self.args.group_by_modality_length:
            return super()._get_train_sampler(train_dataset)
        per_step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        words, has_image = count_samples(dataset)
        self.sampler = ModalityLengthSampler(words, has_image, per_step, self.args.seed)
        return self.sampler

    def begin_step(self, samples: list[dict[str, torch.Tensor]]) -> None:
        """Count the images of the step, of whose visual tokens a relation is the mean."""
        if self.distillation is not None:
            images = torch.tensor(sum(len(batch.get("pixel_values", ())) for batch in samples))
            across = self.args.average_tokens_across_devices
            self.images_in_step = sum_over_ranks(images.to(self.args.device)) if across else images

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """
        Return the mean over supervised tokens, and what the teacher adds to it.

        [`StepGuard`] rejects a step whose loss is not finite.
        """
        # The Trainer has just set the whole model to train mode.
        for part in frozen_parts(self.model):
            part.eval()
        pixels = inputs.pop("teacher_pixel_values", inputs.get("pixel_values"))
        asked = dict(inputs)  # A blank image comes later, and a label smoother takes the labels away.
        if "pixel_values" not in inputs and self.args.world_size > 1:
            inputs = self._with_blank_image(inputs)
        if "position_ids" in inputs:
            inputs = inputs | {"use_cache": False}  # transformers separates packed samples only without a cache
        labels = inputs["labels"]
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if model.training:
            terms = {"tokens": loss} | self._taught(asked, pixels, outputs, num_items_in_batch)
            loss = self.guard.check_loss(sum(terms.values()), terms)
        else:
            self._meter(loss, labels, num_items_in_batch)
        # A batch without images has no `image_hidden_states`, which metrics could not be computed of together.
        return (loss, {"logits": outputs["logits"]}) if return_outputs else loss

    def _taught(self, inputs, pixels, outputs, tokens: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """Return the weighted terms of the teacher, and meter them beside the loss of the labels."""
        if self.distillation is None:
            return {}
        with self.throughput.clock("teacher"), self.accelerator.autocast():
            told = self.distillation.ask(inputs, pixels)
        terms = self.distillation(inputs["labels"], outputs, told, tokens, self.images_in_step)
        # The Trainer averages gradients over processes, and here each has its part of one sum.
        share = self.args.world_size if self.args.average_tokens_across_devices else 1
        parts = self.current_gradient_accumulation_steps
        means = sum_over_ranks(torch.stack([term.detach() for term in terms.values()])) * share / self.args.world_size
        metered = {f"loss/{name}": parts * mean for name, mean in zip(terms, means, strict=True)}
        self.meters.add("train", metered, 1 / parts)
        return {name: self.distillation.weights[name] * share * term for name, term in terms.items()}

    def _meter(self, loss: torch.Tensor, labels: torch.Tensor, tokens: torch.Tensor | None) -> None:
        """Count a batch of an evaluation by its supervised tokens, whose mean the loss is."""
        if tokens is None:
            tokens = labels[:, 1:].ne(IGNORED).sum()
        elif self.args.average_tokens_across_devices:
            tokens = tokens / self.args.world_size  # the loss is that of all processes' tokens
        self.meters.add("eval", {"loss": torch.where(tokens > 0, loss, 0)}, tokens)
        self.meters.count(len(labels))

    def _with_blank_image(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """
        Add an empty image behind the padding of the first sample, where nothing attends to it.

        Every process then runs the tower and the projector. Otherwise the others would wait for its gradients for
        ever.
        """
        collator = self.data_collator
        blank = torch.full(
            (len(inputs["labels"]), collator.num_image_tokens), self.processing_class.tokenizer.pad_token_id
        )
        blank[0] = self.processing_class.image_token_id
        blank = blank.to(inputs["input_ids"])
        behind = {
            "input_ids": blank,
            "labels": torch.full_like(blank, IGNORED),
            "attention_mask": torch.zeros_like(blank),
            "position_ids": torch.arange(blank.shape[1], device=blank.device).expand_as(blank),
        }
        longer = {name: torch.cat([inputs[name], row], dim=1) for name, row in behind.items() if name in inputs}
        return inputs | longer | {name: value.to(blank.device) for name, value in collator.blank_image.items()}

    def train_logs(self) -> dict[str, float]:
        """Return the shares of supervised tokens and of places without a token, of this process since the last log."""
        return self.data_collator.counts.read()

    # ---- Saving and loading ----

    def run_identity(self) -> dict[str, Any]:
        """Return what learns, the scale of the features and the geometry, besides what describes any run."""
        scale = None if self.feature_scale is None else self.feature_scale.scale.log2().int().tolist()
        learns = {name: getattr(self.args, name) for name in ("stage", "tune_vision_tower", "lora")}
        # Runs without a teacher resume from checkpoints of versions that had none.
        teacher = {} if self.teacher is None else {"teacher": self.teacher.identity()}
        geometry = {"geometry": self._geometry()}
        return super().run_identity() | learns | {"feature_scale": scale} | teacher | geometry

    def _geometry(self) -> dict[str, Any]:
        """Return how images and texts become tokens. Weights of two geometries may have equal shapes."""
        config, collator = self.llava.config, self.data_collator
        images = self.processing_class.image_processor.to_dict()
        return {
            "image_tokens": collator.num_image_tokens,
            "token_reduction": getattr(config.vision_config, "reduction", None),
            "tiles": getattr(config, "image_grid_pinpoints", None),
            "max_length": collator.max_length,
            "images": {name: images.get(name) for name in ("crop_size", "do_center_crop", "do_pad")},
        }

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Write a folder that plain transformers loads, with the feature scale folded in; with `lora` the adapters."""
        if not self.args.should_save:
            return
        output_dir = self.args.output_dir if output_dir is None else output_dir
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        state_dict = dict(model.state_dict() if state_dict is None else state_dict)
        if self.reused is not None:
            os.makedirs(output_dir, exist_ok=True)
            self.reused.save(state_dict, output_dir)
            self.reused.fold_(state_dict)
        if self.feature_scale is not None:
            self.feature_scale.fold_(state_dict)
        model.save_pretrained(output_dir, state_dict=state_dict)
        self.processing_class.save_pretrained(output_dir)
        save_arguments(self.args, output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        model = self.model if model is None else model
        if self.is_fsdp_enabled:
            # Only FSDP reads this file, in which the scale is not folded.
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        if isinstance(model, PeftModel):
            check_adapter(model, resume_from_checkpoint)
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_weights(model, resume_from_checkpoint, elsewhere=self.reused.names() if self.reused else ())
        if self.reused is not None:
            self.reused.load(resume_from_checkpoint)  # The file has the adapter as it was trained, without the scale.
        elif self.feature_scale is not None:
            state_dict = dict(model.state_dict())
            model.load_state_dict(self.feature_scale.unfold_(state_dict))
