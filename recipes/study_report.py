"""Make the report of a study from the JSONs in its folder: `report.md`, `report.html`, `summary.json` and figures.

Nothing is trained or measured. `recipes/study.py` makes the report when it ends. This recipe makes it at any other
time, also during the study.

    python recipes/study_report.py outputs/study/demo
    python recipes/study_report.py outputs/study/demo --leave_out_blind      # questions that need their picture alone
"""

import argparse
from pathlib import Path

from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.study.report.report import write_report


def main(argv: list[str] | None = None) -> list[Path]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Output folder of the study, with `study.json` and `cells/*.json`.")
    parser.add_argument(
        "--leave_out_blind",
        action="store_true",
        help="Leave out the questions that the reference `blind` answers right without a picture, as the study's "
        "YAML can demand.",
    )
    given = parser.parse_args(argv)
    folder = given.folder
    paths = write_report(folder, leave_out_blind=given.leave_out_blind)
    print(f"Wrote {folder / 'report.html'}, report.md, summary.json and {len(paths) - 3} files of figures beside it.")
    return paths


if __name__ == "__main__":
    exit_with_one_line(main)
