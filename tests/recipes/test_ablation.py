"""recipes/ablation.py: what it trains, that it goes on where it was, and what its table says of the numbers."""

import importlib
import json
import sys
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch
import yaml

import hf_clip_kd as kd
from hf_clip_kd.losses import OBJECTIVES, DistillationLoss
from hf_clip_kd.losses.specification import specification
from hf_clip_kd.recipe_io.parser import RecipeParser

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "recipes/configs/ablation/demo.yaml"
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
ablation = importlib.import_module("recipes.ablation")


class BrokenLoss(DistillationLoss):
    needs_teacher = False

    def compute(self, student, teacher):
        raise RuntimeError("it cannot be computed")


BROKEN = f"{__name__}.BrokenLoss"


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A teacher with random weights, and a recipe of two steps."""
    folder = tmp_path_factory.mktemp("ablation")
    torch.manual_seed(0)
    teacher, processor = kd.load_clip("test-vit")
    teacher.save_pretrained(folder / "teacher")
    processor.save_pretrained(folder / "teacher")
    recipe = yaml.safe_load(DEMO.read_text()) | {
        "model_name_or_path": "test-vit",
        "teacher_model_name_or_path": str(folder / "teacher"),
        "teacher_recipe": None,
        "max_train_samples": 32,
        "objectives": ["fd"],
        "seeds": [0, 1],
        "processes": 1,
        "evaluation": {
            "zero_shot": {"dataset_name": "shapes", "split": "zero_shot", "max_samples": 64},
            "retrieval": {"dataset_name": "shapes", "split": "retrieval", "max_samples": 20},
        },
        "max_steps": 2,
        "per_device_train_batch_size": 16,
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def run(folder, output_dir, **flags):
    given = [part for name, value in flags.items() for part in (f"--{name}", json.dumps(value))]
    return ablation.main(["--config", str(folder / "tiny.yaml"), "--output_dir", str(output_dir), *given])


def arguments(**values):
    recipe = {"model_name_or_path": "test-vit", "teacher_model_name_or_path": "nowhere", "evaluation": {}}
    return ablation.AblationArguments(**(recipe | values))


# ---- What to run ----


def test_every_objective_alone_and_with_the_task():
    plan = ablation.planned(arguments(seeds=[0, 1, 2]))
    assert len({ablation.key(run) for run in plan}) == len(plan)
    seen = {(run["objective"], *run["losses"]) for run in plan if run["seed"] == 2}
    others = [name for name in kd.LOSSES if name != "clip"]
    assert seen == (
        {("clip", "clip"), *((name, name) for name in others), *((name, "clip", name) for name in others)}
        | {(name, *specification(name)) for name in OBJECTIVES}
    )
    assert len(plan) == 3 * len(seen)
    for run in plan:
        for name, spec in run["losses"].items():
            if run["objective"] not in OBJECTIVES:
                assert spec == {"weight": kd.LOSSES[name].default_weight}


def test_the_baseline_is_always_there():
    plan = ablation.planned(arguments(objectives=["crd"], seeds=[4], with_task=False))
    assert [run["objective"] for run in plan] == ["clip", "crd"]


def test_an_unknown_objective_ends_the_command_before_it_trains():
    with pytest.raises(ValueError, match="'crdd' in `losses` is no loss.*'crd'"):
        ablation.planned(arguments(objectives=["crdd"]))


def test_no_processes():
    with pytest.raises(ValueError, match="`processes=0` trains nothing.*at least 1.*--processes 1"):
        arguments(processes=0)


def test_the_recipe_is_sound():
    parser = RecipeParser((ablation.AblationArguments, kd.DistillationTrainingArguments), DEMO)
    args, training = parser.parse([])
    assert (args.with_task, args.seeds, args.objectives, args.write_table) == (True, [0, 1, 2], None, False)
    assert (ROOT / "recipes/configs/distill" / args.teacher_recipe).is_file()
    assert training.save_strategy == "no" and training.use_cpu


def test_only_what_learns_from_generated_captions_sees_them():
    seen = {
        name: any(ablation.reads_synthetic(cls, options) for cls, _, options in specification(name).values())
        for name in [*kd.LOSSES, *OBJECTIVES]
    }
    assert [name for name, reads in seen.items() if reads] == ["reinforced", "mobileclip"]


# ---- Runs ----


@pytest.fixture(scope="module")
def finished(folder):
    before = torch.get_num_threads()
    record = run(folder, folder / "out")
    torch.set_num_threads(before)
    return record


def test_every_run_is_recorded(folder, finished):
    assert json.loads((folder / "out/ablation.json").read_text()) == finished
    names = [(run["objective"], list(run["losses"]), run["seed"]) for run in finished["runs"]]
    assert names == [
        ("clip", ["clip"], 0), ("clip", ["clip"], 1), ("fd", ["fd"], 0), ("fd", ["fd"], 1),
        ("fd", ["clip", "fd"], 0), ("fd", ["clip", "fd"], 1),
    ]  # fmt: skip
    assert all(0 <= run[name] <= 1 for run in finished["runs"] for name in ablation.SCORES)
    assert finished["settings"]["max_steps"] == 2 and "processes" not in finished["settings"]


def test_it_goes_on_where_it_was(folder, finished, tmp_path, monkeypatch):
    path = tmp_path / "ablation.json"
    made = []
    train = ablation.train
    monkeypatch.setattr(ablation, "train", lambda run: made.append(run) or train(run))

    def start(runs, **flags):
        made.clear()
        path.write_text(json.dumps(finished | {"runs": runs}))
        return run(folder, tmp_path, **flags), [(run["objective"], len(run["losses"]), run["seed"]) for run in made]

    runs = finished["runs"]
    assert start(runs) == (finished, [])
    # A run that is made again, by itself, gets the scores it had among the others.
    assert start(runs[:3] + runs[4:]) == (finished, [("fd", 1, 1)])
    failed = {name: runs[1][name] for name in ("objective", "losses", "seed")} | {"error": "ValueError: x"}
    assert start([runs[0], failed, *runs[2:]]) == (finished, [("clip", 1, 1)])
    heavier = runs[2] | {"losses": {"fd": {"weight": 5.0}}}
    assert start([*runs[:2], heavier, *runs[3:]]) == (finished, [("fd", 1, 0)])
    # What was not asked for this time is kept.
    assert start(runs, seeds=[0], with_task=False) == (finished, [])


def test_runs_with_other_settings_are_not_mixed(folder, finished):
    before = (folder / "out/ablation.json").read_text()
    with pytest.raises(ValueError, match="other settings: max_steps=2, and now max_steps=3.*--output_dir"):
        run(folder, folder / "out", max_steps=3)
    assert (folder / "out/ablation.json").read_text() == before


def test_a_failure_is_recorded_and_the_rest_goes_on(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run(folder, tmp_path, objectives=[BROKEN, "fd"], seeds=[0], with_task=False)
    assert "BrokenLoss" in str(stop.value) and "ablation.json" in str(stop.value)  # a message: exit code 1
    runs = json.loads((tmp_path / "ablation.json").read_text())["runs"]
    errors = {run["objective"]: run.get("error") for run in runs}
    assert errors == {"clip": None, "fd": None, BROKEN: "RuntimeError: it cannot be computed"}
    printed = capsys.readouterr().out
    assert f"| `{BROKEN}` | failed | failed | failed | – | – | – | – | – |" in printed
    assert f"`{BROKEN}` failed with seed 0: RuntimeError: it cannot be computed" in printed


@pytest.mark.slow
def test_several_processes_give_the_same_scores(folder, finished, tmp_path):
    assert run(folder, tmp_path, processes=2) == finished


# ---- The table ----


SETTINGS = {
    "model_name_or_path": "small",
    "dataset_name": "shapes",
    "max_steps": 5,
    "per_device_train_batch_size": 8,
    "teacher_scores": dict.fromkeys(ablation.SCORES, 0.5),
}


def made_up(**groups):
    """A record with the runs `name=[score of each seed]`; a name that ends in `_alone` is without the task."""
    runs = []
    for name, scores in groups.items():
        objective = name.removesuffix("_alone")
        losses = {"clip": {}} if objective == "clip" else {objective: {}}
        losses = losses if name.endswith("_alone") else {"clip": {}} | losses
        for seed, score in enumerate(scores):
            scored = {"error": "ValueError: no"} if score is None else dict.fromkeys(ablation.SCORES, score)
            runs.append({"objective": objective, "losses": losses, "seed": seed, **scored})
    return {"settings": SETTINGS, "runs": runs}


def rows(record):
    lines = [line for line in ablation.table(record).splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells[1:] for cells in ([c.strip() for c in line[1:-1].split("|")] for line in lines)}


def test_table_of_means_and_deviations():
    scores = [0.10, 0.12, 0.17]
    table = rows(made_up(clip=[0.10, 0.10, 0.10], crd_alone=[0.2], crd=scores))
    assert table["clip"] == ["–", "–", "–", *["10.0 ± 0.0"] * 3, "–", "–"]
    expected = f"{100 * mean(scores):.1f} ± {100 * stdev(scores):.1f}"
    assert table["crd"][:6] == [*["20.0"] * 3, *[expected] * 3]
    error = 100 * stdev(scores) / 3**0.5
    assert table["crd"][6:] == [f"+3.0 ± {error:.1f}", "no clear gain"]


@pytest.mark.parametrize(
    ("scores", "judged"),
    [
        # The baseline's standard error is 1/sqrt(3) and so is that of what has the same spread: sqrt(2/3) = 0.82 together.
        ([0.117, 0.127, 0.137], ["+1.7 ± 0.8", "yes"]),
        ([0.116, 0.126, 0.136], ["+1.6 ± 0.8", "no clear gain"]),
        ([0.084, 0.094, 0.104], ["-1.6 ± 0.8", "no clear gain"]),
        ([0.083, 0.093, 0.103], ["-1.7 ± 0.8", "no, it hurts"]),
        ([0.30], ["+19.0", "one seed cannot tell"]),
        ([0.117, None, 0.137], ["+1.7 ± 1.2", "no clear gain"]),
        ([None], ["–", "–"]),
    ],
)
def test_the_verdict_follows_from_the_numbers(scores, judged):
    assert rows(made_up(clip=[0.10, 0.11, 0.12], crd=scores))["crd"][6:] == judged


def test_what_has_no_run_with_the_task_is_judged_alone():
    assert rows(made_up(clip=[0.1, 0.1], tinyclip_alone=[0.2, 0.2]))["tinyclip"][6:] == ["+10.0 ± 0.0", "yes"]


def test_the_table_goes_between_its_markers(tmp_path):
    start, end = ablation.MARKERS
    page = tmp_path / "page.md"
    page.write_text(f"before\n{start}\nold\n{end}\nafter\n")
    for _ in range(2):
        ablation.write_between(page, ablation.MARKERS, "new")
        assert page.read_text() == f"before\n{start}\nnew\n{end}\nafter\n"
