"""A stage: one script with its arguments, known by a hash of all that its outcome depends on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ...recipe_io.results import read_written, write_whole

ARGUMENTS, DONE = "arguments.yaml", "stage.json"
STAGES = PurePosixPath("stages")
FEATURES = PurePosixPath("features")  # Folders of what frozen towers say about images.


@dataclass(frozen=True)
class Kind:
    """Facts that all stages of one kind share."""

    script: str = field(metadata={"help": "Its file in recipes/."})
    output: str = field(metadata={"help": "Folder of its output, seen from its own."})
    product: str = field(
        metadata={
            "help": "A file that only a finished stage leaves there. The exit code is not enough. A training that "
            "is told to stop saves a checkpoint and exits with code 0."
        }
    )
    resumes: bool = field(default=False, metadata={"help": "True if it goes on from its last checkpoint."})
    launched: bool = field(
        default=True, metadata={"help": "True if several processes can share it, by `accelerate launch`."}
    )


KINDS = {
    "teacher": Kind("distill.py", ".", "config.json", resumes=True),
    "student": Kind("distill.py", ".", "config.json", resumes=True),
    "lift": Kind("train_vlm.py", "vlm", "config.json", resumes=True),
    "cache": Kind("cache_teacher.py", ".", "index.safetensors"),
    "evaluate": Kind("evaluate.py", "results", "."),
    "language_model": Kind("prime_lm.py", ".", "config.json", resumes=True, launched=False),
    # It leaves a summary beside its output, and so needs a folder of its own.
    "vlm": Kind("train_vlm.py", "vlm", "config.json", resumes=True),
    "vqa": Kind("evaluate_vlm.py", "results", "."),
    "cost": Kind("measure_cost.py", ".", "cost.json", launched=False),
}


@dataclass(frozen=True)
class Stage:
    """
    One process of a study.

    Raises:
        TypeError: if the arguments hold what JSON cannot.
    """

    kind: str = field(metadata={"help": "Key of `KINDS`."})
    arguments: dict[str, Any] = field(
        hash=False,
        compare=False,
        metadata={
            "help": "Arguments of the script. A `PurePosixPath` is relative to the study's folder, also in the hash."
        },
    )
    needs: tuple[Stage, ...] = field(
        default=(),
        hash=False,
        compare=False,
        metadata={"help": "Stages that must have ended before, without an error."},
    )
    seconds: float | None = field(
        default=None, hash=False, compare=False, metadata={"help": "Expected time, if anybody has said."}
    )
    placed: dict[str, Any] = field(
        default_factory=dict,
        hash=False,
        compare=False,
        metadata={"help": "Arguments to write in the place of those in the hash; the outcome is the same."},
    )
    launch: dict[str, Any] = field(
        default_factory=dict,
        hash=False,
        compare=False,
        metadata={"help": "Values of `launch_of`, by which `accelerate launch` starts it; empty for plain Python."},
    )
    id: str = field(init=False, metadata={"help": "Its kind and the first digits of the hash."})

    def __post_init__(self):
        # An empty launch changes no hash, so a study without one goes on with what it has.
        launched = [self.launch] if self.launch and KINDS[self.kind].launched else []
        object.__setattr__(self, "id", f"{self.kind}-{digits([self.kind, self.arguments, *launched])}")

    @property
    def folder(self) -> PurePosixPath:
        """Its folder, seen from the study's."""
        return STAGES / self.id

    @property
    def output(self) -> PurePosixPath:
        """Its product, seen from the study's folder: a model, a cache, a folder of results."""
        return self.folder / KINDS[self.kind].output

    @property
    def features(self) -> PurePosixPath | None:
        """Folder of its tower's features, seen from the study's. All stages that read this tower share it."""
        return self.placed.get("feature_cache")

    def write_arguments(self, root: Path) -> Path:
        """Write the YAML for `--config`, from which the stage can be run by hand, too."""
        path = root / self.folder / ARGUMENTS
        # The outcome does not depend on the folder, nor on an interruption.
        own: dict[str, Any] = {"output_dir": self.output}
        if KINDS[self.kind].resumes:
            own["resume_from_checkpoint"] = "auto"
        placed = {name: _placed(value, root) for name, value in (self.arguments | self.placed | own).items()}
        write_whole(path, yaml.safe_dump(placed, sort_keys=False, allow_unicode=True, width=110))
        return path

    def record(self, root: Path) -> dict[str, Any] | None:
        """Return the record that was written when the stage was done, or `None`."""
        path = root / self.folder / DONE
        return read_written(path) if path.is_file() else None

    def is_whole(self, root: Path) -> bool:
        """Return True if its folder holds the product of a finished stage."""
        return (root / self.output / KINDS[self.kind].product).exists()

    def forget_product(self, root: Path) -> None:
        """Delete what an earlier attempt at a training left as its product: one that is stopped must not have it."""
        if KINDS[self.kind].resumes:
            (root / self.output / KINDS[self.kind].product).unlink(missing_ok=True)

    def temporary(self, root: Path) -> list[Path]:
        """Return the folders that a finished stage does not need."""
        return list((root / self.output).glob("checkpoint-*"))


def with_needed(stages: list[Stage]) -> list[Stage]:
    """Return the stages and all that they need, each once, none before a stage that it needs."""
    ordered: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        for needed in stage.needs:
            add(needed)
        ordered.setdefault(stage.id, stage)

    for stage in stages:
        add(stage)
    return list(ordered.values())


def digits(value: Any) -> str:
    """
    Return twelve hexadecimal digits that change with a value.

    Raises:
        TypeError: if it holds what JSON cannot. A `PurePosixPath` is a folder of the study.
    """
    told = json.dumps(value, sort_keys=True, default=_relative)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _relative(value: Any) -> str:
    if isinstance(value, PurePosixPath):
        return f"<study>/{value}"
    raise TypeError(f"{value!r} cannot be an argument of a stage: {type(value).__name__} is nothing that JSON holds.")


def _placed(value: Any, root: Path) -> Any:
    if isinstance(value, PurePosixPath):
        return str(root / value)
    if isinstance(value, dict):
        return {key: _placed(item, root) for key, item in value.items()}
    if isinstance(value, list):
        return [_placed(item, root) for item in value]
    return value
