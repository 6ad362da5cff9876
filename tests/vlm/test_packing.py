"""Packed samples: as few rows as fit, and the loss and the gradients of samples in rows of their own."""

import random

import pytest
import torch
from llava_runs import losses, make_model, make_rows, make_teacher, make_trainer
from torch import nn
from transformers import LlavaConfig, LlavaForConditionalGeneration, MambaConfig
from vlm_parts import image_processor, language_model, timm_tower

from hf_clip_kd.vlm import LlavaDataCollator, build_llava
from hf_clip_kd.vlm.packing import check_packing, pack, packed_positions, repeated_positions


@pytest.mark.parametrize("limit", [128, 200, 2000])
def test_every_sample_has_a_place_in_as_few_rows_as_fit(limit):
    draw = random.Random(0)
    lengths = [draw.randint(1, 64) for _ in range(50)]
    rows = pack(lengths, limit)
    assert sorted(sum(rows, [])) == list(range(50))
    filled = [sum(lengths[i] for i in row) for row in rows]
    assert max(filled) <= limit and len(rows) <= 1.25 * sum(lengths) / limit + 1
    assert len(rows) == 1 or sum(filled) / len(rows) > 0.95 * max(filled), "little padding"


def test_a_sample_longer_than_a_row_has_one_of_its_own():
    assert sorted(pack([90, 3, 4], 10)) == [[0], [1, 2]]
    with pytest.raises(ValueError, match=r"`max_length=0` is no number of tokens.*at least 1"):
        LlavaDataCollator(make_model()[1], max_length=0)


def test_positions_begin_anew_with_each_sample():
    positions = packed_positions([[3, 2], [2]])
    assert positions.tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 4]], "padding continues the last sample"
    repeats = torch.tensor([[3, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    again = repeated_positions(positions, repeats)
    assert [row.tolist() for row in again] == [[0, 1, 2, 3, 0, 1], [0, 1, 2, 3, 4]]


@pytest.mark.parametrize("family", ["qwen2", "llama", "gemma", "gpt2"])
def test_loss_and_gradients_are_those_of_rows_of_their_own(family):
    causal, tokenizer = language_model(family)
    template = {"chat_template": "vicuna"} if family == "gpt2" else {}
    model, processor = build_llava(
        timm_tower(), causal, tokenizer=tokenizer, image_processor=image_processor(), **template
    )
    check_packing(model)
    assert model.model.language_model.config._attn_implementation == "sdpa"
    rows, gradients, values = list(make_rows(6, text_only=(2, 3))), [], []
    # The template `plain` gives an answer without an image a label at its first token, which nothing predicts.
    for packing in (False, True):
        collator = LlavaDataCollator(processor, packing=packing, max_length=60, template="plain")
        batch = collator(rows)
        assert ("position_ids" in batch, "attention_mask" in batch) == (packing, not packing)
        assert len(batch["labels"]) in ((2, 3) if packing else (6,)), "several samples in several rows"
        assert collator.counts.padding_fraction > 0
        model.zero_grad()
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        values.append(loss.detach())
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    torch.testing.assert_close(*values, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("taught", [False, True])
def test_a_packed_run_is_the_run_with_less_padding(taught, tmp_path):
    logs = []
    for packing in (False, True):
        model, processor = make_model()
        # The teacher has another number of tokens for each image.
        teacher = make_teacher("resnet") if taught else None
        settings = {"group_by_modality_length": False, "eval_strategy": "steps", "eval_steps": 4}
        settings |= {"relation_weight": 1.0} if taught else {}
        trainer = make_trainer(
            tmp_path,
            model,
            processor,
            teacher=teacher,
            images=None if teacher is None else teacher.images(processor) or teacher.pixels,
            eval_dataset=make_rows(6),
            packing=packing,
            max_length=100,
            **settings,
        )
        rows = len(LlavaDataCollator(processor, packing=packing, max_length=100)(list(make_rows(4)))["labels"])
        assert 1 < rows < 4 if packing else rows == 4
        trainer.train()
        logs.append(trainer)
    apart, together = (trainer.state.log_history for trainer in logs)
    assert losses(logs[1]) == pytest.approx(losses(logs[0]), abs=1e-5)
    values = [[log["eval_loss"] for log in history if "eval_loss" in log] for history in (apart, together)]
    assert values[1] == pytest.approx(values[0], abs=1e-5) and len(values[0]) == 1
    assert 0 < together[0]["padding_fraction"] < apart[0]["padding_fraction"]
    if taught:
        assert together[0]["loss/kl"] == pytest.approx(apart[0]["loss/kl"], abs=1e-5)


def test_the_log_has_the_shares_of_the_steps_since_the_last_log_alone(tmp_path):
    model, processor = make_model()
    settings = {"group_by_modality_length": False, "train_sampling_strategy": "sequential", "max_steps": 3}
    rows = make_rows(12)
    trainer = make_trainer(
        tmp_path,
        model,
        processor,
        dataset=rows,
        eval_dataset=make_rows(5),
        eval_strategy="steps",
        eval_steps=1,
        **settings,
    )
    trainer.train()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    # The next batch is made before a step ends, so a log has the batch after its own.
    for log, first in zip(logs[1:], (8, 8), strict=True):
        batch = LlavaDataCollator(processor)(list(rows.select(range(first, first + 4))))
        tokens = batch["attention_mask"].sum()
        assert log["padding_fraction"] == pytest.approx(1 - (tokens / batch["labels"].numel()).item())
        assert log["supervised_fraction"] == pytest.approx(((batch["labels"] != -100).sum() / tokens).item())
    assert trainer.data_collator.counts.seen == 12, "an evaluation counts apart"
    assert trainer.eval_data_collator.counts.seen == 15


@pytest.mark.parametrize("attention", ["flash_attention_2", "kernels-community/flash-attn"])
def test_flash_attention_is_refused(attention):
    model, _ = make_model()
    model.model.language_model.config._attn_implementation_internal = attention
    with pytest.raises(ValueError, match=f"packing=True` with `attn_implementation='{attention}'.*must be 'sdpa'"):
        check_packing(model)


def test_a_language_model_that_separates_one_row_alone_is_refused(monkeypatch):
    model, _ = make_model()
    reader = model.model.language_model
    forward = type(reader).forward

    def leaking(self, input_ids, position_ids=None, **options):
        if position_ids is not None and len(input_ids) > 1:
            position_ids = torch.arange(input_ids.shape[1]).expand_as(input_ids)
        return forward(self, input_ids=input_ids, position_ids=position_ids, **options)

    monkeypatch.setattr(type(reader), "forward", leaking)
    with pytest.raises(ValueError, match="samples see each other"):
        check_packing(model)


def test_a_language_model_without_positions_is_refused():
    text = MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, state_size=4, tie_word_embeddings=False)
    config = LlavaConfig(vision_config=timm_tower().config, text_config=text, tie_word_embeddings=False)
    model = LlavaForConditionalGeneration(config)
    assert isinstance(model.model.language_model, nn.Module)
    with pytest.raises(ValueError, match=r"MambaModel, whose samples see each other.*--packing false"):
        check_packing(model)
