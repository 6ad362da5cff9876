"""
Images that a worker reads, crops and tokenizes per second, compared with webdataset and open_clip's transform.

    python tests/bench/bench_input_pipeline.py

writes outputs/bench/input_pipeline.json. Both read the same tars in one or two workers and make batches of 64 at 224
pixels. The comparison also uses open_clip's tokenizer. The measurements take turns, each with new workers, and the
ratio is that of one repeat. The memory is that of all workers.
"""

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
import webdataset as wds
from PIL import Image, ImageFilter
from report import machine, row, write
from torch.utils.data import DataLoader
from turns import in_turn

from hf_clip_kd.data import CLIPDataCollator, Stream, load_image_text
from hf_clip_kd.models import load_clip

BATCH, IMAGE_SIZE, TARS, PER_TAR, BATCHES, REPEATS = 64, 224, 4, 512, 8, 5
WORKERS = (1, 2)
SIZES = [(340, 256), (680, 512)]  # width and height of the stored JPEGs


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


def ours(folder, workers):
    _, processor = load_clip("ViT-T-16")
    source = load_image_text("webdataset", data_files=str(folder / "*.tar"), streaming=True)
    return Stream(source, buffer_size=256).loader(BATCH, CLIPDataCollator(processor), num_workers=workers)


def theirs(folder, workers):
    transform = open_clip.image_transform(IMAGE_SIZE, is_train=True, mean=(0.48,) * 3, std=(0.27,) * 3)
    tokenize = open_clip.get_tokenizer("ViT-B-32")
    pipeline = wds.DataPipeline(
        wds.ResampledShards([str(path) for path in sorted(folder.glob("*.tar"))]),
        wds.tarfile_to_samples(),
        wds.shuffle(256),
        wds.decode("pilrgb"),
        wds.rename(image="jpg", text="txt"),
        wds.map_dict(image=transform, text=lambda text: tokenize(text)[0]),
        wds.to_tuple("image", "text"),
        wds.batched(BATCH),
    )
    return DataLoader(pipeline, batch_size=None, num_workers=workers)


READERS = {"hf_clip_kd": ours, "webdataset_open_clip": theirs}


def workers_memory():
    """Return the sum of the peaks of all workers, in MB."""
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    statuses = [Path(f"/proc/{pid}/status").read_text().splitlines() for pid in pids]
    return sum(int(line.split()[1]) / 1024 for lines in statuses for line in lines if line.startswith("VmHWM"))


def measure(loader, workers, count):
    """Return images per second and the memory, in the steady state of new workers."""
    batches = iter(loader)
    for _ in itertools.islice(batches, 2 * workers + 2):  # those that wait ready, and the shuffle's buffer before them
        pass
    start = time.perf_counter()
    for _ in itertools.islice(batches, count):
        pass
    rate = count * BATCH / (time.perf_counter() - start)
    return rate, workers_memory()


def main(per_tar=PER_TAR, count=BATCHES, repeats=REPEATS):
    """Measure, write the JSON and return it."""
    torch.set_num_threads(1)
    rows = []
    for size, workers in itertools.product(SIZES, WORKERS):
        with tempfile.TemporaryDirectory() as folder:
            write_tars(Path(folder), size, per_tar)
            found = {reader: [] for reader in READERS}
            for reader in in_turn(READERS, repeats):
                found[reader].append(measure(READERS[reader](Path(folder), workers), workers, count))
        rates = [[rate for rate, _ in values] for values in found.values()]
        memory = [statistics.median(megabytes for _, megabytes in values) for values in found.values()]
        what = f"input, JPEG of {size[0]}×{size[1]}, {workers} worker{'s' * (workers > 1)}"
        rows.append(row(what, "webdataset + open_clip", *rates, "images/s", at_least=1.3, memory=memory))
    shape = {"batch": BATCH, "image_size": IMAGE_SIZE}
    return write("input_pipeline", {"rows": rows, **shape, "machine": machine()})


if __name__ == "__main__":
    main()
