"""Train a LLaVA on a vision tower, and measure its answers about images.

One run is one stage: `pretrain` trains the projector on captions, `finetune` the projector and the language model on
conversations. It leaves a folder that `transformers` loads, with answers and scores in `results/`. `beside` gives
other towers the same training, each in a folder next to `output_dir`. All towers share one table and `summary.json`.

    accelerate launch recipes/train_vlm.py                                   # the demo, after that of distill.py
    accelerate launch recipes/train_vlm.py --config recipes/configs/train_vlm/tinyllava_pretrain.yaml \
        --vision_tower outputs/my_student --language_model Qwen/Qwen2-0.5B --output_dir outputs/my_vlm/pretrain
    accelerate launch recipes/train_vlm.py --config recipes/configs/train_vlm/tinyllava_finetune.yaml \
        --model_name_or_path outputs/my_vlm/pretrain --output_dir outputs/my_vlm/finetune
"""

import contextlib
import dataclasses
import json
import logging
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from hf_clip_kd.data import load_instruct, load_shapes
from hf_clip_kd.data.instruct import without_images
from hf_clip_kd.data.shapes.instruct import load_shapes_instruct
from hf_clip_kd.evaluation import build_vqa_evaluator
from hf_clip_kd.evaluation.cost import measure_run
from hf_clip_kd.evaluation.vqa import VQAEvaluator, question_picture, summary_row, summary_table
from hf_clip_kd.hub.cards import record_sources
from hf_clip_kd.hub.run import check_run, push_run
from hf_clip_kd.models.completeness import SAVE_RULE, load_complete
from hf_clip_kd.recipe_io.parser import RecipeParser, exit_with_one_line
from hf_clip_kd.recipe_io.results import write_whole
from hf_clip_kd.training.learning_curve import LearningCurve, check_steps
from hf_clip_kd.vlm import (
    FeatureCache,
    FeatureScale,
    LlavaDataCollator,
    LlavaTeacher,
    LlavaTrainer,
    LlavaTrainingArguments,
    build_llava,
    check_teacher,
    image_name,
    load_llava,
    load_tower,
    measure_features,
    merge_adapter,
    quantization,
    reading_features,
    save_llava,
    square_image_processor,
    stored_pictures,
    tower_checksum,
    training_picture,
)
from hf_clip_kd.vlm.saving import load_folder

logger = logging.getLogger(__name__)

RECIPES = Path(__file__).parent
CONFIGS = RECIPES / "configs" / "train_vlm"
# Order of the table's rows; other names come after these.
ORDER = ("blind", "untrained", "alone", "distilled", "teacher")
# Number of images for the scale of the tower's features.
CALIBRATION = 64


@dataclass
class TrainVLMArguments:
    vision_tower: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub id of a student, a CLIP, SigLIP or ViT, `open_clip:ARCH/TAG`, `timm:NAME`, or a "
            "preset with fresh weights. The language model answers blindly if there is none."
        },
    )
    language_model: str | None = field(default=None, metadata={"help": "Folder or Hub id of a causal language model."})
    language_model_recipe: str | None = field(
        default=None, metadata={"help": "A YAML of `prime_lm.py` that makes that folder if it is missing."}
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "A LLaVA to continue, in place of tower and language model: the first stage's."},
    )
    teacher_model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub id of a LLaVA to learn from besides the data. It gives its answers (`kl_weight`), "
            "its visual tokens (`relation_weight`) or its projector (`reuse_projector`). It stays as it is."
        },
    )
    beside: dict | None = field(
        default=None,
        metadata={
            "help": "Other towers that get the same training, by the name of their row; null is no image at all."
        },
    )
    dataset_name: str = field(
        default="llava_v1_5_mix665k.json",
        metadata={"help": "LLaVA's JSON, any data set with `messages` and `images`, or `shapes`."},
    )
    image_folder: str | None = field(default=None, metadata={"help": "Folder in which the paths of images start."})
    data_files: str | None = field(default=None, metadata={"help": "Files of the data, see `distill.py`."})
    split: str = field(default="train", metadata={"help": "The split to train on, as in `datasets`."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on the first so many samples only."})
    vision_feature_layer: int | list[int] = field(
        default=-2, metadata={"help": "The tower's hidden state to read, or several to concatenate."}
    )
    image_mode: str | None = field(
        default=None,
        metadata={
            "help": "Way to make images square: `square` squeezes, `pad` fills up, `crop` cuts. Default is `square`, "
            "or the mode of the LLaVA that the run starts from.",
            "choices": ["square", "pad", "crop"],
        },
    )
    chat_template: str | None = field(
        default=None, metadata={"help": "Name of a chat template. Default is that of the language model's family."}
    )
    template: str = field(
        default="chat",
        metadata={
            "help": "`plain` shows image and caption alone, as LLaVA's first stage.",
            "choices": ["chat", "plain"],
        },
    )
    normalize_features: bool = field(
        default=False, metadata={"help": "Bring each channel of the tower's features to about unit size."}
    )
    max_length: int = field(default=2048, metadata={"help": "Longest sample in tokens, image tokens among them."})
    on_bad_sample: str = field(
        default="error",
        metadata={"help": "Treatment of a sample that cannot be used.", "choices": ["error", "skip"]},
    )
    feature_cache: str | None = field(
        default=None,
        metadata={
            "help": "Folder for the frozen tower's features, for this and other runs. Images of the evaluation are "
            "stored there, too."
        },
    )
    quantization: str | None = field(
        default=None, metadata={"help": "Load the language model in `4bit` or `8bit`, for `lora` (QLoRA)."}
    )
    dtype: str = field(
        default="float32",
        metadata={"help": "Type of the weights.", "choices": ["float32", "bfloat16", "float16"]},
    )
    evaluation: dict | None = field(
        default=None, metadata={"help": "Benchmarks and their files, see `evaluate_vlm.py`."}
    )
    score_at_steps: list[int] | None = field(
        default=None,
        metadata={
            "help": "Optimizer steps at which the run scores itself on its `evaluation`, as at its end. The curve is "
            "written to `learning_curve.json`. With `ema_decay` the average of the weights is scored."
        },
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run model code from the Hub."})


def check(script: TrainVLMArguments, training: LlavaTrainingArguments) -> None:
    """Raise the errors that can be known before anything is loaded."""
    if (script.model_name_or_path is None) == (script.language_model is None):
        raise ValueError(
            f"`model_name_or_path={script.model_name_or_path!r}` and `language_model={script.language_model!r}`: a "
            "run starts from a LLaVA, or from a language model with a vision tower. Give one of the two."
        )
    if script.model_name_or_path is not None and (script.beside or script.vision_tower):
        raise ValueError(
            "`vision_tower` or `beside` with `model_name_or_path`, whose LLaVA has its tower. They belong to a run "
            "that starts from `language_model`. Leave them out, or give the language model."
        )
    if script.quantization is not None and training.lora is None:
        raise ValueError(
            f"`quantization={script.quantization}` without `lora`: quantised weights cannot be trained themselves. "
            'Add `--lora \'{"r": 128, "lora_alpha": 256}\'`, or leave the quantisation out.'
        )
    if script.feature_cache is not None and training.tune_vision_tower:
        raise ValueError(
            f"`feature_cache={script.feature_cache!r}` with `tune_vision_tower`: stored features are those of a tower "
            "that does not change. Leave one of the two out."
        )
    if script.teacher_model_name_or_path is None:
        check_teacher(None, training)
    if script.score_at_steps is not None:
        check_steps(script.score_at_steps, training.max_steps if training.max_steps > 0 else None)
        if script.evaluation is None:
            raise ValueError(
                f"`score_at_steps={script.score_at_steps}` without `evaluation`, so there are no questions to ask. "
                'Both belong together. Add for example `--evaluation \'{"shapes": {"split": "test"}}\'`.'
            )
    if script.beside and training.resume_from_checkpoint not in (None, "auto"):
        raise ValueError(
            f"`resume_from_checkpoint={training.resume_from_checkpoint!r}` with `beside`: it belongs to one of the "
            "towers. Resume all of them with `--resume_from_checkpoint auto`, or that tower alone: `--beside null "
            "--vision_tower ... --output_dir ...`."
        )
    if script.beside and training.push_to_hub:
        raise ValueError(
            f"`push_to_hub` with `beside`, which trains {1 + len(script.beside)} models. One run pushes one model. "
            "Leave push_to_hub out, and push the folder that you want: `python recipes/push.py FOLDER REPO_ID`."
        )


def make_language_model(script: TrainVLMArguments) -> None:
    """Train the language model first if it has a recipe and no folder yet."""
    if script.language_model_recipe is None or Path(script.language_model, "config.json").is_file():
        return
    logger.info("There is no language model in %s yet: training it.", script.language_model)
    recipe = Path(script.language_model_recipe)
    recipe = recipe if recipe.is_file() else RECIPES / "configs" / "prime_lm" / recipe
    command = [sys.executable, str(RECIPES / "prime_lm.py"), "--config", str(recipe)]
    if subprocess.run([*command, "--output_dir", script.language_model]).returncode:
        raise ValueError(
            f"`language_model_recipe={script.language_model_recipe}` failed, see its own message above. It must "
            f"train into {script.language_model}. Run `{' '.join(command[1:])}` by itself."
        )


def load_data(script: TrainVLMArguments):
    if script.dataset_name == "shapes":
        return load_shapes_instruct(script.split, script.max_train_samples)
    return load_instruct(
        script.dataset_name,
        image_folder=script.image_folder,
        data_files=script.data_files,
        split=script.split,
        max_samples=script.max_train_samples,
    )


def build(script: TrainVLMArguments, tower: str | None, quantize: bool):
    """Return a LLaVA and its processor, from the first stage's folder or from tower and language model."""
    dtype = getattr(torch, script.dtype)
    if script.model_name_or_path is not None:
        model, processor = load_llava(
            script.model_name_or_path, dtype=dtype, trust_remote_code=script.trust_remote_code
        )
        if script.image_mode is not None:
            processor.image_processor = square_image_processor(processor.image_processor, script.image_mode)
        return model, processor
    language_model, tokenizer = script.language_model, None
    if quantize:
        tokenizer = AutoTokenizer.from_pretrained(language_model)
        language_model = load_complete(
            AutoModelForCausalLM,
            language_model,
            SAVE_RULE,
            dtype=dtype,
            quantization_config=quantization(script.quantization, dtype),
        )
    return build_llava(
        # A blind model never calls its tower.
        "test-vit" if tower is None else tower,
        language_model,
        tokenizer=tokenizer,
        vision_feature_layer=script.vision_feature_layer,
        image_mode=script.image_mode or "square",
        chat_template=script.chat_template,
        dtype=dtype,
        trust_remote_code=script.trust_remote_code,
    )


def feature_scale(model, processor, dataset) -> FeatureScale:
    """Return a scale that normalises the tower's features, measured on the first images of the data."""
    images = [image for row in dataset.take(CALIBRATION)["images"] for image in row][:CALIBRATION]
    pixels = processor.image_processor(images=[training_picture(image) for image in images], return_tensors="pt")
    statistics = measure_features(model, pixels["pixel_values"])
    logger.info(
        "Features of %d images: mean %.3g, std %.3g, largest %.3g; each channel is scaled by a power of two.",
        len(images),
        statistics.mean,
        statistics.std,
        statistics.max,
    )
    return FeatureScale(model, statistics.power_of_two_scale())


def open_cache(script: TrainVLMArguments, model, processor, dataset, evaluator: VQAEvaluator | None = None):
    """Return the features of all images that training and evaluation show the tower; `None` without a cache."""
    if script.feature_cache is None or not any(dataset["num_images"]):
        return None
    # Each tower of a study has its own folder in the cache.
    checksum = tower_checksum(model.model.vision_tower)
    cache = FeatureCache(Path(script.feature_cache) / checksum[:16], model, processor)
    cache.add((image for row in dataset.select_columns("images") for image in row["images"]), training_picture)
    if evaluator is not None:
        samples = [sample for entry in evaluator.benchmarks for sample in entry.samples if sample.image is not None]
        # A file is asked about several times. It is opened once.
        samples = {s.image if isinstance(s.image, str) else i: s for i, s in enumerate(samples)}.values()
        # Evaluation lays transparent pictures on white, and training only half of them. So the pixels name them.
        cache.add(samples, question_picture, name=lambda sample: image_name(question_picture(sample)))
    return cache


@contextlib.contextmanager
def reading(model, processor, cache: FeatureCache | None):
    """Yield the processor with which the model is asked, here of stored features if there are any."""
    if cache is None:
        yield processor
        return
    with reading_features(model):
        yield stored_pictures(processor, cache)


def all_scores(evaluator: VQAEvaluator) -> dict[str, dict[str, float]]:
    """Return every number of the evaluator's results, overall and by type of question."""
    return {
        name: {metric: value for metric, value in result.items() if isinstance(value, float)}
        for name, result in evaluator.results.items()
    }


def train(
    script: TrainVLMArguments,
    training: LlavaTrainingArguments,
    tower: str | None,
    dataset,
    evaluator: VQAEvaluator | None,
    teacher: LlavaTeacher | None,
):
    """
    Train one LLaVA and leave it in `training.output_dir`.

    Returns the LLaVA as it is loaded from there, its processor, and its stored features and learning curve, if any.
    """
    set_seed(training.seed)
    model, processor = build(script, tower, quantize=script.quantization is not None)
    before = tower_checksum(model.model.vision_tower)
    logger.info("The tower %s has the checksum %s.", tower or "", before[:16])
    cache = open_cache(script, model, processor, dataset, evaluator)
    asked = teacher if training.asks_teacher else None
    teacher_cache = None if asked is None else open_cache(script, asked.model, asked.processor, dataset)
    scale = feature_scale(model, processor, dataset) if script.normalize_features and tower is not None else None
    collator = LlavaDataCollator(
        processor,
        max_length=script.max_length,
        on_bad_sample=script.on_bad_sample,
        template=script.template,
        tower_features=cache,
        teacher_images=None if asked is None else asked.images(processor, cache, teacher_cache),
    )
    if cache is not None:
        collator.blank_image = torch.zeros_like(
            cache(next(image for images in dataset["images"] for image in images))
        )[None]
    trainer = LlavaTrainer(
        model=model,
        args=training,
        processor=processor,
        train_dataset=dataset,
        data_collator=collator,
        feature_scale=scale,
        teacher=teacher,
    )
    curve = None
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(reading(model, processor, cache))
        if asked is not None:
            stack.enter_context(reading(asked.model, asked.processor, teacher_cache))
        if script.score_at_steps is not None:

            def score() -> dict[str, dict[str, float]]:
                evaluator(trainer.llava, reader, learning=True)
                return all_scores(evaluator)

            curve = LearningCurve(trainer, script.score_at_steps, score)
            trainer.add_callback(curve)
        trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    logger.info("%s", collator.counts)

    folder = Path(training.output_dir)
    trainer.save_model(str(folder / "adapter" if training.lora else folder))
    trainer.accelerator.wait_for_everyone()
    if training.lora and trainer.is_world_process_zero():
        plain, processor = build(script, tower, quantize=False)
        save_llava(merge_adapter(plain, folder / "adapter"), processor, folder)
    trainer.accelerator.wait_for_everyone()
    model, processor = load_llava(folder, dtype=getattr(torch, script.dtype))
    after = tower_checksum(model.model.vision_tower)
    if (after == before) == training.tune_vision_tower:
        raise RuntimeError(
            f"The tower's checksum was {before} and is {after} in {folder}, but tune_vision_tower is "
            f"{training.tune_vision_tower}."
        )
    logger.info("In %s the tower has the checksum %s.", folder, after[:16])
    return model.to(trainer.args.device), processor, cache, curve


def main(argv: list[str] | None = None) -> list[dict]:
    """Run the recipe and return the rows of the table, scores between 0 and 1."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    parser = RecipeParser((TrainVLMArguments, LlavaTrainingArguments), CONFIGS / "demo.yaml", description=__doc__)
    script, training = parser.parse(argv)
    check(script, training)
    folder = Path(training.output_dir)
    if training.process_index == 0:
        check_run(training, folder, script)
    towers = {folder.name: script.vision_tower}
    towers |= {name: tower for name, tower in (script.beside or {}).items() if name not in towers}
    towers = dict(sorted(towers.items(), key=lambda item: ORDER.index(item[0]) if item[0] in ORDER else len(ORDER)))
    evaluator = None if script.evaluation is None else build_vqa_evaluator(script.evaluation, load_shapes)
    dataset = load_data(script)
    for tower in filter(None, towers.values()):
        # An error of the last tower is raised before the first one is trained.
        load_tower(tower, trust_remote_code=script.trust_remote_code)
    make_language_model(script)
    teacher = None
    if script.teacher_model_name_or_path is not None:
        teacher = LlavaTeacher(script.teacher_model_name_or_path, trust_remote_code=script.trust_remote_code)

    rows = []
    for name, tower in towers.items():
        seeing = tower is not None or script.model_name_or_path is not None
        own = dataclasses.replace(training, output_dir=str(folder.parent / name))
        main_process = own.process_index == 0
        if main_process:
            Path(own.output_dir).mkdir(parents=True, exist_ok=True)
            parser.save(
                Path(own.output_dir) / "recipe.yaml", dataclasses.replace(script, vision_tower=tower, beside=None), own
            )
            record_sources(own.output_dir)
        measure = evaluator if evaluator is None or seeing else evaluator.without_images()
        model, processor, cache, curve = train(
            script, own, tower, dataset if seeing else without_images(dataset), measure, teacher
        )
        if measure is not None:
            with reading(model, processor, cache) as reader:
                numbers = measure(
                    model,
                    reader,
                    folder=Path(own.output_dir) / "results" if main_process else None,
                    name=own.output_dir,
                    config=asdict(script) | {"vision_tower": tower} | own.to_dict(),
                )
            if curve is not None:
                curve.finish(all_scores(measure))
            rows.append(summary_row(name, numbers, measure.results))
    if rows and training.process_index == 0:
        oracle = Path(script.language_model or "", "oracle.json")
        if oracle.is_file():
            rows.append({"name": "oracle", **json.loads(oracle.read_text())})
        write_whole(folder.parent / "summary.json", json.dumps({"rows": rows}, indent=2) + "\n")
        print(f"\n{summary_table(rows)}\n")
    if training.push_to_hub and training.process_index == 0:
        measure_run(folder, load_folder)
        print(f"On the Hub: {push_run(training, folder)}")
    return rows


if __name__ == "__main__":
    exit_with_one_line(main)
