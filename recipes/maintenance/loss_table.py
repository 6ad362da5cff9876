"""Show what each loss needs and what it imitates, one row per loss, made of the classes and their docstrings.

python recipes/maintenance/loss_table.py           # print the table
python recipes/maintenance/loss_table.py --write   # put it into recipes/README.md, where a test compares it with the code
"""

import argparse
import inspect
import re
from pathlib import Path

import hf_clip_kd as kd
from hf_clip_kd.losses import DistillationLoss

README = Path(__file__).parents[1] / "README.md"
MARKERS = ("<!-- losses: written by recipes/maintenance/loss_table.py -->", "<!-- end of losses -->")
HEADER = ("you have", "loss", "what it does", "weight", "learns besides", "options", "paper", "reported")
# Widths of a made-up student and teacher, to see which heads a loss builds.
SMALL, LARGE = 2, 3


def needs(cls: type[DistillationLoss]) -> str:
    """What there must be, from the facts in the class."""
    request = cls.request()
    tokens = request.layer is not None
    return ", ".join(
        [
            "images and texts" if cls.needs_text else "images (texts are not read)",
            *["a teacher"] * cls.needs_teacher,
            *["a ViT student"] * (request.mask_ratio is not None),
            *["patch tokens"] * tokens,
            *["a teacher whose patches have embeddings"] * request.patch_embeds,
        ]
    )


def learns(cls: type[DistillationLoss]) -> str:
    """What a loss learns beside the student: a head (always, or where widths differ), a scale, a bias."""
    equal, wider = (heads(cls, teacher) for teacher in (SMALL, LARGE))
    found = [*["projections"] * ("head" in equal), *["projections between unequal widths"] * ("head" in wider - equal)]
    return ", ".join([*found, *sorted(equal - {"head"})]) or "–"


def heads(cls: type[DistillationLoss], width: int) -> set[str]:
    # With a bias of its own the student is in no need of the loss's.
    loss = cls(kd.CLIPDims(SMALL, token_dim=SMALL, has_bias=True), kd.CLIPDims(width, token_dim=width, has_bias=True))
    names = {name.rpartition(".")[2] for name, _ in loss.named_parameters()}
    kinds = {"logit_scale": "a scale", "logit_bias": "a bias"}
    return {kinds.get(name, "head") for name in names}


def options(cls: type[DistillationLoss]) -> str:
    names = [p.name for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return ", ".join(f"`{name}`" for name in names) or "–"


def sentences(cls: type[DistillationLoss]) -> list[str]:
    """The docstring's, each on one line."""
    return [
        sentence
        for paragraph in inspect.getdoc(cls).split("\n\n")
        for sentence in re.split(r"(?<=\.) ", " ".join(paragraph.split()))
    ]


def reported(cls: type[DistillationLoss]) -> str:
    """The authors' accuracy on ImageNet, if the docstring has it: the first number of that sentence."""
    found = [re.search(r"\b\d\d\.\d\d\b", sentence) for sentence in sentences(cls) if "top-1" in sentence]
    return found[0][0] if found else "–"


def paper(cls: type[DistillationLoss]) -> str:
    return f"[{cls.paper['id']}](https://huggingface.co/papers/{cls.paper['id']})"


def table() -> str:
    rows = []
    for name, cls in kd.LOSSES.items():
        first, weight = sentences(cls)[0].removesuffix("."), f"{cls.default_weight:g}"
        rows.append((needs(cls), f"`{name}`", first, weight, learns(cls), options(cls), paper(cls), reported(cls)))
    order = list(dict.fromkeys(row[0] for row in rows))
    rows.sort(key=lambda row: order.index(row[0]))
    lines = [HEADER, ("---",) * len(HEADER), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def write_between(path: Path, markers: tuple[str, str], text: str) -> None:
    """Replace what stands between two lines of a file."""
    head, rest = path.read_text(encoding="utf-8").split(markers[0])
    tail = rest.split(markers[1])[1]
    path.write_text(f"{head}{markers[0]}\n{text}\n{markers[1]}{tail}", encoding="utf-8")


def main(argv: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="Put the table into recipes/README.md.")
    write = parser.parse_args(argv).write
    text = table()
    if write:
        write_between(README, MARKERS, text)
    print(text)
    return text


if __name__ == "__main__":
    main()
