"""Train a small caption decoder on a teacher's image tokens: a reader for the loss `reader` of distill.py.

The teacher is frozen. The decoder learns to write each image's caption, or the answer to its question, from the
teacher's tokens. It leaves a folder that distill.py reads with.

    accelerate launch recipes/train_captioner.py      # the demo, on the teacher of distill.py's demo
    accelerate launch recipes/train_captioner.py --teacher_model_name_or_path openai/clip-vit-base-patch16 \
        --dataset_name imagefolder --data_dir my_images --output_dir outputs/my_captioner
"""

import logging
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace

from transformers import AutoTokenizer, PreTrainedTokenizerBase, set_seed

import hf_clip_kd as kd
from hf_clip_kd.data.arguments import ImageTextArguments, RandomCropArguments
from hf_clip_kd.distillation.captioner_trainer import CaptionerTrainer, CaptionerTrainingArguments
from hf_clip_kd.hub.cards import record_sources
from hf_clip_kd.losses.features import FeatureRequest
from hf_clip_kd.models import clip_tokenizer
from hf_clip_kd.recipe_io.parser import RecipeParser, exit_with_one_line
from hf_clip_kd.teachers.reader import Captioner, CaptionerConfig
from hf_clip_kd.teachers.reader.texts import CaptionerTexts
from hf_clip_kd.training.agreement import check_agreement

CONFIGS = Path(__file__).parent / "configs" / "train_captioner"


@dataclass(kw_only=True)
class CaptionerArguments(ImageTextArguments, RandomCropArguments):
    teacher_model_name_or_path: str | dict = field(
        metadata={"help": "The teacher, as for `recipes/distill.py`, but no ensemble."}
    )
    teacher_layer: int = field(
        default=-2,
        metadata={"help": "Entry of the teacher's `hidden_states` to read. A LLaVA reads the last but one."},
    )
    teacher_dtype: str | None = field(
        default=None, metadata={"help": "Precision of the teacher: `float32`, `bfloat16` or `float16`."}
    )
    tokenizer: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub id of the decoder's tokenizer. The default is the teacher's own, or CLIP's if the "
            "teacher has none of transformers."
        },
    )
    fusion: str = field(
        default="cross",
        metadata={
            "help": "Way to show the image: `cross`-attention or as a `prefix`.",
            "choices": ["cross", "prefix"],
        },
    )
    hidden_size: int = field(default=256, metadata={"help": "Width of the decoder."})
    num_layers: int = field(default=2, metadata={"help": "Its depth."})
    num_heads: int = field(default=4, metadata={"help": "Its heads."})
    max_length: int = field(default=77, metadata={"help": "Tokens of a text that it reads. The rest is cut."})
    max_broken_fraction: float = field(
        default=0.05, metadata={"help": "Largest share of unreadable images, between 0 and 1. Above it the run stops."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Allow model code from the Hub to run."})


def tokenizer_for(script: CaptionerArguments, teacher: kd.Teacher) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the recipe, of the teacher, or CLIP's."""
    if script.tokenizer is not None:
        return AutoTokenizer.from_pretrained(script.tokenizer)
    own = teacher.processor.tokenizer
    return own if isinstance(own, PreTrainedTokenizerBase) else clip_tokenizer()


def main(argv: list[str] | None = None) -> float:
    """Run the recipe and return the last logged loss, in nats a token."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    parser = RecipeParser((CaptionerArguments, CaptionerTrainingArguments), CONFIGS / "demo.yaml", description=__doc__)
    script, training = parser.parse(argv)
    check_agreement({"recipe": asdict(script)})
    teacher = kd.load_teacher(
        script.teacher_model_name_or_path,
        dtype=script.teacher_dtype,
        trust_remote_code=script.trust_remote_code,
    )
    teacher.prepare(FeatureRequest(teacher_layer=script.teacher_layer))
    tokenizer = tokenizer_for(script, teacher)
    set_seed(training.seed)
    model = Captioner(
        CaptionerConfig(
            token_dim=teacher.dims.token_dim,
            num_tokens=math.prod(teacher.image_grid),
            teacher_layer=script.teacher_layer,
            vocab_size=max(tokenizer.get_vocab().values()) + 1,
            fusion=script.fusion,
            hidden_size=script.hidden_size,
            num_layers=script.num_layers,
            num_heads=script.num_heads,
            max_length=script.max_length,
        )
    )
    view = SimpleNamespace(image_processor=teacher.processor.image_processor, tokenizer=tokenizer)
    trainer = CaptionerTrainer(
        model=model,
        args=training,
        teacher=teacher,
        train_dataset=script.load_rows(training.seed),
        data_collator=kd.CLIPDataCollator(
            view,
            **script.crop,
            seed=training.seed,
            max_broken_fraction=script.max_broken_fraction,
            readers=[CaptionerTexts(tokenizer, script.max_length)],
        ),
        tokenizer=tokenizer,
    )
    if trainer.is_world_process_zero():
        parser.save(Path(training.output_dir) / "recipe.yaml", script, training)
        record_sources(training.output_dir)
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    trainer.save_model()
    trainer.accelerator.wait_for_everyone()
    loss = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-1]
    if trainer.is_world_process_zero():
        print(f"{training.output_dir}: {loss:.3f} nats a token")
    return loss


if __name__ == "__main__":
    exit_with_one_line(main)
