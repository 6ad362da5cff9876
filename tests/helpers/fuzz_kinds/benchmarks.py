"""Texts and tables of others that a reader of its own takes: benchmarks, conversations, lists, recipes."""

from foreign_files import READERS, VQA, data_of
from vqa_benchmarks import parquet

from .kind import Kind, png

GROUPS = {
    **dict.fromkeys(
        ("conversations", "conversations by lines", "conversations by questions"), "conversations of LLaVA's form"
    ),
    **dict.fromkeys(("recipe", "recipe of a cache", "recipe of a run"), "YAMLs of recipes and studies"),
    **dict.fromkeys(("result", "samples", "study"), "results, studies and cards"),
    **dict.fromkeys(("student", "open_clip"), "models and their weights"),
    **dict.fromkeys(("emoji", "stamps", "pictures", "class names", "templates", "class names by lines"), "lists"),
    "cache": "teacher caches",
}


def foreign(name):
    place, _, read = READERS[name]

    def write(folder):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(data_of(name))

    return Kind(GROUPS.get(name, "files of benchmarks"), write, lambda folder: read(folder / place))


PARQUET = {
    "mmstar": {"index": 1, "question": "red? A: yes, B: no", "answer": "A", "category": "math", "l2_category": "sum"},
    "realworldqa": {"question": "How many?", "answer": "2"},
    "naturalbench": {"Index": 5, "Question_0": "red?", "Question_1": "blue?", "Question_Type": "yes_no"}
    | {"Image_0_Question_0": "Yes", "Image_1_Question_0": "No", "Image_0_Question_1": "No"}
    | {"Image_1_Question_1": "Yes"},
}


def in_parquet(name):
    pictures = ("Image_0", "Image_1") if name == "naturalbench" else ("image",)
    row = PARQUET[name] | {column: {"bytes": png(i), "path": "x.png"} for i, column in enumerate(pictures)}
    return Kind(
        "files of benchmarks",
        lambda folder: parquet(folder / "test.parquet", row, row | ({"Index": 6} if "Index" in row else {"index": 2})),
        lambda folder: VQA[name](folder / "test.parquet", folder / "images"),
        whole=True,
    )


KINDS = {name: foreign(name) for name in READERS}
KINDS |= {name: in_parquet(name) for name in PARQUET}
