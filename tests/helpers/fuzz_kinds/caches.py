"""Caches of teachers and of features."""

from functools import partial

import torch
from cache_world import rows, teacher, writer
from made_up_reader import spelling_reader, with_questions
from PIL import Image

import hf_clip_kd as kd
from hf_clip_kd.losses import requested, requested_by_all
from hf_clip_kd.vlm import FeatureCache

from .kind import Kind, llava, made_once


def write_cache(folder):
    made_once("teacher cache", folder, lambda made: writer(made, teacher(), dtype=torch.float32).write())


def read_cache(folder):
    found = kd.TeacherCache(folder)
    places = list(range(len(found)))
    read = [found.crops(places, [0] * len(places)), found.images(places, [0] * len(places))]
    read.append(found.texts(places, [0] * len(places)))
    return repr(read), sorted(found._samples.ids.tolist())


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


KINDS = {
    "teacher cache": Kind("teacher caches", write_cache, read_cache, whole=True, checked=True),
    "teacher cache of several layers": Kind("teacher caches", write_layers, read_all_of_a_cache, checked=True),
    "teacher cache of answers": Kind(
        "teacher caches", write_answers, partial(read_all_of_a_cache, request=requested("reader")), checked=True
    ),
    "feature cache": Kind("feature caches", write_features, read_features, checked=True, by_folder=True),
}
