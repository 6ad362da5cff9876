"""Train the same student under each objective, with several seeds, and put the scores side by side in one table.

Every loss is trained alone and together with the task loss `clip`, and so are the published sums (`clip_kd`, ...).
`ablation.json` in the output folder gets each run as it ends; started again, the command trains only what is missing.
`losses`, `seed` and the logging of single runs are the command's own business; all else of a run can be set.

    python recipes/ablation.py                                              # the demo: one to two hours on two cores
    python recipes/ablation.py --objectives '["crd", "fd"]' --seeds '[0]' --output_dir outputs/crd_or_fd
    python recipes/ablation.py --write_table true                           # the table into docs/losses.md
"""

import dataclasses
import inspect
import json
import logging
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from tqdm import tqdm
from transformers import PrinterCallback, set_seed

import hf_clip_kd as kd
from hf_clip_kd.evaluation import SequentialEvaluator, build_evaluator
from hf_clip_kd.losses import LOSSES, OBJECTIVES, DistillationLoss
from hf_clip_kd.losses.specification import specification
from hf_clip_kd.recipe_io.parser import RecipeParser, exit_with_one_line

logger = logging.getLogger(__name__)

RECIPES = Path(__file__).parent
TASK = "clip"
SCORES = ("acc1", "image_retrieval_recall@1", "text_retrieval_recall@1")
README = RECIPES.parent / "docs" / "losses.md"
MARKERS = ("<!-- ablation: written by recipes/ablation.py -->", "<!-- end of ablation -->")


@dataclass
class AblationArguments:
    model_name_or_path: str = field(
        metadata={"help": "The student: a preset, a JSON like them, a folder or a Hub id."}
    )
    teacher_model_name_or_path: str = field(metadata={"help": "The teacher: what `distill.py` takes."})
    evaluation: dict = field(metadata={"help": f"What to measure; must give {', '.join(SCORES)}."})
    teacher_recipe: str | None = field(
        default=None,
        metadata={"help": "A YAML of `distill.py` that makes the teacher's folder when it does not exist yet."},
    )
    dataset_name: str = field(default="imagefolder", metadata={"help": "The data: what `distill.py` takes."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder of the data, for `imagefolder`."})
    text_column: str = field(default="text", metadata={"help": "Column of the captions."})
    synthetic_text_column: str | None = field(
        default=None, metadata={"help": "Column of generated captions, shown to the objectives that learn from them."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on only the first so many images."})
    crop_scale: list[float] = field(
        default_factory=lambda: [0.9, 1.0], metadata={"help": "Smallest and largest share of the area a crop keeps."}
    )
    objectives: list[str] | None = field(
        default=None, metadata={"help": "Names of losses and shorthands to train with, beside `clip`. Default: all."}
    )
    options: dict = field(
        default_factory=dict,
        metadata={"help": "Options of a loss, its weight among them, by its name, where the defaults do not fit."},
    )
    with_task: bool = field(default=True, metadata={"help": "Train each loss together with `clip`, too."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One run per objective and seed."})
    processes: int = field(default=2, metadata={"help": "Runs at the same time, each with one thread."})
    write_table: bool = field(default=False, metadata={"help": "Write the table into docs/losses.md, too."})

    def __post_init__(self):
        if self.processes < 1:
            raise ValueError(
                f"`processes={self.processes}` trains nothing. It must be at least 1, and no more than there are cores. "
                "Pass `--processes 1`."
            )


# Fields that say which runs to make and not how: with other values the runs there are still count.
WHICH = {"objectives", "options", "with_task", "seeds", "processes", "write_table", "teacher_recipe"}


# ---- What to run ----


def planned(args: AblationArguments) -> list[dict[str, Any]]:
    """All runs: the objective's name, the losses with weights and options spelled out, and the seed; `clip` first."""
    names = dict.fromkeys([TASK, *(args.objectives or [*LOSSES, *OBJECTIVES])])
    objectives = []
    for name in names:
        both = args.with_task and name in LOSSES and name != TASK
        spec = args.options.get(name, {})
        for losses in ({name: spec}, {TASK: 1.0, name: spec})[: 1 + both]:
            terms = {
                loss: {"weight": weight, **options} for loss, (_, weight, options) in specification(losses).items()
            }
            objectives.append({"objective": name, "losses": terms})
    # One seed of everything, then the next: an early look compares all.
    return [{**objective, "seed": seed} for seed in args.seeds for objective in objectives]


def key(run: dict[str, Any]) -> str:
    return json.dumps([run[name] for name in ("objective", "losses", "seed")], sort_keys=True)


def slot(run: dict[str, Any]) -> tuple:
    """The place of a run in the table."""
    return run["objective"], TASK in run["losses"], run["seed"]


def ordered(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs in an order of their own, whichever of them ended first."""
    names = [*LOSSES, *OBJECTIVES]
    return sorted(
        runs,
        key=lambda run: (
            names.index(run["objective"]) if run["objective"] in names else len(names),
            run["objective"],
            len(run["losses"]),
            run["seed"],
        ),
    )


# ---- One run, in a process that makes several ----


@dataclass
class Shared:
    """What all runs of a process have in common; loading it takes longer than a short run."""

    args: AblationArguments
    training: kd.DistillationTrainingArguments
    teacher: kd.CLIPTeacher
    evaluator: SequentialEvaluator
    data: Any


shared: Shared


def prepare(args: AblationArguments, training: kd.DistillationTrainingArguments) -> None:
    """Load the data, the teacher and the evaluators into this process."""
    global shared
    torch.set_num_threads(1)  # processes side by side are faster than threads, and the numbers do not depend on cores
    teacher = kd.CLIPTeacher(args.teacher_model_name_or_path)
    evaluator = build_evaluator(args.evaluation, kd.load_image_text)
    data = kd.load_image_text(
        args.dataset_name,
        data_dir=args.data_dir,
        text_column=args.text_column,
        synthetic_text_column=args.synthetic_text_column,
        max_samples=args.max_train_samples,
    )
    shared = Shared(args, training, teacher, evaluator, data)


def train(run: dict[str, Any]) -> dict[str, Any]:
    """The run with its scores, or with the error that ended it."""
    try:
        return run | scores_of(run["losses"], run["seed"])
    except Exception as error:  # whatever is wrong with one objective, the others go on
        return run | {"error": f"{type(error).__name__}: {error}"}


def scores_of(losses: dict[str, dict[str, Any]], seed: int) -> dict[str, float]:
    args, terms = shared.args, specification(losses).values()
    needs_teacher = any(cls.needs_teacher for cls, _, _ in terms)
    data = shared.data
    if args.synthetic_text_column is not None and not any(reads_synthetic(cls, options) for cls, _, options in terms):
        # Both models would embed these captions in every step, for nothing.
        data = data.remove_columns("synthetic_text")
    set_seed(seed)
    student, processor = kd.load_clip(args.model_name_or_path)
    trainer = kd.DistillationTrainer(
        model=student,
        teacher_model=shared.teacher if needs_teacher else None,
        args=dataclasses.replace(shared.training, losses=losses, seed=seed, disable_tqdm=True),
        train_dataset=data,
        data_collator=kd.CLIPDataCollator(
            processor, shared.teacher.processor if needs_teacher else None, crop_scale=args.crop_scale, seed=seed
        ),
        processing_class=processor,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return rounded(shared.evaluator(trainer.student, processor))


def reads_synthetic(cls: type[DistillationLoss], options: dict[str, Any]) -> bool:
    """Whether a loss learns from generated captions, which it says by its option `synthetic`."""
    parameter = inspect.signature(cls).parameters.get("synthetic")
    return parameter is not None and options.get("synthetic", parameter.default)


def rounded(metrics: dict[str, float]) -> dict[str, float]:
    return {name: round(metrics[name], 6) for name in SCORES}


def trained(runs: list[dict[str, Any]], processes: int, *setup: Any) -> Iterator[dict[str, Any]]:
    """The runs with their scores, each as it ends."""
    if processes == 1 and runs:
        prepare(*setup)
        yield from map(train, runs)
    elif runs:
        os.environ["TQDM_DISABLE"] = "1"  # theirs: a bar of each process would write over that of the runs
        context = multiprocessing.get_context("spawn")  # a fork would inherit the threads of torch and hang
        with ProcessPoolExecutor(min(processes, len(runs)), context, prepare, setup) as pool:
            for future in as_completed([pool.submit(train, run) for run in runs]):
                yield future.result()


# ---- All runs ----


def make_teacher(args: AblationArguments) -> None:
    """Train the teacher, if it has a recipe and no folder yet."""
    folder = Path(args.teacher_model_name_or_path)
    if args.teacher_recipe is None or (folder / "config.json").is_file():
        return
    recipe = Path(args.teacher_recipe)
    recipe = recipe if recipe.is_file() else RECIPES / "configs" / "distill" / recipe
    logger.info("There is no teacher in %s yet: training it with %s.", folder, recipe)
    command = [sys.executable, str(RECIPES / "distill.py"), "--config", str(recipe), "--output_dir", str(folder)]
    subprocess.run(command, check=True)


def settings_of(args: AblationArguments, training: kd.DistillationTrainingArguments) -> dict[str, Any]:
    """All that the scores of a run depend on, but for its objective and seed; the teacher with its own scores."""
    default = type(training)(training.output_dir, use_cpu=training.use_cpu).to_dict()
    given = {name: value for name, value in training.to_dict().items() if value != default[name]}
    for name in ("losses", "seed", "save_strategy", "logging_strategy", "report_to", "disable_tqdm"):
        given.pop(name, None)
    recipe = {name: value for name, value in dataclasses.asdict(args).items() if name not in WHICH}
    teacher = kd.CLIPTeacher(args.teacher_model_name_or_path)
    evaluator = build_evaluator(args.evaluation, kd.load_image_text)
    return recipe | given | {"teacher_scores": rounded(evaluator(teacher, teacher.processor))}


def load_runs(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs that are there already.

    Raises:
        ValueError: if they were made with other settings, so that one table must not hold both.
    """
    if not path.is_file():
        return []
    record = json.loads(path.read_text(encoding="utf-8"))
    there = record["settings"]
    other = sorted(name for name in {*there, *settings} if there.get(name) != settings.get(name))
    if other:
        raise ValueError(
            f"{path} holds runs with other settings: {', '.join(f'{n}={there.get(n)!r}' for n in other)}, and now "
            f"{', '.join(f'{n}={settings.get(n)!r}' for n in other)}. One table compares runs with the same settings. "
            "Pass another `--output_dir`, or delete that file."
        )
    return record["runs"]


def save(path: Path, settings: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps({"settings": settings, "runs": ordered(runs)}, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Make the runs that are missing; returns what the JSON holds. Ends with exit code 1 if a run failed."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    parser = RecipeParser(
        (AblationArguments, kd.DistillationTrainingArguments),
        RECIPES / "configs" / "ablation" / "demo.yaml",
        description=__doc__,
    )
    args, training = parser.parse(argv)
    plan = planned(args)
    make_teacher(args)
    # As JSON gives it back, in which there are no tuples.
    settings = json.loads(json.dumps(settings_of(args, training)))
    path = Path(training.output_dir) / "ablation.json"
    # What failed is tried again; a run whose losses have other weights or options by now is no longer that run.
    wanted, slots = {key(run) for run in plan}, {slot(run) for run in plan}
    kept = [run for run in load_runs(path, settings) if key(run) in wanted or slot(run) not in slots]
    runs = {key(run): run for run in kept if "error" not in run}
    missing = [run for run in plan if key(run) not in runs]
    with tqdm(total=len(plan), initial=len(plan) - len(missing), desc="runs", unit="run") as bar:
        for run in trained(missing, args.processes, args, training):
            runs[key(run)] = run
            save(path, settings, list(runs.values()))
            bar.set_postfix_str(f"{run['objective']}, seed {run['seed']}")
            bar.update()
    record = {"settings": settings, "runs": ordered(list(runs.values()))}
    text = table(record)
    print(text)
    if args.write_table:
        write_between(README, MARKERS, text)
    failed = sorted({run["objective"] for run in runs.values() if "error" in run})
    if failed:
        sys.exit(f"error: {len(failed)} objectives failed: {', '.join(failed)}. {path} says why.")
    return record


# ---- The table ----


def table(record: dict[str, Any]) -> str:
    """The runs as Markdown: mean ± standard deviation over the seeds, and what each objective adds to `clip`."""
    groups: dict[str, dict[bool, list[dict]]] = {}
    for run in record["runs"]:
        groups.setdefault(run["objective"], {False: [], True: []})[TASK in run["losses"]].append(run)
    baseline = groups[TASK][True]
    lines = [
        caption(record),
        "",
        "| objective | alone: acc1 | image R@1 | text R@1 | with `clip`: acc1 | image R@1 | text R@1 | gain | helps? |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, group in groups.items():
        judged = ["–", "–"] if name == TASK else verdict(totals(group[True] or group[False]), totals(baseline))
        lines.append(f"| {' | '.join([f'`{name}`', *cells(group[False]), *cells(group[True]), *judged])} |")
    failed = [run for run in record["runs"] if "error" in run]
    lines += [""] * bool(failed)
    lines += [f"`{run['objective']}` failed with seed {run['seed']}: {run['error'].splitlines()[0]}" for run in failed]
    return "\n".join(lines)


def caption(record: dict[str, Any]) -> str:
    settings = record["settings"]
    seeds = sorted({run["seed"] for run in record["runs"]})
    teacher = ", ".join(f"{100 * settings['teacher_scores'][name]:.1f}" for name in SCORES)
    return (
        f"Per cent, mean ± standard deviation over the seeds {', '.join(map(str, seeds))}. Student `{settings['model_name_or_path']}`, "
        f"{settings['max_steps']} steps of {settings['per_device_train_batch_size']} pairs of `{settings['dataset_name']}`, from a teacher "
        f"that scores {teacher}.\n`gain`: what the objective adds to the mean of the three scores of `clip` (with `clip` where there is such "
        "a run, else alone), ± its standard error. It helps if that is more than two standard errors."
    )


def totals(runs: list[dict]) -> list[float]:
    """The mean of the three scores of each run, in per cent."""
    return [100 * mean(run[name] for name in SCORES) for run in runs if "error" not in run]


def cells(runs: list[dict]) -> list[str]:
    good = [run for run in runs if "error" not in run]
    if not good:
        return ["failed" if runs else "–"] * len(SCORES)
    cells = []
    for name in SCORES:
        values = [100 * run[name] for run in good]
        spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
        cells.append(f"{mean(values):.1f}{spread}")
    return cells


def verdict(values: list[float], baseline: list[float]) -> list[str]:
    """How far the mean lies above the baseline's, and whether that is more than chance."""
    if not values or not baseline:
        return ["–", "–"]
    gain = mean(values) - mean(baseline)
    if min(len(values), len(baseline)) < 2:
        return [f"{gain:+.1f}", "one seed cannot tell"]
    error = (stdev(values) ** 2 / len(values) + stdev(baseline) ** 2 / len(baseline)) ** 0.5
    helps = "yes" if gain > 2 * error else "no, it hurts" if gain < -2 * error else "no clear gain"
    return [f"{gain:+.1f} ± {error:.1f}", helps]


def write_between(path: Path, markers: tuple[str, str], text: str) -> None:
    """Replace what stands between two lines of a file."""
    head, rest = path.read_text(encoding="utf-8").split(markers[0])
    tail = rest.split(markers[1])[1]
    path.write_text(f"{head}{markers[0]}\n{text}\n{markers[1]}{tail}", encoding="utf-8")


if __name__ == "__main__":
    exit_with_one_line(main)
