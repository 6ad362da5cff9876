"""Distillation through a frozen reader."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .answers import Answers, mean_by_owner
from .base import DistillationLoss
from .features import CLIPDims, CLIPFeatures, FeatureRequest
from .parts.chunks import chunks
from .parts.divergences import DIVERGENCES
from .parts.heads import build_head, check_hidden_dim
from .parts.numbers import is_finite
from .parts.resample import resample
from .parts.tokens import READ_LAYER, check_token_dim, tokens_of

ENTRY = ("name", "layers")


class ReaderLoss(DistillationLoss):
    """
    Reader loss: a frozen language model shall say the same of the student's tokens as of the teacher's.

    The reader is the projector and the language model of a LLaVA on the teacher. Or it is a caption decoder trained on
    the teacher's tokens. It reads an image and its question or caption. The value compares its distributions over the
    next token for both models' tokens. It is a mean over the tokens of an answer or caption, and then over images and
    readers. The student's tokens `(images, N, Cs)` pass a learned head to `(images, M, Ct)`, the width and the grid of
    the teacher's. The gradient goes through the reader and the head into the tokens. Differences that change no answer
    cost nothing. The loss reads no embeddings.

    It is the visual-switch distillation of [Switch-KD](https://huggingface.co/papers/2604.14629), with a head for a
    tower of any size. Default weight 1. The authors' towers have the teacher's width, and a temperature of 3. The
    CLIP-KD benchmark has no number for it.

    Args:
        student ([`CLIPDims`]): Widths of the student's features, with `token_dim`.
        teacher ([`CLIPDims`]): Widths of the teacher's features, with `token_dim`.
        reader (`str`, `dict` or a list of them, *optional*):
            Folder or Hub id of a LLaVA or of a caption decoder, or several. `{"name": ..., "layers": 2}` takes the
            first two layers of a LLaVA's language model, and its head. `{teacher}` in a name stands for the teacher's
            folder, or that of its tokens. The trainer loads them. Ready readers are given to the trainer itself.
        layer (`int`, *optional*, defaults to `-2`):
            Entry of the student's `hidden_states` to train. LLaVA reads the last but one.
        teacher_layer (`int`, *optional*, defaults to `-2`): Entry of the teacher's that the reader was trained on.
        divergence (`str`, *optional*, defaults to `"kl"`):
            `"kl"` is `KL(teacher ‖ student)`, `"reverse_kl"` its reverse. `"dbild"` is the reverse on the largest
            logits of either, see [`~hf_clip_kd.losses.parts.divergences.dbild`].
        temperature (`float`, *optional*, defaults to 1): Divisor of both models' logits in the divergence.
        top_k (`int`, *optional*):
            Compare only the teacher's largest logits, this many, normalised among themselves. Default is all.
        cross_entropy (`float`, *optional*, defaults to 0.1):
            Weight of the cross-entropy of the true answers beside the divergence.
        hidden_dim (`int` or `"teacher"`, *optional*):
            Channels inside an MLP, see [`PatchLoss`]. The default is a linear map, and none between equal widths. What
            a linear map cannot undo, another language model need not undo either.

    Raises:
        ValueError: if the width of either model's tokens is unknown, or the features hold no tokens or answers.
        ValueError: if an option is not allowed.
    """

    needs_text = False
    teaches = "Tokens of which a language model says the same as of the teacher's."
    formula = "mean over an answer's tokens of KL(reader(H) ‖ reader(p(h))) + 0.1·CE"
    paper = {
        "title": "Switch-KD: Visual-Switch Knowledge Distillation for Vision-Language Models",
        "id": "2604.14629",
    }
    reported = None

    def __init__(
        self,
        student: CLIPDims,
        teacher: CLIPDims,
        *,
        reader: str | Mapping[str, Any] | list | None = None,
        layer: int = READ_LAYER,
        teacher_layer: int = READ_LAYER,
        divergence: str = "kl",
        temperature: float = 1.0,
        top_k: int | None = None,
        cross_entropy: float = 0.1,
        hidden_dim: int | str | None = None,
    ):
        super().__init__(student, teacher)  # The caller that encodes reads layers and readers from `request`.
        student, teacher = student.at(layer), teacher.at(teacher_layer)
        check_token_dim("reader", "student", student)
        check_token_dim("reader", "teacher", teacher)
        self.layer, self.teacher_layer = layer, teacher_layer
        if divergence not in DIVERGENCES:
            raise ValueError(
                f"divergence={divergence!r} of the loss 'reader' is unknown. Allowed are {list(DIVERGENCES)}. Write "
                "for example `losses={'reader': {'divergence': 'kl'}}`."
            )
        check_hidden_dim("reader", hidden_dim)
        numbers = all(map(is_finite, (temperature, cross_entropy)))
        some = top_k is None or (type(top_k) is int and top_k > 1)
        if not (numbers and some and temperature > 0 and cross_entropy >= 0):
            raise ValueError(
                f"The loss 'reader' got temperature={temperature!r}, cross_entropy={cross_entropy!r} and "
                f"top_k={top_k!r}. Allowed are a temperature above 0, a weight of at least 0 and an integer of at "
                "least 2. Write for example `losses={'reader': {'temperature': 1.0, 'cross_entropy': 0.1, 'top_k': "
                "32}}`."
            )
        self.divergence, self.temperature = DIVERGENCES[divergence], temperature
        self.top_k, self.cross_entropy = top_k, cross_entropy
        self.token_proj = build_head(student.token_dim, teacher.token_dim, hidden_dim)

    @classmethod
    def request(
        cls,
        *,
        reader: str | Mapping[str, Any] | list | None = None,
        layer: int = READ_LAYER,
        teacher_layer: int = READ_LAYER,
        **options,
    ) -> FeatureRequest:
        return FeatureRequest(layer=layer, teacher_layer=teacher_layer, readers=entries(reader))

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
        student = student.at(self.layer)
        tokens = tokens_of("reader", "student", student)
        if not teacher.answers:
            raise ValueError(
                "The teacher's features have no `answers`, and the loss 'reader' compares with them. A reader must "
                "have read the teacher's tokens. Name it: `losses={'reader': {'reader': FOLDER}}`, or pass "
                "`readers=[...]` to the trainer."
            )
        tokens = resample(self.token_proj(tokens), student.image_grid, teacher.at(self.teacher_layer).image_grid)
        return torch.stack([self.disagreement(answers, tokens) for answers in teacher.answers]).mean(dim=0)

    def disagreement(self, answers: Answers, tokens: Tensor) -> Tensor:
        """
        Compute the loss of one reader.

        Args:
            answers ([`Answers`]): Its answers about the teacher's tokens.
            tokens (`Tensor` of shape `(images, M, Ct)`): The student's tokens in the place of the teacher's.

        Returns:
            `Tensor` of shape `(images,)`.
        """
        logits, target, ids = answers.read(tokens), answers.logits, answers.ids
        if self.top_k is not None and self.top_k < target.shape[1]:
            target, chosen = target.topk(self.top_k, dim=-1)
            ids = chosen if ids is None else ids.gather(-1, chosen)
        if ids is None:  # The rows of `chunks` are tensors, and none of these is read.
            ids = target[:, :0].long()
        rows = (logits, target, ids, answers.labels)
        values = torch.cat(list(chunks(self._values, *rows, width=logits.shape[1])))
        return mean_by_owner(values, answers.owners, answers.images)

    def _values(self, logits: Tensor, target: Tensor, ids: Tensor, labels: Tensor) -> Tensor:
        chosen = logits.gather(-1, ids) if ids.shape[1] else logits
        values = self.divergence(target.to(logits.dtype), chosen, self.temperature)
        if self.cross_entropy > 0:
            values = values + self.cross_entropy * F.cross_entropy(logits, labels, reduction="none")
        return values


def entries(reader: str | Mapping[str, Any] | list | None) -> tuple[tuple[str, int | None], ...]:
    """
    Return name and number of layers of each reader in the option `reader`.

    Raises:
        ValueError: if an entry has no name, an unknown key, or layers that are no whole number.
    """
    if reader is None:
        return ()
    found = []
    for entry in reader if isinstance(reader, list | tuple) else [reader]:
        entry = {"name": entry} if isinstance(entry, str) else entry
        if not _is_entry(entry):
            raise ValueError(
                f"reader={entry!r} of the loss 'reader' names no reader. Allowed are a folder, a Hub id, and mappings "
                f"of {list(ENTRY)}, the second a whole number. Write for example `losses={{'reader': {{'reader': "
                "'outputs/captioner'}}`."
            )
        found.append((entry["name"], entry.get("layers")))
    return tuple(found)


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, Mapping) or set(entry) - set(ENTRY) or not isinstance(entry.get("name"), str):
        return False
    return entry.get("layers") is None or type(entry["layers"]) is int
