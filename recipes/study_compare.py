"""Compare a second run of a study, with other seeds, with the first one within its error bars.

Reads `summary.json` in both folders, which the report wrote, and writes `reproduction.md` into the first.

    python recipes/study.py --config recipes/configs/study/miniature.yaml --seeds '[3, 4, 5]' \
        --output_dir outputs/study/again
    python recipes/study_compare.py outputs/study/miniature outputs/study/again
"""

import argparse
from pathlib import Path

from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.study.report.reproduction import write_reproduction


def main(argv: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, help="Folder of a study with its report.")
    parser.add_argument("second", type=Path, help="Folder of a run with other seeds.")
    given = parser.parse_args(argv)
    path, text = write_reproduction(given.first, given.second)
    print(f"{text}\nWrote {path}.")
    return path


if __name__ == "__main__":
    exit_with_one_line(main)
