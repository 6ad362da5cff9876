"""The language side of a LLaVA as a reader, against the stock LLaVA on pixels."""

import pytest
import torch
from tiny_llava import SIDE, make_llava

from hf_clip_kd.teachers.reader import load_reader
from hf_clip_kd.vlm import save_llava

TEMPLATE = (
    "{% for turn in messages %}{% if turn.role == 'assistant' %}{% generation %}{{ turn.content }} <end>"
    "{% endgeneration %}{% else %}{{ turn.content }} : {% endif %}{% endfor %}"
)
TEXTS = [("what color is the circle ?", "red"), (None, "a red circle"), ("how many objects are there ?", "two")]


@pytest.fixture(scope="module", params=["clip", "timm"])
def saved(request, tmp_path_factory):
    model, processor = make_llava(request.param, restless=1.5)
    processor.chat_template = processor.tokenizer.chat_template = TEMPLATE
    folder = tmp_path_factory.mktemp("llava") / request.param
    save_llava(model, processor, folder)
    return model, folder


def pixels():
    return torch.randn(len(TEXTS), 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def tower_tokens(model):
    layer = model.config.vision_feature_layer
    states = model.model.vision_tower(pixels(), output_hidden_states=True).hidden_states[layer]
    return states[:, 1:] if model.config.vision_feature_select_strategy == "default" else states


def test_answers_are_those_of_the_stock_llava(saved):
    model, folder = saved
    reader = load_reader(folder)
    texts = reader.texts(TEXTS)
    answers = reader.answers(tower_tokens(model), texts)
    ids = {name: texts[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        stock = model(pixel_values=pixels(), **ids).logits
    positions = texts["labels"] != -100
    torch.testing.assert_close(answers.logits, stock[positions], rtol=1e-4, atol=1e-4)
    assert answers.labels.tolist() == texts["labels"][positions].tolist()
    assert answers.owners.tolist() == positions.nonzero()[:, 0].tolist() and answers.images == len(TEXTS)
    assert (stock[0] - stock[2]).abs().max() > 0.01, "texts and images matter"


def test_gradient_reaches_the_tokens_and_nothing_else(saved):
    model, folder = saved
    reader = load_reader(folder)
    tokens = tower_tokens(model)
    answers = reader.answers(tokens, reader.texts(TEXTS))
    others = (tokens + 0.1).requires_grad_()
    answers.read(others).log_softmax(-1).square().sum().backward()
    assert (others.grad.abs().sum(dim=(1, 2)) > 0).all()
    assert all(parameter.grad is None for parameter in reader.parameters())
    assert not any(module.training for module in reader.train().modules())
    assert not hasattr(reader, "vision_tower") and not any("tower" in name for name in reader.state_dict())


def test_first_layers_are_those_of_a_shallower_model(saved):
    model, folder = saved
    reader = load_reader(folder, layers=1)
    texts = reader.texts(TEXTS)
    answers = reader.answers(tower_tokens(model), texts)
    hidden, first_layer = [], model.model.language_model.layers[0]
    hook = first_layer.register_forward_hook(lambda module, args, output: hidden.append(output))
    with torch.no_grad():
        model(pixel_values=pixels(), **{name: texts[name] for name in ("input_ids", "attention_mask")})
        hook.remove()
        first = hidden[0][0] if isinstance(hidden[0], tuple) else hidden[0]
        expected = model.lm_head(model.model.language_model.norm(first))[texts["labels"] != -100]
    torch.testing.assert_close(answers.logits, expected, rtol=1e-4, atol=1e-4)


def test_half_precision_follows_the_autocast_of_the_teacher(saved):
    model, folder = saved
    reader, tokens = load_reader(folder), tower_tokens(model)
    texts = reader.texts(TEXTS)
    with torch.autocast("cpu", torch.bfloat16):
        half = reader.answers(tokens, texts)
    with torch.autocast("cpu", enabled=False):
        again = half.read(tokens)
    whole = reader.answers(tokens, texts)
    assert half.logits.dtype == torch.float32 and torch.equal(again, half.logits)
    assert not torch.equal(half.logits, whole.logits)
    assert load_reader(folder, dtype="bfloat16").answers(tokens, texts).logits.dtype == torch.float32


def test_reads_the_layer_that_it_was_trained_on(saved):
    model, folder = saved
    reader, depth = load_reader(folder), model.config.vision_config.num_hidden_layers
    same = reader.layer + depth + 1  # the same, counted from the other end
    assert reader.layer_of([reader.layer]) == reader.layer and reader.layer_of([0, same]) == same
    assert reader.layer_of([reader.layer - 1]) is None and reader.layer_of(()) is None


def test_a_template_that_marks_no_answer_is_refused(tmp_path):
    model, processor = make_llava()  # Its template has no marks.
    save_llava(model, processor, tmp_path)
    with pytest.raises(ValueError, match="does not mark its answers.*get_chat_template"):
        load_reader(tmp_path)


def test_refused(saved, tmp_path):
    model, folder = saved
    with pytest.raises(ValueError, match="layers=3.*has 2 layers.*Allowed are 1 to 2"):
        load_reader(folder, layers=3)
    with pytest.raises(ValueError, match="cannot be loaded.*train_captioner.py"):
        load_reader(tmp_path / "nothing")
    reader = load_reader(folder)
    with pytest.raises(ValueError, match=r"got tokens of the shape \(9, 5\) for an image"):
        reader.answers(torch.zeros(3, 9, 5), reader.texts(TEXTS))
