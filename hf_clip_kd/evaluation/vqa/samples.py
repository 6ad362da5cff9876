"""One question of any benchmark, and the files it comes from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image

# What LLaVA appends to a question; asked otherwise, the same model scores otherwise.
SHORT_ANSWER = "\nAnswer the question using a single word or phrase."
OPTION_LETTER = "\nAnswer with the option's letter from the given choices directly."
UNANSWERABLE = "\nWhen the provided information is insufficient, respond with 'Unanswerable'."


@dataclass(frozen=True)
class Sample:
    """
    One question.

    Attributes:
        question_id (`str` or `int`):
            As in LLaVA's files. Not unique in TextVQA and MME, where it names the image; with `prompt` it is.
        image (`str` or `PIL.Image.Image`, *optional*):
            Path of the image, or the picture itself; `None` for a question without one.
        prompt (`str`):
            What the user says, without image token and chat template.
        answers (`tuple[str, ...]`):
            The accepted answers: ten of people, one, or a letter. Empty where the benchmark hides them.
        choices (`tuple[str, ...]`):
            Texts of the options A, B, ...
        category (`str`):
            What the benchmark reports on its own: subtask, subject, answer type.
    """

    question_id: str | int
    image: str | PIL.Image.Image | None
    prompt: str
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    category: str = ""


class Source:
    """
    A file in a benchmark's own format.

    Args:
        path (`str` or `Path`): What the user gave.
        form (`str`): A sentence: what the file must hold.
        call (`str`): The call that reads it rightly, for the messages.
    """

    def __init__(self, path: str | Path, form: str, call: str):
        self.path, self.form, self.call = Path(path), form, call

    def error(self, problem: str) -> ValueError:
        """The three parts: what is wrong where, what is allowed, the call."""
        return ValueError(f"{self.path}: {problem}. {self.form} Read it with `{self.call}`.")

    def text(self) -> str:
        """What the file holds."""
        if not self.path.is_file():
            raise self.error("there is no such file")
        return self.path.read_text(encoding="utf-8")

    def json(self, kind: type) -> Any:
        """The file's JSON, which must be a `kind`."""
        try:
            content = json.loads(self.text())
        except json.JSONDecodeError as error:
            raise self.error(f"line {error.lineno} is no JSON ({error.msg})") from error
        if not isinstance(content, kind):
            raise self.error(f"it holds a {type(content).__name__}, not a {kind.__name__}")
        return content

    def jsonl(self) -> list[Any]:
        """One JSON per line; empty lines are passed over."""
        rows = []
        for number, line in enumerate(self.text().splitlines(), start=1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError as error:
                    raise self.error(f"line {number} is no JSON ({error.msg})") from error
        return rows

    def fields(self, row: Any, where: str, *names: str) -> list[Any]:
        """Values of a row by name."""
        missing = [name for name in names if not isinstance(row, dict) or name not in row]
        if missing:
            raise self.error(f"{where} has no {missing}")
        return [row[name] for name in names]


def image_path(image_folder: str | Path | None, name: str) -> str:
    """`image_folder/name`, or the bare name where no folder is given."""
    return name if image_folder is None else str(Path(image_folder) / name)


def check_images(samples: list[Sample], image_folder: str | Path | None, source: Source) -> list[Sample]:
    """The samples, once there is at least one and the first one's image is where it should be."""
    if not samples:
        raise source.error("it holds no question")
    first = next((sample.image for sample in samples if sample.image), None)
    if image_folder is not None and first is not None and not Path(first).is_file():
        raise ValueError(
            f"`image_folder={str(image_folder)!r}` has no image {first}, which the first question of {source.path} "
            f"asks about. It must be the folder with the benchmark's images. Pass it: `{source.call}`."
        )
    return samples


def options_text(choices: Sequence[str], form: str = "{letter}. {text}") -> str:
    """The options, one per line: `A. red`."""
    return "\n".join(form.format(letter=chr(ord("A") + i), text=text) for i, text in enumerate(choices))
