"""DistillationTrainer: a `transformers.Trainer` for a student with its losses, and a frozen teacher."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel, ProcessorMixin

from ..losses import requested
from ..losses.features import CLIPFeatures
from ..losses.specification import specification
from ..models.precision import set_precision
from ..models.processing import check_fits
from ..teachers import load_teacher
from ..teachers.base import TEXT_INPUTS, Teacher
from ..teachers.ensemble import TeacherEnsemble
from ..teachers.processors import view_sizes
from ..teachers.reader import Reader, readers_for, with_answers
from ..training.alarms import Alarms
from ..training.arguments import save_arguments
from ..training.base_trainer import BaseTrainer
from ..training.checkpoint_reading import load_part
from ..training.checkpoint_weights import load_weights
from ..training.sharded import gather_full_model
from ..training.trainer_arguments import refuse_arguments
from .batch_fit import explained_memory_error, fit_batch
from .channels_last import lay_out_images, lay_out_kernels
from .grad_cache import cached_losses
from .image_sizes import ImageSizes
from .model import DistillationModel
from .scales import ClampScales, bound_parameters
from .student import check_student
from .teacher_sharding import shard_teacher
from .training_args import DistillationTrainingArguments

LOSSES_NAME = "losses.safetensors"
EVALUATOR = "Numbers of your own come from an evaluator. Pass for example `evaluator=lambda model, processor: {...}`."
REFUSED = {
    "compute_loss_func": "The objective is a sum of losses, your own by dotted paths. Pass `losses={'my.Loss': 1}`.",
    "compute_metrics": EVALUATOR,
    "preprocess_logits_for_metrics": EVALUATOR,
    "model_init": "The student gets its heads once. Pass `model=model_init()`.",
}
STUDENT_INPUTS = ("pixel_values", *TEXT_INPUTS)


class DistillationTrainer(BaseTrainer):
    """Train a CLIP-style student on images and captions, with or without a teacher.

    Also exported as `CLIPDistillationTrainer`, because TRL has a class of the same name for language models.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The student, for instance from [`load_clip`]. It is saved as a plain model, without heads.
        args ([`DistillationTrainingArguments`], *optional*):
            Training arguments; `args.losses` is the objective.
        teacher_model ([`Teacher`], `str`, `dict` or `list`, *optional*):
            The teacher, or what [`load_teacher`] makes one of, several included. It is never trained and never saved.
        train_dataset, eval_dataset:
            Data sets with the columns that `data_collator` reads.
        data_collator (`Callable`):
            Rows to a batch, normally a [`CLIPDataCollator`].
        eval_data_collator (`Callable`, *optional*, defaults to `data_collator`):
            The same for `eval_dataset`, normally without random crops.
        processing_class ([`~transformers.ProcessorMixin`], *optional*, defaults to that of `data_collator`):
            The student's processor, saved beside it.
        evaluator (`Callable`, *optional*):
            `evaluator(model, processor) -> dict[str, float]`, run once at every evaluation. Callbacks see its scores
            together with the losses of all data sets.
        readers (`Sequence[Reader]`, *optional*):
            Frozen readers for the loss `reader`, by default those that it names. `data_collator` needs their `texts`.
        kwargs:
            `callbacks`, `optimizer_cls_and_kwargs` and other arguments of [`~transformers.Trainer`]. `optimizers` must
            hold heads and scales, too.

    Raises:
        ValueError: The losses need a teacher and none was given, or do not exist, or no collator was given. Or a
            tokenizer treats texts otherwise than the student's text tower, or the teacher, needs. Or `model` is no
            student, or an argument of the stock Trainer would have no effect.
    """

    _name = "CLIP distillation"
    _tag_names = ["clip", "knowledge-distillation", "hf_clip_kd"]
    # Our losses are per-batch means: the Trainer has to divide by the number of accumulation steps.
    loss_is_scaled_for_ga = False
    loss_compares_rows = True

    def __init__(
        self,
        model: PreTrainedModel | None = None,
        args: DistillationTrainingArguments | None = None,
        teacher_model: Teacher | str | dict | list | None = None,
        train_dataset=None,
        eval_dataset=None,
        data_collator: Callable[[list], dict] | None = None,
        eval_data_collator: Callable[[list], dict] | None = None,
        processing_class=None,
        evaluator: Callable[[Any, Any], dict[str, float]] | None = None,
        readers: Sequence[Reader] | None = None,
        **kwargs,
    ):
        args = args or DistillationTrainingArguments("distilled")
        if data_collator is None:
            raise ValueError(
                "`data_collator=None`: images and captions have no default collation. It must be a function of rows. "
                "Pass `data_collator=CLIPDataCollator(processor, teacher.processor)`."
            )
        refuse_arguments("DistillationTrainer", kwargs, REFUSED)
        check_student(model)
        self.teacher = load_teacher(teacher_model) if isinstance(teacher_model, str | dict | list) else teacher_model
        self.evaluator, self.eval_data_collator = evaluator, eval_data_collator
        request = requested(args.losses)
        if self.teacher is not None:
            self.teacher.prepare(request)
            if hasattr(data_collator, "check_teacher"):
                data_collator.check_teacher(getattr(self.teacher, "processor", None))
        self.readers = readers_for(self.teacher, request, readers)
        set_precision(model, args.dtype)
        check_fits(model, processing_class, data_collator, self.eval_data_collator)
        if args.channels_last:
            lay_out_kernels(model, self.teacher)
        self._cached_losses = iter(())
        self.image_sizes = ImageSizes(args, model, self.teacher)
        super().__init__(
            model=DistillationModel(
                model,
                args.losses,
                None if self.teacher is None else self.teacher.dims,
                max_logit_scale=args.max_logit_scale,
            ),
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=data_collator,
            processing_class=processor_of(data_collator) if processing_class is None else processing_class,
            **kwargs,
        )
        every = self.args.ddp_find_unused_parameters is False or self.args.ddp_static_graph
        self.model.losses.zeros_at_rest = bool(self.is_deepspeed_enabled or every)
        self.add_callback(ClampScales())
        self.add_callback(Alarms(self.args.max_logit_scale))
        if self.teacher is not None:
            self.teacher.place(self.args.device)
            if self.args.teacher_sharded:
                shard_teacher(self.teacher)
        for reader in self.readers:
            reader.place(self.args.device)

    @property
    def student(self) -> PreTrainedModel:
        """The student as an ordinary model, in training or after it."""
        return self.model.student

    # ---- Loss ----

    def get_decay_parameter_names(self, model) -> list[str]:
        """Return matrices and kernels; vectors (norms, biases, scales, class embeddings) do not decay, as in CLIP."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim >= 2]

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        made_here = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if made_here:
            bound_parameters(optimizer, self.model.scale_bounds())
        return optimizer

    def teacher_features(self, inputs: dict[str, torch.Tensor]) -> CLIPFeatures | None:
        """
        Return the teacher's features of a batch; without a view of its own the teacher sees the student's.

        No teacher is asked while no loss needs it. A cache reads all of its teachers, for its workers know no steps.
        """
        asked = self.model.losses.asked()
        if self.teacher is None or not asked:
            return None
        members = {"members": asked} if isinstance(self.teacher, TeacherEnsemble) else {}
        with self.throughput.clock("teacher"), self.accelerator.autocast():
            return with_answers(self.teacher.of_batch(inputs, **members), self.readers, inputs)

    def _inner_training_loop(self, batch_size: int | None = None, args=None, **kwargs):
        if not args.auto_find_batch_size:
            return super()._inner_training_loop(batch_size, args=args, **kwargs)
        # Activation checkpointing is on from here, so the trial needs the memory of the training.
        fit_batch(self, batch_size)
        with explained_memory_error(self):
            return super()._inner_training_loop(args.per_device_train_batch_size, args=args, **kwargs)

    def needs_others(self) -> dict[str, bool]:
        """Return for each loss whether it learns nothing from one pair alone."""
        return self.model.losses.needs_others()

    def begin_step(self, samples: list[dict[str, torch.Tensor]]) -> None:
        """Prepare GradCache, with which the micro-batches of a step are one batch for the losses."""
        self._cached_losses = iter(())
        if self.args.grad_cache and len(samples) > 1:
            self._cached_losses = cached_losses(self.model_wrapped, map(self.model_inputs, samples))

    def model_inputs(self, inputs: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Return what the model takes of a collated batch, the teacher's features included, on the device."""
        inputs = self.image_sizes(self._prepare_inputs(inputs), self.state.global_step, self.model.training)
        inputs = lay_out_images(inputs) if self.args.channels_last else inputs
        student = {key: inputs[key] for key in STUDENT_INPUTS if key in inputs}
        return student | {"teacher_features": self.teacher_features(inputs)}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the weighted sum over the global batch, and meter its parts and the statistics.

        With `grad_cache`, that batch is of all micro-batches of the optimizer step, see [`cached_losses`].
        A sum that is not finite skips the step or stops the run, see [`StepGuard`].
        """
        # All processes count the same steps. GradCache begins its step below.
        self.model.set_share(self.state.global_step / max(1, self.state.max_steps))
        outputs = next(self._cached_losses, None) if model.training else None
        if outputs is None:
            outputs = model(**self.model_inputs(inputs))
        parts = {f"loss/{name}": part for name, part in outputs["losses"].items()} | outputs["statistics"]
        if model.training:
            outputs["loss"] = self.guard.check_loss(outputs["loss"], outputs["losses"])
            self.meters.add("train", parts, 1 / self.current_gradient_accumulation_steps)
        else:
            rows = len(inputs["input_ids"])
            self.meters.add("eval", {"loss": outputs["loss"]} | parts, rows)
            self.meters.count(rows)
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def train_logs(self) -> dict[str, float]:
        """Return the logit scale, and the weights that change, as they were in the last step."""
        changing = {f"weight/{name}": weight for name, weight in self.model.losses.changing_weights().items()}
        return {"logit_scale": self.student.logit_scale.exp().item()} | changing

    # ---- Evaluation ----

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs).detach(), None, None

    def scores(self) -> dict[str, float]:
        """Return what `evaluator` finds in the student, once however many data sets there are."""
        return self.evaluator(gather_full_model(self.student), self.processing_class)

    # ---- Saving and loading ----

    def run_identity(self) -> dict[str, Any]:
        """Return the objective, the teacher, its readers and the image sizes besides what describes any run."""
        losses = {
            name: {"weight": weight.plain, **options}
            for name, (_, weight, options) in specification(self.args.losses).items()
        }
        teacher = None if self.teacher is None else self.teacher.identity()
        readers = {"readers": [reader.identity() for reader in self.readers]} if self.readers else {}
        sizes = view_sizes(self.processing_class, getattr(self.teacher, "processor", None))
        return super().run_identity() | {"losses": losses, "teacher": teacher, "geometry": sizes} | readers

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Write a folder that plain transformers loads, and heads and scales in `losses.safetensors` beside it."""
        if not self.args.should_save:
            return
        output_dir = self.args.output_dir if output_dir is None else output_dir
        os.makedirs(output_dir, exist_ok=True)
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        student_state, training_state = model.split_state_dict(
            model.state_dict() if state_dict is None else state_dict
        )
        model.student.save_pretrained(output_dir, state_dict=student_state)
        save_file(
            {name: tensor.contiguous() for name, tensor in training_state.items()},
            os.path.join(output_dir, LOSSES_NAME),
            metadata={"format": "pt"},
        )
        if self.processing_class is not None:
            self.processing_class.save_pretrained(output_dir)
        save_arguments(self.args, output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        model = self.model if model is None else model
        heads = os.path.join(resume_from_checkpoint, LOSSES_NAME)
        if not os.path.isfile(heads):
            raise ValueError(
                f"{resume_from_checkpoint!r} is no checkpoint of this trainer: it has no {LOSSES_NAME}. It must be a "
                "`checkpoint-N` folder of the run. Give one, or start from that model with `model_name_or_path`."
            )
        # The heads' file has the scales, too. Older checkpoints have them in another shape in the student's.
        load_weights(model.student, resume_from_checkpoint, elsewhere=("logit_scale", "logit_bias"))
        model.load_training_state(load_part(heads))
        model.clamp_scales_()


def processor_of(data_collator: Callable) -> ProcessorMixin | None:
    """Return the processor of a collator, if it is that of a folder."""
    processor = getattr(data_collator, "processor", None)
    return processor if isinstance(processor, ProcessorMixin) else None


CLIPDistillationTrainer = DistillationTrainer
