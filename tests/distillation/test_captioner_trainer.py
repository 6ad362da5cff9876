"""CaptionerTrainer: what it refuses. `tests/recipes/test_train_captioner.py` trains one."""

import pytest

from hf_clip_kd.distillation.captioner_trainer import CaptionerTrainer, CaptionerTrainingArguments


def test_data_to_evaluate_is_refused(tmp_path):
    args = CaptionerTrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    with pytest.raises(ValueError, match="`eval_dataset` is an argument.*CaptionerTrainer never reads.*Leave it out"):
        CaptionerTrainer(None, args, None, [], list, None, eval_dataset=[{"image": None, "text": "a"}])
