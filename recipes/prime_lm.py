"""Make a tiny language model that can already answer questions about the embedded world, given perfect vision.

Its tokenizer is made of the world's own sentences. It is trained from scratch inside a LLaVA whose tower tells
symbols. They are the object in each patch, and the patch's place. No image of these scenes is ever drawn. The
errors of a LLaVA with this language model come from its vision tower. `oracle.json` holds the accuracy of its answers
with those symbols: the ceiling for any tower. With `least_accuracy` the training goes on until this ceiling is one.

    python recipes/prime_lm.py --output_dir outputs/vlm_demo/language_model
"""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionConfig,
    CLIPVisionModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    TrainerCallback,
    set_seed,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from hf_clip_kd.data import load_shapes
from hf_clip_kd.data.shapes.instruct import SYMBOL_GRID, SYMBOL_WIDTH, load_shapes_instruct, symbols_of
from hf_clip_kd.evaluation.vqa import METRICS, READERS
from hf_clip_kd.recipe_io.parser import RecipeParser, exit_with_one_line
from hf_clip_kd.recipe_io.results import check_answers
from hf_clip_kd.vlm import (
    LlavaDataCollator,
    LlavaTrainer,
    LlavaTrainingArguments,
    build_llava,
    get_chat_template,
    reading_features,
)

CONFIGS = Path(__file__).parent / "configs" / "prime_lm"
# These scenes have another seed than those whose images train and test a LLaVA.
SEED_OF_SCENES = 1
QUESTIONS_PER_IMAGE = 6
QUESTIONS_AT_ONCE = 100


@dataclass
class PrimeArguments:
    hidden_size: int = field(default=96, metadata={"help": "Width of the language model."})
    num_hidden_layers: int = field(default=2, metadata={"help": "Its depth."})
    num_attention_heads: int = field(default=3, metadata={"help": "Its heads."})
    initializer_range: float = field(
        default=0.1, metadata={"help": "Deviation of its fresh weights; the usual 0.02 is meant for wide models."}
    )
    chat_template: str = field(default="short", metadata={"help": "Name of its chat template."})
    max_train_samples: int = field(default=96_000, metadata={"help": "Questions, six about each scene."})
    max_test_samples: int = field(default=3_000, metadata={"help": "Questions about other scenes, for `oracle.json`."})
    least_accuracy: float | None = field(
        default=None,
        metadata={
            "help": "Accuracy, from 0 to 1, that the oracle must reach in every type of question. The training "
            "ends as soon as it does. It is an error if `max_steps` ends first."
        },
    )
    check_every: int = field(
        default=250, metadata={"help": "Steps from a look at the oracle to the next, with `least_accuracy`."}
    )

    def __post_init__(self):
        if self.least_accuracy is not None and not 0 <= self.least_accuracy <= 1:
            raise ValueError(
                f"`least_accuracy={self.least_accuracy}` is no share. It must lie between 0 and 1. Pass for example "
                "`--least_accuracy 0.98`."
            )
        if self.check_every < 1:
            raise ValueError(
                f"`check_every={self.check_every}` is no number of steps. It must be 1 or more. Pass "
                "`--check_every 250`."
            )


def make_tokenizer(conversations: list[list[dict]]) -> Qwen2Tokenizer:
    """Return a byte-level tokenizer like that of Qwen2 in which each word of the world is one token."""
    empty = Qwen2Tokenizer()
    backend = empty.backend_tokenizer
    trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    # System prompts and roles of the templates occur too often to be spelled out.
    words = ["You are a helpful assistant.", "system user assistant", "system", "user", "assistant"]
    # A word has two tokens, one with a leading space; templates begin an answer either way.
    texts = [space + message["content"] for messages in conversations for message in messages for space in ("", " ")]
    backend.train_from_iterator([*words, *texts], trainer)
    made = json.loads(backend.to_str())["model"]
    tokenizer = Qwen2Tokenizer(vocab=made["vocab"], merges=[tuple(pair) for pair in made["merges"]])
    special = [AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>", "<image>")]
    tokenizer.add_special_tokens({"extra_special_tokens": special})
    return tokenizer


def symbolic_llava(script: PrimeArguments, tokenizer: Qwen2Tokenizer):
    """Return a LLaVA with a fresh language model, whose projector reads symbols."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=script.hidden_size,
        intermediate_size=4 * script.hidden_size,
        num_hidden_layers=script.num_hidden_layers,
        num_attention_heads=script.num_attention_heads,
        num_key_value_heads=script.num_attention_heads,
        initializer_range=script.initializer_range,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    # This tower is never called; it sets the width and the number of the tokens.
    size = 8 * SYMBOL_GRID
    shape = CLIPVisionConfig(
        hidden_size=SYMBOL_WIDTH, num_attention_heads=1, num_hidden_layers=2, image_size=size, patch_size=8
    )
    return build_llava(
        CLIPVisionModel(shape),
        Qwen2ForCausalLM(config),
        tokenizer=tokenizer,
        image_processor=CLIPImageProcessorPil(
            size={"height": size, "width": size}, crop_size={"height": size, "width": size}
        ),
        chat_template=script.chat_template,
    )


def symbols(image: dict) -> torch.Tensor:
    """Return the symbols (1, 1 + patches, width) of an image by its name, after an empty class token."""
    return torch.from_numpy(np.pad(symbols_of(image["path"]), ((1, 0), (0, 0))))[None]


class UntilOracle(TrainerCallback):
    """
    End the training as soon as the oracle reaches `least_accuracy` in every type of question.

    The weights that are asked are the average, if the run has one (`ema_decay`).
    """

    def __init__(self, trainer: LlavaTrainer, script: PrimeArguments):
        self.trainer, self.script = trainer, script

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.script.check_every:
            return
        with self.trainer.ema.in_place(), torch.random.fork_rng():
            scores = oracle(self.trainer.llava, self.trainer.processing_class, self.script)
        self.trainer.log({f"oracle_{kind}": value for kind, value in scores["by_type"].items()})
        control.should_training_stop |= not below(scores, self.script)


def below(scores: dict, script: PrimeArguments) -> dict[str, float]:
    """Return the types of question in which the oracle misses `least_accuracy`, with its accuracy."""
    return {kind: value for kind, value in scores["by_type"].items() if value < (script.least_accuracy or 0)}


@torch.no_grad()
def oracle(model, processor, script: PrimeArguments) -> dict:
    """Return the accuracy, overall and by type of question, on the test scenes' symbols."""
    samples = READERS["shapes"](load_shapes("test", script.max_test_samples, vqa=True))
    tokenizer, image_tokens = processor.tokenizer, processor.image_token * SYMBOL_GRID**2
    model.eval()
    answers = []
    for start in tqdm(range(0, len(samples), QUESTIONS_AT_ONCE), desc="oracle", leave=False):
        batch = samples[start : start + QUESTIONS_AT_ONCE]
        prompts = [[{"role": "user", "content": f"{image_tokens}\n{sample.prompt}"}] for sample in batch]
        inputs = tokenizer.apply_chat_template(
            prompts,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            padding=True,
            tokenizer_kwargs={"padding_side": "left"},
        ).to(model.device)
        names = [f"shapes/test/0/{index // QUESTIONS_PER_IMAGE}" for index in range(start, start + len(batch))]
        pixels = torch.stack([symbols({"path": name}) for name in names]).to(model.device, model.dtype)
        texts = model.generate(**inputs, pixel_values=pixels, max_new_tokens=4)
        answers += tokenizer.batch_decode(texts[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    check_answers("the oracle's questions", answers)
    result = METRICS["shapes"]().score(samples, answers, n_resamples=0)
    by_type = {key.removesuffix("/accuracy"): value for key, value in result.items() if key.endswith("/accuracy")}
    return {"accuracy": result["accuracy"], "by_type": by_type}


def main(argv: list[str] | None = None) -> dict:
    """Run the recipe and return the oracle's accuracy."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    parser = RecipeParser((PrimeArguments, LlavaTrainingArguments), CONFIGS / "demo.yaml", description=__doc__)
    script, training = parser.parse(argv)
    get_chat_template(script.chat_template)
    set_seed(training.seed)
    dataset = load_shapes_instruct("train", script.max_train_samples, seed=SEED_OF_SCENES, pixels=False)
    tokenizer = make_tokenizer(dataset.take(3000)["messages"])
    model, processor = symbolic_llava(script, tokenizer)
    trainer = LlavaTrainer(
        model=model,
        args=training,
        processor=processor,
        train_dataset=dataset,
        data_collator=LlavaDataCollator(processor, tower_features=symbols),
    )
    if script.least_accuracy is not None:
        trainer.add_callback(UntilOracle(trainer, script))
    with reading_features(model):
        trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
        scores = oracle(trainer.llava, processor, script)
    if missed := below(scores, script):
        raise ValueError(
            f"`least_accuracy={script.least_accuracy}`: after {trainer.state.global_step} steps the oracle has "
            f"{', '.join(f'{value:.3f} in {kind}' for kind, value in missed.items())}. A language model with less is "
            "no ceiling. Train longer with `--max_steps`, or with another `--seed`: some never learn to look."
        )
    folder = Path(training.output_dir)
    if trainer.is_world_process_zero():
        language_model = AutoModelForCausalLM.from_config(model.config.text_config)
        weights = model.model.language_model.state_dict()
        language_model.base_model.load_state_dict(weights)
        language_model.lm_head.load_state_dict(model.lm_head.state_dict())
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "oracle.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
        parser.save(folder / "recipe.yaml", script, training)
        processor.tokenizer.save_pretrained(folder)
        language_model.save_pretrained(folder)
    print(
        f"oracle: {100 * scores['accuracy']:.1f}, "
        + ", ".join(f"{k} {100 * v:.1f}" for k, v in scores["by_type"].items())
    )
    return scores


if __name__ == "__main__":
    exit_with_one_line(main)
