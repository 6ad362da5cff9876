"""Bits of accepted answers against plain forward passes, and against a language model with known probabilities."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import PartialState
from processes import join, launch, leave
from tiny_llava import make_llava
from transformers import LlavaForConditionalGeneration
from vlm_parts import image_processor, language_model, timm_tower

from hf_clip_kd.data import load_shapes
from hf_clip_kd.evaluation.vqa import READERS, Likelihood, Sample, answer_bits, generate_answers
from hf_clip_kd.vlm import build_llava

COLOR = "what color is the circle ?"


@pytest.fixture(scope="module", params=["clip", "timm"])
def llava(request):
    return make_llava(request.param, restless=2.0)


@pytest.fixture(scope="module")
def samples():
    """Pictures, prompts and answers of several lengths, and a question without a picture in the midst."""
    found = READERS["shapes"](load_shapes("test", size=9, vqa=True))
    longer = Sample("long", found[3].image, f"{found[0].prompt} {COLOR}", ("red circle red",))
    return [*found[:7], Sample("blind", None, COLOR, ("blue",)), *found[7:], longer]


def by_hand(model, processor, sample, answer):
    """One question, no padding, no batch: softmax in numpy at the answer's words and its end."""
    text = "user : " + "<image>\n" * (sample.image is not None) + f"{sample.prompt} <end> assistant : {answer} <end>"
    inputs = processor(text=text, images=sample.image, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0].double().numpy()
    bits = 0
    for place in range(-len(answer.split()) - 1, 0):
        scores = logits[place - 1]
        bits -= (scores[inputs["input_ids"][0, place]] - np.logaddexp.reduce(scores)) / math.log(2)
    return bits


def test_bits_are_those_of_a_plain_forward_pass(llava, samples):
    expected = [by_hand(*llava, sample, sample.answers[0]) for sample in samples]
    assert len({round(bits, 5) for bits in expected}) == len(samples), "the bits must differ, or padding could not"
    for batch_size in (1, 3, 8):
        for side in ("left", "right"):
            found = answer_bits(*llava, samples, batch_size=batch_size, padding_side=side)
            assert found == pytest.approx(expected, abs=1e-5)


def test_bits_depend_on_the_picture(llava, samples):
    # Six questions share a picture, so another one is behind the seventh.
    other = [replace(sample, image=samples[6].image) for sample in samples[:3]]
    found, others = answer_bits(*llava, samples[:3]), answer_bits(*llava, other)
    assert all(abs(a - b) > 1e-4 for a, b in zip(found, others, strict=True))


def test_the_prompt_is_the_one_of_generation(llava, samples):
    model, processor = llava
    seen, shown = [], []
    hooks = [
        model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True),
        model.model.vision_tower.register_forward_pre_hook(
            lambda _, args, kwargs: shown.append(args[0] if args else kwargs["pixel_values"]), with_kwargs=True
        ),
    ]
    generate_answers(model, processor, samples[:1], max_new_tokens=1)
    answer_bits(model, processor, samples[:1])
    for hook in hooks:
        hook.remove()
    asked, measured = (ids[0].tolist() for ids in seen)
    words = processor.tokenizer.convert_ids_to_tokens(measured[len(asked) :])
    assert measured[: len(asked)] == asked and words == [*samples[0].answers[0].split(), "<end>"]
    assert len(shown) == 2 and torch.equal(*shown)


def test_only_logits_of_answers_are_made(llava, samples):
    model, processor = llava
    sizes = []
    hook = model.lm_head.register_forward_hook(lambda *args: sizes.append(args[-1].shape[1]))
    answer_bits(model, processor, samples, batch_size=100)
    hook.remove()
    assert sizes == [4], "three words and their end"


# log2 of the probability of a word after another. After each other word, all are equally likely.
TABLE = {
    ":": {"red": -2, "Red": -1, "blue": -4, "green": -3},
    "red": {"<end>": -3},
    "Red": {"<end>": -5},
    "blue": {"red": -1, "<end>": -2},
}


@pytest.fixture(scope="module")
def bigram():
    """A LLaVA that looks at the last word only: its layers add nothing, and its head holds the table."""
    model, processor = make_llava()
    # `Red` gets the place of a word that nobody asks about.
    names = processor.tokenizer.convert_ids_to_tokens(range(len(processor.tokenizer)))
    processor = copy.deepcopy(processor)
    processor.tokenizer.add_tokens("Red")
    names.append("Red")
    config = copy.deepcopy(model.config)
    config.text_config.vocab_size = config.text_config.hidden_size = len(names) + len(names) % 2
    config.text_config.head_dim, config.text_config.rms_norm_eps = 8, 1e-12
    model = LlavaForConditionalGeneration(config).eval()
    width = config.text_config.hidden_size
    logits = torch.zeros(width, width)
    for word, row in TABLE.items():
        here = logits[names.index(word)]
        rest = 1 - sum(2.0**value for value in row.values())
        here[:] = math.log(rest / (width - len(row)))
        for following, value in row.items():
            here[names.index(following)] = value * math.log(2)
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        # The norm makes a row of the unit matrix sqrt(width) long.
        model.model.language_model.embed_tokens.weight.copy_(torch.eye(width))
        model.lm_head.weight.copy_(logits.T / math.sqrt(width))
    return model, processor


@pytest.mark.parametrize(
    ("answers", "likelihood", "any_case", "bits"),
    [
        (("red",), {}, False, 5),
        (("blue red",), {}, False, 4 + 1 + 3),
        (("blue red",), {"length": "per_token"}, False, 8 / 3),
        (("blue", "red", "blue"), {}, False, 5),
        (("red", "blue", "blue"), {"answers": "first"}, False, 5),
        (("red", "blue", " blue "), {"answers": "most_frequent"}, False, 6),
        (("blue", "red"), {"answers": "most_frequent"}, False, 6),
        (("Red",), {}, False, 6),
        (("Red",), {}, True, 5),
        (("red", "blue red"), {"length": "per_token"}, False, 2.5),
        (("blue", "blue red"), {"length": "per_token"}, False, 8 / 3),
        ((), {}, True, None),
        (("", " "), {}, False, None),
    ],
)
def test_known_probabilities(bigram, answers, likelihood, any_case, bits):
    sample = Sample(1, None, COLOR, answers)
    likelihood = Likelihood(**likelihood)
    (found,) = answer_bits(*bigram, [sample], likelihood=likelihood, any_case=any_case)
    assert found == (None if bits is None else pytest.approx(bits, abs=1e-4))


def test_samples_without_an_answer_keep_their_place(bigram):
    samples = [Sample(1, None, COLOR), Sample(2, None, COLOR, ("red",)), Sample(3, None, COLOR)]
    assert answer_bits(*bigram, samples) == [None, pytest.approx(5, abs=1e-4), None]
    assert answer_bits(*bigram, []) == []


def test_an_answer_without_a_written_end_gets_eos(bigram):
    model, processor = bigram
    processor = copy.deepcopy(processor)
    processor.chat_template = processor.chat_template.replace("<end>", "")
    assert answer_bits(model, processor, [Sample(1, None, COLOR, ("red",))]) == [pytest.approx(5, abs=1e-4)]


# The template of the stock llava-hf/llava-1.5-7b-hf, for texts: a space ends each turn, and no EOS.
STOCK = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}{% for part in message['content'] %}"
    "{{ part['text'] + ' ' }}{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def test_the_space_behind_a_turn_is_no_part_of_the_answer():
    language, tokenizer = language_model("llama")
    model, processor = build_llava(timm_tower(), language, tokenizer=tokenizer, image_processor=image_processor())
    processor.chat_template = STOCK
    seen = []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"][0].tolist()), with_kwargs=True
    )
    answer_bits(model, processor, [Sample(1, None, "What shape?", ("red",))])
    hook.remove()
    written = "".join(processor.tokenizer.convert_ids_to_tokens(seen[0])).replace("▁", " ")
    assert written.endswith("ASSISTANT: red</s>")


def test_a_template_that_writes_more_into_an_open_turn(bigram):
    model, processor = bigram
    processor = copy.deepcopy(processor)
    processor.chat_template = processor.chat_template.replace("assistant :{%", "assistant : blue{%")
    # The word `red` behind `blue` has 1 bit, and its end 3.
    assert answer_bits(model, processor, [Sample(1, None, COLOR, ("red",))]) == [pytest.approx(4, abs=1e-4)]


def test_modes_come_back(llava, samples):
    model, processor = llava
    model.train()
    seen = []
    hook = model.register_forward_pre_hook(
        lambda module, args: seen.append((module.training, torch.is_grad_enabled()))
    )
    answer_bits(model, processor, samples[:2])
    hook.remove()
    assert model.training and set(seen) == {(False, False)}
    model.eval()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answers": "worst"}, "answers: 'worst'}` does not exist.*best, most_frequent, first.*answers: best"),
        ({"length": None}, "length: None}` does not exist.*sum, per_token.*length: sum"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Likelihood(**options)


def test_bad_samples(llava):
    with pytest.raises(ValueError, match="question 'q8' holds the image token '<image>'.*Delete it"):
        answer_bits(*llava, [Sample("q8", None, "<image>\nwhat ?", ("red",))])


def two_processes(rank, processes, port, folder):
    join(rank, processes, port)
    PartialState(cpu=True)
    model, processor = make_llava("timm", restless=2.0)
    samples = [Sample(i, None, COLOR + " ?" * i, ("red",) if i != 2 else ()) for i in range(5)]
    shown = []
    model.register_forward_pre_hook(lambda _, args, kwargs: shown.append(len(kwargs["input_ids"])), with_kwargs=True)
    bits = answer_bits(model, processor, samples, batch_size=2)
    (Path(folder) / f"{rank}.json").write_text(json.dumps({"bits": bits, "shown": sum(shown)}))
    leave()


@pytest.mark.slow
def test_two_processes_share_the_questions(tmp_path):
    launch(two_processes, 2, tmp_path)
    both = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    samples = [Sample(i, None, COLOR + " ?" * i, ("red",) if i != 2 else ()) for i in range(5)]
    expected = answer_bits(*make_llava("timm", restless=2.0), samples)
    assert expected[2] is None and expected.count(None) == 1
    for found in both:
        assert found["bits"] == [None if bits is None else pytest.approx(bits, abs=1e-5) for bits in expected]
    assert sorted(found["shown"] for found in both) == [2, 2]
