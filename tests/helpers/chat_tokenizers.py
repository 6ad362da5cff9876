"""Small tokenizers for each family of language models, with its special tokens and use of BOS, not downloaded."""

import copy
from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXT = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. USER: What colour is it? ASSISTANT: red and blue",
    "You are a helpful assistant. system user assistant model What shape? a square, a circle. hello yes no",
)

# family -> (its special tokens, BOS, EOS, whether the tokenizer itself puts BOS in front)
FAMILIES = {
    "gemma": (("<pad>", "<start_of_turn>", "<end_of_turn>"), "<bos>", "<eos>", True),
    "llama3": (
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|begin_of_text|>",
        "<|end_of_text|>",
        True,
    ),
    "phi3": (("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), "<s>", "<|endoftext|>", False),
    "qwen": (("<|endoftext|>", "<|im_start|>", "<think>", "</think>"), None, "<|im_end|>", False),
    "smollm2": (("<|endoftext|>",), "<|im_start|>", "<|im_end|>", False),
    "vicuna": ((), "<s>", "</s>", True),
    "gpt2": ((), "<|endoftext|>", "<|endoftext|>", False),
}


def chat_tokenizer(family):
    """Its padding is its EOS, the hard case for labels."""
    return copy.deepcopy(_trained(family))


@cache
def _trained(family):
    specials, bos, eos, adds_bos = FAMILIES[family]
    specials = list(dict.fromkeys([*specials, *filter(None, (bos, eos)), "<image>"]))
    tokenizer = Tokenizer(models.BPE())
    alphabet = []
    if family == "vicuna":  # SentencePiece: a space belongs to the word behind it
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
        alphabet = ["\n", *map(chr, range(33, 127))]
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=alphabet, special_tokens=specials, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    if adds_bos:
        pair = [(bos, tokenizer.token_to_id(bos))]
        tokenizer.post_processor = processors.TemplateProcessing(f"{bos} $A", special_tokens=pair)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=eos,
        additional_special_tokens=specials,
        clean_up_tokenization_spaces=False,
    )
