"""Flags in groups: the most common first, every one with `--help-all`."""

import re
from dataclasses import dataclass, field, fields
from typing import Literal

import pytest
from transformers import TrainingArguments

from hf_clip_kd.recipe_io.help import COMMON, declaring_class, flag_groups
from hf_clip_kd.recipe_io.parser import RecipeParser


@dataclass
class DataArguments:
    dataset_name: str = field(metadata={"help": "Images and texts."})
    image_column: str = field(default="image", metadata={"help": "Column of the images."})
    crop_scale: list[float] = field(default_factory=lambda: [0.9, 1.0], metadata={"help": "Range of the area."})
    interpolation: Literal["bilinear", "bicubic"] = field(default="bicubic", metadata={"help": "Resize filter."})


@dataclass
class TeacherDataArguments(DataArguments):
    teacher: str | list | None = field(default=None, metadata={"help": "The teacher."})


@dataclass
class KDTrainingArguments(TrainingArguments):
    losses: dict | None = field(default=None, metadata={"help": "The objective."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate."})


DTYPES = [TeacherDataArguments, KDTrainingArguments]
FIRST = ("teacher", "losses", "max_steps")


@pytest.fixture
def parser(tmp_path):
    (tmp_path / "demo.yaml").write_text("dataset_name: shapes\nuse_cpu: true\n")
    return RecipeParser(DTYPES, tmp_path / "demo.yaml", description="Distil.", first=FIRST)


def shown(parser, capsys, flag):
    with pytest.raises(SystemExit, match="0"):
        parser.parse([flag])
    return capsys.readouterr().out


def flags(text):
    return re.findall(r"^  --([\w-]+)", text, re.MULTILINE)


def test_groups_hold_every_field_once():
    groups = flag_groups(DTYPES, FIRST)
    # `teacher` is the one field of its class and stands in the first group.
    assert list(groups) == ["Most often set", "Data", "KD training", "Trainer", "Trainer, the rest"]
    assert groups["Most often set"] == list(FIRST) and groups["KD training"] == ["learning_rate"]
    assert groups["Data"] == [field.name for field in fields(DataArguments)]
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(field.name for dtype in DTYPES for field in fields(dtype) if field.init)


def test_common_flags_exist_in_transformers():
    assert set(COMMON) <= {field.name for field in fields(TrainingArguments)}


def test_declaring_class_is_the_most_derived_one():
    assert declaring_class(KDTrainingArguments, "learning_rate") is KDTrainingArguments
    assert declaring_class(KDTrainingArguments, "seed") is TrainingArguments
    assert declaring_class(TeacherDataArguments, "crop_scale") is DataArguments


def test_help_shows_the_first_flags_first_and_leaves_out_rare_ones(parser, capsys):
    text = shown(parser, capsys, "--help")
    assert text.startswith("usage: ") and "\nDistil.\n" in text
    assert flags(text)[:6] == ["help", "help-all", "config", *FIRST]
    assert {"dataset_name", "crop_scale", "learning_rate", "seed", "output_dir"} <= set(flags(text))
    assert not {"ddp_timeout", "hub_token", "no_skip_memory_metrics"} & set(flags(text))
    hidden = int(re.search(r"`--help-all` shows (\d+) more flags", text)[1])
    assert hidden == len(flag_groups(DTYPES, FIRST)["Trainer, the rest"]) > 50


def test_help_all_shows_every_flag(parser, capsys):
    text = shown(parser, capsys, "--help-all")
    names = {field.name for dtype in DTYPES for field in fields(dtype) if field.init}
    assert names <= set(flags(text)) and "no_skip_memory_metrics" in flags(text)
    assert len(shown(parser, capsys, "--help").splitlines()) < len(text.splitlines()) / 3


def test_a_flag_shows_its_value_and_default(parser, capsys):
    words = " ".join(shown(parser, capsys, "-h").split())
    for line in (
        "--teacher TEXT|JSON The teacher. --losses",
        "--crop_scale JSON Range of the area. (default: [0.9, 1.0])",
        "--interpolation {bilinear,bicubic} Resize filter. (default: bicubic)",
        "--max_steps INT",
        "--learning_rate NUMBER Peak learning rate. (default: 0.001)",
        "--bf16 [true|false]",
    ):
        assert line in words


def test_a_flag_that_help_hides_still_parses(parser):
    _, training = parser.parse(["--ddp_timeout", "7", "--no_skip_memory_metrics"])
    assert training.ddp_timeout == 7 and training.skip_memory_metrics is False
