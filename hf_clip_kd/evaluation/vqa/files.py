"""Questions of benchmarks, the files they come from, and the files that answers go to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image

from ...recipe_io.results import check_answers, write_whole

# LLaVA appends these to a question. The same model scores differently with other endings.
SHORT_ANSWER = "\nAnswer the question using a single word or phrase."
OPTION_LETTER = "\nAnswer with the option's letter from the given choices directly."
UNANSWERABLE = "\nWhen the provided information is insufficient, respond with 'Unanswerable'."


@dataclass(frozen=True)
class Sample:
    """
    Question of a benchmark.

    Attributes:
        question_id (`str` or `int`):
            Id as in LLaVA's files. TextVQA and MME name the image here, so it is unique only with `prompt`.
        image (`str` or `PIL.Image.Image`, *optional*):
            Path of the image, or the picture itself. `None` for a question without one.
        prompt (`str`):
            Text that the user says, without image token and chat template.
        answers (`tuple[str, ...]`):
            Accepted answers: ten of people, one, or a letter. Empty if the benchmark hides them.
        choices (`tuple[str, ...]`):
            Texts of the options A, B, ...
        category (`str`):
            Group that the benchmark reports separately: subtask, subject, answer type.
    """

    question_id: str | int
    image: str | PIL.Image.Image | None
    prompt: str
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    category: str = ""


class Source:
    """
    File in a benchmark's own format.

    Args:
        path (`str` or `Path`): Path that the user gave.
        form (`str`): Sentence that says what the file must hold.
        call (`str`): Correct call of the reader, for error messages.
    """

    def __init__(self, path: str | Path, form: str, call: str):
        self.path, self.form, self.call = Path(path), form, call

    def error(self, problem: str) -> ValueError:
        """Return the error of three parts: the problem and its file, the allowed form, the call."""
        return ValueError(f"{self.path}: {problem}. {self.form} Read it with `{self.call}`.")

    def text(self) -> str:
        """
        Read the file as text.

        Raises:
            ValueError: if the file does not exist.
        """
        if not self.path.is_file():
            raise self.error("there is no such file")
        return self.path.read_text(encoding="utf-8")

    def json(self, kind: type) -> Any:
        """
        Read the file as JSON.

        Raises:
            ValueError: if the file is no JSON, or its content is no `kind`.
        """
        try:
            content = json.loads(self.text())
        except json.JSONDecodeError as error:
            raise self.error(f"line {error.lineno} is no JSON ({error.msg})") from error
        if not isinstance(content, kind):
            raise self.error(f"it holds a {type(content).__name__}, not a {kind.__name__}")
        return content

    def jsonl(self) -> list[Any]:
        """
        Read one JSON per line and skip empty lines.

        Raises:
            ValueError: if a line is no JSON.
        """
        rows = []
        for number, line in enumerate(self.text().splitlines(), start=1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError as error:
                    raise self.error(f"line {number} is no JSON ({error.msg})") from error
        return rows

    def fields(self, row: Any, where: str, *names: str) -> list[Any]:
        """
        Return the values of a row in the order of `names`.

        Raises:
            ValueError: if the row is no mapping or lacks a name; the message says `where`.
        """
        missing = [name for name in names if not isinstance(row, dict) or name not in row]
        if missing:
            raise self.error(f"{where} has no {missing}")
        return [row[name] for name in names]


def image_path(image_folder: str | Path | None, name: str) -> str:
    """Return `image_folder/name`, or the bare name if no folder is given."""
    return name if image_folder is None else str(Path(image_folder) / name)


def check_images(samples: list[Sample], image_folder: str | Path | None, source: Source) -> list[Sample]:
    """
    Return the samples unchanged.

    Raises:
        ValueError: if there is no sample, or the first image is not in `image_folder`.
    """
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
    """Write the options, one per line: `A. red`."""
    return "\n".join(form.format(letter=chr(ord("A") + i), text=text) for i, text in enumerate(choices))


def pair_answers(samples: Sequence[Sample], answers: Sequence[str]) -> list[tuple[Sample, str]]:
    """
    Pair each sample with its answer.

    Raises:
        ValueError: if the numbers of samples and answers differ, or all answers are empty.
    """
    if len(samples) != len(answers):
        raise ValueError(
            f"There are {len(answers)} answers to {len(samples)} samples. Each sample needs one, in the same order. "
            "Read answers of a file with `read_answers(path, samples)`."
        )
    check_answers("these questions", answers)
    return list(zip(samples, answers, strict=True))


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as JSON, whole or not at all; make the folder if needed."""
    write_whole(Path(path), json.dumps(content, indent=1) + "\n")


def write_lines(path: str | Path, rows: list[dict]) -> None:
    """Write one JSON per line, whole or not at all; make the folder if needed."""
    write_whole(Path(path), "".join(json.dumps(row) + "\n" for row in rows))
