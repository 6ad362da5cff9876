"""Write the tables of the pages about real pictures, from the results of their commands.

Students of each length and teacher come from the study, towers of a LLaVA from their answers. Tables whose folder is
missing stay as they are.

python recipes/maintenance/pictures_tables.py            # print the tables
python recipes/maintenance/pictures_tables.py --write    # put them into docs/pictures.md and docs/pictures_vlm.md
"""

import argparse
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.recipe_io.results import load_results, write_whole
from hf_clip_kd.study.cells.cells import Study, read_study, scores, student_alone
from hf_clip_kd.study.cells.metrics import Metric
from hf_clip_kd.study.cells.samples import Answered, Key, read_samples
from hf_clip_kd.study.estimates.statistics import contrast
from hf_clip_kd.study.estimates.two_models import BITS, Pair, compare_models
from hf_clip_kd.study.report.sentences import with_bounds

ROOT = Path(__file__).parents[2]
PAGES = (Path("docs/pictures.md"), Path("docs/pictures_vlm.md"))
MARKED = re.compile(r"(<!-- pictures: (\w+), [^>]+ -->\n)(.*?)(<!-- end of pictures -->)", re.DOTALL)
METRICS = (
    Metric("style, top 1", ("student",), "style/acc1"),
    Metric("unseen, top 1", ("student",), "unseen/acc1"),
    Metric("category, mean recall", ("student",), "category/mean_per_class_recall"),
    Metric("retrieval, image R@10", ("student",), "image_retrieval_recall@10"),
    Metric("retrieval, text R@10", ("student",), "text_retrieval_recall@10"),
    Metric("photographs, image R@10", ("student",), "photographs/image_retrieval_recall@10"),
    Metric("photographs, text R@10", ("student",), "photographs/text_retrieval_recall@10"),
)
BLIND = "blind"
ALONE, TEACHER = "alone", "teacher"
# Towers in the order of the table; students with a teacher come before the teacher.
FIRST, LAST = (BLIND, "untrained", ALONE), (TEACHER,)
CHANCE, CHOICE, YES_NO = "chance", "choice", "yes/no"
OPTIONS = 4  # names among which a question of the kind `CHOICE` asks
# Kinds of question that all tests share, and the numbers that say something of them: no tower spells a name.
SHOWN = {"name": (BITS,), "category": ("accuracy", BITS), CHOICE: ("accuracy",), YES_NO: ("accuracy", BITS)}


def over(cells: Iterable[dict], alone: Iterable[dict], metric: Metric) -> str:
    """Return the difference of two conditions in a metric, paired by seed; `–` if they share none."""
    first, second = scores(alone, metric), scores(cells, metric)
    shared = [seed for seed in second if seed in first]
    if not shared:
        return "–"
    outcomes = np.array([[[run[seed]] for seed in shared] for run in (first, second)])
    return with_bounds(contrast(outcomes, [-1, 1]), 1)


def shown(cells: Iterable[dict], metric: Metric) -> str:
    """Return the mean of a condition over its seeds with its interval; without one if there is a single seed."""
    values = list(scores(cells, metric).values())
    if not values:
        return "–"
    estimate = contrast(np.array(values)[None, :, None], [1])
    ends = "" if math.isnan(estimate.low) else f" [{estimate.low:.1f}, {estimate.high:.1f}]"
    return f"{estimate.value:.1f}{ends}"


def render(header: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def by_objective(study: Study, **axes: Any) -> dict[str, list[dict]]:
    """Return the cells with a teacher that have these values of the axes, by objective."""
    found: dict[str, list[dict]] = {}
    for cell in study.cells:
        if cell["axes"]["teacher"] is not None and axes.items() <= cell["axes"].items():
            found.setdefault(cell["axes"]["objective"], []).append(cell)
    return found


def lengths(study: Study) -> str:
    """Return the table of students of the reference teacher beside the student alone, at each length."""
    teacher, objectives = study.record["config"]["reference_teacher"], list(study.record["config"]["objectives"])
    steps = {cell["axes"]["duration"]: cell["steps"] for cell in study.cells}
    taught = {length: by_objective(study, teacher=teacher, duration=length) for length in steps}
    names = [name for name in objectives if any(name in found for found in taught.values())]
    rows = []
    for metric in METRICS:
        for length in sorted(steps, key=steps.get):
            alone = student_alone((c for c in study.cells if c["axes"]["duration"] == length), longest=True)
            both = [
                cell
                for name in names
                for cells in [taught[length].get(name, [])]
                for cell in (shown(cells, metric), over(cells, alone, metric))
            ]
            rows.append([metric.title, f"{steps[length]:,}", shown(alone, metric), *both])
    return render(
        ["score", "steps", "`alone`", *(part for name in names for part in (f"`{name}`", "over `alone`"))], rows
    )


def teachers(study: Study) -> str:
    """Return the table of students of each teacher, at the length that all teachers have."""
    taught = {cell["axes"]["teacher"] for cell in study.cells} - {None}
    of_length: dict[str, set[str]] = {}
    for cell in study.cells:
        of_length.setdefault(cell["axes"]["duration"], set()).add(cell["axes"]["teacher"])
    length = next((name for name, found in of_length.items() if taught <= found), None)
    alone = student_alone((c for c in study.cells if c["axes"]["duration"] == length), longest=True)
    names = [name for name in study.record["config"]["objectives"] if name in by_objective(study, duration=length)]
    rows = []
    for metric in METRICS:
        for teacher in (name for name in study.record["teachers"] if name in taught):
            found = by_objective(study, teacher=teacher, duration=length)
            gains = [over(found.get(name, []), alone, metric) for name in names]
            own = study.teacher_score(teacher, metric)
            rows.append([metric.title, f"`{teacher}`", "–" if math.isnan(own) else f"{own:.1f}", *gains])
    return render(["score", "teacher", "its own", *(f"`{name}` over `alone`" for name in names)], rows)


def towers(folder: Path) -> dict[str, Path]:
    """
    Return the folders of the towers by name, in the order of the tables.

    Raises:
        ValueError: The blind tower is missing, or it is alone.
    """
    found = {path.parent.parent.name: path.parent.parent for path in sorted(folder.glob("*/results/samples"))}
    if BLIND not in found or len(found) < 2:
        raise ValueError(
            f"{str(folder)!r} holds answers of {sorted(found)}. It must have those of `{BLIND}`, and of a tower that "
            "sees. Run `python recipes/train_vlm.py --config recipes/configs/train_vlm/pictures_lora.yaml`."
        )
    middle = [name for name in found if name not in (*FIRST, *LAST)]
    return {name: found[name] for name in (*FIRST, *middle, *LAST) if name in found}


@dataclass(frozen=True)
class Answers:
    """Answers of the towers in a folder, and the metrics of their results, by tower and test."""

    asked: dict[str, dict[str, dict[Key, Answered]]]
    metrics: dict[str, dict[str, dict[str, float]]]

    def tests(self, closed: bool) -> list[str]:
        """Return the tests with yes/no questions, or the others."""
        return [test for test, numbers in self.metrics[BLIND].items() if ("f1" in numbers) == closed]

    def kinds(self, test: str) -> dict[str, dict[str, dict[Key, Answered]]]:
        """Return the answers of each tower to the questions of a test, by their kind."""
        found: dict[str, dict[str, dict[Key, Answered]]] = {}
        closed = test in self.tests(closed=True)
        for tower, tests in self.asked.items():
            for key, answer in tests[test].items():
                kind = YES_NO if closed else answer.category
                found.setdefault(kind, {}).setdefault(tower, {})[key] = answer
        return dict(sorted(found.items()))

    def pooled(self) -> dict[str, dict[str, dict[Key, Answered]]]:
        """Return the answers of each tower to all tests together, by the kinds of `SHOWN`."""
        found: dict[str, dict[str, dict[Key, Answered]]] = {kind: {} for kind in SHOWN}
        for test in self.metrics[BLIND]:
            for kind, towers in self.kinds(test).items():
                for tower, answers in towers.items() if kind in found else ():
                    # A question's id is its own in its test alone.
                    named = {(f"{test} {question}", prompt): answer for (question, prompt), answer in answers.items()}
                    found[kind].setdefault(tower, {}).update(named)
        return {kind: towers for kind, towers in found.items() if towers}

    def chance(self, kind: str) -> float:
        """Return the accuracy per cent in all tests of whoever knows each test and no picture, see [`commonest`]."""
        groups = [found[kind][BLIND] for found in map(self.kinds, self.metrics[BLIND]) if kind in found]
        return sum(len(group) * commonest(kind, group) for group in groups) / sum(map(len, groups))


def commonest(kind: str, answers: dict[Key, Answered]) -> float:
    """Return the share per cent of the answer that is right most often. One of four names has a quarter."""
    right = Counter(answer.references[:1] for answer in answers.values())
    return 100 / OPTIONS if kind == CHOICE else 100 * max(right.values()) / right.total()


def read_answers(folder: Path) -> Answers:
    """
    Read the answers of all towers of a folder.

    Raises:
        ValueError: The blind tower is missing, it is alone, or a tower lacks a test, as after a kill.
    """
    found = towers(folder)
    asked = {name: read_samples(path) for name, path in found.items()}
    metrics = {
        name: {record["dataset"]: record["metrics"] for record in load_results(path / "results")}
        for name, path in found.items()
    }
    for name, tests in asked.items():
        if lacks := sorted(set(asked[BLIND]) - set(tests)):
            raise ValueError(
                f"{str(found[name])!r} has no answers to {lacks[0]!r}, and {BLIND!r} has. All towers must be asked "
                "the same. Run the command of the towers again with `--resume_from_checkpoint auto`."
            )
    return Answers(asked, metrics)


def answers(read: Answers, closed: bool) -> str:
    """
    Return the table of the towers' answers, those that see compared with the blind one, picture by picture.

    Args:
        read ([`Answers`]): Answers of the towers.
        closed (`bool`): Show the yes/no questions, with F1 and yes-ratio; else the others.
    """
    rows = []
    for test in read.tests(closed):
        for kind, group in read.kinds(test).items():
            title = test.removesuffix("_exists") if closed else f"{test}, {kind}"
            empty = ["–"] * (2 if closed else 0)
            rows.append([title, CHANCE, *empty, f"{commonest(kind, group[BLIND]):.1f}", "–", "–", "–"])
            for name, asked in group.items():
                pairs, _ = compare_models(group[BLIND], asked, {})
                cells = [part for pair in pairs for part in _cells(pair, blind=name == BLIND)]
                metrics = read.metrics[name][test]
                rates = [f"{100 * metrics[key]:.1f}" for key in ("f1", "yes_ratio")] if closed else []
                rows.append([title, f"`{name}`", *rates, *cells])
    rates = ["F1", "says yes"] if closed else []
    return render(["test", "tower", *rates, "accuracy", f"over `{BLIND}`", "answer bits", f"over `{BLIND}`"], rows)


def together(read: Answers) -> str:
    """Return the table of the towers over all tests together, those that see compared with the blind one."""
    groups = read.pooled()
    shares = [f"{read.chance(kind):.1f}" if what != BITS else "–" for kind in groups for what in SHOWN[kind]]
    rows = [[CHANCE, *(part for share in shares for part in (share, "–"))]] + [
        [f"`{name}`", *(part for pair in _compared(groups, BLIND, name) for part in _cells(pair, blind=name == BLIND))]
        for name in read.asked
    ]
    return render(["tower", *(part for title in _titles(groups) for part in (title, f"over `{BLIND}`"))], rows)


def differences(read: Answers) -> str:
    """Return the table of each student over the student alone, and of the teacher over each student, by all tests."""
    groups, names = read.pooled(), list(read.asked)
    students = [name for name in names if name not in (*FIRST, *LAST)]
    compared = [(ALONE, name) for name in students] + [(name, TEACHER) for name in students]
    rows = [
        [
            f"`{second}` over `{first}`",
            *(with_bounds(pair.difference, _digits(pair)) for pair in _compared(groups, first, second)),
        ]
        for first, second in compared
        if {first, second} <= set(names)
    ]
    return render(["towers", *_titles(groups)], rows)


def _compared(groups: dict[str, dict[str, dict[Key, Answered]]], first: str, second: str) -> list[Pair]:
    """Return two towers' numbers in the order of [`_titles`]."""
    return [
        pair
        for title, group in groups.items()
        for pair in compare_models(group[first], group[second], {})[0]
        if pair.what in SHOWN[title]
    ]


def _titles(groups: Iterable[str]) -> list[str]:
    return [f"{title}: {what}" for title in groups for what in SHOWN[title]]


def _digits(pair: Pair) -> int:
    return 1 if pair.what == "accuracy" else 2


def _cells(pair: Pair, blind: bool) -> tuple[str, str]:
    digits = _digits(pair)
    return f"{pair.second:.{digits}f}", "–" if blind else with_bounds(pair.difference, digits)


def tables(study: Path, llavas: Path) -> dict[str, str]:
    """
    Make the tables whose folders are there, by name.

    Raises:
        ValueError: No folder is there, or a folder holds something else.
    """
    made = {}
    if (study / "study.json").is_file():
        read = read_study(study)
        made |= {"lengths": lengths(read), "teachers": teachers(read)}
    if llavas.is_dir():
        read = read_answers(llavas)
        made |= {"together": together(read), "differences": differences(read)}
        made |= {"questions": answers(read, closed=False), "exists": answers(read, closed=True)}
    if not made:
        raise ValueError(
            f"There is neither a study in {str(study)!r} nor a folder {str(llavas)!r}. One of them makes tables. Run "
            "`python recipes/study.py --config recipes/configs/study/pictures.yaml`, or pass its folder."
        )
    return made


def main(argv: list[str] | None = None) -> dict[str, str]:
    """Print the tables, write them where asked, and return them by name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=Path("outputs/study/pictures"), help="Folder of the study.")
    parser.add_argument(
        "--towers", type=Path, default=Path("outputs/pictures_vlm"), help="Folder of pictures_lora.yaml's towers."
    )
    parser.add_argument("--write", action="store_true", help="Put the tables into the pages.")
    given = parser.parse_args(argv)
    made = tables(given.study, given.towers)
    for page in PAGES if given.write else ():
        text = (ROOT / page).read_text(encoding="utf-8")
        renewed = MARKED.sub(lambda at: f"{at[1]}{made[at[2]]}\n{at[4]}" if at[2] in made else at[0], text)
        if renewed != text:
            write_whole(ROOT / page, renewed)
            print(f"{page} written")
    for name, text in made.items():
        print(f"\n{name}\n{text}")
    return made


if __name__ == "__main__":
    exit_with_one_line(main)
