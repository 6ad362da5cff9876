"""
Images that a worker reads, crops and tokenizes per second, compared with webdataset and open_clip's transform.

    pip install webdataset     # for this measurement only
    python tests/bench/bench_input_pipeline.py

writes outputs/bench/input_pipeline.json. Both read the same tars in one process and make batches of 64 at 224 pixels.
The comparison also uses open_clip's tokenizer. The measurements take turns, and the ratio is that of neighbours.
"""

import importlib.util
import io
import itertools
import os
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

# The threads are set before NumPy and torch are imported, because the number is that of one worker.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import open_clip
import torch
from PIL import Image, ImageFilter
from report import machine, write

from hf_clip_kd.data import CLIPDataCollator, Stream, load_image_text
from hf_clip_kd.models import load_clip

BATCH, IMAGE_SIZE, TARS, PER_TAR, REPEATS = 64, 224, 4, 512, 7
SIZES = {"256": (340, 256), "512": (680, 512)}  # width and height of the stored JPEGs


def write_tars(folder, size, per_tar=PER_TAR):
    """JPEGs with the detail of photos: noise, blurred."""
    for tar in range(TARS):
        with tarfile.open(folder / f"{tar}.tar", "w") as archive:
            for i in range(per_tar):
                noise = np.random.default_rng(i % 64).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                picture = io.BytesIO()
                Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2)).save(picture, "JPEG", quality=90)
                text = f"a photo of a dog on a beach, number {i}, at sunset".encode()
                for extension, data in (("jpg", picture.getvalue()), ("txt", text)):
                    info = tarfile.TarInfo(f"{tar:02d}{i:06d}.{extension}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))


def ours(folder):
    _, processor = load_clip("ViT-T-16")
    source = load_image_text("webdataset", data_files=str(folder / "*.tar"), streaming=True)
    return Stream(source, buffer_size=256).loader(BATCH, CLIPDataCollator(processor))


def theirs(folder):
    import webdataset as wds

    transform = open_clip.image_transform(IMAGE_SIZE, is_train=True, mean=(0.48,) * 3, std=(0.27,) * 3)
    tokenize = open_clip.get_tokenizer("ViT-B-32")
    return wds.DataPipeline(
        wds.ResampledShards([str(path) for path in sorted(folder.glob("*.tar"))]),
        wds.tarfile_to_samples(),
        wds.shuffle(256),
        wds.decode("pilrgb"),
        wds.rename(image="jpg", text="txt"),
        wds.map_dict(image=transform, text=lambda text: tokenize(text)[0]),
        wds.to_tuple("image", "text"),
        wds.batched(BATCH),
    )


def rate(batches, count):
    start = time.perf_counter()
    for _ in itertools.islice(batches, count):
        pass
    return count * BATCH / (time.perf_counter() - start)


def main(per_tar=PER_TAR, repeats=REPEATS):
    """Measure, write the JSON and return it."""
    torch.set_num_threads(1)
    result = {}
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            write_tars(folder, size, per_tar)
            readers = {"hf_clip_kd": iter(ours(folder)), "webdataset_open_clip": iter(theirs(folder))}
            for reader in readers.values():
                rate(reader, 2)
            rates = {reader: [] for reader in readers}
            for _ in range(repeats):
                for reader, batches in readers.items():
                    rates[reader].append(rate(batches, 4))
        ratios = [a / b for a, b in zip(*rates.values(), strict=True)]
        result[f"jpegs_of_{name}_pixels"] = {
            **{reader: round(statistics.median(values)) for reader, values in rates.items()},
            "ratio": round(statistics.median(ratios), 3),
            "ratio_spread": [round(min(ratios), 3), round(max(ratios), 3)],
        }
    shape = {"batch": BATCH, "image_size": IMAGE_SIZE, "repeats": repeats}
    return write("input_pipeline", result | shape | {"machine": machine("datasets", "webdataset", "open_clip_torch")})


if __name__ == "__main__":
    if importlib.util.find_spec("webdataset"):
        main()
    else:
        print("Left out: webdataset is not installed (`pip install webdataset`, for this measurement only).")
