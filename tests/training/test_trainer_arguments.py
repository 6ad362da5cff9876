"""Arguments of the stock Trainer: they work, or are refused when the trainer is made."""

import llava_runs
import pytest
import torch
from miniature import ALL_LOSSES, Pairs, logs, make_clip, make_trainer
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

REFUSED = {
    "compute_loss_func": "Pass `losses=",
    "compute_metrics": "Pass for example `evaluator=",
    "preprocess_logits_for_metrics": "Pass for example `evaluator=",
    "model_init": r"Pass `model=model_init\(\)`",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_distillation_never_reads_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=f"`{name}`.*DistillationTrainer never reads.*{REFUSED[name]}"):
        make_trainer(tmp_path, **{name: lambda *args, **kwargs: {}})


def test_a_llava_refuses_model_init(tmp_path):
    with pytest.raises(ValueError, match="`model_init`.*LlavaTrainer never reads"):
        llava_runs.make_trainer(tmp_path, *llava_runs.make_model(), model_init=make_clip)


def adam(parameters, rate=1e-2):
    return torch.optim.AdamW(parameters, lr=rate)


def test_an_optimizer_without_scales_and_heads_is_refused(tmp_path):
    student = make_clip()
    optimizer = adam(student.parameters())
    message = "without logit_scale, losses.terms.icl.logit_scale.*optimizer_cls_and_kwargs"
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, student, optimizers=(optimizer, None))
    trainer = make_trainer(tmp_path)
    trainer.optimizer = adam(trainer.student.parameters())
    with pytest.raises(ValueError, match=message):
        trainer.train()


def test_a_complete_optimizer_trains_again_and_again(tmp_path):
    trainer = make_trainer(tmp_path, max_logit_scale=14.3)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.optimizer = adam(trainer.model.parameters())
    trainer.lr_scheduler = LambdaLR(trainer.optimizer, lambda step: 1 / (1 + step))
    trainer.train()
    assert logs(trainer, "learning_rate") == pytest.approx([1e-2, 1e-2 / 2, 1e-2 / 3, 1e-2 / 4])
    for name in ("logit_scale", "losses.terms.icl.logit_scale", "losses.terms.fd.image_proj.weight"):
        assert not torch.equal(trainer.model.get_parameter(name), before[name]), name
    assert max(logs(trainer, "logit_scale")) <= 14.3 * (1 + 1e-6)
    trainer.train()


def test_an_optimizer_of_a_student_with_a_frozen_scale_is_complete(tmp_path):
    student = make_clip()
    student.logit_scale.requires_grad_(False)
    trainer = make_trainer(
        tmp_path, student, teacher=False, losses={"clip": 1.0}, optimizers=(adam(student.parameters()), None)
    )
    trainer.train()
    assert not torch.equal(student.visual_projection.weight, make_clip().visual_projection.weight)


def test_an_optimizer_by_class_takes_everything(tmp_path):
    trainer = make_trainer(tmp_path, optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.5}), losses=ALL_LOSSES)
    trainer.train()
    held = {p for group in trainer.optimizer.param_groups for p in group["params"]}
    assert held == set(trainer.model.parameters()) and logs(trainer, "learning_rate") == [0.5] * 4
    vlm = llava_runs.make_trainer(
        tmp_path, *llava_runs.make_model(), optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.5, "momentum": 0.3})
    )
    groups = vlm.create_optimizer().param_groups
    assert type(vlm.optimizer) is torch.optim.SGD
    assert {(group["lr"], group["momentum"]) for group in groups} == {(0.5, 0.3)}


def test_schedulers_that_would_do_nothing_are_refused(tmp_path):
    student = make_clip()
    student.logit_scale.requires_grad_(False)
    optimizer, other = adam(student.parameters()), adam(make_clip().parameters())
    cases = {
        "whose optimizer is not that of this run": [
            (optimizer, LambdaLR(other, float)),
            (None, LambdaLR(other, float)),
        ],
        "no evaluation gives it a metric": [(optimizer, ReduceLROnPlateau(optimizer))],
    }
    for message, pairs in cases.items():
        for optimizers in pairs:
            with pytest.raises(ValueError, match=message):
                make_trainer(tmp_path, student, teacher=False, losses={"clip": 1.0}, optimizers=optimizers)


def test_a_llava_takes_a_loss_and_metrics(tmp_path):
    """The stock Trainer's functions see logits and labels of all rows, also of those without images."""
    seen = []

    def loss(outputs, labels, num_items_in_batch=None):
        total = cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
        return 3 * total / num_items_in_batch

    def metrics(found):
        seen.append(found)
        return {"rows": len(found.predictions)}

    plain, triple = (
        llava_runs.make_trainer(
            tmp_path,
            *llava_runs.make_model(),
            eval_dataset=llava_runs.make_rows(5, text_only=(3, 4)),
            per_device_eval_batch_size=2,
            max_steps=1,
            compute_loss_func=function,
            compute_metrics=metrics,
        )
        for function in (None, loss)
    )
    plain.train(), triple.train()
    assert llava_runs.losses(triple)[0] == pytest.approx(3 * llava_runs.losses(plain)[0], rel=1e-5)
    assert plain.evaluate()["eval_rows"] == 5
    assert seen[0].predictions.shape[:2] == seen[0].label_ids.shape


def test_stock_arguments_of_a_card(tmp_path):
    trainer = make_trainer(tmp_path, teacher=False, losses={"clip": 1.0}, dataset=Pairs(8))
    trainer.save_model()
    trainer.create_model_card(
        model_name="Mine", finetuned_from="me/start", dataset_tags="me/pairs", tasks="x", tags=["y"], license="mit"
    )
    card = (tmp_path / "README.md").read_text()
    assert "# Mine" in card and "license: mit" in card and "me/start" in card and "- me/pairs" in card
