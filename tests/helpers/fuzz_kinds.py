"""Kinds of files by others: how a good folder of each is written, and the reader of the package."""

import copy
import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from cache_world import rows, teacher, writer
from chat_tokenizers import chat_tokenizer
from checkpointed_runs import make_run
from foreign_files import READERS, VQA, data_of
from llava_runs import make_model, make_rows
from made_up_reader import spelling_reader, with_questions
from picture_packages import qt_resources
from PIL import Image
from recipe_runs import ROOT, distill_parser
from safetensors.torch import save_file
from tiny_gguf import tiny_llama, write_gguf
from transformers import LlamaConfig
from vqa_benchmarks import parquet

import hf_clip_kd as kd
from hf_clip_kd.data.pictures.qt_resources import read_qt_resources
from hf_clip_kd.data.reading.images import MAX_PIXELS, BrokenImageError, decode_image
from hf_clip_kd.data.reading.tars import ERROR, read_tar
from hf_clip_kd.export.importing.weights import read_state_dict
from hf_clip_kd.hub.cards import render_card
from hf_clip_kd.losses import requested, requested_by_all
from hf_clip_kd.recipe_io.results import METRICS_NAME, read_written_lines
from hf_clip_kd.training.checkpoint_files import has_optimizer, last_complete, mark_complete, read_run
from hf_clip_kd.vlm import FeatureCache, LlavaDataCollator, load_llava, save_llava
from hf_clip_kd.vlm.chat_templates import default_chat_template, get_chat_template
from hf_clip_kd.vlm.gguf import load_gguf
from recipes import study

CONFIGS = ROOT / "recipes/configs"


@dataclass(frozen=True)
class Kind:
    group: str = field(metadata={"help": "Row of the table of what the package survives."})
    write: Callable[[Path], None] = field(metadata={"help": "Writes good files into an empty folder."})
    read: Callable[[Path], object] = field(metadata={"help": "Reads that folder, and checks what came out."})
    whole: bool = field(
        default=False, metadata={"help": "True if a file that is cut short is an error, or reads as the whole file."}
    )
    checked: bool = field(default=False, metadata={"help": "True if the files have checksums: no damage goes unseen."})
    by_folder: bool = field(default=False, metadata={"help": "True if an error may name the folder of its files."})
    slow: bool = field(default=False, metadata={"help": "True if a read takes more than a tenth of a second."})
    spared: tuple[str, ...] = field(default=(), metadata={"help": "Endings of files that are not damaged."})


# ---- Text, JSON, YAML ----

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


# ---- Images ----


@cache
def pixels():
    return np.random.default_rng(0).integers(0, 256, (18, 23, 4), dtype=np.uint8)


def picture_files():
    """Return a small picture in each format that Pillow writes and reads, and in the modes of some."""
    Image.init()
    made = {}
    for name in sorted(Image.SAVE.keys() - {"EPS"}):  # Its reader refuses it.
        for mode in ("RGBA", "RGB", "L", "1") if name in ("PNG", "TIFF", "WEBP", "GIF") else ("RGB", "L", "1"):
            buffer = io.BytesIO()
            try:
                Image.fromarray(pixels()).convert(mode).resize((32, 32)).save(buffer, name)
            except (OSError, ValueError, KeyError):
                continue
            made[f"picture {name} {mode}"] = buffer.getvalue()
            if name not in ("PNG", "TIFF", "WEBP", "GIF"):
                break
    return {name: data for name, data in made.items() if name.split()[1] in Image.OPEN}


def picture(data):
    return Kind("images", lambda folder: (folder / "picture").write_bytes(data), read_picture, whole=True)


def read_picture(folder):
    path = folder / "picture"
    try:
        image = decode_image(path.read_bytes())
    except BrokenImageError as error:
        raise ValueError(f"{path}: {error}. A collator names the row and goes on. Repair it.") from error
    assert image.mode == "RGB" and np.asarray(image).shape == (image.height, image.width, 3)
    assert image.width * image.height <= MAX_PIXELS
    return image.size, image.tobytes()


# ---- Rows of images and captions ----


@cache
def png(seed=0):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(folder, packed=False):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for i in range(3):
            parts = {"png": png(i), "txt": f"a red cat {i}".encode(), "json": json.dumps({"id": i}).encode()}
            for ending, data in parts.items():
                member = tarfile.TarInfo(f"{i:03d}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    data = buffer.getvalue()
    (folder / "a.tar").write_bytes(gzip.compress(data, mtime=0) if packed else data)


def read_plain_tar(folder):
    with open(folder / "a.tar", "rb") as file:
        rows = list(read_tar(file, str(folder / "a.tar")))
    for row in rows:
        assert row["__key__"] and isinstance(row[ERROR], str | None), row
    return rows


CAPTIONS = [("0.png", "a red cat"), ("1.png", 'two "blue" dogs, 3'), ("2.png", "grün"), ("3.png", "one")]


def write_pictures(folder):
    for i, (name, _) in enumerate(CAPTIONS):
        (folder / name).write_bytes(png(i))


def write_table(name, mark=None):
    def write(folder):
        write_pictures(folder)
        if mark is not None:
            lines = [mark.join(("file_name", "text")), *(f'{file}{mark}"{text}"' for file, text in CAPTIONS)]
            lines[2] = lines[2].replace('"blue"', '""blue""')
            text = "\n".join(lines) + "\n"
        else:
            rows = [{"file_name": file, "text": text} for file, text in CAPTIONS]
            text = json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name).write_text(text, encoding="utf-8")

    return write


def write_parquet(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"image": {"bytes": png(i), "path": name}, "text": text} for i, (name, text) in enumerate(CAPTIONS)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")


def read_rows(name, folder, **arguments):
    """Read a file as data of a training, and decode its pictures as the collator does."""
    arguments = (
        {"image_column": "file_name"} | arguments if name.endswith(("csv", "tsv", "json", "jsonl")) else arguments
    )
    rows = []
    for row in kd.load_image_text(str(folder / name), cache_dir=str(folder / ".cache"), **arguments):
        try:
            decode_image(row["image"])
            texts = row["text"] if isinstance(row["text"], list) else [row["text"]]
            assert all(isinstance(text, str | None) for text in texts), row
            "".join(filter(None, texts)).encode()
        except BrokenImageError as error:
            if "MemoryError" in str(error):
                raise MemoryError(str(error)) from error
        rows.append(row)
    return [row | {"image": None} for row in rows]


# ---- Models and weights ----


@cache
def student():
    torch.manual_seed(0)
    return kd.load_clip("shapes-vit-t")


def write_student(folder):
    from teacher_models import tiny_clip

    for part in tiny_clip():
        part.save_pretrained(folder)


def read_student(folder):
    model, processor = kd.load_clip(str(folder))
    return [(name, tuple(values.shape)) for name, values in model.state_dict().items()], type(processor).__name__


def write_weights(folder):
    state = {"visual.conv": torch.arange(12.0).reshape(3, 4), "logit_scale": torch.tensor(1.5), "n": torch.tensor([1])}
    torch.save({"state_dict": state}, folder / "a.pt")
    save_file(state, folder / "a.safetensors")


def read_weights(folder):
    made = [read_state_dict(folder / name) for name in ("a.pt", "a.safetensors")]
    return [[(key, tuple(value.shape), str(value.dtype)) for key, value in state.items()] for state in made]


def write_model_of_gguf(folder):
    write_gguf(folder / "a.gguf", *tiny_llama())


def read_model_of_gguf(folder):
    model, tokenizer = load_gguf(str(folder / "a.gguf"))
    return [(name, tuple(values.shape)) for name, values in model.state_dict().items()], len(tokenizer)


def write_chat_template(folder):
    (folder / "chat_template.jinja").write_text(get_chat_template("smollm2").jinja, encoding="utf-8")


def read_chat_template(folder):
    from hf_clip_kd.recipe_io.foreign import read_text

    path, tokenizer = folder / "chat_template.jinja", chat_tokenizer("smollm2")
    words = {"allowed": "It must be a template.", "fix": "Repair the template."}
    tokenizer.chat_template = read_text(path, **words)
    processor = copy.copy(llava()[1])
    processor.chat_template = tokenizer.chat_template
    try:
        batch = LlavaDataCollator(processor)(list(make_rows(2)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error  # A collator does not know where its template lay.
    return default_chat_template(LlamaConfig(), tokenizer), batch["input_ids"].tolist(), batch["labels"].tolist()


# ---- Files of a run ----


_MADE: dict[str, dict[str, bytes]] = {}


def made_once(name, folder, make):
    """Write the files that `make` leaves in an empty folder; the second time from memory."""
    if name not in _MADE:
        with TemporaryDirectory() as temporary:
            made = Path(temporary, name)  # The card of a run names its folder.
            made.mkdir()
            make(made)
            files = [path for path in made.rglob("*") if path.is_file()]
            _MADE[name] = {path.relative_to(made).as_posix(): path.read_bytes() for path in files}
    for place, data in _MADE[name].items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(data)


def write_cache(folder):
    made_once("teacher cache", folder, lambda made: writer(made, teacher(), dtype=torch.float32).write())


def read_cache(folder):
    found = kd.TeacherCache(folder)
    places = list(range(len(found)))
    read = [found.crops(places, [0] * len(places)), found.images(places, [0] * len(places))]
    read.append(found.texts(places, [0] * len(places)))
    return repr(read), sorted(found._samples.ids.tolist())


def write_checkpoint(folder):
    for step in (5, 10):
        inside = folder / f"checkpoint-{step}"
        inside.mkdir(parents=True)
        (inside / "optimizer.pt").write_bytes(b"o" * 50)
        (inside / "model.safetensors").write_bytes(b"w" * 50)
        mark_complete(inside, {"engine": "ddp", "arguments": {"learning_rate": 0.1}})


def read_checkpoint(folder):
    found = last_complete(folder)
    return None if found is None else (found.name, read_run(found), has_optimizer(found))


def write_resumable(folder):
    def make(made):
        make_run(made, ema_decay=0.9, max_steps=3).train()
        for step in (1, 3):
            shutil.rmtree(made / f"checkpoint-{step}")

    made_once("resumable", folder, make)


def resume(folder):
    """Train the last step again, with all that the checkpoint holds."""
    run = make_run(folder, ema_decay=0.9, max_steps=3)
    run.train(resume_from_checkpoint="auto")
    return run.state.global_step, [values.tolist() for values in run.model.state_dict().values()]


def write_run(name):
    return lambda folder: shutil.copytree(ROOT / "model_cards/runs" / name, folder, dirs_exist_ok=True)


def write_cache_of_a_card(folder):
    write_cache(folder)
    shutil.copyfile(CONFIGS / "cache_teacher/demo.yaml", folder / "recipe.yaml")


@cache
def llava():
    return make_model()


def write_features(folder):
    made_once("feature cache", folder, lambda made: FeatureCache(made, *llava()).add(seen(), lambda picture: picture))


def seen():
    return [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue")]


def read_features(folder):
    found = FeatureCache(folder, *llava())
    return [found(picture).tolist() for picture in seen()]


def write_layers(folder):
    request = requested_by_all([{"patch": {"pairs": [[-2, -3], [-1, -1]], "summary": "class_token"}}])
    made_once("layers", folder, lambda made: writer(made, teacher(), request=request, dtype=torch.float32).write())


def write_answers(folder):
    reader = spelling_reader()
    options = {"request": requested("reader"), "dtype": torch.float32, "readers": [reader], "top_k": 4}
    options |= {"views": {"readers": [reader.texts]}}
    made_once("answers", folder, lambda made: writer(made, teacher(), with_questions(rows()), **options).write())


def read_all_of_a_cache(folder, request=None):
    """Read each number of a cache with all that it holds, or with what a request asks for."""
    found = kd.TeacherCache(folder)
    found.prepare(request or found.stored)
    places = list(range(len(found)))
    return repr([found.images(places, [0] * len(places)), found.texts(places, [0] * len(places))])


def write_llava(folder):
    made_once("LLaVA", folder, lambda made: save_llava(*llava(), made))


def read_llava(folder):
    model, processor = load_llava(folder)
    return [(name, tuple(values.shape)) for name, values in model.state_dict().items()], type(processor).__name__


def write_log(folder):
    rows = [{"step": step, "loss": 1 / step, "epoch": 0.5 * step} for step in range(1, 4)]
    (folder / METRICS_NAME).write_text("".join(json.dumps(row) + "\n" for row in rows))


# ---- Benchmarks in Parquet files ----

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


def write_recipe(script, name):
    return lambda folder: (folder / "recipe.yaml").write_bytes((CONFIGS / script / f"{name}.yaml").read_bytes())


def read_distill(folder):
    script, training = distill_parser(CONFIGS / "distill/demo.yaml").parse(
        ["--config", str(folder / "recipe.yaml"), "--use_cpu", "true"]
    )
    return repr(script), repr(training.losses)


def read_study_yaml(folder):
    _, _, plan = study.read_plan(["--config", str(folder / "recipe.yaml")])
    return [str(cell) for cell in plan.cells]


KINDS = {name: foreign(name) for name in READERS}
KINDS |= {name: picture(data) for name, data in picture_files().items()}
KINDS |= {name: in_parquet(name) for name in PARQUET}
KINDS |= {
    "tar": Kind("tars", write_tar, read_plain_tar, whole=True),
    "tar, packed": Kind("tars", partial(write_tar, packed=True), read_plain_tar, whole=True),
    "rows of a tar": Kind("tars", write_tar, partial(read_rows, "a.tar"), whole=True),
    "rows of a CSV": Kind(
        "tables of images and captions", write_table("a.csv", ","), partial(read_rows, "a.csv"), spared=(".png",)
    ),
    "rows of a TSV": Kind(
        "tables of images and captions", write_table("a.tsv", "\t"), partial(read_rows, "a.tsv"), spared=(".png",)
    ),
    "rows of a JSON": Kind(
        "tables of images and captions", write_table("a.json"), partial(read_rows, "a.json"), spared=(".png",)
    ),
    "rows of JSON lines": Kind(
        "tables of images and captions", write_table("a.jsonl"), partial(read_rows, "a.jsonl"), spared=(".png",)
    ),
    "rows of a Parquet": Kind(
        "tables of images and captions", write_parquet, partial(read_rows, "a.parquet"), whole=True
    ),
    "rows of a folder with a CSV": Kind(
        "tables of images and captions",
        write_table("metadata.csv", ","),
        partial(read_rows, ""),
        by_folder=True,
        spared=(".png",),
    ),
    "rows of a folder with JSON lines": Kind(
        "tables of images and captions",
        write_table("metadata.jsonl"),
        partial(read_rows, ""),
        by_folder=True,
        spared=(".png",),
    ),
    "student folder": Kind("models and their weights", write_student, read_student, by_folder=True, slow=True),
    "LLaVA folder": Kind("models and their weights", write_llava, read_llava, by_folder=True, slow=True),
    "weights": Kind("models and their weights", write_weights, read_weights, whole=True),
    "GGUF": Kind("models and their weights", write_model_of_gguf, read_model_of_gguf, whole=True, slow=True),
    "chat template": Kind("chat templates", write_chat_template, read_chat_template),
    "Qt resources": Kind(
        "lists",
        lambda folder: (folder / "a.rcc").write_bytes(
            qt_resources({"a/b.txt": b"red", "c.png": png()}, compressed=["c.png"])
        ),
        lambda folder: list(read_qt_resources(folder / "a.rcc")),
    ),
    "teacher cache": Kind("teacher caches", write_cache, read_cache, whole=True, checked=True),
    "teacher cache of several layers": Kind("teacher caches", write_layers, read_all_of_a_cache, checked=True),
    "teacher cache of answers": Kind(
        "teacher caches", write_answers, partial(read_all_of_a_cache, request=requested("reader")), checked=True
    ),
    "feature cache": Kind("feature caches", write_features, read_features, checked=True, by_folder=True),
    "checkpoints": Kind("checkpoints", write_checkpoint, read_checkpoint),
    "checkpoint, resumed": Kind("checkpoints", write_resumable, resume, by_folder=True, slow=True, spared=(".jsonl",)),
    "log": Kind("results, studies and cards", write_log, lambda folder: read_written_lines(folder / METRICS_NAME)),
    "card": Kind("results, studies and cards", write_run("demo_distilled"), render_card),
    "card of a LLaVA": Kind("results, studies and cards", write_run("vlm_demo_distilled"), render_card),
    "card of a cache": Kind(
        "results, studies and cards", write_cache_of_a_card, render_card, spared=(".safetensors",)
    ),
    "recipe of distill": Kind("YAMLs of recipes and studies", write_recipe("distill", "demo"), read_distill),
    "YAML of a study": Kind("YAMLs of recipes and studies", write_recipe("study", "miniature"), read_study_yaml),
}
