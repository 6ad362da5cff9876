"""Folders and files of weights, and chat templates."""

import copy

import torch
from chat_tokenizers import chat_tokenizer
from llava_runs import make_rows
from safetensors.torch import save_file
from tiny_gguf import tiny_llama, write_gguf
from transformers import LlamaConfig

import hf_clip_kd as kd
from hf_clip_kd.export.importing.weights import read_state_dict
from hf_clip_kd.vlm import LlavaDataCollator, load_llava, save_llava
from hf_clip_kd.vlm.chat_templates import default_chat_template, get_chat_template
from hf_clip_kd.vlm.gguf import load_gguf

from .kind import Kind, llava, made_once


def write_student(folder):
    from teacher_models import tiny_clip

    for part in tiny_clip():
        part.save_pretrained(folder)


def read_student(folder):
    model, processor = kd.load_clip(str(folder))
    return [(name, tuple(values.shape)) for name, values in model.state_dict().items()], type(processor).__name__


def write_weights(folder):
    state = {"visual.conv": torch.arange(12.0).reshape(3, 4), "logit_scale": torch.tensor(1.5), "n": torch.tensor([1])}
    torch.save({"state_dict": state}, folder / "a.pt")
    save_file(state, folder / "a.safetensors")


def read_weights(folder):
    made = [read_state_dict(folder / name) for name in ("a.pt", "a.safetensors")]
    return [[(key, tuple(value.shape), str(value.dtype)) for key, value in state.items()] for state in made]


def write_model_of_gguf(folder):
    write_gguf(folder / "a.gguf", *tiny_llama())


def read_model_of_gguf(folder):
    model, tokenizer = load_gguf(str(folder / "a.gguf"))
    return [(name, tuple(values.shape)) for name, values in model.state_dict().items()], len(tokenizer)


def write_chat_template(folder):
    (folder / "chat_template.jinja").write_text(get_chat_template("smollm2").jinja, encoding="utf-8")


def read_chat_template(folder):
    from hf_clip_kd.recipe_io.foreign import read_text

    path, tokenizer = folder / "chat_template.jinja", chat_tokenizer("smollm2")
    words = {"allowed": "It must be a template.", "fix": "Repair the template."}
    tokenizer.chat_template = read_text(path, **words)
    processor = copy.copy(llava()[1])
    processor.chat_template = tokenizer.chat_template
    try:
        batch = LlavaDataCollator(processor)(list(make_rows(2)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error  # A collator does not know where its template lay.
    return default_chat_template(LlamaConfig(), tokenizer), batch["input_ids"].tolist(), batch["labels"].tolist()


def write_llava(folder):
    made_once("LLaVA", folder, lambda made: save_llava(*llava(), made))


def read_llava(folder):
    model, processor = load_llava(folder)
    return [(name, tuple(values.shape)) for name, values in model.state_dict().items()], type(processor).__name__


KINDS = {
    "student folder": Kind("models and their weights", write_student, read_student, by_folder=True, slow=True),
    "LLaVA folder": Kind("models and their weights", write_llava, read_llava, by_folder=True, slow=True),
    "weights": Kind("models and their weights", write_weights, read_weights, whole=True),
    "GGUF": Kind("models and their weights", write_model_of_gguf, read_model_of_gguf, whole=True, slow=True),
    "chat template": Kind("chat templates", write_chat_template, read_chat_template),
}
