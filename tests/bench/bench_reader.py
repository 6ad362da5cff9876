"""
Share of a step that a frozen reader takes: a caption decoder, or the first layers of a language model.

    python tests/bench/bench_reader.py

writes outputs/bench/reader.json. A ViT-T/16 learns at 224 pixels with `clip_kd` and `patch`, and then with a reader
besides. The teacher's features lie in memory. So a step is that of the student, its losses and the reader. The
language model has the sizes of Qwen2-0.5B, random weights and one, two or four layers. Questions have 12 tokens,
answers 3.
"""

import logging
import os
import statistics
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from online import InMemory
from report import machine, write
from step_times import step_seconds
from torch import nn
from transformers import Qwen2Config, Qwen2Model
from turns import in_turn

import hf_clip_kd as kd
from hf_clip_kd.models import clip_tokenizer
from hf_clip_kd.teachers.reader import Captioner, CaptionerConfig, Reader, load_reader
from hf_clip_kd.teachers.reader.llava import LlavaReader
from hf_clip_kd.teachers.reader.texts import Texts

STUDENT, WIDTH, GRID = "ViT-T-16", 768, (14, 14)
LOSSES = {"clip_kd": 1.0, "patch": 1.0}
BATCH, WARM_UP, STEPS, REPEATS = 16, 1, 4, 3
LM = {"hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14, "num_key_value_heads": 2}
LAYERS, VOCABULARY, QUESTION, ANSWER = (1, 2, 4), 151_936, 12, 3


def known_teacher():
    """Return a teacher whose features lie there already."""
    torch.manual_seed(0)
    tokens = torch.randn(BATCH, GRID[0] * GRID[1], WIDTH)
    features = kd.CLIPFeatures(
        torch.randn(BATCH, 512),
        torch.randn(BATCH, 512),
        torch.tensor(100.0),
        image_tokens=tokens,
        image_grid=GRID,
        token_moments=torch.stack([tokens.mean(dim=1), tokens.square().mean(dim=1)], dim=1),
    )
    return InMemory(kd.CLIPDims(512, token_dim=WIDTH), features)


class Questions(Texts):
    """Texts of the length of a question and its answer, after an image."""

    def __init__(self):
        super().__init__(0)

    def encode(self, question, answer):
        ids = [0] * (GRID[0] * GRID[1]) + list(range(1, QUESTION + ANSWER + 1))
        return ids, [place >= len(ids) - ANSWER for place in range(len(ids))]


class RandomLlava(LlavaReader):
    """The language side of a LLaVA with random weights."""

    def __init__(self, layers):
        Reader.__init__(self, "random")
        config = Qwen2Config(vocab_size=VOCABULARY, num_hidden_layers=layers, **LM)
        self.language_model, self.head = Qwen2Model(config), nn.Linear(LM["hidden_size"], VOCABULARY, bias=False)
        self.projector = nn.Sequential(
            nn.Linear(WIDTH, LM["hidden_size"]), nn.GELU(), nn.Linear(*[LM["hidden_size"]] * 2)
        )
        self.token_dim, self.num_tokens, self.layer = WIDTH, GRID[0] * GRID[1], -2
        self.image_token_id, self.texts = 0, Questions()
        self.freeze()


def caption_reader(folder):
    """A caption decoder of the default size with random weights."""
    tokenizer = clip_tokenizer()
    config = CaptionerConfig(token_dim=WIDTH, num_tokens=GRID[0] * GRID[1], vocab_size=len(tokenizer))
    Captioner(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_reader(folder)


def main():
    """Measure, write the JSON and return it."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    processor = kd.load_clip(STUDENT)[1]
    rows = kd.load_image_text("shapes", max_samples=BATCH * (STEPS + WARM_UP), image_size=224)
    with tempfile.TemporaryDirectory() as folder:
        kinds = {"none": [], "captioner": [caption_reader(f"{folder}/captioner")]}
        kinds |= {f"language_model_{layers}": [RandomLlava(layers)] for layers in LAYERS}
        seconds = {name: [] for name in kinds}
        for name in in_turn(kinds, REPEATS):
            readers = kinds[name]
            losses = LOSSES | ({"reader": 1.0} if readers else {})
            collator = kd.CLIPDataCollator(processor, readers=[reader.texts for reader in readers])
            training = {"losses": losses, "readers": readers, "batch": BATCH, "steps": STEPS, "warm_up": WARM_UP}
            seconds[name].append(step_seconds(STUDENT, known_teacher(), collator, rows, folder, **training))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return write(
        "reader",
        {
            "share": {name: round(1 - medians["none"] / medians[name], 4) for name in kinds if name != "none"},
            "step_seconds": {name: round(value, 4) for name, value in medians.items()},
            "spread": {name: [round(min(values), 4), round(max(values), 4)] for name, values in seconds.items()},
            "batch": BATCH,
            "repeats": REPEATS,
            "layers": LAYERS,
            "machine": machine(threads=torch.get_num_threads()),
        },
    )


if __name__ == "__main__":
    main()
