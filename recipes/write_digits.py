"""Write scikit-learn's 1,797 handwritten digits as image folders: real pictures that need no download.

Each class is a folder, `images/train/seven/0007.png`; a quarter of the pictures is held out in `images/test`. `few`
repeats ten training pictures of each class, for a student that has little data.

    python recipes/write_digits.py          # into outputs/digits
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from hf_clip_kd.recipe_io.parser import exit_with_one_line

FEW = 10
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("outputs/digits"))
    root = parser.parse_args(argv).folder
    digits = load_digits()
    held_out = np.random.default_rng(0).permutation(len(digits.images)) < len(digits.images) // 4
    written = Counter()
    for i, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        image = Image.fromarray((pixels * 255 / 16).astype("uint8")).resize((32, 32), Image.Resampling.BICUBIC)
        if held_out[i]:
            folders = ["images/test"]
        elif written[digit] < FEW:
            folders = ["images/train", "few"]
        else:
            folders = ["images/train"]
        written[digit] += not held_out[i]
        for folder in folders:
            path = root / folder / NAMES[digit] / f"{i:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)


if __name__ == "__main__":
    exit_with_one_line(main)
