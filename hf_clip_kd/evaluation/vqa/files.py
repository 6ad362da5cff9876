"""Questions of benchmarks, the files they come from, and the files that answers go to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image

from ...recipe_io.foreign import ForeignFileError, fields, read_json, read_json_lines, read_text
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
        image_name (`str`, *optional*):
            Name of a picture in memory, or of a picture that is not shown. Questions about one picture share it.
    """

    question_id: str | int
    image: str | PIL.Image.Image | None
    prompt: str
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    category: str = ""
    image_name: str | None = None

    @property
    def picture(self) -> str | None:
        """Name that all questions about one picture share: its path, else `image_name`."""
        return self.image if isinstance(self.image, str) else self.image_name


class Source:
    """
    File in a benchmark's own format. Every fault of it is a [`ForeignFileError`].

    Args:
        path (`str` or `Path`): Path that the user gave.
        form (`str`): Sentence that says what the file must hold.
        call (`str`): Correct call of the reader, for error messages.
    """

    def __init__(self, path: str | Path, form: str, call: str):
        self.path, self.form, self.call = Path(path), form, call
        self._words = {"allowed": form, "fix": f"Read it with `{call}`."}

    def error(self, problem: str, where: str = "") -> ForeignFileError:
        """Return the error of three parts: the problem and its place, the allowed form, the call."""
        return ForeignFileError(self.path, problem, where=where, **self._words)

    def text(self) -> str:
        """Read the file as [`read_text`] does."""
        return read_text(self.path, **self._words)

    def json(self, kind: type) -> Any:
        """Read the file as JSON whose whole content is a `kind`."""
        return read_json(self.path, kind, **self._words)

    def jsonl(self) -> list[tuple[str, Any]]:
        """Read a JSON value from each line, with its place, such as `"line 3"`."""
        return [(f"line {number}", value) for number, value in read_json_lines(self.path, **self._words)]

    def fields(self, row: Any, where: str, **kinds: Any) -> list[Any]:
        """
        Return the fields of a row in the order of `kinds`, each of its type, as [`foreign.fields`] does.

        Raises:
            ForeignFileError: if the row is no mapping, or a field is missing or of another type.
        """
        return fields(row, kinds, self.path, where=where, **self._words)

    def people(self, answers: list, where: str) -> tuple[str, ...]:
        """
        Return the answers of people. Each is a text, or a mapping with the text in `answer`.

        Raises:
            ForeignFileError: if an answer is something else.
        """
        texts = [answer.get("answer") if isinstance(answer, dict) else answer for answer in answers]
        return tuple(self.fields({"answers": texts}, where, answers=list[str])[0])


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


def check_ids(samples: list[Sample], source: Source) -> list[Sample]:
    """
    Return the samples unchanged. A benchmark's own scorer finds their answers by their ids.

    Raises:
        ForeignFileError: if two samples have the same id.
    """
    counts = Counter(str(sample.question_id) for sample in samples)
    twice = next((key for key, count in counts.items() if count > 1), None)
    if twice is not None:
        raise source.error(f"it has {counts[twice]} questions with the id {twice!r}")
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


def yes_or_no(text: str) -> str | None:
    """Read the right answer to a yes/no question, in any case and with or without a period, else `None`."""
    text = text.strip().rstrip(".").lower()
    return text if text in ("yes", "no") else None


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as JSON, whole or not at all; make the folder if needed."""
    write_whole(Path(path), json.dumps(content, indent=1) + "\n")


def write_lines(path: str | Path, rows: list[dict]) -> None:
    """Write one JSON per line, whole or not at all; make the folder if needed."""
    write_whole(Path(path), "".join(json.dumps(row) + "\n" for row in rows))
