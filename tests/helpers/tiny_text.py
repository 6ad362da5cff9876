"""The text tower of a small CLIP, as a configuration has it."""

TINY_TEXT = {
    "vocab_size": 600,
    "max_position_embeddings": 16,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
