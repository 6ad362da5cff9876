"""Golden text and masks of every chat template. What an answer's loss is taken of stands between « and »."""

import re
from types import SimpleNamespace

import pytest
from chat_tokenizers import chat_tokenizer
from PIL import Image
from transformers import CLIPImageProcessor, LlavaProcessor

from hf_clip_kd.vlm.chat_templates import (
    check_prompt,
    default_chat_template,
    get_chat_template,
    list_chat_templates,
)

CHAT = [
    {"role": "user", "content": "<image>\nWhat colour is it?"},
    {"role": "assistant", "content": "red"},
    {"role": "user", "content": "What shape?"},
    {"role": "assistant", "content": "a square, yes"},
]
SYSTEM = [{"role": "system", "content": "Say no."}, *CHAT[:2]]

CHATML = (
    "<|im_start|>user\n<image>\nWhat colour is it?<|im_end|>\n<|im_start|>assistant\n«red<|im_end|>»\n"
    "<|im_start|>user\nWhat shape?<|im_end|>\n<|im_start|>assistant\n«a square, yes<|im_end|>»\n"
)
CHATML_SYSTEM = (
    "<|im_start|>system\nSay no.<|im_end|>\n"
    "<|im_start|>user\n<image>\nWhat colour is it?<|im_end|>\n<|im_start|>assistant\n«red<|im_end|>»\n"
)
SILENT = "assistant\n<think>\n\n</think>\n\n«"
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and "
    "polite answers to the user's questions. "
)

# template -> (tokenizer, the chat, the chat with a system message)
GOLDEN = {
    "qwen2": ("qwen", f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{CHATML}", CHATML_SYSTEM),
    "qwen2.5": (
        "qwen",
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        f"{CHATML}",
        CHATML_SYSTEM,
    ),
    "qwen3": ("qwen", CHATML.replace("assistant\n«", SILENT), CHATML_SYSTEM.replace("assistant\n«", SILENT)),
    "smollm2": (
        "smollm2",
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        + CHATML,
        CHATML_SYSTEM,
    ),
    "llama3": (
        "llama3",
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<image>\nWhat colour is it?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«red<|eot_id|>»"
        "<|start_header_id|>user<|end_header_id|>\n\nWhat shape?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«a square, yes<|eot_id|>»",
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nSay no.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n<image>\nWhat colour is it?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«red<|eot_id|>»",
    ),
    "phi3": (
        "phi3",
        "<|user|>\n<image>\nWhat colour is it?<|end|>\n<|assistant|>\n«red<|end|>»\n"
        "<|user|>\nWhat shape?<|end|>\n<|assistant|>\n«a square, yes<|end|>»\n<|endoftext|>",
        "<|system|>\nSay no.<|end|>\n"
        "<|user|>\n<image>\nWhat colour is it?<|end|>\n<|assistant|>\n«red<|end|>»\n<|endoftext|>",
    ),
    "gemma": (
        "gemma",
        "<bos><start_of_turn>user\n<image>\nWhat colour is it?<end_of_turn>\n"
        "<start_of_turn>model\n«red<end_of_turn>»\n"
        "<start_of_turn>user\nWhat shape?<end_of_turn>\n<start_of_turn>model\n«a square, yes<end_of_turn>»\n",
        "<bos><start_of_turn>user\nSay no.\n\n<image>\nWhat colour is it?<end_of_turn>\n"
        "<start_of_turn>model\n«red<end_of_turn>»\n",
    ),
    "vicuna": (
        "vicuna",
        f"<s>{VICUNA}USER: <image>\nWhat colour is it? ASSISTANT:« red</s>»"
        "USER: What shape? ASSISTANT:« a square, yes</s>»",
        "<s>Say no. USER: <image>\nWhat colour is it? ASSISTANT:« red</s>»",
    ),
    "plain": ("vicuna", "<s><image>«red\n»«a square, yes\n»", "<s><image>«red\n»"),
    "short": (
        "qwen",
        "<image>\nWhat colour is it?« red<|im_end|>»What shape?« a square, yes<|im_end|>»",
        "Say no.<image>\nWhat colour is it?« red<|im_end|>»",
    ),
}
# The Vicuna wording with tokenizers of other families: TinyLLaVA's text for Qwen2, and one whose BOS is its EOS.
OTHERS = [
    ("vicuna", "qwen", GOLDEN["vicuna"][1].replace("<s>", "").replace("</s>", "<|im_end|>")),
    ("vicuna", "gpt2", GOLDEN["vicuna"][1].replace("<s>", "").replace("</s>", "<|endoftext|>")),
    ("plain", "qwen", "<image>«red\n»«a square, yes\n»"),
]
CASES = [(name, family, CHAT, text) for name, (family, text, _) in GOLDEN.items()]
CASES += [(name, family, SYSTEM, text) for name, (family, _, text) in GOLDEN.items()]
CASES += [(name, family, CHAT, text) for name, family, text in OTHERS]


def split(golden):
    """Its text, and the spans between « and »."""
    spans = [part.split("»")[0] for part in golden.split("«")[1:]]
    return golden.replace("«", "").replace("»", ""), spans


def masked_text(tokenizer, encoded):
    """The text of each run of supervised tokens."""
    runs, before = [], 0
    for token, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True):
        if mask:
            runs = runs if before else [*runs, []]
            runs[-1].append(token)
        before = mask
    return [tokenizer.decode(run) for run in runs]


def test_every_template_has_a_golden_text():
    assert set(GOLDEN) == set(list_chat_templates())


@pytest.mark.parametrize("name, family, chat, golden", CASES)
def test_golden(name, family, chat, golden):
    tokenizer, jinja = chat_tokenizer(family), get_chat_template(name).jinja
    text, spans = split(golden)
    assert tokenizer.apply_chat_template(chat, chat_template=jinja, tokenize=False) == text
    encoded = tokenizer.apply_chat_template(
        chat, chat_template=jinja, return_dict=True, return_assistant_tokens_mask=True
    )
    if name == "plain":  # nothing lies between two captions
        spans = ["".join(spans)]
    found = masked_text(tokenizer, encoded)
    if family == "vicuna":  # a leading space is part of the first token, and its decoder drops it
        first = tokenizer.convert_ids_to_tokens(encoded["input_ids"][encoded["assistant_masks"].index(1)])
        assert first.startswith("▁") == (name == "vicuna")
        found, spans = [run.lstrip(" ") for run in found], [span.lstrip(" ") for span in spans]
    assert found == spans
    if tokenizer.bos_token_id is not None and family in ("gemma", "llama3", "vicuna"):
        assert encoded["input_ids"].count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("name", sorted(set(GOLDEN) - {"plain"}))
def test_an_answer_is_learned_behind_the_prompt_that_asks_for_it(name):
    """The processor's tokens of a picture and a question begin the tokens of training, BOS included."""
    tokenizer, jinja = chat_tokenizer(GOLDEN[name][0]), get_chat_template(name).jinja
    squash = CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    processor = LlavaProcessor(
        squash, tokenizer, patch_size=8, vision_feature_select_strategy="full", chat_template=jinja
    )
    expanded = [{**message, "content": message["content"].replace("<image>", "<image>" * 16)} for message in CHAT]
    trained = tokenizer.apply_chat_template(expanded, chat_template=jinja, return_dict=True)["input_ids"]
    picture = {"type": "image", "image": Image.new("RGB", (40, 30))}
    lists = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in CHAT]
    lists[0]["content"] = [picture, {"type": "text", "text": "What colour is it?"}]
    for k in (1, 3):
        prompt = processor.apply_chat_template(
            lists[:k], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )["input_ids"][0].tolist()
        assert trained[: len(prompt)] == prompt
        assert prompt.count(processor.image_token_id) == 16


@pytest.mark.parametrize("family", ["gemma", "llama3", "vicuna"])
@pytest.mark.parametrize("name", ["phi3", "qwen2", "smollm2"])
def test_a_template_without_the_bos_that_a_tokenizer_adds(name, family):
    """Training would see no BOS, and the processor puts it in front of each question."""
    tokenizer = chat_tokenizer(family)
    bos = re.escape(tokenizer.bos_token)
    with pytest.raises(ValueError, match=f"chat_template='{name}'` writes no '{bos}'.*both must.*'vicuna'"):
        check_prompt(get_chat_template(name), tokenizer)
    tokenizer.add_bos_token = False
    check_prompt(get_chat_template(name), tokenizer)


@pytest.mark.parametrize("name, family", sorted({(name, family) for name, family, *_ in CASES}))
def test_a_template_that_asks_as_it_trains(name, family):
    check_prompt(get_chat_template(name), chat_tokenizer(family))


def test_images_among_words():
    chat = [
        {
            "role": "user",
            "content": [
                {"type": "image"},
                {"type": "image"},
                {"type": "text", "text": "Like "},
                {"type": "image"},
                {"type": "text", "text": " here?"},
            ],
        }
    ]
    text = chat_tokenizer("qwen").apply_chat_template(
        chat, chat_template=get_chat_template("qwen3").jinja, tokenize=False
    )
    assert text == "<|im_start|>user\n<image>\n<image>\nLike <image> here?<|im_end|>\n"
    chat[0]["content"][0]["type"] = "video"
    with pytest.raises(Exception, match="type video; it may hold text and image"):
        chat_tokenizer("qwen").apply_chat_template(chat, chat_template=get_chat_template("qwen3").jinja)


def test_the_end_of_turn_is_one_token_and_supervised_last():
    for name, (family, golden, _) in GOLDEN.items():
        tokenizer, end = chat_tokenizer(family), get_chat_template(name).end_of_turn
        if name != "plain":
            end = end or tokenizer.eos_token
            assert len(tokenizer.encode(end, add_special_tokens=False)) == 1
            assert all(span.endswith(end) for span in split(golden)[1])


def test_an_unknown_template():
    with pytest.raises(
        ValueError, match="no chat template 'mistral'. It must be one of 'gemma', .*chat_template='vic"
    ):
        get_chat_template("mistral")
    with pytest.raises(ValueError, match="no chat template '_chatml'"):
        get_chat_template("_chatml")


QWEN25 = (  # the shape of a Hub template: no marks, and its own way to the same text
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}"
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n{% endif %}"
    "{{ '<|im_start|>' ~ m.role ~ '\n' ~ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
DATED = "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ strftime_now('%d') }}<|eot_id|>"


@pytest.mark.parametrize(
    "family, model_type, own, name",
    [
        ("qwen", "qwen2", QWEN25, "qwen2.5"),
        ("qwen", "qwen2", None, "qwen2"),
        ("qwen", "qwen3", "{{ raise_exception('no') }}", "qwen3"),
        ("smollm2", "llama", None, "smollm2"),
        ("llama3", "llama", DATED, "llama3"),
        ("gemma", "gemma3_text", None, "gemma"),
        ("phi3", "phi3", None, "phi3"),
        ("vicuna", "llama", None, "vicuna"),
    ],
)
def test_default_chat_template(family, model_type, own, name):
    tokenizer = chat_tokenizer(family)
    tokenizer.chat_template = own
    assert default_chat_template(SimpleNamespace(model_type=model_type), tokenizer) == name


def test_no_default_for_an_unknown_family():
    with pytest.raises(ValueError, match="type 'gpt2' with this tokenizer.*chat_template='vicuna'"):
        default_chat_template(SimpleNamespace(model_type="gpt2"), chat_tokenizer("gpt2"))
