"""Rerun the paper: teachers × objectives × durations × data → students → vision-language models → VQA, in one command.

Every cell of a grid is a student: distilled, scored, given to a LLaVA, trained, and asked questions. Each step is a
process. Teachers, their caches and the language model are made once for all cells. `OUTPUT/cells/*.json` gets each
cell as it ends. The last step is a report. Stopped or killed, the same command goes on where it was, in a training
from its last checkpoint. A stage that fails is reported and stops only the stages that need it. The next run tries it
again.

    python recipes/study.py                                               # the demo: ten minutes on two cores
    python recipes/study.py --config recipes/configs/study/miniature.yaml --dry_run true     # the cells and their cost
    python recipes/study.py --config recipes/configs/study/miniature.yaml --seeds '[3, 4, 5]' \
        --output_dir outputs/study/again
    python recipes/study.py --config recipes/configs/study/ablation.yaml  # every loss, without a language model
    sbatch --array=1-8 recipes/study.sbatch recipes/configs/study/paper.yaml   # several runs that share the work
"""

import logging
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path

from hf_clip_kd.recipe_io.parser import RecipeParser, exit_with_one_line
from hf_clip_kd.recipe_io.results import read_written
from hf_clip_kd.study.estimates.pilot import how_sure, read_pilot
from hf_clip_kd.study.running.arguments import StudyArguments
from hf_clip_kd.study.running.collect import check_study, write_cell, write_study
from hf_clip_kd.study.running.forecast import Forecast, duration
from hf_clip_kd.study.running.plan import Plan
from hf_clip_kd.study.running.progress import Progress
from hf_clip_kd.study.running.schedule import LOG, Ended, Schedule
from hf_clip_kd.study.running.stages import with_needed

RECIPES = Path(__file__).parent
CONFIGS = RECIPES / "configs" / "study"


def dry_run(plan: Plan, root: Path, forecast: Forecast) -> str:
    """Return a table of the cells, each with the stages that it is the first to need. `?` marks an unknown time."""
    counted: set[str] = set()
    width = max(len(str(cell)) for cell in plan.cells)
    lines = [f"{'cell':<{width}}  {'stages':>6}  {'to do':>5}  {'takes':>7}"]
    groups = {str(cell): plan.awaited_by(cell) for cell in plan.cells}
    groups["references"] = [stage for tower in plan.references.values() for stage in tower.stages]
    for name, stages in groups.items():
        own = [stage for stage in with_needed(stages) if stage.id not in counted]
        counted |= {stage.id for stage in own}
        missing = [stage for stage in own if stage.record(root) is None]
        takes = duration(sum(map(forecast.seconds, missing))) + "?" * any(
            not forecast.seconds(stage) for stage in missing
        )
        lines.append(f"{name:<{width}}  {len(own):>6}  {len(missing):>5}  {takes:>7}")
    missing = [stage for stage in plan.stages if stage.record(root) is None]
    kinds = Counter(stage.kind for stage in missing)
    lines += [
        "",
        f"{len(plan.cells)} cells, {len(plan.stages)} stages, {len(missing)} of them to do: "
        + ", ".join(f"{number} {kind}" for kind, number in kinds.items()),
        f"One after another {duration(sum(map(forecast.seconds, missing)))}, {forecast.processes} at a time about "
        f"{duration(forecast.left(missing))}",
    ]
    return "\n".join(lines)


def power(plan: Plan, root: Path, pilot: str | None) -> str:
    """Return how large a difference the study shows, from a pilot's variances or from those of its own cells."""
    ended = map(read_written, (root / "cells").glob("*.json"))
    if pilot is None and not any(cell["status"] == "done" for cell in ended):
        return (
            "How sure the study will be is not known without a pilot. Pass the output folder of an earlier study: "
            "`--pilot FOLDER`, `--pilot model_cards/miniature` for example."
        )
    vlm_seeds = defaultdict(set)
    for cell in plan.cells:
        vlm_seeds[cell.seed].add(cell.axes.get("vlm_seed"))
    most = max(map(len, vlm_seeds.values()))
    return how_sure(read_pilot(pilot or root), pilot or str(root), len(vlm_seeds), most)


def run(plan: Plan, root: Path, schedule: Schedule, forecast: Forecast) -> dict[str, Ended]:
    """Run all stages, write each cell as it ends, and return how each stage has ended."""
    ended: dict[str, Ended] = {}
    unwritten = {cell: {stage.id for stage in plan.awaited_by(cell)} for cell in plan.cells}
    stages = plan.stages
    write_study(plan, root)
    progress = Progress(stages, forecast, terminal=sys.stdout.isatty() and sys.stderr.isatty())
    with closing(progress.follow(schedule)) as ends:
        for end in ends:
            ended[end.stage.id] = end
            for cell in [cell for cell, awaited in unwritten.items() if awaited <= ended.keys()]:
                del unwritten[cell]
                record = write_cell(plan, cell, root, ended)
                count = f"{len(plan.cells) - len(unwritten)} of {len(plan.cells)} cells"
                progress.write(f"{cell}: {record['status']}, {count}")
                write_study(plan, root)
    write_study(plan, root)
    return ended


def read_plan(argv: list[str] | None = None) -> tuple[RecipeParser, StudyArguments, Plan]:
    """
    Read the arguments of a study, and plan its stages.

    Raises:
        ValueError: Something in the YAML or the flags does not fit. The message names the file.
    """
    parser = RecipeParser(StudyArguments, CONFIGS / "demo.yaml", description=__doc__)
    (study,) = parser.parse(argv)
    try:
        return parser, study, Plan(study, CONFIGS)
    except ValueError as error:
        raise ValueError(f"With {parser.config}: {error}") from error
    # Values of a study stand several levels deep, and go into the YAMLs of other recipes.
    except (TypeError, AttributeError, LookupError, ArithmeticError) as error:
        raise ValueError(
            f"With {parser.config}: a value has another type than its place needs ({type(error).__name__}: {error}). "
            "Compare it with a study in recipes/configs/study, and correct it."
        ) from error


def main(argv: list[str] | None = None) -> Path:
    """Run the study and return its folder. Ends with exit code 1 if a stage failed."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    parser, study, plan = read_plan(argv)
    root, forecast = Path(study.output_dir), Forecast(study.processes)
    if study.dry_run:
        print(f"{dry_run(plan, root, forecast)}\n\n{power(plan, root, study.pilot)}")
        return root
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    root.mkdir(parents=True, exist_ok=True)
    check_study(root)
    parser.save(root / "recipe.yaml", study)
    schedule = Schedule(
        root, RECIPES, processes=study.processes, threads=study.threads, accelerate_config=study.accelerate_config
    )
    ended = run(plan, root, schedule, forecast)
    failed = [end for end in ended.values() if end.outcome == "failed"]
    # A cell that failed is missing in the tables of the report, which names it at the end.
    report = subprocess.run([sys.executable, str(RECIPES / "study_report.py"), str(root)])
    for end in failed:
        print(f"{end.stage.id} failed: {end.error}. See {root / end.stage.folder / LOG}")
    if failed:
        sys.exit(
            f"error: {len(failed)} of {len(ended)} stages failed. Mend them and run the same command again. "
            "It goes on where it was."
        )
    if report.returncode:
        sys.exit(
            f"error: the report failed, see above. All cells are there. Run `python recipes/study_report.py {root}`."
        )
    return root


if __name__ == "__main__":
    exit_with_one_line(main)
