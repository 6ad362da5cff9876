"""Rank teachers for a student on your own images: a short pilot with each, the teachers' own scores, and intervals.

Give a student, images with captions, labels if there are any, questions if there are any, and teachers. A fixed share
of the images is held out. Each teacher gets a cache of the rest, and a few hundred steps of the student for each seed.
The student alone gets the same steps. All are scored on the held-out images. `choice.md` has a table and a figure, and
says which teachers cannot be told apart with this much data. The same command goes on after a kill.

    python recipes/choose_teacher.py                                         # the demo: three teachers, five minutes
    python recipes/choose_teacher.py --config recipes/configs/choose_teacher/digits.yaml    # real images with labels
    python recipes/choose_teacher.py --model_name_or_path ViT-T-16 --data_dir my_images --output_dir outputs/choice \
        --config my_choice.yaml --teachers '["openai/clip-vit-base-patch16", "open_clip:ViT-B-16/laion2b_s34b_b88k"]'
"""

import logging
import re
import signal
import sys
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import datasets

import hf_clip_kd as kd
from hf_clip_kd.data.arguments import ImageTextArguments, RandomCropArguments
from hf_clip_kd.data.held_out import caption_rows, hold_out, question_rows, write_parts
from hf_clip_kd.recipe_io.parser import RecipeParser, exit_with_one_line
from hf_clip_kd.study.choice.page import PAGE, write_choice
from hf_clip_kd.study.choice.pilots import ALONE, Pilots, plan_pilots
from hf_clip_kd.study.choice.ranking import rank
from hf_clip_kd.study.choice.scores import read_scores
from hf_clip_kd.study.running.forecast import Forecast
from hf_clip_kd.study.running.progress import Progress
from hf_clip_kd.study.running.schedule import Ended, Schedule
from hf_clip_kd.study.running.stages import Stage, with_needed

RECIPES = Path(__file__).parent
CONFIGS = RECIPES / "configs" / "choose_teacher"
MOST_OFTEN_SET = (
    "model_name_or_path",
    "teachers",
    "dataset_name",
    "data_dir",
    "data_files",
    "questions",
    "output_dir",
)
LEAST_HELD_OUT = 20
PAIRS = 500  # Images and captions for `gromov_wasserstein`, whose time grows with their cube.
# Kinds of stages, those first that others wait for.
KINDS = ("teacher", "cache", "student", "evaluate")
# Arguments of each pilot that the user need not write.
PILOT = {"max_steps": 300, "save_strategy": "no", "logging_steps": 50, "report_to": "none"}


@dataclass(kw_only=True)
class ChooseTeacherArguments(ImageTextArguments):
    model_name_or_path: str = field(metadata={"help": "The student, as `distill.py` takes it."})
    teachers: dict | list = field(
        metadata={
            "help": "Two teachers or more, each as `distill.py` takes it, in a list. Or a mapping of your own names "
            "to teachers. In a mapping, `{recipe: FILE}` is the YAML of `distill.py` that trains the teacher first."
        }
    )
    output_dir: str = field(metadata={"help": "Folder of the stages, the table, the figure and the JSON."})
    label_column: str | None = field(
        default=None, metadata={"help": "Column of classes. Default: `text_column`, if it holds class labels."}
    )
    questions: dict | None = field(
        default=None,
        metadata={
            "help": "Questions about images, these or others: the arguments of their data (`dataset_name`, "
            "`data_files`, ...) with `question_column`, `answers_column` and `question_type_column`."
        },
    )
    held_out: float = field(
        default=0.25, metadata={"help": "Share of the images that are held out, between 0 and 1. Their files decide."}
    )
    losses: dict | str = field(
        default="clip_kd", metadata={"help": "Losses of the students that have a teacher, as in `distill.py`."}
    )
    pilot: dict = field(
        default_factory=dict,
        metadata={"help": "Arguments of `distill.py` for each pilot: `max_steps`, `learning_rate`, `crop_scale`, ..."},
    )
    cache: dict = field(
        default_factory=dict, metadata={"help": "Arguments of `cache_teacher.py`: `augmentations`, `batch_size`, ..."}
    )
    layer: int = field(
        default=-2, metadata={"help": "Layer whose tokens the question probe reads, counted from the end."}
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of the pilots."})
    processes: int = field(default=2, metadata={"help": "Stages at the same time, each a process of its own."})
    threads: int = field(default=1, metadata={"help": "Threads of each stage (`OMP_NUM_THREADS`)."})
    accelerate_config: str | None = field(
        default=None, metadata={"help": "A file for `accelerate launch --config_file`, for several GPUs a stage."}
    )
    estimates: dict = field(
        default_factory=dict, metadata={"help": "Kind of stage to its seconds, for the time left at the start."}
    )
    language_model: str | None = field(
        default=None,
        metadata={
            "help": "Language model whose features of the captions `gromov_wasserstein` takes. Default: those of each "
            "teacher's own text tower."
        },
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run model code from the Hub."})

    def __post_init__(self):
        if self.datasets is not None or self.streaming:
            raise ValueError(
                "`datasets` and `streaming` are for data that a training reads. A choice needs one set of images that "
                "can be counted and split. Name it by `dataset_name`, `data_dir` and `data_files`."
            )
        if not 0 < self.held_out < 1:
            raise ValueError(
                f"`held_out={self.held_out}` leaves one side without images. It must lie between 0 and 1. "
                "Pass for example `--held_out 0.25`."
            )
        self.teachers = named_teachers(self.teachers)


def named_teachers(teachers: dict | list) -> dict[str, dict]:
    """Return each teacher as `{model: ...}` or `{recipe: ...}` under its name.

    Raises:
        ValueError: There are fewer than two, or one of them twice.
    """
    if isinstance(teachers, list):
        names = [
            re.sub(r"[^\w.+-]+", "-", teacher if isinstance(teacher, str) else _joined(teacher))
            for teacher in teachers
        ]
        teachers = list(zip(names, teachers, strict=True))
    else:
        teachers = list(teachers.items())
    entries = [
        (name, teacher if isinstance(teacher, dict) and {"model", "recipe"} & {*teacher} else {"model": teacher})
        for name, teacher in teachers
    ]
    for place, (name, entry) in enumerate(entries):
        for other, earlier in entries[:place]:
            if entry == earlier or name == other:
                raise ValueError(
                    f"`teachers`: {name!r} is {entry}, which is there already as {other!r}. Each teacher may be there "
                    "once. Leave it out."
                )
    if len(entries) < 2 or ALONE in dict(entries):
        raise ValueError(
            f"`teachers` has {[name for name, _ in entries]}. A choice needs two teachers or more, and {ALONE!r} is "
            "the name of the student without a teacher. "
            """Pass for example `--teachers '["openai/clip-vit-base-patch16", "open_clip:ViT-B-16/openai"]'`."""
        )
    return dict(entries)


def _joined(teacher) -> str:
    members = teacher if isinstance(teacher, list) else [teacher]
    return "+".join(str(member.get("name") if isinstance(member, dict) else member) for member in members)


# ---- Data ----


def write_data(args: ChooseTeacherArguments, root: Path) -> PurePosixPath:
    """Write the images for the pilots and those that are held out, and return their folder, relative to `root`.

    Raises:
        ValueError: There are too few images.
    """
    captions = caption_rows(args.load_sources()[0], args.text_column, args.label_column)
    parts = dict(zip(("pilot", "held_out"), hold_out(captions, args.held_out), strict=True))
    if args.questions is not None:
        data = dict(args.questions)
        columns = {name: data.pop(f"{name}_column", None) for name in ("answers", "question_type")}
        dataset = kd.load_image_text(**data | {"text_column": data.pop("question_column", "question")})
        split = hold_out(question_rows(dataset, **columns), args.held_out)
        parts |= dict(zip(("other_questions", "held_out_questions"), split, strict=True))
    batch = args.pilot.get("per_device_train_batch_size", 8)
    for name, part in parts.items():
        least = batch if name == "pilot" else LEAST_HELD_OUT
        if len(part) < least:
            raise ValueError(
                f"There are {len(part)} images in the part {name!r}, with `held_out={args.held_out}`. It needs "
                f"{least} or more. Give more images, another share, or a smaller batch of the pilots."
            )
    return PurePosixPath(write_parts(parts, root / "data").relative_to(root))


# ---- Stages ----


def make_plan(args: ChooseTeacherArguments, root: Path, data: PurePosixPath) -> list[Pilots]:
    """Return the stages of all teachers."""
    pilot = PILOT | args.pilot | {"trust_remote_code": args.trust_remote_code}
    crop = {field.name: pilot[field.name] for field in fields(RandomCropArguments) if field.name in pilot}
    evaluation = {"dataset_name": data / "held_out", "split": "train", "others": data / "pilot", "layer": args.layer}
    evaluation["templates"] = [args.label_template]
    if args.questions is not None:
        evaluation |= {name: data / name for name in ("held_out_questions", "other_questions")}
    own_evaluation = {}
    if find_spec("ot") is not None:  # POT is an optional dependency.
        own_evaluation["representation"] = {
            "dataset_name": data / "held_out",
            "split": "train",
            "text_column": "text",
            "layer": args.layer,
            "gromov_wasserstein": PAIRS,
            "language_model": args.language_model,
        }
    return plan_pilots(
        root,
        RECIPES / "configs" / "study",
        teachers=args.teachers,
        student=args.model_name_or_path,
        losses=args.losses,
        pilot=pilot,
        cache=args.cache | crop | {"trust_remote_code": args.trust_remote_code},
        evaluation={"held_out": evaluation},
        own_evaluation=own_evaluation,
        images=data / "pilot",
        seeds=args.seeds,
        estimates=args.estimates,
        options={"trust_remote_code": args.trust_remote_code},
        accelerate_config=args.accelerate_config,
    )


def in_order(pilots: list[Pilots]) -> list[Stage]:
    """Return all stages, those in front that others wait for, and the longest first."""
    stages = with_needed([stage for each in pilots for stage in each.stages])
    return sorted(stages, key=lambda stage: (KINDS.index(stage.kind), -(stage.seconds or 0)))


def run(stages: list[Stage], root: Path, args: ChooseTeacherArguments) -> dict[str, Ended]:
    """Run all stages, and return how each has ended."""
    schedule = Schedule(
        root, RECIPES, processes=args.processes, threads=args.threads, accelerate_config=args.accelerate_config
    )
    progress = Progress(stages, Forecast(args.processes), terminal=sys.stdout.isatty() and sys.stderr.isatty())
    with closing(progress.follow(schedule)) as ends:
        return {end.stage.id: end for end in ends}


def reason(pilots: Pilots, ended: dict[str, Ended]) -> str | None:
    """Return why a teacher could not be measured, or `None` if it was."""
    failed = [ended[stage.id] for stage in pilots.stages if ended[stage.id].outcome == "failed"]
    return f"{failed[0].stage.kind}: {failed[0].error}" if failed else None


def main(argv: list[str] | None = None) -> Path:
    """Run the recipe and return its folder. Ends with exit code 1 if a teacher could not be measured."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    datasets.disable_progress_bars()
    parser = RecipeParser(ChooseTeacherArguments, CONFIGS / "demo.yaml", description=__doc__, first=MOST_OFTEN_SET)
    (args,) = parser.parse(argv)
    root = Path(args.output_dir)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    data = write_data(args, root)
    pilots = make_plan(args, root, data)
    parser.save(root / "recipe.yaml", args)
    ended = run(in_order(pilots), root, args)
    reasons = {each.teacher: reason(each, ended) for each in pilots}
    measured = [read_scores(each, root) for each in pilots if reasons[each.teacher] is None]
    failed = [(name, why) for name, why in reasons.items() if why is not None]
    if reasons[ALONE] is not None or len(measured) < 2:
        sys.exit(f"error: nothing can be compared. {'; '.join(f'{name}: {why}' for name, why in failed)}.")
    print(write_choice(root, rank(measured), failed, asdict(args)))
    print(f"Table, figure and numbers: {root / PAGE} and the files beside it.")
    if failed:
        sys.exit(
            f"error: {len(failed)} of {len(args.teachers)} teachers could not be measured: "
            f"{', '.join(name for name, _ in failed)}. Mend them and run the same command again. "
            "It goes on where it was."
        )
    return root


if __name__ == "__main__":
    exit_with_one_line(main)
