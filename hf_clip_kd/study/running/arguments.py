"""The arguments in the YAML of a study."""

from dataclasses import dataclass, field

from .objectives import every_objective, one_cell_each

RECIPE = (
    "A YAML of `{}`, a path or a name in recipes/configs/study; or a mapping of `recipe` and the values that differ."
)


@dataclass(kw_only=True)
class StudyArguments:
    # Every field is documented once, in `help`.
    name: str = field(metadata={"help": "Name of the study, for its report."})
    output_dir: str = field(
        metadata={"help": "Folder of the study. Several runs of this script may share one, and its work."}
    )
    procedural: bool = field(default=False, metadata={"help": "The data are made by a program, as `shapes` is."})

    teachers: dict = field(
        metadata={
            "help": "Name to `model`, a teacher's name as `distill.py` takes it. Or name to `recipe`, the YAML of "
            "that script that trains it, with the values that differ. `seconds` may be the time of that training. "
            "Or name to `lift`, another of these teachers, and `recipe`, a YAML of `train_vlm.py`. It trains that "
            "tower on, in a LLaVA with the first language model. Students learn its tokens then. "
            "Teachers with the same `strength` are repeats of each other; default: its own name."
        }
    )
    students: dict = field(metadata={"help": "Name to the `model_name_or_path` of `distill.py`."})
    objectives: dict = field(
        default_factory=dict,
        metadata={
            "help": "Name to the `losses` of `distill.py`. `reader: teacher` in a loss names a LLaVA of the study. It "
            "is that of the cell's teacher and the first language model. "
            "`{name: teacher, language_model: NAME}` is that of another."
        },
    )
    base_objective: str | None = field(
        default=None,
        metadata={
            "help": "Objective that the report compares all others with. Default: `clip_kd`, or the objective with "
            "most cells."
        },
    )
    every_loss: bool = field(
        default=False,
        metadata={
            "help": "Compare each loss of the table, alone (`crd`) and with the task (`clip+crd`), and each "
            "shorthand. An entry of that name in `objectives` replaces it."
        },
    )
    durations: dict = field(metadata={"help": "Name to a factor of the steps, or epochs, of `distill`."})
    data: dict = field(metadata={"help": "Name to the arguments of the data, for `distill` and `cache` alike."})
    language_models: dict = field(
        default_factory=dict,
        metadata={"help": "Name to a folder or Hub id, or to a mapping with `recipe`, a YAML of `prime_lm.py`."},
    )
    readings: dict = field(
        default_factory=dict,
        metadata={
            "help": "Name to values that replace those of the last stage of `vlm`, such as `{stage: pretrain}`, "
            "`{max_steps: 750}`, `{vision_feature_layer: -1}` or `{image_tokens: 4}`. `{best_of: "
            "[NAME, NAME]}` is the reading among those with the best score on the benchmark named `validation`."
        },
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of the cells that name none."}
    )
    vlm_seeds: list[int] = field(
        default_factory=list,
        metadata={
            "help": "Seeds of the training of the vision-language model, for the cells that name none, for teachers "
            "and references. Default: the seed of the cell, and that of the YAML for teachers and references."
        },
    )
    cells: list[dict] | None = field(
        default=None,
        metadata={
            "help": "Blocks of the grid: axis (`teacher`, `student`, `objective`, `duration`, `data`, "
            "`language_model`, `reading`, `seed`, `vlm_seed`) to a value or a list of them. A block stands for all "
            "combinations. An axis that is left out has its first value; the seeds have all. `seed: {first: 3}` are "
            "the first three of `seeds`. A cell of several blocks is made once. Teacher null is a student alone. "
            "Default: each objective once, with the first teacher if it needs one."
        },
    )

    distill: str | dict = field(metadata={"help": RECIPE.format("distill.py") + " It trains the students."})
    cache: str | dict | None = field(
        default=None,
        metadata={"help": RECIPE.format("cache_teacher.py") + " Without it every student asks its teacher."},
    )
    evaluate: str | dict = field(metadata={"help": RECIPE.format("evaluate.py") + " It scores students and teachers."})
    representation: dict | None = field(
        default=None,
        metadata={
            "help": "Blocks of `evaluation` that are compared with the cell's teacher, by the name of an image set. "
            "The report reads `classification` and `vqa`. Their `language_model` may be that of the study."
        },
    )
    headline: dict = field(
        default_factory=dict,
        metadata={
            "help": "Title to a score of `evaluate`, such as `unseen names: unseen/acc1`. The report's tables have "
            "these in place of the means over all data sets. The first is what it calls zero-shot accuracy."
        },
    )
    reference_teacher: str | None = field(
        default=None, metadata={"help": "Teacher for that comparison of students without one."}
    )
    crops_from: str | None = field(
        default=None,
        metadata={
            "help": "Teacher whose `cache` gives its crops to students without a teacher, too. Then all students see "
            "the same ones. Default: they draw crops of their own."
        },
    )
    vlm: list = field(
        default_factory=list,
        metadata={
            "help": "Stages of the vision-language model, one after another. Without any the study measures "
            "zero-shot and retrieval alone. " + RECIPE.format("train_vlm.py")
        },
    )
    meter: str = field(
        default="accuracy",
        metadata={
            "help": "Number by which the report's findings judge VQA. `curve_area` needs `score_at_steps` in the last "
            "stage of `vlm`.",
            "choices": ["accuracy", "answer_bits", "curve_area", "question_probe"],
        },
    )
    vqa: str | dict | None = field(
        default=None,
        metadata={
            "help": RECIPE.format("evaluate_vlm.py") + " Without it the last stage of `vlm` has an `evaluation`."
        },
    )
    vqa_tables: dict = field(
        default_factory=dict,
        metadata={
            "help": "Further benchmarks for the students, each set with tables of its own in the report: title to "
            "YAML. No other number has them. " + RECIPE.format("evaluate_vlm.py")
        },
    )
    leave_out_blind: bool = field(
        default=False,
        metadata={
            "help": "The report leaves out the questions that the reference `blind` answers right without a picture."
        },
    )
    references: dict = field(
        default_factory=dict,
        metadata={"help": "Other towers that get the same vision-language model, by name; null answers blindly."},
    )
    ungraded: dict = field(
        default_factory=dict,
        metadata={"help": "Type of question to the reason to leave it out of all VQA numbers. The report names both."},
    )

    processes: int = field(default=2, metadata={"help": "Stages at the same time, each a process of its own."})
    threads: int = field(default=1, metadata={"help": "Threads of each stage (`OMP_NUM_THREADS`)."})
    accelerate_config: str | None = field(
        default=None,
        metadata={
            "help": "A file for `accelerate launch --config_file`; without one the stages are plain Python processes. "
            "Another number of processes makes the stages anew."
        },
    )
    estimates: dict = field(
        default_factory=dict,
        metadata={
            "help": "Kind of stage to its seconds (of a student: at the factor 1), for `--dry_run` and the time left. "
            "Measured times correct them."
        },
    )
    pilot: str | None = field(
        default=None,
        metadata={
            "help": "Output folder of an earlier study, or its `study.json`. `--dry_run` says from its variances how "
            "large a difference this study shows. Default: this study's own cells, once there are some."
        },
    )
    dry_run: bool = field(default=False, metadata={"help": "List the cells with what they cost, and start nothing."})

    def __post_init__(self):
        for name in ("processes", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"`{name}={getattr(self, name)}` runs nothing. It must be at least 1, and at most the cores. "
                    f"Pass `--{name} 1`."
                )
        for name in ("language_models", "vqa", "vqa_tables", "references", "readings", "vlm_seeds", "ungraded"):
            if getattr(self, name) and not self.vlm:
                raise ValueError(
                    f"`{name}` is {getattr(self, name)}, and `vlm` has no stage, so nothing reads it. "
                    f"It needs a vision-language model. Write the stages of `vlm`, or leave out `{name}`."
                )
        if self.meter in ("answer_bits", "curve_area") and not self.vlm:
            raise ValueError(
                f"`meter={self.meter}` judges by answers, and `vlm` has no stage, so nobody answers. "
                "It needs a vision-language model. Write the stages of `vlm`, or leave out `meter`."
            )
        if self.crops_from is not None and self.cache is None:
            raise ValueError(
                f"`crops_from={self.crops_from}` without `cache`, whose crops are meant. It needs the YAML of one. "
                "Write `cache: YAML`, or leave out `crops_from`."
            )
        if self.every_loss:
            self.objectives = every_objective() | self.objectives
            self.every_loss = False  # The record names each objective: a loss that is added later is no part of it.
        if self.cells is None:
            self.cells = one_cell_each(self.objectives, next(iter(self.teachers), None))
