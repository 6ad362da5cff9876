"""Write conversations about the pictures of write_pictures.py for a LLaVA to learn from, and questions to ask it.

The pictures and their names are those of `pictures.jsonl`, which that recipe leaves. The second folder gets
- `captions.json`: LLaVA's conversations for the first stage, a picture and its caption;
- `conversations.json`: those for the second stage, each of the questions below by itself;
- `SET.jsonl`: a line for each question about a held-out set, with image, question, answer and type;
- `SET_exists/coco_pope_KIND.json`: yes/no questions about that set in POPE's form.

The questions ask for the name, the existence of a thing, one of four names, and the category. They ask for the main
colour of a flag. Their words give nothing away: each name is asked as often with the answer no as with yes. Among four
names, it is wrong three times as often as it is right. A conversation has one question, since its answer tells others.

    python recipes/write_picture_questions.py outputs/pictures outputs/pictures_questions
"""

import argparse
import functools
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from hf_clip_kd.data.reading.images import BrokenImageError, decode_image
from hf_clip_kd.evaluation.vqa.files import SHORT_ANSWER, write_lines
from hf_clip_kd.recipe_io.foreign import fields, read_json_lines
from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.recipe_io.results import write_whole

TRAIN, HELD_OUT = "train", ("style", "unseen", "category", "photographs")
LONGEST_NAME = 4  # words
# Things that people can name. Icons, signs, maps and games have names such as "pen style nopen".
KINDS = {"animals", "buildings", "clothes", "flags", "food", "people", "plants", "smileys", "tools", "vehicles"}
# Pictures of each category: to train on, and of each held-out set. Some categories have thousands.
MOST = {TRAIN: 500} | dict.fromkeys(HELD_OUT, 40)
# Upper ends of hues in degrees.
HUES = {"red": 15, "orange": 40, "yellow": 70, "green": 165, "blue": 260, "purple": 330}
# Beginnings of names that sound like "you" or "one": a unicorn, a euro, a one.
LIKE_YOU = re.compile(r"(uni|us[ae]|uk|ufo|ura|uru|uga|ut[ei]|eu|ewe|one\b)", re.IGNORECASE)
CAPTION, NAME = "Describe the picture.", "What is in the picture?"
COLOUR = "Which colour covers most of the flag?"


@dataclass(frozen=True)
class Picture:
    """A picture: its path from the common folder, caption, name and category."""

    image: str
    text: str
    name: str
    category: str


@dataclass(frozen=True)
class Question:
    """A question about a picture, its answer, and its type."""

    text: str
    answer: str
    kind: str


def read_pictures(folder: Path) -> dict[str, list[Picture]]:
    """
    Read the pictures of each set, in the order of the file `pictures.jsonl`.

    Raises:
        ForeignFileError: The file is missing or of another form.
        ValueError: It has no picture to train on.
    """
    path = folder / "pictures.jsonl"
    about = {
        "allowed": "It must be a file of `write_pictures.py`, a picture a line.",
        "fix": "Write the pictures: `python recipes/write_pictures.py`.",
    }
    kinds = {"image": str, "captions": list[str], "name": str, "category": str, "set": str}
    sets = defaultdict(list)
    for number, row in read_json_lines(path, **about):
        image, captions, name, category, owner = fields(row, kinds, path, where=f"line {number}", **about)
        sets[owner].append(Picture(image, captions[-1] if captions else "", name, category))
    if TRAIN not in sets:
        raise ValueError(
            f"{str(path)!r} has no picture of the set {TRAIN!r}. At least some must be there to learn from. Write the "
            "pictures again: `python recipes/write_pictures.py`."
        )
    return sets


def choose(pictures: list[Picture], most: int, categories: list[str], chance: random.Random) -> list[Picture]:
    """Return at most so many pictures of each category, shuffled; their names are short and have letters only."""
    found = [picture for picture in pictures if picture.category in categories and is_word(picture.name)]
    chance.shuffle(found)
    counts, chosen = Counter(), []
    for picture in found:
        counts[picture.category] += 1
        if counts[picture.category] <= most:
            chosen.append(picture)
    return chosen


def is_word(name: str) -> bool:
    parts = re.sub("['-]", "", name).split()
    return 0 < len(parts) <= LONGEST_NAME and all(part.isalpha() for part in parts)


@functools.cache
def words(text: str) -> frozenset[str]:
    return frozenset(word.strip(".,;:!?()\"'") for word in text.lower().split())


def common_words(pictures: list[Picture]) -> frozenset[str]:
    """Return the words of many names, such as `of` and `flag`: names that share only these may be wrong."""
    names = {picture.name for picture in pictures}
    counts = Counter(word for name in names for word in words(name))
    return frozenset(word for word, number in counts.items() if number > max(3, len(names) // 50))


def wrong_names(pictures: list[Picture], alike: bool | None) -> np.ndarray:
    """
    Return the table (pictures, pictures) in which the name of a column's picture is wrong for that of a row.

    No word of the name stands in the other's name or caption. Words that are common to many names do not count.

    Args:
        pictures (`list[Picture]`): Pictures of several categories.
        alike (`bool`, *optional*): `True` allows names of the same category alone, `False` those of another.
    """
    common = common_words(pictures)
    showing = defaultdict(list)
    for row, picture in enumerate(pictures):
        for word in words(picture.name) | words(picture.text):
            showing[word].append(row)
    wrong = np.ones((len(pictures), len(pictures)), dtype=bool)
    for column, picture in enumerate(pictures):
        own = words(picture.name) - common
        for word in own:
            wrong[showing[word], column] = False
        if not own:
            wrong[:, column] = False
    categories = np.array([picture.category for picture in pictures])
    return wrong if alike is None else wrong & ((categories[:, None] == categories) == alike)


def matched(allowed: np.ndarray, chance: random.Random) -> np.ndarray:
    """Return for each row an allowed column at random, each column once; -1 for the fewest rows that get none."""
    rows, columns = (np.array(chance.sample(range(size), size), dtype=int) for size in allowed.shape)
    found = maximum_bipartite_matching(csr_array(allowed[rows][:, columns]), perm_type="column")
    order = np.full(len(rows), -1)
    order[rows] = np.where(found < 0, -1, columns[found])
    return order


def weakest(allowed: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return as many pictures as got none in [`matched`]: those that fit the fewest others, as row or column."""
    rows, columns = np.flatnonzero(order < 0), np.setdiff1d(np.arange(len(order)), order)
    fits = np.concatenate([allowed[rows].sum(axis=1), allowed[:, columns].sum(axis=0)])
    return np.concatenate([rows, columns])[np.argsort(fits, kind="stable")[: len(rows)]]


def others(
    pictures: list[Picture], number: int, chance: random.Random, alike: bool | None = None
) -> list[list[Picture]]:
    """
    Return for each picture so many others with wrong names, or none. Each picture is used as often as asked about.

    A picture that fits too few others takes no part: neither its question nor its name is used.

    Args:
        pictures (`list[Picture]`): Pictures of several categories.
        number (`int`): Number of others for each.
        chance (`random.Random`): Source of chance.
        alike (`bool`, *optional*): See [`wrong_names`].
    """
    wrong, names = wrong_names(pictures, alike), np.array([picture.name for picture in pictures])
    part, found = np.arange(len(pictures)), []
    while len(found) < number:
        allowed = wrong[np.ix_(part, part)]
        for order in found:
            # The others of a picture have different names.
            allowed = allowed & (names[part] != names[part[order]][:, None])
        order = matched(allowed, chance)
        if (order < 0).any():
            part, found = np.delete(part, weakest(allowed, order)), []
        else:
            found.append(order)
    chosen: list[list[Picture]] = [[] for _ in pictures]
    for place, own in enumerate(part):
        chosen[own] = [pictures[part[order[place]]] for order in found]
    return chosen


def main_colour(path: Path) -> str | None:
    """Return the colour of most of a flag's opaque pixels; `None` for two about equal, and for no usable picture."""
    try:
        picture = decode_image(str(path))
    except BrokenImageError:
        return None
    with Image.open(path) as image:
        opaque = np.asarray(image.convert("RGBA"))[..., 3] >= 128
    hue, saturation, value = np.moveaxis(np.asarray(picture.convert("HSV"), dtype=float), -1, 0)
    names = np.array([*HUES, "red"])[np.searchsorted(list(HUES.values()), hue * 360 / 255, side="right")]
    names = np.where(saturation < 50, np.where(value > 190, "white", "grey"), names)
    names = np.where(value < 60, "black", names)[opaque]
    (first, most), (_, second), *_ = [*Counter(names.tolist()).most_common(2), ("", 0), ("", 0)]
    return first if most > 1.3 * second and most > 0.4 * len(names) else None


def article(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeiou' and not LIKE_YOU.match(name) else 'a'} {name}"


def listed(options: list[str]) -> str:
    return f"{', '.join(options[:-1])} or {options[-1]}"


def exists(name: str) -> str:
    return f"Is there {article(name)} in the picture?"


def open_questions(
    folder: Path, pictures: list[Picture], categories: list[str], chance: random.Random
) -> Iterator[tuple[Picture, list[Question]]]:
    """Yield each picture with its questions, all but those with yes or no."""
    for picture, wrong in zip(pictures, others(pictures, 3, chance), strict=True):
        questions = [Question(NAME, picture.name, "name")]
        kinds = f"Which kind of thing does it show: {listed(categories)}?"
        questions.append(Question(kinds, picture.category, "category"))
        if len(wrong) == 3:
            options = [picture.name, *(other.name for other in wrong)]
            chance.shuffle(options)
            questions.append(Question(f"Which of these is it: {listed(options)}?", picture.name, "choice"))
        if picture.category.startswith("flag") and (colour := main_colour(folder / picture.image)):
            questions.append(Question(COLOUR, colour, "colour"))
        yield picture, questions


def conversation(picture: Picture, question: str, answer: str, number: int) -> dict:
    """Return a sample of LLaVA's JSON."""
    messages = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
    return {"id": str(number), "image": picture.image, "conversations": messages}


def train_conversations(
    folder: Path, pictures: list[Picture], categories: list[str], chance: random.Random
) -> list[dict]:
    """Return a conversation for each question about a picture, in random order."""
    half = len(pictures) // 2
    # Wrong names of another category teach to look, those of the same category to look closely.
    wrong = others(pictures[:half], 1, chance, alike=False) + others(pictures[half:], 1, chance, alike=True)
    asked = []
    for (picture, questions), other in zip(open_questions(folder, pictures, categories, chance), wrong, strict=True):
        turns = [(question.text, question.answer) for question in questions]
        turns += [(exists(picture.name), "Yes"), (exists(other[0].name), "No")] if other else []
        asked += [(picture, text + SHORT_ANSWER, answer) for text, answer in turns]
    chance.shuffle(asked)
    return [conversation(*turn, number) for number, turn in enumerate(asked)]


def write_held_out(
    folder: Path, output: Path, name: str, pictures: list[Picture], categories: list[str], chance: random.Random
) -> dict[str, int]:
    """Write the questions about a held-out set, and return their number by type."""
    lines = [
        # A reader of such lines asks them as they are, and the model has learned from questions with this ending.
        {"image": picture.image, "question": q.text + SHORT_ANSWER, "answer": q.answer, "type": q.kind}
        for picture, questions in open_questions(folder, pictures, categories, chance)
        for q in questions
    ]
    write_lines(output / f"{name}.jsonl", lines)
    counts = Counter(line["type"] for line in lines)
    for kind, alike in (("random", False), ("adversarial", True)):
        pairs = zip(pictures, others(pictures, 1, chance, alike=alike), strict=True)
        asked = [
            {"image": picture.image, "text": exists(shown), "label": label}
            for picture, wrong in pairs
            for shown, label in ((picture.name, "yes"), *((other.name, "no") for other in wrong))
            if wrong
        ]
        numbered = [{"question_id": number, **row} for number, row in enumerate(asked, start=1)]
        write_lines(output / f"{name}_exists" / f"coco_pope_{kind}.json", numbered)
        counts["exists"] += len(asked)
    return dict(counts)


def main(argv: list[str] | None = None) -> dict[str, dict[str, int]]:
    """Run the recipe and return the number of questions by set and type."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="Folder that `write_pictures.py` leaves.")
    parser.add_argument("output_dir", type=Path, help="Folder of the conversations and questions.")
    args = parser.parse_args(argv)
    chance = random.Random(0)
    sets = read_pictures(args.pictures)
    everything = sets[TRAIN]
    categories = sorted(KINDS & {picture.category for picture in everything})
    train = choose(everything, MOST[TRAIN], categories, chance)
    captions = [conversation(p, CAPTION, p.text, i) for i, p in enumerate(p for p in everything if p.text)]
    write_whole(args.output_dir / "captions.json", json.dumps(captions, indent=1) + "\n")
    talks = train_conversations(args.pictures, train, categories, chance)
    write_whole(args.output_dir / "conversations.json", json.dumps(talks, indent=1) + "\n")
    found = {TRAIN: {"captions": len(captions), "conversations": len(talks)}}
    for name in HELD_OUT:
        if name in sets:
            pictures = choose(sets[name], MOST[name], categories, chance)
            found[name] = write_held_out(args.pictures, args.output_dir, name, pictures, categories, chance)
    for name, numbers in found.items():
        print(f"{name}: {', '.join(f'{number} {kind}' for kind, number in numbers.items())}")
    return found


if __name__ == "__main__":
    exit_with_one_line(main)
