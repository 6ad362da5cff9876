import io
import logging
import pickle

import pytest
import torch
from chat_tokenizers import chat_tokenizer
from PIL import Image
from torch.utils.data import DataLoader
from transformers import CLIPImageProcessor, LlavaProcessor

from hf_clip_kd.vlm.chat_templates import get_chat_template
from hf_clip_kd.vlm.collator import LlavaDataCollator
from hf_clip_kd.vlm.sample_counts import REASONS

TOKENS = 16  # An image has 32 pixels in patches of 8.


def make_processor(family="qwen", template="qwen3", **image_options):
    options = {"size": {"height": 32, "width": 32}, "do_center_crop": False} | image_options
    return LlavaProcessor(
        CLIPImageProcessor(**options),
        chat_tokenizer(family),
        patch_size=8,
        vision_feature_select_strategy="full",
        chat_template=get_chat_template(template).jinja if template else None,
    )


def picture(color="red", size=(40, 30)):
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": f"{color}.png"}


def row(question="<image>\nWhat colour is it?", answer="red", images=("red",), name="s1"):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"id": name, "messages": messages, "images": [picture(color) for color in images]}


TEXT = row("hello", "yes", images=(), name="t1")


def supervised(collator, batch, i=0):
    ids, labels = batch["input_ids"][i], batch["labels"][i]
    assert torch.equal(labels[labels != -100], ids[labels != -100])
    return collator.processor.tokenizer.decode(labels[labels != -100])


def test_a_batch_of_one_two_and_no_image():
    collator = LlavaDataCollator(make_processor())
    two = row("<image> or <image>?", "blue", images=("blue", "green"))
    batch = collator([row(), TEXT, two])
    ids, attention, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
    assert ids.shape == attention.shape == labels.shape and ids.dtype == attention.dtype == labels.dtype == torch.int64
    assert (ids == collator.processor.image_token_id).sum(1).tolist() == [TOKENS, 0, 2 * TOKENS]
    assert batch["pixel_values"].shape == (3, 3, 32, 32)
    assert batch["pixel_values"][:, :, 0, 0].argmax(1).tolist() == [0, 2, 1], "red, blue, green: in the rows' order"
    assert [supervised(collator, batch, i) for i in range(3)] == ["red<|im_end|>", "yes<|im_end|>", "blue<|im_end|>"]
    lengths = attention.sum(1)
    assert lengths.max() == ids.shape[1] and lengths.min() < ids.shape[1]
    for i, length in enumerate(lengths):
        assert attention[i, :length].all(), "padding is on the right"
        assert (ids[i, length:] == collator.processor.tokenizer.pad_token_id).all() and (
            labels[i, length:] == -100
        ).all()
    text = collator.processor.tokenizer.decode(ids[0, : lengths[0]])
    assert text == (
        f"<|im_start|>user\n{'<image>' * TOKENS}\nWhat colour is it?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\nred<|im_end|>\n"
    )


def test_a_conversation_is_tokenized_once_while_it_is_remembered(monkeypatch):
    collator, calls = LlavaDataCollator(make_processor()), []
    tokenize = collator._tokenize
    monkeypatch.setattr(collator, "_tokenize", lambda *args: calls.append(args[-1]) or tokenize(*args))
    rows = [row(name="a"), row(answer="blue", images=("blue",), name="b"), TEXT]
    first, again = collator(rows), collator([dict(sample, id="again") for sample in rows])
    assert calls == ["a", "b", "t1"]
    assert first.keys() == again.keys() and all(torch.equal(first[key], again[key]) for key in first)
    assert collator.counts.seen == 6
    assert collator.counts.supervised_fraction == (first["labels"] != -100).sum() / first["attention_mask"].sum()
    with pytest.raises(ValueError, match="sample 'c' has 1 <image> in its text and 0 images"):
        collator([row(images=(), name="c")])  # the same text, and not the same sample
    monkeypatch.setattr("hf_clip_kd.vlm.collator.KNOWN", 2)
    collator._known.clear()
    for name in ("blue", "green", "white", "blue"):
        collator([row(answer=name, name=name)])
    assert calls[3:] == ["blue", "green", "white", "blue"] and len(collator._known) == 2


def test_padding_that_is_the_end_of_turn_is_supervised_where_it_ends_an_answer():
    collator = LlavaDataCollator(make_processor())
    end = collator.processor.tokenizer.pad_token_id
    batch = collator([row(), row(answer="red " * 20)])
    assert collator.processor.tokenizer.eos_token_id == end
    assert (batch["labels"] == end).sum(1).tolist() == [1, 1]
    assert (batch["input_ids"][0] == end).sum() > 3


def test_the_processor_makes_the_same_ids_and_pixels():
    processor = make_processor("llama3", "llama3")
    batch = LlavaDataCollator(processor)([row()])
    content = [
        {"type": "image", "image": Image.new("RGB", (40, 30), "red")},
        {"type": "text", "text": "What colour is it?"},
    ]
    theirs = processor.apply_chat_template(
        [{"role": "user", "content": content}, {"role": "assistant", "content": [{"type": "text", "text": "red"}]}],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=True,
    )
    assert torch.equal(batch["input_ids"], theirs["input_ids"])
    assert torch.equal(batch["pixel_values"], theirs["pixel_values"])
    assert torch.equal(batch["labels"] != -100, torch.as_tensor(theirs["assistant_masks"]) == 1)


@pytest.mark.parametrize("strategy, additional, count", [("default", 1, 16), ("full", 0, 16), ("full", 5, 21)])
def test_as_many_image_tokens_as_the_processor_says(strategy, additional, count):
    processor = make_processor()
    processor.vision_feature_select_strategy, processor.num_additional_image_tokens = strategy, additional
    collator = LlavaDataCollator(processor)
    assert (collator([row()])["input_ids"] == processor.image_token_id).sum() == collator.num_image_tokens == count
    assert torch.equal(collator.blank_image["pixel_values"], collator([row(images=("black",))])["pixel_values"])


def test_a_batch_of_text_alone():
    collator = LlavaDataCollator(make_processor())
    assert set(collator([TEXT, TEXT])) == {"input_ids", "attention_mask", "labels"}


def test_plain_captions():
    collator = LlavaDataCollator(make_processor("vicuna", "vicuna"), template="plain")
    batch = collator([row("<image>\nDescribe it.", "a red square")])
    tokens = collator.processor.tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist())
    assert tokens[: TOKENS + 1] == ["<s>"] + ["<image>"] * TOKENS and tokens[-1] == "\n"
    assert "</s>" not in tokens and (batch["labels"][0] != -100).tolist() == [False] * (TOKENS + 1) + [True] * (
        len(tokens) - TOKENS - 1
    )
    assert "".join(tokens[TOKENS + 1 :]).replace("▁", " ").strip() == "a red square"


def test_stored_features_take_the_place_of_pixels():
    def stored(image):
        if image["path"] == "missing.png":
            raise ValueError("there are no features for it")
        return torch.full((2, TOKENS, 4), float(len(image["path"])))

    collator = LlavaDataCollator(make_processor(), tower_features=stored)
    sample = row("<image><image>", "red", images=("red", "green"))
    for image in sample["images"]:
        image["bytes"] = b"not a picture"
    batch = collator([TEXT, sample])
    assert batch["pixel_values"].shape == (2, 2, TOKENS, 4)
    assert batch["pixel_values"][:, 0, 0, 0].tolist() == [7, 9]
    sample["images"][1]["path"] = "missing.png"
    with pytest.raises(
        ValueError, match="image 'missing.png' of the sample 's1' cannot be used: there are no features"
    ):
        collator([sample])


MISSING = row()
MISSING["images"] = [{"bytes": None, "path": "/nowhere/1.png"}]
BROKEN = row()
BROKEN["images"] = [{"bytes": b"no picture", "path": "2.png"}]
STRANGE = row()
STRANGE["messages"][0]["role"] = "tool"
EMPTY = {"id": "s1", "messages": [], "images": []}
LONG = row("<image>\n" + "hello " * 200)
BAD = [
    (
        MISSING,
        "no usable image",
        "image '/nowhere/1.png' of the sample 's1' cannot be used: FileNotFound.*Repair or dow",
    ),
    (BROKEN, "no usable image", "image '2.png' of the sample 's1' cannot be used: Unidentified.*Repair or download"),
    (
        row(images=()),
        "image token in a text-only sample",
        "sample 's1' has 1 <image> in its text and 0 images.*Add or r",
    ),
    (row("<image><image>"), "more image tokens than images", "sample 's1' has 2 <image> in its text and 1 images"),
    (row("What?"), "fewer image tokens than images", "sample 's1' has 0 <image> in its text and 1 images"),
    (
        LONG,
        "too long",
        r"'s1' has \d+ tokens and would lose all answers at `max_length=120`.*Pass `max_length=\d+` or",
    ),
    (row("<image>" * 9, images=("red",) * 9), "too long", "'s1' .* would lose image tokens at `max_length=120`"),
    (row(answer="  "), "nothing supervised", "sample 's1' has no answer to learn.*Repair or remove it"),
    (STRANGE, "no conversation", r"sample 's1' has turns of \['tool', 'assistant'\]. They must be of 'system'"),
    (EMPTY, "no conversation", r"sample 's1' has turns of \[\]"),
    (row("<image>\nhalf \ud83d"), "half a character", "text of the sample 's1' holds half a character.*Repair"),
]


def test_every_reason_has_a_bad_sample():
    assert {reason for _, reason, _ in BAD} == set(REASONS)


@pytest.mark.parametrize("bad, reason, message", BAD)
def test_a_bad_sample_is_an_error_or_left_out_and_counted(bad, reason, message, caplog):
    with pytest.raises(ValueError, match=f"(?s){message}.*on_bad_sample='skip'"):
        LlavaDataCollator(make_processor(), max_length=120)([TEXT, bad])
    collator = LlavaDataCollator(make_processor(), max_length=120, on_bad_sample="skip")
    with caplog.at_level(logging.WARNING):
        batch = collator([row(), bad, TEXT])
    good = LlavaDataCollator(make_processor())([row(), TEXT])
    assert batch.keys() == good.keys() and all(torch.equal(batch[key], good[key]) for key in good)
    assert collator.counts.skipped == {reason: 1} and collator.counts.seen == 3
    assert "'s1'" in caplog.text
    assert f"3 samples: 1 left out (1 {reason})" in str(collator.counts)


def test_a_template_that_refuses_a_sample():
    processor = make_processor()
    processor.chat_template = "{{ raise_exception('no such talk') }}{% generation %}{% endgeneration %}"
    with pytest.raises(ValueError, match="template refuses the sample 's1': no such talk.*another template"):
        LlavaDataCollator(processor)([row()])


def test_long_text_is_cut_and_counted():
    whole = LlavaDataCollator(make_processor())([row(answer="red and blue " * 50)])
    collator = LlavaDataCollator(make_processor(), max_length=80)
    batch = collator([row(answer="red and blue " * 50), row()])
    assert batch["input_ids"].shape == (2, 80) and torch.equal(batch["input_ids"][0], whole["input_ids"][0, :80])
    assert torch.equal(batch["labels"][0], whole["labels"][0, :80])
    assert collator.counts.truncated == 1 and collator.counts.skipped == {}


def test_a_batch_with_nothing_usable_shows_the_last_good_sample_again():
    collator = LlavaDataCollator(make_processor(), on_bad_sample="skip")
    first = collator([MISSING, BROKEN])  # The answer is empty before the first good sample.
    assert supervised(collator, first) == "<|im_end|>" and "pixel_values" not in first
    good = collator([TEXT, row()])
    again = collator([MISSING, BROKEN])
    assert supervised(collator, again) == "red<|im_end|>"
    assert torch.equal(again["pixel_values"], good["pixel_values"])
    assert collator.counts.seen == 6 and collator.counts.skipped == {"no usable image": 4}


def test_a_run_that_learns_nothing_stops_and_says_why():
    collator = LlavaDataCollator(make_processor(), on_bad_sample="skip")
    for _ in range(24):
        collator([MISSING, row("What?")])
    with pytest.raises(
        ValueError, match=r"50 samples, 50 were left out: \{'no usable image': 25, 'fewer .*larger share"
    ):
        collator([MISSING, row("What?")])
    patient = LlavaDataCollator(make_processor(), on_bad_sample="skip", max_masked_fraction=1.0)
    for _ in range(60):
        patient([MISSING])
    with pytest.raises(ValueError, match=r"Of 60 samples, 60 were left out: .*one sample must be usable"):
        patient.check_rows()
    patient([row()])
    patient.check_rows()
    few = LlavaDataCollator(make_processor(), on_bad_sample="skip")
    few([MISSING, MISSING, row()])
    with pytest.raises(ValueError, match="Of 3 samples, 2 were left out"):
        few.check_rows()


def test_the_share_of_supervised_tokens():
    collator = LlavaDataCollator(make_processor())
    batch = collator([row(), TEXT])
    share = (batch["labels"] != -100).sum() / batch["attention_mask"].sum()
    assert collator.counts.supervised_fraction == pytest.approx(share.item())


def test_workers_count_together():
    collator = LlavaDataCollator(make_processor(), on_bad_sample="skip")
    rows = [row(), TEXT, MISSING] * 4
    batches = list(DataLoader(rows, batch_size=3, collate_fn=collator, num_workers=2))
    assert len(batches) == 4 and collator.counts.seen == 12 and collator.counts.skipped == {"no usable image": 4}
    pickle.loads(pickle.dumps(LlavaDataCollator(make_processor())))([row()])


def test_bad_arguments():
    with pytest.raises(ValueError, match="template='llava'` is unknown. It must be 'chat'.*chat_template="):
        LlavaDataCollator(make_processor(), template="llava")
    with pytest.raises(ValueError, match="on_bad_sample='drop'` is unknown. It must be 'error' or 'skip'"):
        LlavaDataCollator(make_processor(), on_bad_sample="drop")
    with pytest.raises(ValueError, match="max_masked_fraction=2` is not a share"):
        LlavaDataCollator(make_processor(), max_masked_fraction=2)
    with pytest.raises(ValueError, match="chat template is missing.*'qwen2.5'"):
        LlavaDataCollator(make_processor(template=None))
    processor = make_processor()
    processor.chat_template = "{{ messages[0].content }}"
    with pytest.raises(ValueError, match="does not mark its answers.*generation.*Set `processor.chat_template = get_"):
        LlavaDataCollator(processor)
    processor = make_processor()
    processor.tokenizer.pad_token = None
    with pytest.raises(ValueError, match="no padding token.*pad_token = processor.tokenizer.eos_token"):
        LlavaDataCollator(processor)
    with pytest.raises(ValueError, match="not all of one size.*image_mode='square'"):
        LlavaDataCollator(make_processor(size={"shortest_edge": 32}))
