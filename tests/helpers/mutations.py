"""Damage of files by chance: of their bytes, and of the values in JSON and YAML."""

import json
import re

import yaml

MARKS = (
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\xff\xfe\x00\x00",
    b"\x1f\x8b",
    b"PK\x03\x04",
    b"%!PS-Adobe-3.0 EPSF-3.0\n",
)
NUMBERS = (b"-1", b"0", b"4294967296", b"99999999999999999999999999", b"1e400", b"NaN", b"-0.0")
WORDS = (
    b"null",
    b"[",
    b"{",
    b'"',
    b"'",
    b"\\",
    b"\n",
    b"\r",
    b"\t",
    b",",
    b"\0",
    b"\\ud83d",
    b"!!python/object:os.system",
    b"&a *a",
)
VALUES = (
    None,
    True,
    -1,
    0,
    0.5,
    2**31,
    2**63,
    10**30,
    10**400,
    1e999,
    "",
    "red",
    "../../x",
    "\ud83d",
    "\0",
    [],
    {},
    [[]],
    {"a": None},
)
_NUMBER = re.compile(rb"\d+")
_MOST = 3  # Damages of a file at most.


def flip(data, random, other):
    spots = [random.randrange(len(data)) for _ in range(random.choice((1, 1, 2, 8)))]
    made = bytearray(data)
    for spot in spots:
        made[spot] ^= 1 << random.randrange(8)
    return bytes(made)


def overwrite(data, random, other):
    start, length = random.randrange(len(data)), random.choice((1, 2, 4, 8))
    filling = random.choice(
        (b"\0" * length, b"\xff" * length, b"\x7f" + b"\xff" * (length - 1), random.randbytes(length))
    )
    return data[:start] + filling + data[start + length :]


def truncate(data, random, other):
    return data[: random.randrange(len(data))]


def remove(data, random, other):
    start = random.randrange(len(data))
    return data[:start] + data[start + 1 + random.randrange(16) :]


def repeat(data, random, other):
    start, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[start:end] * random.choice((1, 2, 20)) + data[end:]


def splice(data, random, other):
    start = random.randrange(len(other) + 1)
    return data[: random.randrange(len(data) + 1)] + other[start : start + random.choice((8, 64, 10**6))]


def insert(data, random, other):
    spot = random.randrange(len(data) + 1)
    return data[:spot] + random.choice(MARKS + WORDS + NUMBERS) + data[spot:]


def begin_with(data, random, other):
    return random.choice(MARKS) + data


def renumber(data, random, other):
    found = list(_NUMBER.finditer(data))
    if not found:
        return flip(data, random, other)
    place = random.choice(found)
    return data[: place.start()] + random.choice(NUMBERS) + data[place.end() :]


def encode_anew(data, random, other):
    return data.decode("utf-8", errors="replace").encode(random.choice(("utf-16", "utf-16-le", "utf-32", "utf-7")))


def empty(data, random, other):
    return random.choice((b"", b" \n", b"\0" * 64, b"null", b"[]", b"{}", b"5"))


def revalue(data, random, other):
    """Put a strange value at some place of a JSON or YAML file, or take the place out."""
    lines = data.decode("utf-8", errors="replace").strip().split("\n")
    number = random.randrange(len(lines))
    for text, load, dump in (
        (data, json.loads, json.dumps),
        (lines[number], json.loads, json.dumps),
        (data, yaml.safe_load, yaml.safe_dump),
    ):
        try:
            content = load(text)
        except (ValueError, yaml.YAMLError, RecursionError):
            continue
        if isinstance(content, dict | list) and content:
            made = dump(_revalued(content, random))
            return (
                "\n".join([*lines[:number], made, *lines[number + 1 :]]) if text is lines[number] else made
            ).encode()
    return flip(data, random, other)


def _revalued(content, random):
    """Go down by chance, and change what lies there."""
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = random.choice(keys)
    if isinstance(content[key], dict | list) and content[key] and random.random() < 0.8:
        content[key] = _revalued(content[key], random)
        return content
    how = random.randrange(8)
    if how == 0:
        del content[key]
    elif how == 1 and isinstance(content, dict):
        content[random.choice(WORDS).decode()] = content.pop(key)
    else:
        content[key] = random.choice(VALUES)
    return content


OF_BYTES = (flip, flip, overwrite, truncate, remove, repeat, splice, insert, begin_with, renumber, empty)
OF_TEXT = (*OF_BYTES, encode_anew, revalue, revalue, revalue, revalue)


def mutate(data, random, other, text):
    """
    Damage the bytes of a file.

    Args:
        data (`bytes`): Content of the file.
        random (`random.Random`): Source of all choices.
        other (`bytes`): Content of another file, to take a piece of.
        text (`bool`): `True` for a file of text, JSON or YAML.

    Returns:
        `tuple`: the new content, and the names of the damages.
    """
    names = []
    for _ in range(random.choice((1,) * 4 + tuple(range(2, _MOST + 1)))):
        if data:
            how = random.choice(OF_TEXT if text else OF_BYTES)
            data = how(data, random, other)
            names.append(how.__name__)
    return data, names
