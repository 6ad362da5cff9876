"""Make the report of a study from the JSONs in its folder: `report.md`, `report.html`, `summary.json` and figures.

Nothing is trained or measured. `recipes/study.py` makes the report when it ends. This recipe makes it at any other
time, also during the study.

    python recipes/study_report.py outputs/study/demo
"""

import argparse
from pathlib import Path

from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.study.report.report import write_report


def main(argv: list[str] | None = None) -> list[Path]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Output folder of the study, with `study.json` and `cells/*.json`.")
    folder = parser.parse_args(argv).folder
    paths = write_report(folder)
    print(f"Wrote {folder / 'report.html'}, report.md, summary.json and {len(paths) - 3} files of figures beside it.")
    return paths


if __name__ == "__main__":
    exit_with_one_line(main)
