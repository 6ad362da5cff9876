"""Declaration of a compositional benchmark: the parts that its file holds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..cases import Case


@dataclass(frozen=True)
class CaptionBenchmark:
    """Declaration of a compositional benchmark; each file of benchmarks ends in its own."""

    name: str = field(metadata={"help": "Key in `COMPOSITIONAL`, and `dataset_name` in a recipe's `evaluation`."})
    read: Callable[..., list[Case]] = field(metadata={"help": "Reader of the benchmark's files, or of its rows."})
    title: str = field(metadata={"help": "Name as its authors write it."})
    measures: str = field(metadata={"help": "Differences between the captions, for tables."})
    files: str = field(metadata={"help": "Files that the reader takes, for tables."})
    protocol: str = field(metadata={"help": "Rule that scores a case, for tables and result files."})
    scored_so_by: str = field(metadata={"help": "Code that computes the main metric so, for tables."})
    main_metric: str = field(metadata={"help": "Metric that the authors report."})
    paper: str = field(default="", metadata={"help": "Link to the paper."})
    two_images: bool = field(default=False, metadata={"help": "A case has two pictures with a caption each."})
    by_category: bool = field(default=True, metadata={"help": "Each category has metrics of its own."})
    macro: bool = field(default=False, metadata={"help": "There is `macro_acc`, a mean over categories."})
    left_out: frozenset[str] = field(
        default=frozenset(), metadata={"help": "Categories that do not count for `macro_acc`."}
    )
    fewest: int = field(default=1, metadata={"help": "Cases that a category needs to count for `macro_acc`."})

    def macro_categories(self, counts: Mapping[str, int]) -> set[str]:
        """Return the categories that count for `macro_acc`; none if the benchmark has no such metric."""
        counted = {category for category, number in counts.items() if number >= self.fewest}
        return counted - self.left_out if self.macro else set()

    def arguments(self) -> list[str]:
        """List the arguments that a recipe may give to the reader."""
        return list(inspect.signature(self.read).parameters)

    def load(self, given: dict[str, Any]) -> list[Case]:
        """
        Read the cases from the files that a recipe names.

        Args:
            given (`dict[str, Any]`): Arguments of the reader.

        Raises:
            ValueError: An argument is missing, unknown or no text, or a file is wrong.
        """
        names = self.arguments()
        missing = [name for name in names if name not in given]
        if missing:
            raise ValueError(
                f"`{missing[0]}` has no value. {self.title} is read from {' and '.join(names)} ({self.files}). "
                f"Add `{missing[0]}: PATH`."
            )
        for name, value in given.items():
            if name not in names:
                raise ValueError(
                    f"`{name}` is no argument of {self.title}. Its arguments are {', '.join(names)}. Delete it."
                )
            if not isinstance(value, str):
                raise ValueError(f"`{name}: {value!r}` is no path. It must be a text. Write `{name}: PATH`.")
        return self.read(**given)
