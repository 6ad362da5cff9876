"""LlavaTrainer: what learns and what does not, at which rate, the same after a resume and from stored features."""

import copy
import json
import threading

import pytest
import torch
from checkpointed_runs import as_of_version_2
from llava_runs import COLORS, losses, make_model, make_rows, make_trainer, uneven_scale
from safetensors.torch import load_file
from torch import nn
from transformers import LlavaForConditionalGeneration, TrainerCallback

from hf_clip_kd.data import decode_image
from hf_clip_kd.vlm import (
    FeatureCache,
    FeatureScale,
    LlavaTrainingArguments,
    load_llava,
    measure_features,
    merge_adapter,
    reading_features,
    tower_checksum,
)


def parts(model):
    core = model.model
    return {
        "tower": core.vision_tower,
        "projector": core.multi_modal_projector,
        "language_model": core.language_model,
    }


class Gradients(TrainerCallback):
    """Norms of the last step's gradients, by parameter."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.norms = {name: p.grad.norm() for name, p in model.named_parameters() if p.grad is not None}


# stage, tune_vision_tower -> what moves
STAGES = {
    ("pretrain", False): {"projector"},
    ("pretrain", True): {"projector", "tower"},
    ("finetune", False): {"projector", "language_model"},
    ("finetune", True): {"projector", "language_model", "tower"},
}


@pytest.mark.parametrize(("stage", "tune"), STAGES)
@pytest.mark.parametrize("tower", ["clip", "resnet"])
def test_each_stage_moves_its_parts_and_no_other(tower, stage, tune, tmp_path):
    model, processor = make_model(tower)
    before = {name: tower_checksum(part) for name, part in parts(model).items()}
    gradients = Gradients()
    trainer = make_trainer(tmp_path, model, processor, stage=stage, tune_vision_tower=tune)
    trainer.add_callback(gradients)
    trainer.train()
    moved = {name for name, part in parts(model).items() if tower_checksum(part) != before[name]}
    # BatchNorm's running statistics belong to the checksum.
    assert moved == STAGES[stage, tune]
    assert model.model.vision_tower.training == tune
    learned = {name for name, norm in gradients.norms.items() if norm > 0}
    reached = [name for name in learned if "vision_tower" in name]
    # Nothing reads the block behind layer -2, so its parameters get none.
    assert bool(reached) == tune and len(reached) < len(list(model.model.vision_tower.parameters()))
    saved = load_file(_saved(trainer, tmp_path) / "model.safetensors")
    assert any("vision_tower" in name for name in saved)


def _saved(trainer, folder):
    trainer.save_model(str(folder / "saved"))
    return folder / "saved"


def test_each_part_has_its_rate(tmp_path):
    model, processor = make_model()
    rates = {"learning_rate": 3e-3, "projector_learning_rate": 2e-3, "vision_learning_rate": 1e-3}
    trainer = make_trainer(tmp_path, model, processor, tune_vision_tower=True, weight_decay=0.1, **rates)
    groups = trainer.create_optimizer().param_groups
    decaying = trainer.get_decay_parameter_names(model)
    assert any("proj.weight" in name for name in decaying) and not any(name.endswith("bias") for name in decaying)
    of = {id(parameter): group for group in groups for parameter in group["params"]}
    assert len(of) == sum(len(group["params"]) for group in groups)
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    frozen = {name for name, _ in model.named_parameters()} - set(learning)
    assert frozen and all("encoder.layers.1." in name or "post_layernorm" in name for name in frozen), (
        "behind layer -2"
    )
    for name, parameter in learning.items():
        part = "vision" if "vision_tower" in name else "projector" if "projector" in name else "learning"
        group = of[id(parameter)]
        assert group["lr"] == rates["learning_rate" if part == "learning" else f"{part}_learning_rate"], name
        assert group["weight_decay"] == (0.1 if name in decaying else 0.0), name


@pytest.mark.parametrize(
    "settings",
    [
        {"stage": "pretrain"},
        {"stage": "finetune", "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
        {"stage": "finetune", "tune_vision_tower": True},
        {"stage": "finetune", "lora": {"r": 4, "lora_dropout": 0.1}},
    ],
    ids=str,
)
@pytest.mark.parametrize("scaled", [False, True])
def test_resume_is_exact(settings, scaled, tmp_path):
    """Six steps at once and three, a stop, and three: over the end of an epoch, bit for bit."""

    def run(folder, **more):
        model, processor = make_model()
        scale = FeatureScale(model, uneven_scale(model)) if scaled else None
        trainer = make_trainer(
            folder, model, processor, scale, max_steps=6, save_strategy="steps", save_steps=3, **settings
        )
        trainer.train(**more)
        return trainer

    whole = run(tmp_path / "whole")
    resumed = run(tmp_path / "resumed", resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert losses(resumed)[-3:] == losses(whole)[-3:]
    expected = whole.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_a_run_resumes_with_its_own_geometry_only(tmp_path):
    """Nine and four averaged tokens have weights of the same shapes."""

    def run(count, **settings):
        model, processor = make_model(image_tokens=count)
        return make_trainer(tmp_path, model, processor, max_steps=2, save_strategy="steps", save_steps=1, **settings)

    run(9).train()
    checkpoint = tmp_path / "checkpoint-1"
    with pytest.raises(ValueError, match="geometry.image_tokens was 9, is 4"):
        run(4).train(resume_from_checkpoint=str(checkpoint))
    with pytest.raises(ValueError, match="geometry.max_length was 2048, is 99"):
        run(9, max_length=99).train(resume_from_checkpoint=str(checkpoint))
    # Checkpoints of earlier versions do not tell it.
    as_of_version_2(checkpoint, "geometry")
    run(4).train(resume_from_checkpoint=str(checkpoint))


@pytest.mark.parametrize("lora", [None, {"r": 4}], ids=["full", "lora"])
def test_saved_model_computes_what_was_trained_with_a_feature_scale(lora, tmp_path):
    model, processor = make_model()
    scale = FeatureScale(model, uneven_scale(model))
    trainer = make_trainer(tmp_path, model, processor, scale, lora=lora)
    trainer.train()
    batch = trainer.data_collator([make_rows()[0]])
    trainer.model.eval()
    with torch.no_grad():
        expected = trainer.model(**batch).logits
    folder = _saved(trainer, tmp_path)
    if lora:
        plain, _ = make_model()
        loaded = merge_adapter(plain, folder)
    else:
        loaded, _ = load_llava(folder)
    assert type(loaded) is LlavaForConditionalGeneration
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(**batch).logits, expected, rtol=1e-4, atol=1e-5)
        untrained, _ = make_model()
        assert (untrained(**batch).logits - expected).abs().max() > 1e-2


def test_lora_leaves_the_language_model_alone(tmp_path):
    model, processor = make_model()
    base = copy.deepcopy(model.model.language_model.state_dict())
    trainer = make_trainer(tmp_path, model, processor, lora={"r": 4})
    names = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert names and all("lora_" in name or "multi_modal_projector.modules_to_save" in name for name in names)
    trainer.train()
    after = {
        name.replace(".base_layer", ""): value
        for name, value in trainer.llava.model.language_model.state_dict().items()
    }
    for name, value in base.items():
        assert torch.equal(after[name], value), name
    linear = [name for name, part in model.model.language_model.named_modules() if isinstance(part, nn.Linear)]
    assert linear


# ---- Label smoothing ----


@pytest.mark.parametrize("lora", [None, {"r": 4}], ids=["full", "lora"])
def test_smoothed_labels_are_those_of_the_next_token(lora, tmp_path):
    """The loss of a step of two micro-batches is torch's own, over all of its supervised tokens."""
    trainer = make_trainer(
        tmp_path,
        *make_model(),
        label_smoothing_factor=0.1,
        lora=lora,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        group_by_modality_length=False,
        train_sampling_strategy="sequential",
        max_steps=1,
        eval_dataset=make_rows(4),
    )
    logits, labels = [], []
    for row in make_rows(4):
        batch = trainer.data_collator([row])
        with torch.no_grad():
            logits.append(trainer.model(**{k: v for k, v in batch.items() if k != "labels"}).logits[0, :-1])
        labels.append(batch["labels"][0, 1:])
    expected = nn.functional.cross_entropy(torch.cat(logits), torch.cat(labels), label_smoothing=0.1).item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-4)
    trainer.train()
    assert losses(trainer)[0] == pytest.approx(expected, rel=1e-4)


# ---- Stored features ----


def all_images(dataset):
    return [image for images in dataset["images"] for image in images]


@pytest.mark.parametrize("layer", [-2, [-2, -1]], ids=str)
@pytest.mark.parametrize("tower", ["clip", "resnet"])
def test_training_from_stored_features_is_training_from_pixels(tower, layer, tmp_path):
    direct, processor = make_model(tower, layer)
    online = make_trainer(tmp_path / "a", direct, processor)
    online.train()

    model, processor = make_model(tower, layer)
    cache = FeatureCache(tmp_path / "features", model, processor)
    # One image at a time as in no training batch: the tower's output must not depend on it beyond rounding.
    cache.add(all_images(make_rows()), decode_image, batch_size=3)
    assert len(cache) == len(COLORS), "the same picture is stored once"
    stored = make_trainer(tmp_path / "b", model, processor, features=cache)
    forbid_calls(model.model.vision_tower)
    with reading_features(model):
        stored.train()
    assert losses(stored) == pytest.approx(losses(online), rel=1e-4)
    checkpoint, _ = load_llava(_saved(stored, tmp_path))
    assert tower_checksum(checkpoint.model.vision_tower) == tower_checksum(direct.model.vision_tower)


def forbid_calls(tower):
    for child in tower.children():
        child.register_forward_pre_hook(lambda *_: pytest.fail("the tower was called"))


def test_cache_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_clip_kd.vlm.feature_cache.SHARD", 1)
    model, processor = make_model()
    images = all_images(make_rows())

    def dies_at_blue(image):
        if decode_image(image).getpixel((0, 0)) == (0, 0, 255):
            raise KeyboardInterrupt
        return decode_image(image)

    with pytest.raises(KeyboardInterrupt):
        FeatureCache(tmp_path, model, processor).add(images, dies_at_blue)
    (tmp_path / "features-torn.tmp").write_bytes(b"half a file")
    cache = FeatureCache(tmp_path, model, processor)
    kept = len(cache)
    assert 0 < kept < len(COLORS)
    seen = []
    cache.add(images, lambda image: seen.append(image) or decode_image(image))
    assert len(seen) == len(COLORS) - kept and len(cache) == len(COLORS)
    output = model.model.vision_tower(
        processor.image_processor([decode_image(images[0])], return_tensors="pt")["pixel_values"],
        output_hidden_states=True,
    )
    torch.testing.assert_close(cache(images[0]), output.hidden_states[-2].detach(), rtol=1e-5, atol=1e-6)


def test_runs_that_share_a_cache_take_turns(tmp_path):
    """The second waits for the first, and then finds its features."""
    (model, processor), images = make_model(), all_images(make_rows())
    first, second = (FeatureCache(tmp_path, model, processor) for _ in range(2))
    entered, leave = threading.Event(), threading.Event()

    def slow(image):
        entered.set()
        assert leave.wait(20)
        return decode_image(image)

    threads = [
        threading.Thread(target=first.add, args=(images, slow)),
        threading.Thread(target=second.add, args=(images, lambda image: pytest.fail("it was stored"))),
    ]
    threads[0].start()
    assert entered.wait(20)
    (torn := tmp_path / "features-1.safetensors.1.tmp").write_bytes(b"the first is writing this")
    threads[1].start()
    threads[1].join(0.2)
    assert threads[1].is_alive() and torn.is_file()
    leave.set()
    for thread in threads:
        thread.join()
    assert len(first) == len(second) == len(COLORS)
    assert torch.equal(first(images[0]), second(images[0]))


CHANGES = {
    "tower": lambda model, processor: nn.init.zeros_(next(model.model.vision_tower.parameters())),
    "layers": lambda model, processor: setattr(model.config, "vision_feature_layer", -1),
    "images": lambda model, processor: setattr(processor.image_processor, "image_mean", [0.0, 0.0, 0.0]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_cache_of_another_tower_is_refused(what, tmp_path):
    model, processor = make_model()
    FeatureCache(tmp_path, model, processor).add(all_images(make_rows(2, ())), decode_image)
    CHANGES[what](model, processor)
    with pytest.raises(ValueError, match=f"belongs to another vision tower.*{what}"):
        FeatureCache(tmp_path, model, processor)


def test_image_without_features_is_named(tmp_path):
    model, processor = make_model()
    with pytest.raises(ValueError, match="cat.jpg is not among the 0"):
        FeatureCache(tmp_path, model, processor)({"bytes": None, "path": "cat.jpg"})


# ---- Bad settings ----


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stage": "both"}, "no stage"),
        ({"stage": "pretrain", "lora": {"r": 4}}, "second stage"),
        ({"vision_learning_rate": 1e-3}, "frozen vision tower"),
        ({"remove_unused_columns": True}, "must stay False"),
    ],
)
def test_settings_that_contradict_each_other(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        LlavaTrainingArguments(str(tmp_path), use_cpu=True, **settings)


def test_unknown_lora_option(tmp_path):
    model, processor = make_model()
    with pytest.raises(ValueError, match="LoraConfig.*Pass for example"):
        make_trainer(tmp_path, model, processor, lora={"rank": 4})


def test_non_finite_loss_stops(tmp_path):
    model, processor = make_model()
    with torch.no_grad():
        model.model.multi_modal_projector.linear_1.weight[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="at step 0"):
        make_trainer(tmp_path, model, processor, dataset=make_rows(8, ())).train()


def test_training_args_are_json_without_pickle(tmp_path):
    model, processor = make_model()
    folder = _saved(make_trainer(tmp_path, model, processor), tmp_path)
    assert json.loads((folder / "training_args.json").read_text())["stage"] == "finetune"
    assert not list(folder.glob("*.bin"))


def test_feature_statistics_of_a_scaled_model_are_near_one():
    model, _ = make_model()
    pixels = torch.randn(4, 3, 32, 32)
    statistics = measure_features(model, pixels)
    FeatureScale(model, statistics.power_of_two_scale()).attach()
    seen = []
    model.model.multi_modal_projector.linear_1.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model.get_image_features(pixels)
    rms = seen[0].square().mean(dim=(0, 1)).sqrt()
    assert ((rms > 0.7) & (rms < 1.42)).all()
