"""The same odd pictures down every road to a model: the same pixels arrive, or the picture is refused.

A new road is a function in `ROADS`. It takes a picture as it lies in a data set, and returns the pixels that a model
got.
"""

import hashlib
import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from chat_tokenizers import chat_tokenizer
from datasets import Dataset, Features, Image
from odd_pictures import Odd, odd_pictures
from PIL import Image as PILImage
from tiny_llava import SIDE, make_llava
from transformers import CLIPImageProcessorPil, LlavaProcessor
from transformers.image_utils import load_image

from hf_clip_kd import AugmentationCollator, CLIPDataCollator, load_clip
from hf_clip_kd.data import BrokenImageError, decode_image
from hf_clip_kd.data.reading.images import decode_with_alpha
from hf_clip_kd.data.reading.transparency import flatten
from hf_clip_kd.data.transforms.keyed_random import BACKGROUND, row_uniforms
from hf_clip_kd.evaluation.encode import encode_images
from hf_clip_kd.evaluation.representation.reading import read_images
from hf_clip_kd.evaluation.vqa import Sample, generate_answers
from hf_clip_kd.export.parity import make_probe, square
from hf_clip_kd.vlm import FeatureCache, LlavaDataCollator, get_chat_template, training_picture

LMMS_TASK = Path(__file__).parents[2] / "recipes" / "lmms_tasks" / "shapes_vqa" / "shapes_task.py"
ODD = odd_pictures()
FILES = [name for name, odd in ODD.items() if isinstance(odd.value, bytes)]
SQUEEZE = CLIPImageProcessorPil(size={"height": SIDE, "width": SIDE}, do_center_crop=False)

pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF")


class World:
    """Models and processors of one image size, shared by all tests, and the pixels that their towers get."""

    def __init__(self):
        self.clip, self.processor = load_clip("test-vit")
        self.llava, self.llava_processor = make_llava()
        self.processor.image_processor = self.llava_processor.image_processor = SQUEEZE
        self.collator = LlavaDataCollator(
            LlavaProcessor(
                SQUEEZE,
                chat_tokenizer("qwen"),
                patch_size=8,
                vision_feature_select_strategy="full",
                chat_template=get_chat_template("qwen3").jinja,
            )
        )
        self.arrived = []
        for tower in (self.clip.vision_model, self.llava.model.vision_tower):
            tower.embeddings.register_forward_pre_hook(self._keep, with_kwargs=True)

    def _keep(self, module, args, kwargs):
        self.arrived.append(args[0] if args else kwargs["pixel_values"])

    def pixels(self):
        """Return the pixels of the only picture since the last call."""
        ((pixels,), self.arrived) = self.arrived[-1], []
        return pixels


@pytest.fixture(scope="module")
def world():
    return World()


def stored(value):
    """Return a picture as a data set stores it."""
    return {"bytes": value, "path": None} if isinstance(value, bytes) else value


def row(value):
    return {"image": stored(value), "text": "a picture", "__index__": 0}


def whole(value):
    """Return arguments of a crop that keeps the whole picture, on white."""
    try:
        width, height = decode_image(value).size
    except BrokenImageError:
        width = height = 1
    return {"crop_scale": (1.0, 1.0), "crop_ratio": (width / height, width / height), "drop_alpha": 0.0}


def collated(world, value, **options):
    collator = CLIPDataCollator(world.processor, max_broken_fraction=1.0, **options)
    batch = collator([row(value)])
    if collator.broken.broken:
        raise BrokenImageError("left out")
    return batch["pixel_values"][0]


def training(world, value):
    return collated(world, value, **whole(value))


def validation(world, value):
    return collated(world, value, train=False)


def teacher_cache(world, value):
    batch = AugmentationCollator(world.processor, max_broken_fraction=1.0, **whole(value))([row(value)])
    if batch is None:
        raise BrokenImageError("left out")
    return batch["views"][0]["pixel_values"][0]


def zero_shot_and_retrieval(world, value):
    encode_images(world.clip, world.processor, [stored(value)], batch_size=2)
    return world.pixels()


def probes(world, value):
    read_images(world.clip, world.processor, [stored(value)], layer=-1, batch_size=2)
    return world.pixels()


def vqa(world, value):
    image = value
    if isinstance(value, bytes):
        image = str(world.folder / "picture")
        Path(image).write_bytes(value)
    generate_answers(world.llava, world.llava_processor, [Sample("7", image, "what color ?")], max_new_tokens=1)
    return world.pixels()


def vlm_row(value):
    turns = [{"role": "user", "content": "<image>"}, {"role": "assistant", "content": "red"}]
    return {"messages": turns, "images": [stored(value)]}


def vlm_training(world, value):
    return world.collator([vlm_row(value)])["pixel_values"][0]


def feature_cache(world, value):
    cache = FeatureCache(world.folder / "features", world.llava, world.llava_processor)
    cache.add([stored(value)], training_picture)
    if not len(cache):
        raise BrokenImageError("left out")
    return world.pixels()


def export_parity(world, value):
    (picture,) = make_probe(world.clip, world.processor, [stored(value)]).pictures
    return through_processor(picture)


def lmms_eval(world, value):
    spec = importlib.util.spec_from_file_location("shapes_task", LMMS_TASK)
    task = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(task)
    return vqa(world, *task.doc_to_visual({"image": value}))


# Name -> the road, the values it takes, and a change of the picture that it makes on purpose.
ROADS = {
    "training": (training, ODD, None),
    "validation": (validation, ODD, None),
    "teacher cache": (teacher_cache, ODD, None),
    "zero-shot and retrieval": (zero_shot_and_retrieval, ODD, None),
    "probes": (probes, ODD, None),
    "vqa": (vqa, ODD, None),
    "lmms-eval": (lmms_eval, ODD, None),
    "export parity": (export_parity, ODD, square),
    "vlm training": (vlm_training, ODD, None),
    "feature cache": (feature_cache, FILES, None),
}
# These show some transparent pictures on white, and drop the transparency of others.
CHOOSE = {"vlm training", "feature cache"}


def same(pixels, expected):
    """Tell if pixels are the same but for rounding: a level of 255 is 0.015 here."""
    return pixels.shape == expected.shape and torch.allclose(pixels, expected, rtol=0, atol=1e-4)


def through_processor(picture):
    return SQUEEZE([picture], return_tensors="pt")["pixel_values"][0]


@pytest.mark.parametrize("road", ROADS)
def test_the_same_pixels_arrive_by_every_road(world, tmp_path, road):
    take, names, change = ROADS[road]
    differ = []
    for number, name in enumerate(names):
        odd = ODD[name]
        world.folder, world.arrived = tmp_path / str(number), []
        world.folder.mkdir()
        if odd.seen is None:
            with pytest.raises(ValueError):
                take(world, odd.value)
            continue
        picture = training_picture(odd.value) if road in CHOOSE else decode_image(odd.value)
        expected = through_processor(picture if change is None else change(picture))
        if not same(take(world, odd.value), expected):
            differ.append(name)
    assert differ == []


@pytest.mark.parametrize("name", ODD)
def test_a_picture_is_what_a_person_sees(name):
    odd: Odd = ODD[name]
    if odd.seen is None:
        with pytest.raises(BrokenImageError):
            decode_image(odd.value)
        return
    near(decode_image(odd.value), odd.seen, odd.tolerance)
    dropped = flatten(decode_with_alpha(odd.value), dropped=True)
    near(dropped, odd.seen if odd.dropped is None else odd.dropped, odd.tolerance)
    assert "exif" not in dropped.info or dropped.getexif().get(0x0112, 1) == 1, "nobody turns it once more"


def near(picture, expected, tolerance):
    found = np.asarray(picture)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("name", [name for name in FILES if ODD[name].dropped is not None and "16-bit" not in name])
def test_dropped_is_what_stock_pipelines_show(name):
    """`load_image` is what `transformers.pipeline` reads a picture with; open_clip converts as it does."""
    stock = load_image(PILImage.open(io.BytesIO(ODD[name].value)))
    dropped = flatten(decode_with_alpha(ODD[name].value), dropped=True)
    assert np.array_equal(np.asarray(dropped), np.asarray(stock))


@pytest.mark.parametrize("name", [name for name in FILES if ODD[name].seen is not None])
def test_a_column_that_datasets_decodes_is_read_alike(name):
    column = Dataset.from_dict({"image": [stored(ODD[name].value)]}, features=Features({"image": Image()}))["image"]
    assert np.array_equal(np.asarray(decode_image(column[0])), np.asarray(decode_image(ODD[name].value)))


def test_training_draws_white_or_dropped_for_each_epoch(world):
    rows = [row(ODD["RGBA"].value) | {"__index__": index, "__epoch__": 3} for index in range(40)]
    options = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.5, 1.5), "seed": 5}
    live = CLIPDataCollator(world.processor, world.processor, **options)(rows)["pixel_values"]
    white, dropped = (
        through_processor(PILImage.fromarray(pixels)) for pixels in (ODD["RGBA"].seen, ODD["RGBA"].dropped)
    )
    for pixels, index in zip(live, range(40), strict=True):
        drawn = row_uniforms(5, 3, index)[BACKGROUND] < 0.5
        assert same(pixels, dropped if drawn else white)
    shows = [same(pixels, dropped) for pixels in live]
    assert 10 < sum(shows) < 30
    # Rows without a number draw from a generator.
    plain = [{key: value for key, value in line.items() if not key.startswith("__")} for line in rows]
    shows = [same(pixels, dropped) for pixels in CLIPDataCollator(world.processor, **options)(plain)["pixel_values"]]
    assert 10 < sum(shows) < 30


def test_a_vlm_sees_half_of_the_transparent_pictures_on_white():
    white = []
    for level in range(64):
        picture = PILImage.new("RGBA", (4, 4), (level, 0, 0, 0))
        file = io.BytesIO()
        picture.save(file, "PNG")
        seen = training_picture({"bytes": file.getvalue(), "path": None}).getpixel((0, 0))
        assert seen == training_picture(picture).getpixel((0, 0)), "the form that it is stored in does not matter"
        assert seen in ((255, 255, 255), (level, 0, 0))
        assert (seen == (255, 255, 255)) == (hashlib.sha256(picture.tobytes()).digest()[0] % 2 == 0)
        white.append(seen == (255, 255, 255))
    assert 20 < sum(white) < 44
