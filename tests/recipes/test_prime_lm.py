"""recipes/prime_lm.py: the oracle must be a ceiling, or there is no language model."""

import json

import pytest

from recipes import prime_lm

TINY = {
    "hidden_size": 32,
    "num_attention_heads": 2,
    "max_train_samples": 64,
    "max_test_samples": 24,
    "max_steps": 4,
    "check_every": 2,
    "per_device_train_batch_size": 8,
    "use_cpu": "true",
    "report_to": "none",
    "save_strategy": "no",
    "ema_decay": 0.5,
}


def run(folder, **values):
    options = TINY | {"output_dir": str(folder)} | values
    return prime_lm.main([part for name, value in options.items() for part in (f"--{name}", str(value))])


def test_the_training_ends_as_soon_as_every_type_of_question_is_good_enough(tmp_path, monkeypatch):
    answers = iter([{"color_at": 1.0, "count": 0.5}, {"color_at": 0.9, "count": 0.9}, {"color_at": 0.9, "count": 0.9}])
    monkeypatch.setattr(prime_lm, "oracle", lambda *args: {"accuracy": 0.0, "by_type": next(answers)})
    run(tmp_path, least_accuracy=0.9, check_every=1)
    steps = [json.loads(line).get("step") for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert max(filter(None, steps)) == 2, "the second look was good enough"
    assert json.loads((tmp_path / "oracle.json").read_text())["by_type"] == {"color_at": 0.9, "count": 0.9}


def test_an_oracle_that_misses_its_accuracy_is_an_error_and_leaves_no_model(tmp_path):
    with pytest.raises(ValueError, match=r"`least_accuracy=0\.98`: after 4 steps .* Train longer with `--max_steps`"):
        run(tmp_path, least_accuracy=0.98)
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(("name", "value"), [("least_accuracy", 98), ("check_every", 0)])
def test_wrong_values_are_refused(tmp_path, name, value):
    with pytest.raises((ValueError, SystemExit), match=f"`{name}={value}"):
        run(tmp_path, **{name: value})
