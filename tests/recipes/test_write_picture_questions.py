"""recipes/write_picture_questions.py: questions whose words give nothing away, in forms that the readers take."""

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageDraw

from hf_clip_kd.data.instruct import load_instruct
from hf_clip_kd.evaluation.vqa import READERS, SHORT_ANSWER
from recipes import write_picture_questions as recipe

NAMES = {
    "animals": ["tiger", "turkey", "whale", "beetle"],
    "tools": ["hammer", "saw", "drill", "anvil"],
    "food": ["bread", "cherry", "pizza", "noodle"],
    "flags": ["flag france", "flag japan", "flag kenya", "flag peru"],
}


def write_set(folder, name, each):
    """Write `each` pictures of all names; all are red with a white bar, on a transparent ground."""
    (folder / name).mkdir(parents=True)
    picture = Image.new("RGBA", (20, 20))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 2, 19, 15), fill=(200, 20, 30))
    draw.rectangle((0, 2, 3, 15), fill="white")
    with open(folder / "pictures.jsonl", "a", encoding="utf-8") as file:
        for category, names in NAMES.items():
            for shown in names:
                for i in range(each):
                    image = f"{name}/{shown}-{i}.png"
                    picture.save(folder / image)
                    row = {"image": image, "set": name, "captions": [shown, f"A drawing, {shown}."], "name": shown}
                    file.write(json.dumps(row | {"category": category, "source": "me", "licence": "CC0"}) + "\n")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    write_set(folder / "pictures", "train", 12)
    write_set(folder / "pictures", "style", 2)
    for name in ("once", "again"):
        recipe.main([str(folder / "pictures"), str(folder / name)])
    return folder


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def asked_about(written):
    """Return the image, question and answer of each conversation, which has one question."""
    talks = json.loads((written / "once" / "conversations.json").read_text())
    found = []
    for talk in talks:
        question, answer = (turn["value"] for turn in talk["conversations"])
        found.append((talk["image"], question.removeprefix("<image>\n").removesuffix(SHORT_ANSWER), answer))
    return found


def test_no_answer_stands_before_another_question(written):
    found = asked_about(written)
    assert Counter(Counter(image for image, _, _ in found).values()) == {5: 144, 6: 48}  # Flags have a colour.
    # Neighbours are of different pictures, also where the order of the file is that of training.
    assert sum(first[0] == second[0] for first, second in pairwise(found)) < len(found) / 20


def test_a_name_is_asked_as_often_with_yes_as_with_no(written):
    asked = Counter(turn[1:] for turn in asked_about(written) if turn[1].startswith("Is there a"))
    assert sum(asked.values()) == 2 * 192
    questions = {question for question, _ in asked}
    assert len(questions) == 16 and "Is there an anvil in the picture?" in questions
    assert all(asked[question, "Yes"] == asked[question, "No"] == 12 for question in questions)


def test_a_name_is_wrong_three_times_as_often_as_it_is_right(written):
    chosen = [line for line in lines(written / "once" / "style.jsonl") if line["type"] == "choice"]
    options = [
        line["question"]
        .removesuffix("?" + SHORT_ANSWER)
        .removeprefix("Which of these is it: ")
        .replace(" or ", ", ")
        .split(", ")
        for line in chosen
    ]
    right = Counter(line["answer"] for line in chosen)
    offered = Counter(option for four in options for option in four)
    assert len(chosen) == 32 and all(len(set(four)) == 4 for four in options)
    assert all(offered[name] == 4 * number for name, number in right.items())
    places = Counter(four.index(line["answer"]) for four, line in zip(options, chosen, strict=True))
    assert set(places) == {0, 1, 2, 3}


def test_wrong_names_are_of_another_or_of_the_same_category(written):
    """The sets of names are disjoint, so a name has a category. Each picture has both answers."""
    kinds = {name: kind for kind, names in NAMES.items() for name in names}
    for kind, alike in (("random", False), ("adversarial", True)):
        rows = lines(written / "once" / "style_exists" / f"coco_pope_{kind}.json")
        assert Counter(row["label"] for row in rows) == {"yes": 32, "no": 32}
        for row in rows:
            shown = row["image"].removeprefix("style/").rsplit("-", 1)[0]
            asked = row["text"].removesuffix(" in the picture?").split(" ", 3)[3]
            assert (shown == asked) == (row["label"] == "yes")
            assert row["label"] == "yes" or (kinds[shown] == kinds[asked]) == alike


def test_the_colour_is_that_of_the_opaque_part(written, tmp_path):
    asked = [line for line in lines(written / "once" / "style.jsonl") if line["type"] == "colour"]
    assert [line["answer"] for line in asked] == ["red"] * 8 and all("flag" in line["image"] for line in asked)
    flag = Image.new("RGB", (9, 9), (255, 220, 0))
    for height, colour in ((1, "yellow"), (4, None), (8, "blue")):
        flag.paste((10, 30, 160), (0, 0, 9, height))
        flag.save(tmp_path / "flag.png")
        assert recipe.main_colour(tmp_path / "flag.png") == colour
    (tmp_path / "flag.png").write_bytes(b"no picture")
    assert recipe.main_colour(tmp_path / "flag.png") is None


def test_the_readers_take_the_files(written):
    captions = load_instruct(str(written / "once" / "captions.json"), image_folder=str(written / "pictures"))
    talks = load_instruct(str(written / "once" / "conversations.json"), image_folder=str(written / "pictures"))
    assert len(captions) == 192 and len(talks) == len(asked_about(written)) and set(talks["num_images"]) == {1}
    assert captions[0]["messages"][1]["content"].startswith("A drawing, ")
    samples = READERS["pope"](written / "once" / "style_exists", written / "pictures")
    assert len(samples) == 128 and {sample.category for sample in samples} == {"random", "adversarial"}
    assert {line["type"] for line in lines(written / "once" / "style.jsonl")} == {
        "name",
        "category",
        "choice",
        "colour",
    }


def test_the_same_pictures_give_the_same_files(written):
    once, again = (
        {path.relative_to(written / name): path.read_bytes() for path in (written / name).rglob("*.json*")}
        for name in ("once", "again")
    )
    assert once == again and len(once) == 5


def picture(name, kind, number=0):
    return recipe.Picture(f"{name}-{number}.png", name, name, kind)


@pytest.mark.parametrize("alike", [None, False, True])
@pytest.mark.parametrize("number", [1, 3])
def test_a_name_without_a_partner_is_neither_asked_nor_used(alike, number):
    """Most pictures are dogs, and too few others can be wrong for them."""
    names = ["dog", "cat", "cow", "hen"] if alike in (None, True) else ["dog", "dog food", "dog house"]
    pictures = [picture("dog", "animals", i) for i in range(9)]
    pictures += [picture(name, "animals") for name in names[1:]]
    pictures += [picture(name, "tools") for name in ("saw", "drill", "file", "axe")]
    pictures += [picture("tiger", "flags")]
    for seed in range(20):
        wrong = recipe.others(pictures, number, recipe.random.Random(seed), alike)
        asked = [own for own, other in zip(pictures, wrong, strict=True) if other]
        assert all(len(other) in (0, number) for other in wrong)
        used = Counter(other.image for others in wrong for other in others)
        assert used == Counter({own.image: number for own in asked})
        for own, other in zip(pictures, wrong, strict=True):
            assert own.name not in [each.name for each in other] and len({each.name for each in other}) == len(other)
            assert alike is None or all((each.category == own.category) == alike for each in other)
        if alike and number == 1:
            assert len(asked) >= 4 and "tiger" not in [own.name for own in asked]


def test_the_article_is_that_of_the_sound():
    expected = {"unicorn": "a", "uniform": "a", "euro": "a", "ukulele": "a", "ewe": "a", "tiger": "a", "USA map": "a"}
    expected |= {"umbrella": "an", "anvil": "an", "urn": "an", "onion": "an", "ear": "an", "one": "a"}
    assert {name: recipe.article(name).split()[0] for name in expected} == expected


def test_names_that_share_a_word_are_not_wrong_for_each_other():
    pictures = [recipe.Picture("a.png", "A tiger in the grass.", "tiger face", "animals")]
    pictures += [picture(name, "plants") for name in ("tiger", "grass", "cow face", "face")]
    pictures += [picture(f"{name} face", "animals") for name in ("owl", "dog", "hen")]
    # Four names and more share `face`, which tells nothing then.
    first = dict(zip([each.name for each in pictures], recipe.wrong_names(pictures, None)[0], strict=True))
    wrong = {"tiger face": False, "tiger": False, "grass": False, "cow face": True, "face": False}
    assert first == wrong | {"owl face": True, "dog face": True, "hen face": True}
    for alike, names in ((True, ["owl face", "dog face", "hen face"]), (False, ["cow face"])):
        row = recipe.wrong_names(pictures, alike)[0]
        assert [each.name for each, is_wrong in zip(pictures, row, strict=True) if is_wrong] == names


def test_a_match_is_found_wherever_there_is_one():
    """The table of a circle allows two matches, and a greedy choice misses both."""
    size = 101
    circle = np.zeros((size, size), dtype=bool)
    for step in (0, 1):
        circle[np.arange(size), (np.arange(size) + step) % size] = True
    for seed in range(5):
        found = recipe.matched(circle, recipe.random.Random(seed))
        assert sorted(found) == list(range(size)) and circle[np.arange(size), found].all()
    circle[7] = False
    found = recipe.matched(circle, recipe.random.Random(0))
    assert found[7] == -1 and (found < 0).sum() == 1


def test_only_things_with_a_short_name_of_letters_are_asked_about():
    names = {"tiger": True, "jack-o'-lantern": True, "café au lait": True, "people 06c": False, "": False}
    names |= {"“fuji” apple": False, "a cat on a mat": False}
    assert {name: recipe.is_word(name) for name in names} == names
    icons = [recipe.Picture("a.png", "pen", "pen", "computer"), recipe.Picture("b.png", "pen", "pen", "tools")]
    assert recipe.choose(icons, 9, ["tools"], recipe.random.Random(0)) == icons[1:]


def test_missing_pictures_are_named(tmp_path):
    with pytest.raises(ValueError, match="pictures.jsonl.*Write the pictures"):
        recipe.main([str(tmp_path), str(tmp_path / "out")])
    (tmp_path / "pictures.jsonl").write_text(
        '{"image": "a.png", "set": "style", "captions": [], "name": "a", "category": ""}\n'
    )
    with pytest.raises(ValueError, match="has no picture of the set 'train'.*recipes/write_pictures.py"):
        recipe.main([str(tmp_path), str(tmp_path / "out")])
