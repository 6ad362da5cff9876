"""Declaration of a benchmark: the parts that its file holds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import Sample

if TYPE_CHECKING:
    from ..metric import VQAMetric

# LLaVA's answer lengths in tokens: short answers, and answers that may explain themselves.
MAX_NEW_TOKENS = 128
MAX_NEW_TOKENS_LONG = 1024


@dataclass(frozen=True)
class Benchmark:
    """
    Declaration of a benchmark; each file of a benchmark ends in one.

    Attributes:
        name (`str`):
            Key in `BENCHMARKS` and in a recipe's `evaluation`.
        read (`Callable[..., list[Sample]]`):
            Reader of the benchmark's files. It writes the prompts, with the ending that the benchmark asks for.
            Recipes give its arguments by name, except `protocol`, which every benchmark has.
        title (`str`):
            Name as its authors write it.
        measures (`str`):
            Subject of the questions, for tables.
        files (`str`):
            Files that the reader takes, for tables.
        protocol (`str`):
            Rule that scores an answer, for tables.
        computed_by (`str`, *optional*):
            Code bases that compute the score so, for tables.
        paper (`str`, *optional*):
            Link to the paper; empty if there is none.
        metric (type of [`VQAMetric`], *optional*):
            Metric of the answers. `None` if they can only be exported.
        write (`Callable[..., None]`, *optional*):
            Writer `write(path, samples, answers)` for the benchmark's own scorer, judge or server. It gets the
            model's name if it has an argument `model_id`.
        submission_suffix (`str`, *optional*, defaults to `".json"`):
            Ending of the written file; empty for a folder.
        max_new_tokens (`int`, *optional*, defaults to 128):
            Longest answer in tokens.
        short_answers (`bool`, *optional*, defaults to `True`):
            Measure the likelihood of the accepted answers. A free text is never given as it is written there.
        any_case (`bool`, *optional*, defaults to `False`):
            Take `Yes` for the answer `yes`, as the metric does. The likelihood is that of the likelier.
        needs_image (`bool`, *optional*, defaults to `False`):
            Give questions without an image the empty answer, and do not ask a model, nor a blind one.
    """

    name: str
    read: Callable[..., list[Sample]]
    title: str
    measures: str
    files: str
    protocol: str
    computed_by: str = ""
    paper: str = ""
    metric: type[VQAMetric] | None = None
    write: Callable[..., None] | None = None
    submission_suffix: str = ".json"
    max_new_tokens: int = MAX_NEW_TOKENS
    short_answers: bool = True
    any_case: bool = False
    needs_image: bool = False

    def arguments(self) -> list[str]:
        """List the arguments that a recipe may give to the reader."""
        return [name for name in inspect.signature(self.read).parameters if name != "protocol"]

    def load(
        self,
        given: dict[str, Any],
        *,
        protocol: str,
        max_samples: int | None = None,
        load_shapes: Callable[..., Iterable[dict]] | None = None,
    ) -> list[Sample]:
        """
        Read the questions that a recipe names.

        Args:
            given (`dict[str, Any]`): Arguments of the reader.
            protocol (`str`): `"llava"` or `"lmms_eval"`, for readers that write two forms of a prompt.
            max_samples (`int`, *optional*): Number of questions to keep, from the first.
            load_shapes (`Callable`, *optional*): Source of the questions of `shapes`; others do not use it.

        Raises:
            ValueError: if an argument is missing or is no text, or a file is wrong.
        """
        parameters = inspect.signature(self.read).parameters
        missing = [name for name, part in parameters.items() if part.default is part.empty and name not in given]
        if missing:
            raise ValueError(
                f"`{missing[0]}` has no value. {self.read.__name__} reads {', '.join(parameters)}. "
                f"Add `{missing[0]}: PATH`."
            )
        for argument, value in given.items():
            if not isinstance(value, str):
                raise ValueError(
                    f"`{argument}: {value!r}` is no path. Arguments of {self.read.__name__} are text, most of them "
                    f"paths. Write `{argument}: PATH`, or leave it out."
                )
        asked = {"protocol": protocol} if "protocol" in parameters else {}
        return self.read(**given, **asked)[:max_samples]

    def write_submission(
        self, folder: Path, stem: str, samples: Sequence[Sample], answers: Sequence[str], model_id: str
    ) -> Path:
        """Write the answers to `folder/STEM` with the benchmark's ending, and return that path."""
        path = folder / (stem + self.submission_suffix)
        named = {"model_id": model_id} if "model_id" in inspect.signature(self.write).parameters else {}
        self.write(path, samples, answers, **named)
        return path
