"""Conversations about the world `shapes`, and its symbolic images: every answer can be read off the symbols."""

import numpy as np
import pytest

from hf_clip_kd.data.shapes import QUESTION_TYPES, load_shapes
from hf_clip_kd.data.shapes.instruct import SYMBOL_GRID, SYMBOL_WIDTH, load_shapes_instruct, symbols_of
from hf_clip_kd.data.shapes.scenes import CELLS, COLORS, SHAPES, SIZES, TEXTURES

ATTRIBUTES = {"shape": SHAPES, "color": COLORS, "size": SIZES, "texture": TEXTURES}
NUMBERS = ("one", "two", "three", "four")


def read_objects(symbols):
    """cell -> attributes of its object, from the symbols of the cell's patches, which must agree."""
    objects = {}
    for patch, values in enumerate(symbols):
        row, column = divmod(patch, SYMBOL_GRID)
        cell = 2 * (row // 2) + column // 2
        place = values[-8:]
        assert place.tolist() == [row < 2, row >= 2, column < 2, column >= 2, *(cell == i for i in range(4))]
        found, at = {}, 1
        for name, options in ATTRIBUTES.items():
            part, at = values[at : at + len(options)], at + len(options)
            assert part.sum() == values[0]
            found[name] = options[part.argmax()]
        if values[0]:
            assert objects.setdefault(CELLS[cell], found) == found
    return objects


def answer(question, objects):
    words = question.removeprefix("<image>\n").rstrip("?").split()
    if words[:2] == ["how", "many"]:
        return NUMBERS[len(objects) - 1]
    if "at" in words:
        return objects[" ".join(words[-2:])][words[1]]
    (color,) = [found["color"] for found in objects.values() if found["shape"] == words[-1]]
    return color


@pytest.mark.parametrize(("split", "seed"), [("train", 0), ("test", 0), ("train", 1)])
def test_symbols_answer_every_question(split, seed):
    rows = load_shapes_instruct(split, 60 * len(QUESTION_TYPES), seed=seed, pixels=False)
    assert len(rows) == 60 * len(QUESTION_TYPES)
    for row in rows:
        symbols = symbols_of(row["images"][0]["path"])
        assert symbols.shape == (SYMBOL_GRID**2, SYMBOL_WIDTH) and set(np.unique(symbols)) <= {0.0, 1.0}
        question, reply = row["messages"]
        assert (question["role"], reply["role"], row["num_images"]) == ("user", "assistant", 1)
        assert answer(question["content"], read_objects(symbols)) == reply["content"], row["id"]


def test_rows_are_those_of_the_questions():
    rows, asked = load_shapes_instruct("test", 30), load_shapes("test", 30, vqa=True)
    for row, question in zip(rows, asked, strict=True):
        assert [message["content"] for message in row["messages"]] == [
            "<image>\n" + question["question"],
            *question["answers"],
        ]
    assert [row["id"].split("/")[-1] for row in rows] == asked["question_type"][:]
    assert rows[0]["images"][0]["bytes"] == rows[5]["images"][0]["bytes"] != rows[6]["images"][0]["bytes"]
    undrawn = load_shapes_instruct("test", 30, pixels=False)
    assert undrawn["messages"] == rows["messages"] and undrawn[0]["images"][0]["bytes"] is None
