"""Train a LLaVA on a vision tower, and measure its answers about images.

One run is one stage: `pretrain` trains the projector on captions, `finetune` the projector and the language model on
conversations. With `first_stage` a run has both. It leaves a folder that `transformers` loads, with answers and scores
in `results/`. `beside` gives other towers the same training, each in a folder next to `output_dir`. All towers share
one table and `summary.json`.

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
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import set_seed

from hf_clip_kd.data import load_shapes
from hf_clip_kd.data.instruct import without_images
from hf_clip_kd.evaluation import build_vqa_evaluator
from hf_clip_kd.evaluation.cost import measure_run
from hf_clip_kd.evaluation.vqa import VQAEvaluator, question_picture, summary_row, summary_table
from hf_clip_kd.hub.cards import record_sources
from hf_clip_kd.hub.run import check_run, push_run
from hf_clip_kd.models import inner_tower, resize_images
from hf_clip_kd.recipe_io.model_folder import is_whole_model
from hf_clip_kd.recipe_io.parser import RecipeParser, exit_with_one_line, recipe_path
from hf_clip_kd.recipe_io.results import write_whole
from hf_clip_kd.training.agreement import check_agreement
from hf_clip_kd.training.learning_curve import LearningCurve
from hf_clip_kd.vlm import (
    FeatureCache,
    LlavaDataCollator,
    LlavaTeacher,
    LlavaTrainer,
    LlavaTrainingArguments,
    image_name,
    load_llava,
    load_tower,
    merge_adapter,
    reading_features,
    save_llava,
    stored_pictures,
    tower_checksum,
    training_picture,
)
from hf_clip_kd.vlm.arguments import TrainVLMArguments, check
from hf_clip_kd.vlm.first_stage import first_folder, read_first_stage, second_of
from hf_clip_kd.vlm.saving import load_folder
from hf_clip_kd.vlm.starting import build, feature_scale, load_data

logger = logging.getLogger(__name__)

RECIPES = Path(__file__).parent
CONFIGS = RECIPES / "configs" / "train_vlm"
# Order of the table's rows; other names come after these.
ORDER = ("blind", "untrained", "alone", "distilled", "teacher")


def make_language_model(script: TrainVLMArguments) -> None:
    """Train the language model first if it has a recipe and no folder yet."""
    if script.language_model_recipe is None or is_whole_model(script.language_model):
        return
    logger.info("There is no language model in %s yet: training it.", script.language_model)
    recipe = recipe_path(script.language_model_recipe, RECIPES / "configs" / "prime_lm")
    command = [sys.executable, str(RECIPES / "prime_lm.py"), "--config", str(recipe)]
    command += ["--output_dir", script.language_model]
    # It may have been stopped before.
    if subprocess.run([*command, "--resume_from_checkpoint", "auto"]).returncode:
        raise ValueError(
            f"`language_model_recipe={script.language_model_recipe}` failed, see its own message above. It must "
            f"train into {script.language_model}. Run `{' '.join(command[1:])}` by itself."
        )


def open_cache(script: TrainVLMArguments, model, processor, dataset, evaluator: VQAEvaluator | None = None):
    """Return the features of all images that training and evaluation show the tower; `None` without a cache."""
    if script.feature_cache is None or not any(dataset["num_images"]):
        return None
    # Each tower of a study has its own folder in the cache.
    checksum = tower_checksum(inner_tower(model.model.vision_tower))
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


def sees(script: TrainVLMArguments) -> bool:
    """Return whether the model is shown images: a tower was named, or a LLaVA that has its own."""
    return script.vision_tower is not None or script.model_name_or_path is not None


def keep(model, processor, training: LlavaTrainingArguments):
    """Save a model of which nothing learns, as a projector without images, and return what [`train`] does."""
    logger.info("Nothing learns in %s: the projector of a blind model has no images.", training.output_dir)
    if training.process_index == 0:
        save_llava(model, processor, training.output_dir)
    return model.to(training.device), processor, None, None


def autocast(training: LlavaTrainingArguments) -> torch.autocast:
    """Return the precision of a training, for its scores."""
    dtype = torch.float16 if training.fp16 else torch.bfloat16
    return torch.autocast(training.device.type, dtype, enabled=training.fp16 or training.bf16)


def weights_name(model, processor, training: LlavaTrainingArguments) -> str:
    """Return a name of all that the answers of a saved LLaVA depend on, but for the questions."""
    precision = "bf16" if training.bf16 else "fp16" if training.fp16 else "weights"
    return f"{tower_checksum(model)} {precision} {processor.to_json_string()} {processor.chat_template}"


def train(
    script: TrainVLMArguments,
    training: LlavaTrainingArguments,
    dataset,
    evaluator: VQAEvaluator | None,
    teacher: LlavaTeacher | None,
):
    """
    Train one LLaVA and leave it in `training.output_dir`.

    Returns the LLaVA as it is loaded from there, its processor, and its stored features and learning curve, if any.
    """
    set_seed(training.seed)
    model, processor = build(script, quantize=script.quantization is not None)
    if not sees(script) and training.stage == "pretrain":
        return keep(model, processor, training)
    before = tower_checksum(model.model.vision_tower)
    logger.info("The tower %s has the checksum %s.", script.vision_tower or "", before[:16])
    cache = open_cache(script, model, processor, dataset, evaluator)
    asked = teacher if training.asks_teacher else None
    teacher_cache = None if asked is None else open_cache(script, asked.model, asked.processor, dataset)
    scaled = script.normalize_features and script.vision_tower is not None
    collator = LlavaDataCollator(
        processor,
        max_length=script.max_length,
        packing=script.packing,
        on_bad_sample=script.on_bad_sample,
        template=script.template,
        tower_features=cache,
        teacher_images=None if asked is None else asked.images(processor, cache, teacher_cache),
    )
    if cache is not None:
        collator.blank_image = {"pixel_values": cache.blank()[None]}
    trainer = LlavaTrainer(
        model=model,
        args=training,
        processor=processor,
        train_dataset=dataset,
        data_collator=collator,
        feature_scale=feature_scale(model, processor, dataset) if scaled else None,
        teacher=teacher,
    )
    curve = None
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(reading(model, processor, cache))
        if asked is not None:
            stack.enter_context(reading(asked.model, asked.processor, teacher_cache))
        if script.score_at_steps is not None:

            def score() -> dict[str, dict[str, float]]:
                with autocast(training):
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
        set_seed(training.seed)  # Fresh weights, such as a preset's, must be those that the adapters were trained on.
        plain, processor = build(script, quantize=False)
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


def run_stage(
    parser: RecipeParser,
    script: TrainVLMArguments,
    training: LlavaTrainingArguments,
    dataset,
    evaluator: VQAEvaluator | None,
    teacher: LlavaTeacher | None,
):
    """Write down the arguments of one tower's stage, and return what [`train`] does."""
    if training.process_index == 0:
        Path(training.output_dir).mkdir(parents=True, exist_ok=True)
        parser.save(Path(training.output_dir) / "recipe.yaml", script, training)
        record_sources(training.output_dir)
    return train(script, training, dataset if sees(script) else without_images(dataset), evaluator, teacher)


def main(argv: list[str] | None = None) -> list[dict]:
    """Run the recipe and return the rows of the table, scores between 0 and 1."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    argv = sys.argv[1:] if argv is None else argv
    parser = RecipeParser((TrainVLMArguments, LlavaTrainingArguments), CONFIGS / "demo.yaml", description=__doc__)
    script, training = parser.parse(argv)
    check_agreement({"recipe": asdict(script)})
    check(script, training)
    first = None if script.first_stage is None else read_first_stage(parser, argv, script.first_stage)
    folder = Path(training.output_dir)
    if training.process_index == 0:
        check_run(training, folder, script)
    towers = {folder.name: script.vision_tower}
    towers |= {name: tower for name, tower in (script.beside or {}).items() if name not in towers}
    towers = dict(sorted(towers.items(), key=lambda item: ORDER.index(item[0]) if item[0] in ORDER else len(ORDER)))
    evaluator = None if script.evaluation is None else build_vqa_evaluator(script.evaluation, load_shapes)
    dataset = load_data(script)
    captions = None if first is None else load_data(first[0])
    for tower in filter(None, towers.values()):
        # An error of the last tower is raised before the first one is trained.
        found = load_tower(tower, trust_remote_code=script.trust_remote_code)
        if script.image_size is not None:
            resize_images(*found, script.image_size)
    make_language_model(script)
    teacher = None
    if script.teacher_model_name_or_path is not None:
        teacher = LlavaTeacher(script.teacher_model_name_or_path, trust_remote_code=script.trust_remote_code)

    rows = []
    for name, tower in towers.items():
        own = dataclasses.replace(training, output_dir=str(folder.parent / name))
        start = dataclasses.replace(script, vision_tower=tower, beside=None, first_stage=None)
        if first is not None and sees(start):
            place = first_folder(folder, name)
            before = dataclasses.replace(first[0], vision_tower=tower)
            arguments = dataclasses.replace(first[1], output_dir=str(place))
            run_stage(parser, before, arguments, captions, None, teacher)
            start = second_of(script, place)
        measure = evaluator if evaluator is None or sees(start) else evaluator.without_images()
        model, processor, cache, curve = run_stage(parser, start, own, dataset, measure, teacher)
        if measure is not None:
            with reading(model, processor, cache) as reader, autocast(training):
                numbers = measure(
                    model,
                    reader,
                    folder=Path(own.output_dir) / "results" if own.process_index == 0 else None,
                    name=own.output_dir,
                    config=asdict(script) | {"vision_tower": tower} | own.to_dict(),
                    weights=weights_name(model, processor, training),
                )
            if curve is not None:
                curve.finish(all_scores(measure))
            rows.append(summary_row(name, numbers, measure.results))
    if rows and training.process_index == 0:
        oracle = Path(script.language_model or "", "oracle.json")
        if oracle.is_file():
            rows.append({"name": "oracle", **json.loads(oracle.read_text())})
        write_whole(folder.parent / "summary.json", json.dumps({"rows": rows}, indent=2) + "\n")
        print(f"\n{summary_table(rows, evaluator.points)}\n")
    if training.push_to_hub and training.process_index == 0:
        measure_run(folder, load_folder)
        print(f"On the Hub: {push_run(training, folder)}")
    return rows


if __name__ == "__main__":
    exit_with_one_line(main)
