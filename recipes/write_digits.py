"""Write scikit-learn's 1,797 handwritten digits as an image folder: real pictures that need no download.

One folder per class, `train/seven/0007.png`, a quarter of them held out in `test/`.

    python recipes/write_digits.py          # into outputs/digits/images
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from hf_clip_kd.parser import exit_with_one_line

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("outputs/digits/images"))
    root = parser.parse_args(argv).folder
    digits = load_digits()
    held_out = np.random.default_rng(0).permutation(len(digits.images)) < len(digits.images) // 4
    for i, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = root / ("test" if held_out[i] else "train") / NAMES[digit]
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels * 255 / 16).astype("uint8")).resize((32, 32), Image.Resampling.BICUBIC)
        image.save(folder / f"{i:04d}.png")


if __name__ == "__main__":
    exit_with_one_line(main)
