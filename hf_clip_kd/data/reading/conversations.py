"""Messages and images of one sample, from LLaVA's form, OpenAI's form or that of transformers."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from textwrap import shorten
from typing import Any
from urllib.parse import unquote, urlsplit

from ...recipe_io.foreign import FieldError, ForeignFileError, convert

IMAGE_MARKER = "<image>"
FORMS = (
    "A sample has `conversations`, a list of {'from': 'human' or 'gpt', 'value': ...}, or `messages`, a list of "
    "{'role': 'user' or 'assistant', 'content': ...}, or `question` with `answer` or `answers`, and for images "
    "`image` or `images`."
)
# Fields with the text of a sample. The first that is there counts, and `question` brings its answers along.
TURNS = ("messages", "conversations", "question")
_PARTS = (
    "Content is a text, or a list of {'type': 'text', 'text': ...}, {'type': 'image'} and {'type': 'image_url', "
    "'image_url': {'url': ...}}."
)
_ROLES = {"human": "user", "gpt": "assistant"}
# Keys of a part that hold its picture, in the form of transformers and in OpenAI's.
_PICTURES = ("image", "image_url", "path", "url")


def fault(problem: str, allowed: str = FORMS, fix: str = "Repair it, or pass another file.") -> ForeignFileError:
    """Return the error of a sample; the problem names the sample and its file."""
    return ForeignFileError(f"{problem}. {allowed} {fix}")


def read_messages(sample: dict[str, Any], where: str) -> tuple[list[dict[str, str]], list[str | dict]]:
    """
    Read the messages of one sample.

    Args:
        sample (`dict`): Sample with `messages`, `conversations` or `question`.
        where (`str`): Name of the sample, for errors.

    Returns:
        `tuple`: messages with `role` and `content`, and the images that they hold, as [`read_images`] returns them.
        In `content`, a string, `<image>` stands for an image.

    Raises:
        ForeignFileError: A message is not of a known form.
    """
    if not any(name in sample for name in TURNS):
        raise fault(f"The {where} has the fields {list(sample)}", fix="Rename them.")
    turns = sample.get("messages") or sample.get("conversations") or _question_and_answer(sample, where)
    if not isinstance(turns, list):
        raise fault(f"The {where} has the messages {_short(turns)}, which are no list")
    messages, images = [], []
    for turn in turns:
        if not isinstance(turn, dict) or not ({"from", "role"} & turn.keys() and {"value", "content"} & turn.keys()):
            raise fault(f"The {where} has the turn {_short(turn)}")
        role, content = _first(turn, "role", "from"), _first(turn, "content", "value")
        if not isinstance(role, str):
            raise fault(f"The {where} has the role {role!r} in the turn {_short(turn)}")
        content = _flat(content, where, images)
        if turn.get("role") is None:
            role = _ROLES.get(role, role)
            if role == "assistant" and not any(message["role"] == "user" for message in messages):
                continue
            if content.count(IMAGE_MARKER) == 1:
                content = f"{IMAGE_MARKER}\n{content.replace(IMAGE_MARKER, '').strip()}".strip()
        messages.append({"role": role, "content": content})
    return messages, images


def _question_and_answer(sample: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """Return a question and its commonest answer as messages. The first of equally common answers counts."""
    if "question" not in sample:
        return []
    answers = sample.get("answers") or sample.get("answer")
    answers = answers if isinstance(answers, list) else [answers]
    texts = [answer.get("answer") if isinstance(answer, dict) else answer for answer in answers]
    if None in texts:
        raise fault(f"The {where} has the question {_short(sample['question'])} without an answer")
    answer = Counter(_text(text, where) for text in texts).most_common(1)[0][0]
    return [{"role": "user", "content": sample["question"]}, {"role": "assistant", "content": answer}]


def mark_images(messages: list[dict[str, str]], num_images: int) -> list[dict[str, str]]:
    """Put a marker for each image in front of the first question, if no message has a marker."""
    if num_images and not any(IMAGE_MARKER in message["content"] for message in messages):
        question = next((message for message in messages if message["role"] == "user"), None)
        if question is not None:
            question["content"] = f"{IMAGE_MARKER}\n" * num_images + question["content"]
    return messages


def read_images(sample: dict[str, Any], where: str) -> list[str | dict]:
    """
    Read the fields `images` and `image` of a sample from a JSON file.

    Returns:
        `list` of paths, and of `{"bytes": ..., "path": None}` for pictures inside the file (`data:` URLs).

    Raises:
        ForeignFileError: An image is neither.
    """
    images = sample.get("images", sample.get("image")) or []
    return [_image(image, where, images) for image in (images if isinstance(images, list) else [images])]


def _image(value: Any, where: str, shown: Any) -> str | dict:
    if isinstance(value, dict) and isinstance(inner := _first(value, "path", "url"), str):
        value = inner
    if not isinstance(value, str):
        raise fault(
            f"An image of the {where} is not a path: {_short(shown)}",
            "In a JSON file images are paths.",
            "Write the path, or store images in a parquet file.",
        )
    scheme = urlsplit(value).scheme if ":" in value[:8] else ""
    if scheme == "data":
        header, _, data = value.partition(",")
        try:
            return {"bytes": base64.b64decode(data, validate=True), "path": None}
        except (binascii.Error, ValueError) as error:
            problem = f"An image of the {where} is no base64 ({error}): {_short(value)}"
            raise fault(problem, "A `data:` URL is `data:image/png;base64,...`.") from error
    if scheme == "file":
        return unquote(urlsplit(value).path)
    if scheme in ("http", "https"):
        raise fault(
            f"An image of the {where} is the address {_short(value)}",
            "Images are files, nothing is downloaded in training.",
            "Download the images, and write their paths.",
        )
    return value


def _flat(content: Any, where: str, images: list[str | dict]) -> str:
    """Join the parts of a message to one string, as chat templates do, and add their pictures to `images`."""
    if content is None:
        return ""
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return _text(content, where)
    texts = [_part(part, where, images) for part in content]
    for i, following in enumerate(texts[1:]):
        if texts[i] is None and not (following or "x")[0].isspace():
            texts[i] = f"{IMAGE_MARKER}\n"
    return "".join(IMAGE_MARKER if text is None else text for text in texts)


def _part(part: Any, where: str, images: list[str | dict]) -> str | None:
    """Return the text of a part, or `None` for an image."""
    if not isinstance(part, dict):
        raise fault(f"The {where} has the part {_short(part)}", _PARTS)
    kind, picture = part.get("type"), _first(part, *_PICTURES)
    if kind is None and (picture is None) != (part.get("text") is None):
        kind = "text" if picture is None else "image"
    if kind in ("image", "image_url"):
        if picture is not None:
            images.append(_image(picture, where, picture))
        elif kind == "image_url":
            raise fault(f"The {where} has the part {_short(part)} without a picture", _PARTS)
        return None
    if kind == "text":
        return "" if part.get("text") is None else _text(part["text"], where)
    raise fault(f"The {where} has the part {_short(part)} of the type {kind!r}", _PARTS)


def _text(value: Any, where: str) -> str:
    try:
        return convert(value, str)
    except FieldError as error:
        raise fault(f"A message of the {where} {error}", _PARTS) from error


def _first(values: dict[str, Any], *names: str) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _short(value: Any) -> str:
    return shorten(repr(value), 80)
