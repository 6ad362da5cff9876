"""Convert a language model from a GGUF file to a plain folder of transformers, and check what was read.

The check is the perplexity of a fixed text and the answer to a fixed question. A model that knows nothing has a
perplexity as large as its vocabulary. The saved folder must give the file's own logits.

    python recipes/import_language_model.py model/SmolLM2-135M-Instruct.Q4_1.gguf outputs/smollm2
"""

import argparse
import logging
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_clip_kd.models.completeness import SAVE_RULE, load_complete
from hf_clip_kd.recipe_io.new_folder import new_folder
from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.vlm.gguf import load_gguf

logger = logging.getLogger(__name__)

# Article 1 of the Universal Declaration of Human Rights, which every language model has read.
TEXT = (
    "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and "
    "should act towards one another in a spirit of brotherhood."
)
WORST = 1000  # SmolLM2-135M has 7. A model that guesses has its vocabulary, some 50,000.
QUESTION = "What is the capital of France? Answer with one word."


@torch.no_grad()
def perplexity(model, tokenizer) -> float:
    """Return exp of the mean negative log-likelihood of the tokens of `TEXT`, all but the first: 1 or more."""
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    return float(model(input_ids=ids, labels=ids).loss.exp())


def answer(model, tokenizer) -> str:
    """Return the greedy answer to `QUESTION` in the tokenizer's own chat template; empty if it has none."""
    if tokenizer.chat_template is None:
        return ""
    chat = [{"role": "user", "content": QUESTION}]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    return tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


@torch.no_grad()
def check_same(model, tokenizer, folder: Path) -> None:
    """Raise a `ValueError` if the folder holds another model or cuts a text into other tokens."""
    saved = load_complete(AutoModelForCausalLM, str(folder), SAVE_RULE)
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    again = AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")["input_ids"]
    if not torch.equal(ids, again) or not torch.equal(model(ids).logits, saved(ids).logits):
        raise ValueError(
            "The folder that was written does not give the logits of the file. It must be the same model. Update "
            "transformers, or convert another file."
        )


def main(argv: list[str] | None = None) -> dict[str, float | str]:
    """Run the recipe and return the perplexity and the answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="A GGUF file: its path, or REPO_ID//FILE.gguf on the Hub.")
    parser.add_argument("output_dir", type=Path, help="The new folder.")
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    with new_folder(args.output_dir) as made:
        model, tokenizer = load_gguf(args.file)
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        check_same(model, tokenizer, made)
    found = {"perplexity": perplexity(model, tokenizer), "answer": answer(model, tokenizer)}
    print(f"Perplexity of a fixed text: {found['perplexity']:.2f}")
    if not found["perplexity"] <= WORST:
        logger.warning(
            "A language model that has learned English has a perplexity of at most %d. The file is damaged, or of a "
            "model that is not trained.",
            WORST,
        )
    print(f"{QUESTION} {found['answer']}")
    print(f"Imported. Use it as: --language_model {args.output_dir}")
    return found


if __name__ == "__main__":
    exit_with_one_line(main)
