"""Tokenizer of the presets: CLIP's byte-pair encoding from open_clip's wheel, complete or with a small vocabulary."""

import gzip
from importlib.resources import files
from itertools import islice

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

CLIP_VOCAB_SIZE = 49408
# 256 bytes, 256 bytes at the end of a word, <|startoftext|> and <|endoftext|>. Each further token is one merge.
NUM_FIXED_TOKENS = 514


def clip_tokenizer(vocab_size: int = CLIP_VOCAB_SIZE, context_length: int = 77) -> CLIPTokenizer:
    """
    Build CLIP's tokenizer with its first `vocab_size - 514` merges, which are the most frequent ones.

    All bytes are tokens, so any text can be written with any size. Fewer merges make longer texts. With the full size
    the ids are those of open_clip. However, open_clip first repairs broken unicode and HTML entities.

    Args:
        vocab_size (`int`, *optional*, defaults to 49408):
            Number of tokens, 515 to 49408. The last two are begin and end of text.
        context_length (`int`, *optional*, defaults to 77):
            Number of tokens to which `truncation=True` cuts a text, begin and end included.

    Raises:
        ValueError: if `vocab_size` is out of range.
    """
    if not NUM_FIXED_TOKENS < vocab_size <= CLIP_VOCAB_SIZE:
        raise ValueError(
            f"vocab_size={vocab_size} of the text_config does not fit the CLIP tokenizer. "
            f"Allowed are {NUM_FIXED_TOKENS + 1} to {CLIP_VOCAB_SIZE}. "
            f"Use {CLIP_VOCAB_SIZE} for the whole vocabulary or 4096 for a tiny student."
        )
    with gzip.open(files("open_clip") / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as lines:
        # The first line is a version note.
        merges = [tuple(line.split()) for line in islice(lines, 1, 1 + vocab_size - NUM_FIXED_TOKENS)]
    characters = byte_characters()
    tokens = characters + [character + "</w>" for character in characters]
    tokens += ["".join(merge) for merge in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=context_length)


def byte_characters() -> list[str]:
    """Return the 256 characters that stand for the bytes, in the order of GPT-2's table: printable ones first."""
    characters = sorted(ByteLevel.alphabet())
    # A printable byte stands for itself. The others were moved to the code points from 256 on.
    return [c for c in characters if ord(c) < 256] + [c for c in characters if ord(c) >= 256]


__all__ = ["clip_tokenizer"]
