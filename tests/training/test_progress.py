"""The bar of a resumed run counts and times the steps of this run."""

from types import SimpleNamespace

from transformers import ProgressCallback, TrainerControl, TrainerState
from transformers.trainer_callback import CallbackHandler

from hf_clip_kd.training.progress import ProgressFromResume


def test_the_bar_begins_at_the_resumed_step():
    bar_callback, state = ProgressCallback(), TrainerState(global_step=20, max_steps=220)
    handler = CallbackHandler([bar_callback], None, None, None, None)
    handler.add_callback(ProgressFromResume(SimpleNamespace(callback_handler=handler)))
    handler.on_train_begin(None, state, TrainerControl())
    bar = bar_callback.training_bar
    assert (bar.n, bar.total) == (20, 220)

    for step in (21, 22):
        state.global_step = step
        handler.on_step_end(None, state, TrainerControl())
    shown = bar.format_dict
    assert (shown["n"], shown["initial"]) == (22, 20)  # tqdm divides the steps since `initial` by the time
    bar.close()


def test_a_run_without_a_bar_needs_none():
    handler = CallbackHandler([], None, None, None, None)
    handler.add_callback(ProgressFromResume(SimpleNamespace(callback_handler=handler)))
    handler.on_train_begin(None, TrainerState(global_step=20, max_steps=220), TrainerControl())
