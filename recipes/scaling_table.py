"""Show what a step sends and a GPU holds for three pairs of student and teacher on 8, 64 and 512 GPUs, computed, not measured.

python recipes/scaling_table.py           # print the table
python recipes/scaling_table.py --write   # put it into recipes/README.md, where a test compares it with the code
"""

import argparse
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

import hf_clip_kd as kd
from hf_clip_kd.scaling import ENGINES, Setting

README = Path(__file__).parent / "README.md"
MARKERS = ("<!-- scaling: written by recipes/scaling_table.py -->", "<!-- end of scaling -->")
BATCH, GPUS = 128, (8, 64, 512)
PAIRS = (("B/16", "T/16"), ("L/14", "B/16"), ("SO400M", "B/16"))


def tower(width: int, layers: int, **others) -> dict:
    return {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers, **others}


def model(name: str) -> torch.nn.Module:
    """A model of this size without its weights."""
    if name == "T/16":
        return kd.load_clip("ViT-T-16")[0]
    with torch.device("meta"):
        if name == "SO400M":
            both = tower(1152, 27, num_attention_heads=16) | {"intermediate_size": 4304}
            vision = {**both, "image_size": 384, "patch_size": 14}
            text = {**both, "bos_token_id": 1, "eos_token_id": 1}
            return SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
        dim, vision, text = {
            "B/16": (512, tower(768, 12, patch_size=16), tower(512, 12)),
            "L/14": (768, tower(1024, 24, num_attention_heads=16, patch_size=14), tower(768, 12)),
        }[name]
        return CLIPModel(CLIPConfig(projection_dim=dim, vision_config=vision, text_config=text))


def settings():
    """Each pair's name with what it is on each number of GPUs."""
    sizes = {}
    for name in dict.fromkeys(name for pair in PAIRS for name in pair):
        clip = model(name)
        sizes[name] = kd.CLIPDims.of(clip).embed_dim, sum(parameter.numel() for parameter in clip.parameters())
    for teacher, student in PAIRS:
        (teacher_dim, teacher_size), (student_dim, student_size) = sizes[teacher], sizes[student]
        for gpus in GPUS:
            yield (
                f"{teacher} → {student}",
                Setting(gpus, BATCH, student_dim, teacher_dim, student_size, teacher_size, half=True),
            )


def table() -> str:
    """The table of recipes/README.md."""
    header = ["teacher → student", "GPUs", "global batch", "embeddings, MB", "gradients, MB", "GFLOP"]
    header += [*ENGINES, "teacher", "sharded", "features"]
    rows = [header, ["---"] + ["--:"] * (len(header) - 1)]
    for name, one in settings():
        held = [*(one.state_bytes(engine) for engine in ENGINES), one.teacher_bytes(), one.teacher_bytes(sharded=True)]
        rows.append(
            [
                name,
                str(one.processes),
                f"{one.processes * one.batch:,}",
                f"{one.gathered_bytes() / 1e6:,.0f}",
                f"{one.gradient_bytes() / 1e6:,.0f}",
                f"{one.similarity_flops() / 1e9:,.0f}",
                *(f"{size / 1e6:,.0f}" for size in (*held, one.feature_bytes())),
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="Put the table into recipes/README.md.")
    write, text = parser.parse_args(argv).write, table()
    if write:
        head, rest = README.read_text(encoding="utf-8").split(MARKERS[0])
        README.write_text(f"{head}{MARKERS[0]}\n{text}\n{MARKERS[1]}{rest.split(MARKERS[1])[1]}", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
