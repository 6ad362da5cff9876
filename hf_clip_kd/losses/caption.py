"""Captioning."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .answers import Captions, mean_by_owner
from .base import DistillationLoss
from .features import CLIPDims, CLIPFeatures, FeatureRequest
from .parts.decoder import CaptionDecoder
from .parts.tokens import READ_LAYER, check_token_dim, tokens_of


class CaptionLoss(DistillationLoss):
    """
    Caption loss: a small decoder learns to write each image's caption from the student's tokens.

    The value is the cross-entropy of the caption's tokens in nats. It is a mean over the tokens of a caption, and then
    over images. The decoder reads the tokens `(images, N, Cs)` by cross-attention, or as a prefix of the caption. It
    is trained along and never exported. The gradient makes the tokens easy to read for it. No teacher is needed.

    With `parallel`, that share of the captions is predicted at once. All their words are masked, so they can come from
    the image alone. It is [CapPa](https://huggingface.co/papers/2306.07915), whose share is 0.75, with a decoder of 6
    layers for a ViT-B/16. The authors draw the captions in each step. Here a caption's words draw it, see [`drawn`].
    An evaluation predicts word after word.

    Default weight 1. OpenVision gives it twice the weight of the contrastive loss. The CLIP-KD benchmark has no number
    for it.

    Args:
        student ([`CLIPDims`]): Widths of the student's features, with `token_dim` and `vocab_size`.
        teacher ([`CLIPDims`], *optional*): Not read.
        layer (`int`, *optional*, defaults to `-2`):
            Entry of the student's `hidden_states` to train. LLaVA reads the last but one.
        fusion (`str`, *optional*, defaults to `"cross"`): `"cross"`-attention to the image, or `"prefix"`.
        hidden_size (`int`, *optional*, defaults to 256), num_layers (2), num_heads (4): Size of the decoder.
        parallel (`float`, *optional*, defaults to 0): Share of the captions predicted at once, from 0 to 1.
        max_length (`int`, *optional*, defaults to 77): Tokens of a caption that are predicted. The rest is cut.

    Raises:
        ValueError: if the width of the tokens or the vocabulary is unknown, or tokens or captions are missing.
        ValueError: if `parallel` is no share, or an option of the decoder is not allowed.
    """

    needs_teacher = False
    teaches = "The caption of an image, word by word, in its tokens."
    formula = "mean over the caption's tokens of CE(decoder(h, tokens before), token)"
    paper = {"title": "Image Captioners Are Scalable Vision Learners Too", "id": "2306.07915"}
    reported = None

    def __init__(
        self,
        student: CLIPDims,
        teacher: CLIPDims | None = None,
        *,
        layer: int = READ_LAYER,
        fusion: str = "cross",
        hidden_size: int = 256,
        num_layers: int = 2,
        num_heads: int = 4,
        parallel: float = 0.0,
        max_length: int = 77,
    ):
        super().__init__(student, teacher)  # The caller that encodes reads the layer from `request`.
        student = student.at(layer)
        check_token_dim("caption", "student", student)
        if student.vocab_size is None:
            raise ValueError(
                f"The loss 'caption' writes with the student's vocabulary, whose size is unknown: {student}. It must "
                "be the number of ids of the student's tokenizer. Pass it: `CLIPDims(embed_dim, vocab_size=...)`."
            )
        if type(parallel) not in (int, float) or not 0 <= parallel <= 1:
            raise ValueError(
                f"parallel={parallel!r} of the loss 'caption' is no share of captions. Allowed are numbers from 0 to "
                "1. Write for example `losses={'caption': {'parallel': 0.75}}`."
            )
        self.layer, self.parallel, self.max_length = layer, parallel, max_length
        size = {"hidden_size": hidden_size, "num_layers": num_layers, "num_heads": num_heads}
        self.decoder = CaptionDecoder(
            student.token_dim, student.vocab_size, fusion=fusion, max_length=max_length, parallel=parallel > 0, **size
        )

    @classmethod
    def request(cls, *, layer: int = READ_LAYER, **options) -> FeatureRequest:
        return FeatureRequest(layer=layer)

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures | None) -> Tensor:
        tokens = tokens_of("caption", "student", student.at(self.layer))
        if student.captions is None:
            raise ValueError(
                "The student's features have no `captions`, and the loss 'caption' writes them. They must be those "
                "of the same images. Pass them: `CLIPFeatures(..., captions=Captions.of(input_ids, attention_mask))`."
            )
        ids = student.captions.ids[:, : self.max_length + 1]
        # The host waits for the number of words here, and nowhere else.
        positions = student.captions.mask[:, 1 : ids.shape[1]].nonzero(as_tuple=True)
        parallel = None
        if self.training and self.parallel > 0:
            parallel = drawn(student.captions, self.parallel)
        logits = self.decoder(tokens, ids[:, :-1], positions, parallel)
        values = F.cross_entropy(logits, ids[:, 1:][positions], reduction="none")
        return mean_by_owner(values, positions[0], len(ids))


def drawn(captions: Captions, share: float) -> Tensor:
    """
    Draw a share of captions by a hash of their words.

    Every split of a batch, by processes or micro-batches, and every resumed run draws the same captions.

    Args:
        captions ([`Captions`]): Captions.
        share (`float`): Share to draw, from 0 to 1.

    Returns:
        `Tensor` of shape `(images,)`: True for the drawn captions.
    """
    powers = torch.tensor(
        [pow(31, place, 999_983) for place in range(captions.ids.shape[1])], device=captions.ids.device
    )
    numbers = ((captions.ids.long() + 1) * captions.mask * powers).sum(dim=1) % 1_000_003
    return numbers * 7_368_787 % 10_000_019 < share * 10_000_019
