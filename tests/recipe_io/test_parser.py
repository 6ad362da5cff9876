import logging
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

import pytest
import yaml
from transformers import TrainingArguments

from hf_clip_kd.recipe_io.parser import RecipeParser, exit_with_one_line, recipe_path

DEFAULT = "max_steps: 20\ndataset_name: shapes\nlosses: {clip: 1, fd: {weight: 2e3}}\n"


@dataclass
class DataArguments:
    dataset_name: str = field(metadata={"help": "Name of the images and texts."})
    image_column: str = field(default="image", metadata={"help": "Column of the images."})
    max_samples: int | None = field(default=None, metadata={"help": "Use at most so many rows."})
    crop_scale: list[float] = field(default_factory=lambda: [0.9, 1.0], metadata={"help": "Range of the crop's area."})
    templates: list[str] | None = field(default=None, metadata={"help": "Prompts around class names."})
    evaluators: list[dict] | None = field(default=None, metadata={"help": "Tasks to measure."})
    interpolation: Literal["bilinear", "bicubic"] = field(default="bicubic", metadata={"help": "Resize filter."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code of the Hub repository."})
    teacher_token: str | None = field(default=None, metadata={"help": "Token for the teacher's repository."})


@dataclass
class KDArguments(TrainingArguments):
    losses: dict | str | None = field(default_factory=lambda: {"clip": 1.0}, metadata={"help": "The objective."})
    options: dict[str, int] | None = field(default=None, metadata={"help": "More of it."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate."})


@pytest.fixture
def default(tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_text(DEFAULT)
    return path


def parse(default: Path, *argv: str, recipe: str | None = None):
    if recipe is not None:
        path = default.with_name("mine.yaml")
        path.write_text(recipe)
        argv = ("--config", str(path), *argv)
    argv = [*argv, "--use_cpu"]
    return RecipeParser([DataArguments, KDArguments], default).parse(argv)


def test_default_config_is_read_without_flags(default):
    data, args = parse(default)
    assert (data.dataset_name, data.image_column, args.max_steps) == ("shapes", "image", 20)
    assert args.losses == {"clip": 1, "fd": {"weight": 2000.0}}


def test_flag_wins_over_file_and_file_over_default(default):
    recipe = "dataset_name: imagefolder\nmax_steps: 30\nlearning_rate: 1e-4\n"
    data, args = parse(default, "--max_steps", "40", "--seed=7", recipe=recipe)
    assert (data.dataset_name, args.max_steps, args.learning_rate, args.seed) == ("imagefolder", 40, 1e-4, 7)
    assert args.losses == {"clip": 1.0}  # the default config is not read beside another


# A row per kind of value holds the field, the text in YAML and the value. The flag takes the same text.
VALUES = [
    ("max_steps", "-1", -1),
    ("learning_rate", "1e-3", 1e-3),
    ("learning_rate", "2", 2.0),
    ("save_strategy", "no", "no"),
    ("logging_strategy", "epoch", "epoch"),
    ("bf16_full_eval", "no", False),
    ("trust_remote_code", "yes", True),
    ("trust_remote_code", "true", True),
    ("disable_tqdm", "true", True),
    ("dataset_name", "007", "007"),
    ("hub_revision", "1.10", "1.10"),
    ("dataset_name", "on", "on"),
    ("image_column", "=x --y", "=x --y"),
    ("max_samples", "null", None),
    ("interpolation", "bilinear", "bilinear"),
    ("losses", '{"clip": 1, "fd": {"weight": 2000}}', {"clip": 1, "fd": {"weight": 2000}}),
    ("options", '{"a": 1}', {"a": 1}),
    ("crop_scale", "[1, 0.5]", [1.0, 0.5]),
    ("templates", '["a photo of a {}", "{}"]', ["a photo of a {}", "{}"]),
    ("evaluators", '[{"kind": "retrieval", "batch_size": 8}]', [{"kind": "retrieval", "batch_size": 8}]),
    ("report_to", '["tensorboard", "wandb"]', ["tensorboard", "wandb"]),
    ("report_to", "tensorboard", ["tensorboard"]),
    ("accelerator_config", '{"split_batches": true}', None),
    ("lr_scheduler_kwargs", '{"num_cycles": 2}', {"num_cycles": 2}),
]


@pytest.mark.parametrize(("name", "text", "value"), VALUES)
def test_yaml_and_flag_give_the_same_value(default, name, text, value):
    recipe = f"{name}: {text}\n" + ("" if name == "dataset_name" else "dataset_name: x\n")
    found = [
        next(getattr(instance, name) for instance in instances if hasattr(instance, name))
        for instances in (parse(default, recipe=recipe), parse(default, f"--{name}={text}"))
    ]
    assert found[0] == found[1]
    if name == "accelerator_config":
        assert found[0].split_batches is True
    else:
        assert found[0] == value
        assert type(found[0]) is type(value) or isinstance(found[0], str)


def test_yaml_block_styles_and_null(default):
    recipe = (
        "dataset_name: x\nlosses:\n  clip: 1e-3\n  fd: {normalize: no}\ntemplates:\n  - 1.10\n  - no\nmax_samples:\n"
    )
    data, args = parse(default, recipe=recipe)
    assert args.losses == {"clip": 1e-3, "fd": {"normalize": False}}
    assert data.templates == ["1.10", "no"] and data.max_samples is None


def test_flag_can_take_back_what_the_file_sets(default):
    data, _ = parse(default, "--max_samples", "null", recipe="dataset_name: x\nmax_samples: 5\n")
    assert data.max_samples is None


@dataclass
class LayerArguments:
    layers: int | list[int] = field(default=-2, metadata={"help": "One layer or several."})


@pytest.mark.parametrize("value", [-1, [-2, -1]], ids=str)
def test_a_number_may_stand_where_a_list_may(tmp_path, value):
    path = tmp_path / "layers.yaml"
    path.write_text(f"layers: {value}")
    (from_file,) = RecipeParser(LayerArguments, path).parse([])
    (from_flag,) = RecipeParser(LayerArguments, path).parse(["--layers", str(value)])
    assert from_file.layers == from_flag.layers == value


@pytest.mark.parametrize("value", ["true", "1.5", "last"])
def test_what_is_no_number_is_none(tmp_path, value):
    path = tmp_path / "layers.yaml"
    path.write_text(f"layers: {value}")
    with pytest.raises(ValueError, match="`layers`: .*It takes an integer or a list"):
        RecipeParser(LayerArguments, path).parse([])


# Faults, and the words of their errors: the value and its origin, the allowed values, the fix.
BAD_RECIPES = [
    ("max_steps: 3.7", r"mine.yaml, `max_steps`: invalid int value: '3.7'.*an integer.*leave `max_steps` out .*-1"),
    ("max_step: 3", r"mine.yaml, line 2: 'max_step' is no argument. Did you mean `max_steps`\?"),
    ("zzzzzzzz: 3", r"'zzzzzzzz' is no argument. Run with `--help-all`"),
    ("no_remove_unused_columns: true", "is no argument. Did you mean `remove_unused_columns`"),
    ("use_cpu: maybe", "`use_cpu`: Truthy value expected: got maybe.*true or false"),
    ("eval_strategy: off", r"eval_strategy`: invalid choice: 'off'.*'no', 'steps', 'epoch'"),
    ("seed: one", "`seed`: invalid int value: 'one'"),
    ("seed:", "mine.yaml, line 2: `seed` cannot be empty. It takes an integer. Give it a value"),
    ("seed: [1]", "`seed`: invalid int value: '\\[1\\]'"),
    ("save_strategy: false", "invalid choice: 'false'.*'no'"),
    ("interpolation: nearest", "`interpolation`: invalid choice: 'nearest'.*bilinear.*leave .* out .*'bicubic'"),
    ("crop_scale: 0.5", r"`crop_scale`: '0.5' is float. It takes a list \(on the command line as JSON"),
    ("crop_scale: [0.5, a]", "`crop_scale`: 'a' in .* is not of type float"),
    ("options: [1]", "`options`: '\\[1\\]' is list. It takes a mapping"),
    ("options: clip", "`options`: 'clip' is no JSON"),
    ("dataset_name: y", "`dataset_name` stands on line 1 and again on line 2"),
    ("a: [", "mine.yaml is no valid YAML"),
]


@pytest.mark.parametrize(("line", "match"), BAD_RECIPES)
def test_bad_recipe(default, line, match):
    with pytest.raises(ValueError, match=match):
        parse(default, recipe=f"dataset_name: x\n{line}\n")


BAD_FLAGS = [
    (["--max_step", "3"], "On the command line, '--max_step' is no flag. Did you mean `--max_steps`"),
    (["--max_stepz=3"], "'--max_stepz' is no flag. Did you mean `--max_steps`"),
    (["--max_steps=3.7"], "On the command line, `max_steps`: invalid int value: '3.7'"),
    (["--max_steps"], "`max_steps`: expected one argument"),
    (["--templates", "a photo", "{}"], "`templates`: 'a photo' is no JSON.*JSON, `'\\[1, 2\\]'`"),
    (["--seed", "1", "2"], "'2' belongs to no flag"),
    (["--config", "none.yaml"], "`--config none.yaml`: there is no such file.*demo.yaml.*your own copy"),
    (["--config"], "--config.*expected one argument.*--help"),
]


@pytest.mark.parametrize(("argv", "match"), BAD_FLAGS)
def test_bad_flag(default, argv, match):
    with pytest.raises(ValueError, match=match):
        parse(default, *argv)


@pytest.mark.parametrize(
    ("recipe", "match"),
    [
        (
            "seed: 1\n",
            "`dataset_name` has no value.* nor in .*mine.yaml.*a string. Pass `--dataset_name VALUE` or add",
        ),
        ("", "`dataset_name` has no value"),
        ("- seed\n", "mine.yaml holds no mapping"),
        ("seed", "mine.yaml holds no mapping"),
    ],
)
def test_recipe_as_a_whole_is_checked(default, recipe, match):
    with pytest.raises(ValueError, match=match):
        parse(default, recipe=recipe)


def test_a_second_parser_works_and_types_stay(default):
    parse(default)
    before = {f.name: f.type for f in fields(KDArguments)}
    data, args = parse(default, '--losses={"crd": 1}', "--templates", '["{}"]')
    assert args.losses == {"crd": 1} and data.templates == ["{}"]
    assert {f.name: f.type for f in fields(KDArguments)} == before
    assert before["losses"] == dict | str | None


def test_instances_share_no_default(default):
    first, second = parse(default, recipe="dataset_name: x\n"), parse(default, recipe="dataset_name: x\n")
    assert first[0].crop_scale == second[0].crop_scale and first[0].crop_scale is not second[0].crop_scale


def test_save_reads_back_to_the_same_instances(default, tmp_path):
    parser = RecipeParser([DataArguments, KDArguments], default)
    argv = [
        "--hub_token=hf_secret",
        "--teacher_token=hf_secret",
        "--use_cpu",
        "--save_strategy=no",
        "--report_to=none",
    ]
    argv += ['--accelerator_config={"split_batches": true}', '--templates=["1.10", "no"]', "--hub_revision=1e5"]
    saved = parser.parse([*argv, "--learning_rate=1e-5", "--eval_strategy=steps", "--eval_steps=3"])
    parser.save(tmp_path / "recipe.yaml", *saved)
    text = (tmp_path / "recipe.yaml").read_text()
    assert "secret" not in text and "token" not in text
    written = yaml.safe_load(text)
    assert {f.name for f in fields(DataArguments)} - {"teacher_token"} <= set(written)  # all of ours
    assert {"losses", "learning_rate", "max_steps", "save_strategy"} <= set(written)
    assert "weight_decay" not in written  # transformers' own, and nobody set it

    data, args = RecipeParser([DataArguments, KDArguments], default).parse(["--config", str(tmp_path / "recipe.yaml")])
    saved[0].teacher_token = None
    assert data == saved[0]
    saved[1].hub_token = None
    assert args.to_dict() == saved[1].to_dict()


def test_save_keeps_what_two_parses_gave_apart(default, tmp_path):
    parser = RecipeParser([DataArguments, KDArguments], default)
    parser.parse(["--use_cpu", "--seed=3"])
    parser.save(tmp_path / "recipe.yaml", *parser.parse(["--use_cpu"]))
    assert "\nseed" not in (tmp_path / "recipe.yaml").read_text()


def test_one_dataclass_needs_no_list(default):
    default.write_text("dataset_name: ${HOME}\n")
    (data,) = RecipeParser(DataArguments, default).parse([])
    assert data.dataset_name == "${HOME}"


def test_flags_of_the_process_are_read_by_default(default, monkeypatch):
    default.write_text("dataset_name: x\n")
    monkeypatch.setattr("sys.argv", ["distill.py", "--image_column", "pixels"])
    (data,) = RecipeParser(DataArguments, default).parse()
    assert data.image_column == "pixels"


def test_a_recipe_is_a_path_or_a_name_in_a_folder(tmp_path):
    (tmp_path / "demo.yaml").touch()
    assert recipe_path(str(tmp_path / "demo.yaml"), tmp_path / "configs") == tmp_path / "demo.yaml"
    assert recipe_path("demo.yaml", tmp_path) == tmp_path / "demo.yaml"


def test_value_error_becomes_one_line_and_code_2(capsys, caplog):
    def main():
        raise ValueError("`a` is wrong.\nAllowed: b.")

    with caplog.at_level(logging.DEBUG, "hf_clip_kd.recipe_io.parser"), pytest.raises(SystemExit) as exit_:
        exit_with_one_line(main)
    assert exit_.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: `a` is wrong. Allowed: b."
    assert caplog.records[0].exc_info


def test_other_errors_and_success_pass_through():
    def main():
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        exit_with_one_line(main)
    assert exit_with_one_line(lambda: None) is None
