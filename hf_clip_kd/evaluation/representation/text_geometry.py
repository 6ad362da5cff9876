"""Features of texts in the space of a language model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from ...models.completeness import SCORE_RULE, load_complete


@torch.no_grad()
def language_model_features(
    name: str, texts: Sequence[str], *, batch_size: int, device: torch.device | str = "cpu"
) -> Tensor:
    """
    Return the mean hidden state of each text after the last layer but one of a language model.

    Args:
        name (`str`): Folder or Hub id of a causal language model with its tokenizer.
        texts (sequence of `str`): Texts.
        batch_size (`int`): Texts per forward pass.
        device (`torch.device` or `str`, *optional*, defaults to `"cpu"`): Where the model runs.

    Returns:
        `Tensor` of shape `(texts, hidden size)` in float32 on the CPU.

    Raises:
        ValueError: There is no such language model, or a text has no tokens.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = load_complete(AutoModelForCausalLM, name, SCORE_RULE, dtype=torch.float32).eval().to(device)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].removesuffix(".")
        raise ValueError(
            f"`language_model={name!r}` cannot be loaded ({reason}). It must be the folder or Hub id of a causal "
            "language model with its tokenizer. Check the name, or leave it out to use the model's own text tower."
        ) from error
    tokens = [tokenizer(text)["input_ids"] for text in texts]
    if empty := [text for text, ids in zip(texts, tokens, strict=True) if not ids]:
        raise ValueError(
            f"The tokenizer of `language_model={name!r}` makes no tokens of {len(empty)} of {len(texts)} texts, such "
            f"as {empty[0]!r}. Each text needs a token. Leave these rows out, or check the tokenizer."
        )
    features = []
    for start in range(0, len(texts), batch_size):
        rows = tokens[start : start + batch_size]
        # A language model may lack a token for padding. Causal attention does not see what is right of a text.
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True).to(device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        states = model(input_ids=ids, output_hidden_states=True).hidden_states[-2]
        inside = torch.arange(ids.shape[1], device=device) < lengths[:, None]
        features.append(((states * inside[..., None]).sum(dim=1) / lengths[:, None]).cpu())
    return torch.cat(features)
