r"""Train a CLIP-style student, from a teacher or alone, and measure it.

Student and teacher see the same random crops of images with captions. The result is a folder that plain transformers
loads, with the scores in `results/`.

    accelerate launch recipes/distill.py                                   # the demo, on the embedded world
    accelerate launch recipes/distill.py --config my_recipe.yaml --seed 1  # a copy of a YAML, with one value changed
    # your own pictures, and a teacher for them
    accelerate launch recipes/distill.py --config recipes/configs/distill/own_pictures.yaml --data_dir my_images \
        --teacher_model_name_or_path open_clip:ViT-B-16/laion2b_s34b_b88k --losses clip_kd
"""

import copy
import json
import logging
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from filelock import FileLock
from transformers import set_seed

import hf_clip_kd as kd
from hf_clip_kd.data.arguments import ImageTextArguments, RandomCropArguments
from hf_clip_kd.recipe_io.model_folder import is_whole_model
from hf_clip_kd.recipe_io.parser import RecipeParser, exit_with_one_line, recipe_path

# Functions import the parts that only a run needs. Thus `--help` and a wrong flag are answered early.

logger = logging.getLogger(__name__)

RECIPES = Path(__file__).parent
CONFIGS = RECIPES / "configs" / "distill"
# Variables by which `accelerate launch` makes a process a part of a run.
LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# A training inside of this one may have been stopped before.
RESUMED = ("--resume_from_checkpoint", "auto")
# `--help` shows these first.
MOST_OFTEN_SET = (
    "model_name_or_path",
    "teacher_model_name_or_path",
    "losses",
    "dataset_name",
    "data_dir",
    "data_files",
    "output_dir",
    "max_steps",
    "num_train_epochs",
    "per_device_train_batch_size",
    "learning_rate",
    "evaluation",
    "push_to_hub",
    "hub_model_id",
)


@dataclass(kw_only=True)
class DistillArguments(ImageTextArguments, RandomCropArguments):
    model_name_or_path: str = field(
        metadata={"help": "Student: a preset of hf_clip_kd/models/configs, a JSON like them, a folder or a Hub id."}
    )
    teacher_model_name_or_path: str | dict | list | None = field(
        default=None,
        metadata={
            "help": "Teacher: a folder, a Hub id, `open_clip:ARCH/TAG` or `open_clip:ARCH//checkpoint.pt`. "
            "Losses that read no text also take a vision model, a LLaVA or `timm:NAME`. A mapping has `name` and any "
            "of `tokens_from` (the LLaVA whose tower gives the tokens), `logit_scale`, `dtype`, `device`, "
            "`image_size` and `compile`. A list is an ensemble of names, or of mappings that may also have a "
            "`weight`. Without a teacher, the student trains alone."
        },
    )
    teacher_dtype: str | None = field(
        default=None,
        metadata={
            "help": "Precision of the teacher: `float32`, `bfloat16` or `float16`. By default its weights are "
            "float32, and it computes as the student does (`bf16`, `fp16`)."
        },
    )
    teacher_device: str | None = field(
        default=None, metadata={"help": "Device of the teacher, for example `cuda:1`. Default: that of the student."}
    )
    teacher_compile: bool = field(
        default=False,
        metadata={"help": "Compile the teacher, also if the student is not compiled."},
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={
            "help": "Attention of a transformers student: `sdpa` (the default, PyTorch picks the kernel), `eager` or "
            "`flash_attention_2`. The last needs its package, and `bf16` or `fp16`."
        },
    )
    init_from_teacher: list[str] | None = field(
        default=None,
        metadata={
            "help": "Parts that the student takes from its teacher. `image` and `text` are towers cut to the "
            "student's size. In place of `text`, `whole_text` is the teacher's text tower. `frozen_text` is the same, "
            "not trained."
        },
    )
    image_size: int | None = field(
        default=None, metadata={"help": "Image size of the student in pixels, if not its own."}
    )
    init_image_tower: str | None = field(
        default=None,
        metadata={
            "help": "Tower whose weights the student's image tower starts from. Names are those of `vision_tower` in "
            "train_vlm.py, such as `timm:ARCHITECTURE//weights.safetensors` or a folder. Both towers must be of one "
            "kind and size. The student then reads pixels with the mean and std of that tower."
        },
    )
    teacher_recipe: str | None = field(
        default=None,
        metadata={
            "help": "YAML of this script that makes the teacher's folder if there is none: a path, or a name in "
            "recipes/configs/distill."
        },
    )
    teacher_cache: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub id of a cache by recipes/cache_teacher.py. The teacher's features and the crops "
            "come from it. With a teacher named as well, the run checks that the cache is of this teacher."
        },
    )
    cache_checksums: str = field(
        default="read",
        metadata={
            "help": "Check the files of `teacher_cache` as they are read, or as it opens.",
            "choices": ["read", "open"],
        },
    )
    independent_crops: bool = field(
        default=False,
        metadata={
            "help": "Defect of published code: the teacher sees another crop than the student. A card names it."
        },
    )
    reader_recipe: str | None = field(
        default=None,
        metadata={
            "help": "YAML of train_captioner.py that makes the folder of the loss `reader`. It is a path, or a name "
            "in recipes/configs/train_captioner."
        },
    )
    max_broken_fraction: float = field(
        default=0.05, metadata={"help": "Largest share of unreadable images, between 0 and 1. Above it the run stops."}
    )
    evaluation: dict | None = field(
        default=None,
        metadata={
            "help": "Evaluations: `zero_shot` and `retrieval`, each with the arguments of its data (`dataset_name`, "
            "`split`, ...) and of its evaluator (`class_names`, `templates`)."
        },
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Allow model code from the Hub to run."})

    def __post_init__(self):
        if self.independent_crops and (self.teacher_model_name_or_path is None or self.teacher_cache is not None):
            raise ValueError(
                f"`independent_crops=True` with `teacher_model_name_or_path={self.teacher_model_name_or_path}` and "
                f"`teacher_cache={self.teacher_cache}`. It needs a teacher that looks at crops of its own, and a "
                "cache holds those of the student. Name a teacher and leave `teacher_cache` out, or leave "
                "`independent_crops` out."
            )
        if self.init_image_tower is not None and "image" in (self.init_from_teacher or ()):
            raise ValueError(
                f"`init_image_tower={self.init_image_tower}` with `init_from_teacher={self.init_from_teacher}`: the "
                "image tower can start from a single place. Take `image` out of `init_from_teacher`, or leave "
                "`init_image_tower` out."
            )


def make_teacher(script: DistillArguments) -> "kd.Teacher | None":
    """Load the teacher. Train it first, with its recipe's own seed, if it has a recipe and no folder yet."""
    name = script.teacher_model_name_or_path
    if name is None:
        return None
    if script.teacher_recipe is not None and not isinstance(name, str):
        raise ValueError(
            f"`teacher_recipe: {script.teacher_recipe}` makes the folder of one teacher, and "
            f"teacher_model_name_or_path is {name}. It may be given with one folder. "
            "Train each teacher first with its own recipe."
        )
    if script.teacher_recipe is not None and not is_whole_model(name):
        logger.info("There is no teacher in %s yet: training it with %s.", name, script.teacher_recipe)
        recipe = str(recipe_path(script.teacher_recipe, CONFIGS))
        main(["--config", recipe, "--output_dir", name, *RESUMED])
    return kd.load_teacher(
        name,
        dtype=script.teacher_dtype,
        device=script.teacher_device,
        compile=script.teacher_compile,
        trust_remote_code=script.trust_remote_code,
    )


def open_cache(script: DistillArguments, teacher: "kd.Teacher | None", dataset) -> "kd.TeacherCache":
    """Open the stored features that stand for the teacher, if they belong to this run."""
    from hf_clip_kd.teachers.cache.sample_id import probe

    cache = kd.TeacherCache(script.teacher_cache, getattr(teacher, "weights", None), script.cache_checksums)
    views = {} if teacher is None else {"views": kd.AugmentationCollator(teacher.processor).settings["views"]}
    sources = [source.dataset for source in dataset.sources] if isinstance(dataset, kd.Stream) else [dataset]
    samples = [sample for source in sources for sample in probe(source)]
    cache.check(teacher=teacher, samples=samples, **script.crop, **views)
    return cache


def make_readers(script: DistillArguments, losses: dict | str) -> list:
    """Load the readers that the losses name. Train one first if it has a recipe and no folder yet."""
    from hf_clip_kd.losses import requested
    from hf_clip_kd.teachers.reader import load_readers, name_of

    request, teacher = requested(losses), script.teacher_model_name_or_path
    for name, _ in request.readers or ():
        if script.reader_recipe is not None:
            make_reader(script, name_of(name, teacher))
    return load_readers(request, teacher, dtype=script.teacher_dtype, device=script.teacher_device)


def make_reader(script: DistillArguments, folder: str) -> None:
    """Train a reader into a folder that has none. Of several processes and runs, the first one trains it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with FileLock(Path(folder, "training.lock")):
        if is_whole_model(folder):
            return
        logger.info("There is no reader in %s yet: training it.", folder)
        recipe = recipe_path(script.reader_recipe, RECIPES / "configs" / "train_captioner")
        command = [sys.executable, str(RECIPES / "train_captioner.py"), "--config", str(recipe)]
        teacher = script.teacher_model_name_or_path
        named = teacher if isinstance(teacher, str) else json.dumps(teacher)
        command += ["--teacher_model_name_or_path", named, "--output_dir", folder, *RESUMED]
        # It is a run of its own, on a single process, which takes a single GPU.
        alone = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
        alone["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
        if subprocess.run(command, env=alone).returncode:
            raise ValueError(
                f"`reader_recipe={script.reader_recipe}` failed, see its own message above. It must train into "
                f"{folder}. Run `{' '.join(command[1:])}` by itself."
            )


def make_student(script: DistillArguments, teacher: "kd.Teacher | None") -> tuple:
    """Return the untrained student and its processor, with what it takes from another tower or its teacher."""
    from hf_clip_kd.models.init_tower import init_image_tower
    from hf_clip_kd.models.resolution import resize_images

    trust = {"trust_remote_code": script.trust_remote_code}
    attention = {} if script.attn_implementation is None else {"attn_implementation": script.attn_implementation}
    student, processor = kd.load_clip(script.model_name_or_path, **trust, **attention)
    if script.init_image_tower is not None:
        init_image_tower(student, processor, script.init_image_tower, **trust)
    if script.image_size is not None:
        student, processor = resize_images(student, processor, script.image_size)
    if script.init_from_teacher is not None:
        student, processor = kd.init_from_teacher(student, processor, teacher, script.init_from_teacher)
    return student, processor


def make_collator(script: DistillArguments, training, processor, teacher, readers: list):
    """
    Return what makes batches for student and teacher.

    A training at several sizes gets pictures of the largest one. A step makes them smaller.
    """
    from hf_clip_kd.models.resolution import largest

    options = {
        "seed": training.seed,
        "max_broken_fraction": script.max_broken_fraction,
        "readers": [reader.texts for reader in readers],
    }
    seen = copy.copy(processor)
    if training.image_sizes is not None:
        seen.image_processor = largest(processor.image_processor, training.image_sizes, "image_sizes")
    if script.teacher_cache is not None:
        return kd.ReplayCollator(seen, teacher, **options)
    views, sizes = None if teacher is None else teacher.processor, training.teacher_image_sizes
    # The trainer refuses a teacher without such a tower.
    if sizes is not None and hasattr(getattr(teacher, "model", None), "vision_model"):
        views = replace(views, image_processor=largest(views.image_processor, sizes, "teacher_image_sizes"))
    make = kd.data.IndependentCropsCollator if script.independent_crops else kd.CLIPDataCollator
    return make(seen, views, **script.crop, **options)


def print_scores(name: str, scores: dict[str, float]) -> None:
    width = max(len(metric) for metric in scores)
    print(f"\n{name}")
    for metric, value in scores.items():
        print(f"  {metric:<{width}}  {100 * value:6.2f}")


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Run the recipe and return the scores of the trained student, between 0 and 1."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    parser = RecipeParser(
        (DistillArguments, kd.DistillationTrainingArguments),
        CONFIGS / "demo.yaml",
        description=__doc__,
        first=MOST_OFTEN_SET,
    )
    script, training = parser.parse(argv)

    from hf_clip_kd.evaluation import build_evaluator, measure
    from hf_clip_kd.evaluation.cost import measure_run
    from hf_clip_kd.hub.cards import record_sources
    from hf_clip_kd.hub.run import check_run, push_run
    from hf_clip_kd.training.agreement import check_agreement
    from hf_clip_kd.training.sharded import gather_full_model
    from hf_clip_kd.vlm.saving import load_folder

    check_agreement({"recipe": asdict(script)})
    if training.process_index == 0:
        # Check before the teacher, whose training may take long.
        check_run(training, training.output_dir, script)

    teacher = make_teacher(script)
    # The teacher's training moves the generator. Seed after it: the student's weights depend on the seed alone.
    set_seed(training.seed)
    student, processor = make_student(script, teacher)
    evaluator = None if script.evaluation is None else build_evaluator(script.evaluation, kd.load_image_text)
    if evaluator is not None:
        evaluator.check()  # a training is long, and its end too late
    train_dataset = script.load_rows(training.seed)
    readers = make_readers(script, training.losses)
    if script.teacher_cache is not None:
        teacher = open_cache(script, teacher, train_dataset)
    collator = make_collator(script, training, processor, teacher, readers)
    trainer = kd.DistillationTrainer(
        model=student,
        teacher_model=teacher,
        args=training,
        train_dataset=train_dataset,
        data_collator=collator,
        processing_class=processor,
        evaluator=evaluator,
        readers=readers,
    )
    if trainer.is_world_process_zero():
        parser.save(Path(training.output_dir) / "recipe.yaml", script, training)
        record_sources(training.output_dir)
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    trainer.save_model()
    if collator.broken.broken:
        logger.warning("%s, among them:\n  %s", collator.broken, "\n  ".join(collator.broken.names))

    # No process may look for the folder (a teacher's, say) before it is whole.
    trainer.accelerator.wait_for_everyone()

    scores = {}
    student = gather_full_model(trainer.student)  # together: under ZeRO-3 and FSDP each process has a part
    if evaluator is not None and trainer.is_world_process_zero():
        scores = measure(
            evaluator,
            student,
            processor,
            script.evaluation,
            folder=Path(training.output_dir) / "results",
            name=training.output_dir,
            config=asdict(script) | training.to_dict(),
        )
        print_scores(training.output_dir, scores)
    if training.push_to_hub and trainer.is_world_process_zero():
        measure_run(training.output_dir, load_folder)
        print(f"\nOn the Hub: {push_run(training, training.output_dir)}")
    return scores


if __name__ == "__main__":
    exit_with_one_line(main)
