"""Texts about images of the world `shapes`: captions, class prompts, questions with answers."""

from .scenes import CELLS, COLORS, SHAPES, SIZES, TEXTURES

SHAPES_CLASS_NAMES = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)
# Captions begin with the same words, so a model trained on captions has seen them.
SHAPES_TEMPLATES = (
    "a {}",
    "an image of a {}",
    "a picture of a {}",
    "a photo of a {}",
    "a drawing of a {}",
    "there is a {}",
    "here is a {}",
    "we see a {}",
)
QUESTION_TYPES = ("color_at", "shape_at", "texture_at", "size_at", "count", "color_of")
MAX_WORDS = 18
MAX_NAMED = 3

NUMBERS = ("one", "two", "three", "four")
BESIDE = (("right of",), ("left of",))  # The index is 1 if the first object lies left of the second.
ABOVE = (("below", "under"), ("above", "over"))  # The index is 1 if the first object lies above the second.
OPENINGS = tuple(template.removesuffix("a {}") for template in SHAPES_TEMPLATES)
# All names of an object. The index is ((size + 1) * 4 + texture + 1) * 64 + color * 8 + shape.
# An attribute that is left out has 0 in place of its number + 1.
PHRASES = tuple(
    " ".join(word for word in ("a", size, texture, name) if word)
    for size in ("", *SIZES)
    for texture in ("", *TEXTURES)
    for name in SHAPES_CLASS_NAMES
)


def captions(scenes):
    """
    Write one caption of at most `MAX_WORDS` words per image.

    It names up to three objects with some of their attributes, and the relation of the first two. A single object
    sometimes gets its place.

    Args:
        scenes ([`Scenes`]): n scenes.

    Returns:
        `list[str]` of length n.
    """
    size = (scenes.size + 1) * scenes.says_size
    texture = (scenes.texture + 1) * scenes.says_texture
    phrases = (size * (len(TEXTURES) + 1) + texture) * len(SHAPES_CLASS_NAMES) + class_labels(scenes)
    columns = (scenes.count, phrases, scenes.cell, scenes.wording)
    texts = []
    for count, phrase, cell, (opening, relation, axis, tail) in zip(*(c.tolist() for c in columns), strict=True):
        text = PHRASES[phrase[0]]
        if count == 1:
            if axis % 2:
                text += f" at the {CELLS[cell[0]]}"
        else:
            text += f" {_relation(cell[0], cell[1], relation, axis)} {PHRASES[phrase[1]]}"
        if count >= MAX_NAMED:
            text += (" and " if tail % 2 else " with ") + PHRASES[phrase[2]]
        longer = OPENINGS[opening % len(OPENINGS)] + text
        texts.append(longer if longer.count(" ") < MAX_WORDS else text)
    return texts


def synthetic_captions(scenes):
    """
    Write a second caption of at most `MAX_WORDS` words per image, in the style of a captioning model.

    It names one or two objects with all their attributes and places. It does not depend on [`captions`].

    Args:
        scenes ([`Scenes`]): n scenes.

    Returns:
        `list[str]` of length n.
    """
    phrases = ((scenes.size + 1) * (len(TEXTURES) + 1) + scenes.texture + 1) * len(SHAPES_CLASS_NAMES) + class_labels(
        scenes
    )
    columns = (scenes.count, phrases, scenes.cell, scenes.asked)  # `captions` does not use `asked`.
    texts = []
    for count, phrase, cell, asked in zip(*(c.tolist() for c in columns), strict=True):
        first = asked[0] * count >> 32
        # The second object comes 1 to count - 1 places after the first.
        second = (first + 1 + (asked[1] * (count - 1) >> 32)) % count
        told = dict.fromkeys((first, second))
        texts.append(", ".join(f"{PHRASES[phrase[i]]} at the {CELLS[cell[i]]}" for i in told))
    return texts


def class_labels(scenes):
    """Return the indices into `SHAPES_CLASS_NAMES` of all objects, int64 (n, 4)."""
    return scenes.color * len(SHAPES) + scenes.shape


def _relation(first, second, choice, axis):
    """Return the words for the relation of two cells. `axis` decides between two relations of diagonal cells."""
    same_row, same_column = first // 2 == second // 2, first % 2 == second % 2
    if same_row or (not same_column and axis % 2):
        words = BESIDE[first % 2 < second % 2]
    else:
        words = ABOVE[first // 2 < second // 2]
    return words[choice % len(words)]


def questions(scenes):
    """
    Write one question of each of `QUESTION_TYPES` per image.

    Answers are single words. Each answer to a question is equally likely, so a model without images scores at chance.

    Args:
        scenes ([`Scenes`]): n scenes of a split with 1 to 4 objects.

    Returns:
        `list[tuple[str, str, str]]` of length 6n: question, answer and type, image by image.
    """
    columns = (scenes.count, scenes.cell, scenes.color, scenes.shape, scenes.texture, scenes.size, scenes.asked)
    rows = []
    for count, cell, color, shape, texture, size, asked in zip(*(c.tolist() for c in columns), strict=True):
        at_color, at_shape, at_texture, at_size = (asked[i] * count >> 32 for i in range(4))
        # The list is never empty, because the first object's shape always occurs once.
        once = [i for i in range(count) if shape[:count].count(shape[i]) == 1]
        of = once[asked[5] * len(once) >> 32]
        rows += (
            (_AT["color"][cell[at_color]], COLORS[color[at_color]], "color_at"),
            (_AT["shape"][cell[at_shape]], SHAPES[shape[at_shape]], "shape_at"),
            (_AT["texture"][cell[at_texture]], TEXTURES[texture[at_texture]], "texture_at"),
            (_AT["size"][cell[at_size]], SIZES[size[at_size]], "size_at"),
            ("how many objects are there?", NUMBERS[count - 1], "count"),
            (_COLOR_OF[shape[of]], COLORS[color[of]], "color_of"),
        )
    return rows


_AT = {
    attribute: tuple(f"what {attribute} is the object at the {cell}?" for cell in CELLS)
    for attribute in ("color", "shape", "texture", "size")
}
_COLOR_OF = tuple(f"what color is the {shape}?" for shape in SHAPES)
