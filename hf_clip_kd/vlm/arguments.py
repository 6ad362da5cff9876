"""Arguments of the recipe `train_vlm.py`, and the errors that can be known before anything is loaded."""

from dataclasses import dataclass, field

from ..training.learning_curve import check_steps
from .gguf import is_gguf
from .teacher import check_teacher
from .tiles import check_tiles
from .token_reduction import REDUCTIONS, check_reduction
from .training_args import LlavaTrainingArguments


@dataclass
class TrainVLMArguments:
    vision_tower: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub id of a student, a CLIP, SigLIP or ViT, `open_clip:ARCH/TAG`, `timm:NAME`, or a "
            "preset with fresh weights. The language model answers blindly if there is none."
        },
    )
    language_model: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub id of a causal language model, or `FOLDER//FILE.gguf` with the package gguf."
        },
    )
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
    first_stage: dict | None = field(
        default=None,
        metadata={
            "help": "Arguments of LLaVA's first stage that differ from this run's: data, `template`, steps, rate. "
            "Each tower gets that stage first, in `pretrain/NAME` next to `output_dir`. A blind model has none."
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
    image_size: int | None = field(
        default=None,
        metadata={
            "help": "Side of the tower's images in pixels, if not its own. Position embeddings are interpolated."
        },
    )
    image_tokens: int | None = field(
        default=None,
        metadata={
            "help": "Tokens of an image, or of a tile, for the language model: a square number. Default is all that "
            "the tower has."
        },
    )
    token_reduction: str | None = field(
        default=None,
        metadata={
            "help": "Way to `image_tokens`: `pool`, the default, averages neighbours; `shuffle` lays a square of them "
            "side by side.",
            "choices": list(REDUCTIONS),
        },
    )
    tiles: list[list[int]] | None = field(
        default=None,
        metadata={
            "help": "Rows and columns of tiles to choose from for each image, as in LLaVA-NeXT: "
            "`[[1, 2], [2, 1], [2, 2]]`. Each tile has the tower's size."
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
    max_length: int = field(
        default=2048,
        metadata={
            "help": "Longest sample in tokens, image tokens among them. With `packing` also the length of a row."
        },
    )
    packing: bool = field(
        default=False,
        metadata={
            "help": "Put several samples in a row of at most `max_length` tokens, so that there is less padding. They "
            "do not see each other, and the loss stays the same."
        },
    )
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
    """
    Refuse arguments that do not go together.

    Raises:
        ValueError: Two arguments exclude each other, or an argument lacks the other that it needs.
    """
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
    if script.first_stage is not None and script.model_name_or_path is not None:
        raise ValueError(
            "`first_stage` with `model_name_or_path`, whose LLaVA has had it. It belongs to a run that starts from "
            "`language_model`. Leave one of the two out."
        )
    for name in ("image_size", "image_tokens", "token_reduction", "tiles"):
        if getattr(script, name) is not None and script.model_name_or_path is not None:
            raise ValueError(
                f"`{name}={getattr(script, name)}` with `model_name_or_path`, whose LLaVA has its own. It must be "
                "left out, or belong to a run that starts from `language_model`. Give the language model."
            )
    check_reduction(script.token_reduction, script.image_tokens)
    if script.max_length < 1:
        raise ValueError(
            f"`max_length={script.max_length}` is no number of tokens. It must be at least 1. Pass for example "
            "`--max_length 2048`."
        )
    if script.tiles is not None:
        check_tiles(script.tiles, script.image_mode)
    for name in ("feature_cache", "teacher_model_name_or_path"):
        if script.tiles is not None and getattr(script, name) is not None:
            raise ValueError(
                f"`{name}={getattr(script, name)!r}` with `tiles`. It needs as many tokens for each image, and the "
                "number of tiles differs. Leave one of the two out."
            )
    if script.quantization is not None and is_gguf(script.language_model or ""):
        raise ValueError(
            f"`quantization={script.quantization}` with the GGUF file {script.language_model!r}, which is unpacked as "
            "it is read. Only a folder of transformers can be quantised. Convert the file: "
            "`python recipes/import_language_model.py FILE FOLDER`."
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


__all__ = ["TrainVLMArguments", "check"]
