"""BaseTrainer: the only class between `transformers.Trainer` and the trainers of this package."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any

from accelerate.utils import send_to_device
from transformers import Trainer

from ..hub.run import check_run
from ..recipe_io.worker_deaths import explained_worker_death
from .agreement import check_agreement, settings
from .checkpoint_reading import finite, reading
from .checkpoints import Checkpoints
from .distributed import min_over_ranks
from .ema import EMACallback
from .epochs import EpochCallback
from .eval_batches import eval_dataloader
from .evaluation import check_evaluation, evaluator_is_enough, exact_means, gather_rows, measure, named_datasets
from .guard import StepGuard
from .identity import run_identity
from .launch import build_models_whole, check_engine, name_blocks
from .meters import Meters
from .optimizer_settings import OptimizerSettings
from .outcome import Outcome
from .peers import Peers
from .progress import ProgressFromResume
from .pushing import BackgroundPush, write_run_card
from .stopping import StopOnSignal
from .stream_place import StreamPlace
from .throughput import MetricsWriter, Throughput
from .trainer_arguments import check_optimizer


class BaseTrainer(Trainer):
    """
    A [`~transformers.Trainer`] that resumes exactly, skips bad steps, averages weights, and stops when it is told to.

    It has its parts. Callbacks only watch a run; plain objects judge a loss, order files or add to the log. Each
    method of the Trainer that they need is overridden here and nowhere else. Its arguments include [`RunArguments`].

    A trainer made from it passes its loss through `guard.check_loss` in `compute_loss`. It gives `meters` all numbers
    whose means shall be logged. In an evaluation these are also the loss and the number of rows. It may override
    [`BaseTrainer.begin_step`], [`BaseTrainer.train_logs`], [`BaseTrainer.scores`] and [`BaseTrainer.run_identity`].

    A `train_dataset` with a method `loader`, such as [`~data.Stream`], makes its own dataloader, which has a state.

    Attributes:
        guard, meters, settings, checkpoints, pushing, stream, peers, throughput, ema, stopping, outcome: The parts.
        sampler (*optional*): A sampler with an `epoch`, if the trainer has its own.
        evaluator, eval_data_collator (`Callable`, *optional*): See [`DistillationTrainer`].
        loss_compares_rows (`bool`): Whether the loss of a row depends on the others of its batch, and so on its size.
    """

    sampler = evaluator = eval_data_collator = None
    loss_compares_rows = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        check_agreement(settings(self))
        name_blocks(self.accelerator, self.model)
        self.meters, self.guard, self.settings = Meters(), StepGuard(self), OptimizerSettings(self)
        self.checkpoints, self.pushing, self.peers = Checkpoints(self), BackgroundPush(self.args), Peers()
        self.throughput = Throughput(self.args.device, self.args.world_size)
        self.stream, self.ema = StreamPlace(self.args), EMACallback(self.args)
        self.stopping, self.outcome = StopOnSignal(self.checkpoints, self.pushing), Outcome(self)
        watching = [MetricsWriter(), EpochCallback(self), ProgressFromResume(self), self.guard.skipped, self.outcome]
        watching += [self.checkpoints, self.ema, self.stopping, self.throughput]  # the last counts the others' time
        for callback in watching:
            self.add_callback(callback)

    # ---- Launch ----

    def create_accelerator_and_postprocess(self) -> None:
        """Create the accelerator, and raise a ValueError if DeepSpeed or FSDP was asked for in vain."""
        super().create_accelerator_and_postprocess()
        build_models_whole()  # accelerate has just turned the sharding of new models on again
        check_engine(self.args, self.accelerator)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Check the rights to push; the repository itself is made by the first push."""
        if self.is_world_process_zero():
            check_run(self.args, self.args.output_dir)

    # ---- Training ----

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs):
        """
        Train, from the start or from a checkpoint.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                A checkpoint's folder. `"auto"` takes the last complete one in `args.output_dir`, or begins at the
                start. `True` does likewise, but there must be a checkpoint.
            kwargs: As for [`~transformers.Trainer`].

        Raises:
            ValueError: The checkpoint is torn or of another run, the processes disagree, or nothing is learned.
            RuntimeError: Another process has gone, see [`Peers`], or a worker of the dataloader.
            SystemExit: The run was told to stop and has saved a checkpoint; its code is 0.
        """
        with self.stopping.listening(), self.peers.watching(), explained_worker_death():
            check_optimizer(self)
            self.outcome.check_settings()
            checkpoint = self.ema.resumed_from = self.checkpoints.choose(resume_from_checkpoint)
            return super().train(checkpoint, *args, **kwargs)

    def get_train_dataloader(self):
        """Return the Trainer's dataloader, or that of a data set which deals itself out to processes and workers."""
        if not hasattr(self.train_dataset, "loader"):
            return self.outcome.checked(super().get_train_dataloader())
        return self.stream.open(self.train_dataset, self._train_batch_size, self.data_collator)

    def needs_others(self) -> dict[str, bool]:
        """Return for each loss whether it learns nothing from one row alone; for trainers to override."""
        return {}

    def create_scheduler(self, *args, **kwargs):
        """Make the schedule of the learning rate, and note the optimizer's settings, before a state is loaded."""
        schedule = super().create_scheduler(*args, **kwargs)
        self.settings.note()
        return schedule

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            with reading(checkpoint), finite(self.model, self.optimizer), self.settings.kept():
                super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with reading(checkpoint):
            super()._load_rng_state(checkpoint)

    def _init_training_state(self, max_steps: int, *args) -> tuple[int, int]:
        place = super()._init_training_state(max_steps, *args)
        self.state.compute_steps(self.args, max_steps)  # a checkpoint holds those of the run that saved it
        return place

    def _load_callback_state(self) -> None:
        super()._load_callback_state()  # it may put new callbacks in the place of the old
        self.guard.count_with(self.callback_handler.callbacks)

    def _run_epoch(self, *args, resume_from_checkpoint: str | None = None, **kwargs) -> None:
        if self.state.global_step >= self.state.max_steps:
            # The run was killed after its last step. The Trainer would train one step too many.
            self.control.should_training_stop = True
            return
        if resume_from_checkpoint is not None and self.stream.load(resume_from_checkpoint):
            kwargs["steps_trained_in_current_epoch"] = 0  # the stream begins at the right row, so nothing is skipped
        super()._run_epoch(*args, resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def get_batch_samples(self, *args):
        """Fetch the micro-batches of one optimizer step."""
        samples, items = super().get_batch_samples(*args)
        if not hasattr(self.train_dataset, "__len__"):
            # Processes with more of a stream left would wait for ever for a process that has run out of it.
            samples = samples[: min_over_ranks(len(samples), self.args.device)]
        self.throughput.count(samples)
        self._loss_before = self._tr_loss.clone()
        self.guard.begin(samples)
        self.outcome.begin(samples)
        self.begin_step(samples)
        return samples, items

    def begin_step(self, samples: list[dict[str, Any]]) -> None:
        """Prepare a step; for trainers to override. `samples` are its micro-batches, on the CPU."""

    def _prepare_inputs(self, inputs):
        # The host does not wait for copies from pinned memory, those of a stream either.
        return super()._prepare_inputs(send_to_device(inputs, self.args.device, non_blocking=True))

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Run the passes of a micro-batch; a step that the guard rejects leaves no gradient and no number."""
        with self.throughput.clock("step"):
            loss = super().training_step(model, inputs, num_items_in_batch)
        self.outcome.see(loss)
        if self.accelerator.sync_gradients and self.guard.rejects(model):
            self.meters.forget_last(len(self.guard.micro_batches))
            self._tr_loss.copy_(self._loss_before)
            return loss.new_zeros(())
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log what the Trainer has, and what the parts add to it."""
        logs |= self.meters.read(logs) | self.guard.read(logs) | self.throughput.read(logs)
        logs |= self.train_logs() if "loss" in logs else {}
        super().log(logs, start_time)

    def train_logs(self) -> dict[str, float]:
        """Return what a log of the training has besides; for trainers to override."""
        return {}

    def _finalize_training(self, *args):
        if self.stopping.agreed:
            # Loading the best model or deleting a checkpoint would spoil what the next run resumes.
            self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)
            self.stopping.exit(self.state)
        self.outcome.check_end()
        self._finish_current_push()  # it reads the last checkpoint, and the Trainer may leave only the best
        return super()._finalize_training(*args)

    # ---- Evaluation ----

    def _validate_args(self) -> None:
        check_evaluation(self.args, self.eval_dataset, self.evaluator)
        check_optimizer(self)
        with evaluator_is_enough(self.args, self.evaluator):
            super()._validate_args()

    def get_eval_dataloader(self, eval_dataset=None):
        """Return a dataloader that gives each row once to some process, see [`deal`]."""
        (dataset,) = named_datasets(eval_dataset, self.eval_dataset, "eval").values()
        collate = self.data_collator if self.eval_data_collator is None else self.eval_data_collator
        return eval_dataloader(dataset, collate, self.args, nearest=self.loss_compares_rows)

    get_test_dataloader = get_eval_dataloader

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """
        Return the metrics of all data sets and the scores, of the average of weights unless `ema_evaluate` is off.

        Callbacks hear of all together. Raises a ValueError if there is nothing to evaluate.
        """
        self._memory_tracker.start()
        with self.peers.watching(), explained_worker_death(), self.ema.in_place():
            metrics = measure(self, eval_dataset, ignore_keys, metric_key_prefix)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._memory_tracker.stop_and_update_metrics(metrics)
        return metrics

    def scores(self) -> dict[str, float]:
        """Return what the evaluator finds, once however many data sets there are; for trainers that have one."""
        raise NotImplementedError

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        """Run the stock loop on batches that processes share unequally. The means come from `meters`."""
        self.meters.begin_evaluation()
        self.gather_function = gather_rows
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        return exact_means(output, self.meters, metric_key_prefix, self.args.device)

    # ---- Saving and loading ----

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, with the average beside it. Nothing is pushed: scores and card are not there yet."""
        if self.checkpoints.has_model:
            return
        if self.ema.average is not None:
            self.ema.average.save(self.args.output_dir if output_dir is None else output_dir)
        super().save_model(output_dir, _internal_call=True)

    def run_identity(self) -> dict[str, Any]:
        """Return what a resumed run must share to be exact, in JSON's types; for trainers to add to."""
        return run_identity(self)

    def _save_checkpoint(self, model, trial) -> None:
        folder = Path(self._get_output_dir(trial), f"checkpoint-{self.state.global_step}")

        def write() -> None:
            super(BaseTrainer, self)._save_checkpoint(model, trial)
            self.stream.save(folder)

        self.checkpoints.save(folder, write)

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_best_model()
        else:
            self._load_from_checkpoint(self.state.best_model_checkpoint)
        if self.ema.average is not None:
            self.ema.average.load(self.state.best_model_checkpoint)

    # ---- Hub ----

    def push_to_hub(self, commit_message: str | None = None, blocking: bool = True, **options) -> str | Future | None:
        """
        Save the model and push `args.output_dir`: model, processor, card, and what else of the run is there.

        `args.push_to_hub` may be off. Arguments are the stock Trainer's, see [`BackgroundPush.push_end`]. It returns
        the address of the pushed revision, and `None` on all but the main process.

        Raises:
            PushError: The push failed; the error names the command that finishes it.
        """
        self.save_model()
        if not self.is_world_process_zero():
            return None
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        return self.pushing.push_end(commit_message or "End of training", blocking, **options)

    def create_model_card(self, **facts: Any) -> None:
        """Write the card of `args.output_dir`, see [`write_run_card`]."""
        if self.is_world_process_zero():
            write_run_card(self.args.output_dir, **facts)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Do nothing: `checkpoints` pushes a checkpoint once it is complete."""

    def _finish_current_push(self) -> None:
        self.pushing.wait()
