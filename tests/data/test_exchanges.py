"""Questions and captions that readers get, and how a collator passes them on."""

import pytest
import torch
from clip_processor import processor

from hf_clip_kd.data import CLIPDataCollator, load_image_text
from hf_clip_kd.data.exchanges import exchanges
from hf_clip_kd.data.shapes import load_shapes
from hf_clip_kd.data.transforms.keyed_random import CAPTION, row_uniforms


def uniform(number):
    return [number if place == CAPTION else 0.99 for place in range(CAPTION + 1)]


def test_a_question_wins_over_the_caption():
    rows = [{"question": "how many?", "answers": ["two", "2"]}, {}, {"question": "", "answers": [""]}]
    expected = [("how many?", "two"), (None, "b"), (None, "c")]
    assert exchanges(rows, ["a", "b", "c"], []) == expected


@pytest.mark.parametrize(("number", "expected"), [(0.0, 0), (0.49, 0), (0.5, 1), (0.99, 1)])
def test_one_of_several_questions_is_drawn(number, expected):
    row = {"question": ["where?", "", "who?"], "answers": [["here"], ["no"], ["me", "I"]]}
    assert exchanges([row], ["a"], [uniform(number)]) == [[("where?", "here"), ("who?", "me")][expected]]


def test_questions_of_the_world_are_those_of_its_vqa_rows():
    asked, plain = load_shapes("train", 7, questions=True), load_shapes("train", 7)
    rows = load_shapes("train", 42, vqa=True)
    assert asked["text"] == plain["text"] and [len(cell) for cell in asked["question"]] == [6] * 7
    assert [question for cell in asked["question"] for question in cell] == list(rows["question"])
    assert [right for cell in asked["answers"] for right in cell] == list(rows["answers"])
    with pytest.raises(ValueError, match="gives answers away"):
        load_shapes("zero_shot", 7, questions=True)


def echo(found):
    return {"labels": torch.tensor([[len(question or ""), len(answer)] for question, answer in found])}


def test_a_collator_gives_each_reader_the_same_texts():
    data = load_image_text("shapes", max_samples=12, questions=True)
    rows = [data[i] for i in range(12)]
    batch = CLIPDataCollator(processor(), readers=[echo, echo], seed=3)(rows)
    expected = exchanges(rows, [row["text"] for row in rows], [row_uniforms(3, 0, i) for i in range(12)])
    assert torch.equal(batch["reader_0_labels"], echo(expected)["labels"])
    assert torch.equal(batch["reader_1_labels"], batch["reader_0_labels"])
    assert len({question for question, _ in expected}) > 3
    unasked = [{name: row[name] for name in ("image", "text")} for row in rows]
    captions = CLIPDataCollator(processor(), readers=[echo], train=False)(unasked)
    assert captions["reader_0_labels"].tolist() == [[0, len(row["text"])] for row in rows]
    plain = CLIPDataCollator(processor(), seed=3)(rows)
    assert all(torch.equal(plain[name], batch[name]) for name in plain), "readers change nothing else"
