"""Readers of files that somebody else wrote, each with a good file, and the forms in which files arrive broken."""

import gzip
import json
from dataclasses import dataclass, field

from PIL import Image

from hf_clip_kd.data.instruct import load_instruct
from hf_clip_kd.data.pictures.emoji import read_emoji
from hf_clip_kd.data.pictures.stamps import read_caption
from hf_clip_kd.data.reading.cached import source_of_cache
from hf_clip_kd.evaluation.compositional import COMPOSITIONAL
from hf_clip_kd.evaluation.prompts import load_class_names, load_templates
from hf_clip_kd.evaluation.vqa import READERS as VQA
from hf_clip_kd.evaluation.vqa import Sample
from hf_clip_kd.evaluation.vqa.benchmarks.llava_questions import read_answers
from hf_clip_kd.evaluation.xm3600 import read_xm3600
from hf_clip_kd.export.importing.architecture import read_architecture
from hf_clip_kd.hub.cards.sources import read_recipe
from hf_clip_kd.models.presets import named, read_config
from hf_clip_kd.recipe_io.foreign import read_json
from hf_clip_kd.recipe_io.parser import RecipeParser
from hf_clip_kd.recipe_io.results import load_results
from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.cells.samples import read_samples
from hf_clip_kd.teachers.cache import manifest
from recipes import write_picture_questions

PEOPLE = [{"answer": "red"}, {"answer": "blue"}] * 5
VQAV2 = {"data_subtype": "val2014", "questions": [{"question_id": 1, "image_id": 42, "question": "What is red?"}]}
LABELS = {"annotations": [{"question_id": 1, "answer_type": "other", "answers": PEOPLE}]}
SEED = {"question_id": "7", "question": "red?", "answer": "A", "data_type": "image", "data_id": "1.jpg"}
SEED |= {"question_type_id": 3} | {f"choice_{letter}": "red" for letter in "abcd"}
MMMU = {"id": "validation_Art_1", "prompt": "red?", "question_type": "multiple-choice", "image": "1.jpg"}
MMMU |= {"all_choices": ["A", "B"], "index2ans": {"A": "red", "B": "blue"}}
PAGE = {"questionId": 1, "question": "red?", "answers": ["red"]}
OCR = {"dataset_name": "red", "id": 1, "image_path": "1.jpg", "question": "red?", "type": "red"}
MMVP = b"Index,Question,Options,Correct Answer\n1,red?,(a) red (b) blue,(a)\n2,red?,(a) red (b) blue,(b)\n"
SCIENCE = {"question": "red?", "choices": ["a", "b"], "answer": 1, "hint": "", "image": None, "subject": "red"}
BOX = {"bbox_x": 0, "bbox_y": 0, "bbox_w": 4, "bbox_h": 4}
VG = {"image_path": "1.jpg", "true_caption": "red", "false_caption": "blue"} | BOX
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
TALK = {
    "id": "x",
    "image": "1.jpg",
    "conversations": [{"from": "human", "value": "red?"}, {"from": "gpt", "value": "y"}],
}
QUESTION = {"image": "1.jpg", "question": "red?", "answers": ["red", "1"], "type": "color"}
MEMBER = {"weights": "red", "dims": {"embed_dim": 4}, "logit_scale": 1.0, "logit_bias": None, "image_grid": None}
EMOJI = b"hexcode,group,subgroups,annotation,tags,skintone\n1F408,animals,red,cat,red,\n"


@dataclass
class Recipe:
    name: str = field(metadata={"help": "Name."})
    losses: dict | None = field(default=None, metadata={"help": "Losses."})


def parsed(path):
    return RecipeParser([Recipe], path).parse(["--config", str(path)])


def student(path):
    with named(path):
        return read_config(read_json(path, allowed="It must be a student.", fix="Repair it."), path).to_json_string()


def aside(path, name, content):
    (path.parent / name).write_text(json.dumps(content))
    return path.parent / name


def mme(path):
    Image.new("RGB", (4, 4)).save(path.with_suffix(".jpg"))
    return VQA["mme"](path.parents[1])


def captions(name):
    """Return a reader of a compositional benchmark, which finds the picture `1.jpg` beside the file."""

    def read(path):
        Image.new("RGB", (4, 4)).save(path.parent / "1.jpg")
        return COMPOSITIONAL[name].read(path, path.parent)

    return read


def xm3600(path):
    Image.new("RGB", (4, 4)).save(path.parent / "1.jpg")
    return read_xm3600(path, path.parent)


def study(path):
    for name in ("red", "1"):
        path.with_name("cells").mkdir(exist_ok=True)
        aside(path, f"cells/{name}.json", {"status": "done", "axes": {"seed": 0}})
    return read_study(path.parent)


def cached(path):
    aside(path, "cache.json", {})
    return source_of_cache(str(path.parent), "train", 1)


def pictures(path):
    return write_picture_questions.read_pictures(path.parent)


def conversations(path):
    return list(load_instruct(str(path)))


# Name: the file's place, the content of a good file, and the reader.
READERS = {
    "vqav2": ("a.json", VQAV2, lambda path: VQA["vqav2"](path, aside(path, "b.json", LABELS))),
    "vqav2 annotations": ("a.json", LABELS, lambda path: VQA["vqav2"](aside(path, "b.json", VQAV2), path)),
    "gqa": (
        "a.json",
        {"1": {"question": "red?", "imageId": 4, "answer": "red", "types": {"structural": "query"}}},
        VQA["gqa"],
    ),
    "textvqa": ("a.json", {"data": [{"image_id": "1", "question": "q", "answers": ["red"] * 10}]}, VQA["textvqa"]),
    "ocr": (
        "a.json",
        {"data": [{"image_id": "1", "ocr_tokens": ["red"]}]},
        lambda path: VQA["textvqa"](aside(path, "b.json", {"data": [{"image_id": 1, "question": "q"}]}), ocr=path),
    ),
    "vizwiz": ("a.json", [{"image": "1.jpg", "question": "red?", "answers": PEOPLE}], VQA["vizwiz"]),
    "pope": (
        "coco_pope_random.json",
        b'{"question_id": 1, "image": "1.jpg", "text": "red?", "label": "yes"}\n',
        lambda path: VQA["pope"](path.parent),
    ),
    "mme": ("color/1.txt", b"Is it red?\tYes\nIs it blue?\tNo\n", mme),
    "scienceqa": (
        "a.json",
        {"5": SCIENCE},
        lambda path: VQA["scienceqa"](path, aside(path, "b.json", {"test": [5]})),
    ),
    "splits": (
        "a.json",
        {"test": ["5"], "red": []},
        lambda path: VQA["scienceqa"](aside(path, "b.json", {"5": SCIENCE}), path),
    ),
    "seedbench": ("a.json", {"questions": [SEED], "question_type": {"red": 3}}, VQA["seedbench"]),
    "mmmu": ("a.json", [MMMU], lambda path: VQA["mmmu"](path, None)),
    "mmmu answers": (
        "a.json",
        {"validation_Art_1": {"ground_truth": ["A"], "x": "red"}},
        lambda path: VQA["mmmu"](aside(path, "b.json", [MMMU]), None, path),
    ),
    "mmvet": ("a.json", {"v1_0": {"imagename": "1.jpg", "question": "red?", "capability": ["ocr"]}}, VQA["mmvet"]),
    "mmvp": ("a.csv", MMVP, VQA["mmvp"]),
    "docvqa": ("a.json", {"data": [PAGE | {"image": "1.jpg", "question_types": ["red"]}]}, VQA["docvqa"]),
    "infovqa": ("a.json", {"data": [PAGE | {"image_local_name": "1.jpg", "answer_type": ["red"]}]}, VQA["infovqa"]),
    "chartqa": (
        "test_human.json",
        [{"imgname": "1.jpg", "query": "red?", "label": "red"}],
        lambda path: VQA["chartqa"](path.parent),
    ),
    "ocrbench": ("a.json", [OCR | {"answers": "red"}, OCR | {"answers": ["red"]}], VQA["ocrbench"]),
    "llava": (
        "a.jsonl",
        b'\n{"question_id": 1, "text": "red?", "image": "1.jpg"}\n{"question_id": 2, "text": "b"}',
        VQA["llava"],
    ),
    "questions": ("a.jsonl", json.dumps(QUESTION).encode() + b"\n", VQA["questions"]),
    "answers": (
        "a.jsonl",
        b'{"question_id": 1, "prompt": "b", "text": "red"}\n',
        lambda path: read_answers(path, [Sample("1", None, "b")]),
    ),
    "sugarcrepe": (
        "a.json",
        {"0": {"filename": "1.jpg", "caption": "red", "negative_caption": "blue"}},
        captions("sugarcrepe"),
    ),
    "winoground": (
        "a.jsonl",
        b'{"id": 1, "image_0": "1.jpg", "image_1": "1.jpg", "caption_0": "red", "caption_1": "b"}\n',
        captions("winoground"),
    ),
    "aro relations": ("a.json", [VG | {"relation_name": "red"}], captions("vg_relation")),
    "aro attributes": ("a.json", [VG | {"attributes": ["red", "b"]}], captions("vg_attribution")),
    "aro order": ("a.json", [{"image": "1.jpg", "caption_options": ["red", "b"]}], captions("coco_order")),
    "xm3600": ("a.jsonl", b'{"image/key": "1", "de": {"caption": ["red"]}}\n', xm3600),
    "conversations": ("a.json", [TALK], conversations),
    "conversations by lines": ("a.jsonl", json.dumps(TALK).encode() + b"\n", conversations),
    "conversations by questions": ("a.jsonl", json.dumps(QUESTION).encode() + b"\n", conversations),
    "emoji": ("a.csv", EMOJI, read_emoji),
    "stamps": ("a.txt", b"A red cat.\nfr.utf8=Un chat 1.\n", read_caption),
    "pictures": (
        "pictures.jsonl",
        b'{"image": "1.jpg", "set": "train", "name": "red", "captions": ["red"], "category": ""}\n',
        pictures,
    ),
    "class names": ("a.json", ["red", "blue"], load_class_names),
    "templates": ("a.json", ["a red {}"], load_templates),
    "class names by lines": ("a.txt", b"red\n1\n", load_class_names),
    "student": (
        "a.json",
        {
            "model_type": "clip",
            "architectures": ["red"],
            "vision_config": TOWER | {"hidden_act": "gelu"},
            "text_config": TOWER,
        },
        student,
    ),
    "result": (
        "a.json",
        {"dataset": "red", "task": "vqa_llava", "metrics": {"accuracy": 0.5}, "config": {"a": [1]}},
        lambda path: load_results(path.parent),
    ),
    "samples": (
        "a.jsonl",
        b'{"question_id": 1, "prompt": "red?", "score": 1.0, "bits": 0.5, "image": "1.jpg", "references": ["red"]}\n',
        read_samples,
    ),
    "study": ("study.json", {"cells": ["red", "1"], "config": {"vlm": []}, "teachers": {}}, study),
    "cache": (
        "cache.json",
        {"teachers": [MEMBER], "settings": {"augmentations": 1, "red": 1}, "request": {}},
        lambda path: manifest.read(path.parent),
    ),
    "open_clip": (
        "a.json",
        {"model_cfg": {"embed_dim": 8, "vision_cfg": {"width": 8}, "text_cfg": {"name": "red"}}},
        read_architecture,
    ),
    "recipe": ("a.yaml", b'name: "red"\nlosses: {clip: 1e-3}\n', parsed),
    "recipe of a cache": ("recipe.yaml", b'dataset_name: "red"\nsplit: train\n', cached),
    "recipe of a run": ("recipe.yaml", b'name: "red"\nlosses: {clip: 1}\n', lambda path: read_recipe(path.parent)),
}


def data_of(name):
    content = READERS[name][1]
    return content if isinstance(content, bytes) else json.dumps(content, indent=1).encode()


FORMS = {
    "whole": lambda data: data,
    "truncated": lambda data: data[: len(data) // 2],
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "two byte order marks": lambda data: b"\xef\xbb\xbf" * 2 + data,
    "utf-16": lambda data: data.decode().encode("utf-16"),
    "utf-16 without a mark": lambda data: data.decode().encode("utf-16-le"),
    "utf-32": lambda data: data.decode().encode("utf-32"),
    "latin-1": lambda data: data.replace(b"red", b"r\xe9d"),
    "line separator in a text": lambda data: data.replace(b"red", "r\u2028d".encode()),
    "next line in a text": lambda data: data.replace(b"red", "r\x85d".encode()),
    "form feed in a text": lambda data: data.replace(b"red", b"r\x0cd"),
    "carriage returns": lambda data: data.replace(b"\n", b"\r"),
    "both line ends": lambda data: data.replace(b"\n", b"\r\n"),
    "line ends written twice": lambda data: data.replace(b"\n", b"\r\r\n"),
    "half a surrogate pair": lambda data: data.replace(b"red", rb"r\ud83d"),
    "a whole pair": lambda data: data.replace(b"red", rb"r\ud83d\ude00"),
    "empty": lambda data: b"",
    "spaces": lambda data: b" \n\n",
    "a number": lambda data: b"5",
    "a text": lambda data: b'"red"',
    "null": lambda data: b"null",
    "list in a list": lambda data: b"[" + data + b"]",
    "gzip": gzip.compress,
    "zip": lambda data: b"PK\x03\x04" + data,
    "garbage": lambda data: bytes(range(256)),
    "zeros at the end": lambda data: data + bytes(64),
    "trailing comma": lambda data: data.rstrip()[:-1] + b"," + data.rstrip()[-1:],
    "comment": lambda data: b"// comment\n" + data,
    "NaN": lambda data: data.replace(b"1", b"NaN").replace(b'"red', b'NaN, "red'),
    "Infinity": lambda data: data.replace(b"1", b"-Infinity"),
    "1e400": lambda data: data.replace(b"1", b"1e400"),
    "deep": lambda data: data.replace(b'"red', b"[" * 100_000).replace(b"clip", b"{[" * 50_000),
    "huge number": lambda data: data.replace(b'"red', b"9" * 5000 + b', "red', 1),
    "key twice": lambda data: data.replace(b"{", b'{"k": 1, "k": 2, ', 1),
    "git lfs": lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "web page": lambda data: b"<!DOCTYPE html>\n<html></html>\n",
}
# Forms that change nothing, and forms that nobody can read.
SAME = ("byte order mark", "two byte order marks", "utf-16", "utf-32", "carriage returns", "both line ends")
NEVER = ("utf-16 without a mark", "latin-1", "gzip", "zip", "garbage", "zeros at the end", "git lfs")
# Values that may stand in the place of any other.
STRANGE = (None, True, 5, 10**30, 10**400, 0.5, "red", "", [], {}, ["red"], [[None]], {"red": [None]}, ..., 1e999)
