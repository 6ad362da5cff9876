"""Study in memory with several objectives, whose slopes and shares are put in; nobody ran it."""

import numpy as np

from hf_clip_kd.study.cells.cells import Study

# Own scores in per cent, in every metric. The last teacher is larger.
TEACHERS = {"S": 50.0, "S2": 52.0, "M": 60.0, "L": 70.0, "L2": 74.0, "XL": 80.0}
STRENGTHS = {"S2": "S", "L2": "L"}
ALONE = 45.0
# Share of a teacher's lead over the student alone, and so the slope over teachers.
SHARES = {"clip_kd": 0.25, "dense": 0.6, "reader": 0.9}
SECONDS = {"clip_kd": 100.0, "dense": 150.0, "reader": 150.0, "alone": 80.0}
DOUBLING = 3.0  # Points that a doubling of the training adds to every student.
LOSES = 0.5  # Part of a lead over `ALONE` that the second language model reads.


def tower(score, language_model="first"):
    """Return the numbers of a tower that gets a score in per cent everywhere."""
    read = score if language_model == "first" else ALONE + LOSES * (score - ALONE)
    return {
        "student": {"acc1": score / 100},
        "vqa": {"accuracy": read / 100},
        "representation": {"vqa": {"question_probe": score / 100}},
    }


def cell(teacher, objective, seed, score, *, duration="x1", language_model="first", seconds=None):
    """Return one cell. Its training takes the seconds of its objective, twice as many at x2."""
    length = {"x1": 1, "x2": 2}[duration]
    return {
        "axes": {
            "teacher": teacher, "student": "T", "objective": objective, "duration": duration, "data": "plain",
            "seed": seed, "language_model": language_model, "reading": "trained", "vlm_seed": seed,
        },
        "epochs": float(length), "steps": 100 * length,
        "seconds": {"student": length * (seconds or SECONDS.get(objective, 100.0)), "vlm": 70.0, "evaluate": 30.0},
    } | tower(score, language_model)  # fmt: skip


def students(seeds=range(5), *, noise=0.3, shares=SHARES, language_models=("first",), longer=(), teachers=TEACHERS):
    """
    Return the students of all teachers, and those alone.

    The luck of a seed is shared by all of its students. Each student has a smaller one of its own.
    """
    found = []
    for seed in seeds:
        luck, own = np.random.default_rng(seed), np.random.default_rng([seed, 1])
        shared = noise * luck.standard_normal()
        for objective, teacher in [("alone", None), *((name, other) for name in shares for other in teachers)]:
            lead = 0 if teacher is None else shares[objective] * (teachers[teacher] - ALONE)
            score = ALONE + lead + shared + noise / 3 * own.standard_normal()
            for duration in ("x1", "x2") if objective in longer else ("x1",):
                better = DOUBLING if duration == "x2" else 0.0
                for name in language_models:
                    options = {"duration": duration, "language_model": name}
                    found.append(cell(teacher, objective, seed, score + better, **options))
    return found


def study(cells, *, teachers=TEACHERS, sizes=None, lifted=None, **config):
    """
    Return these cells as a report reads them.

    Args:
        teachers (`dict`): Name to own score.
        sizes (`dict`, *optional*): Name to parameters. Default: `XL` is larger than the others.
        lifted (`dict`, *optional*): Name of a lifted teacher to the teacher that it was lifted from.
    """
    sizes, lifted = sizes or {"XL": 700_000}, lifted or {}
    record = {
        "name": "objectives",
        "teachers": {
            name: tower(score)
            | {"strength": STRENGTHS.get(name, name), "cost": {"vision_parameters": sizes.get(name, 300_000)}}
            for name, score in teachers.items()
        },
        "references": {},
        "towers": [
            {
                "name": name, "kind": "teacher",
                "axes": {"reading": "trained", "vlm_seed": 0, "language_model": model},
            }
            | tower(score, model)
            for name, score in teachers.items()
            for model in dict.fromkeys(found["axes"]["language_model"] for found in cells)
        ],
        "config": {
            "vlm": ["vlm.yaml"], "readings": {"trained": {}},
            "teachers": {name: {"lift": lifted[name]} if name in lifted else {} for name in teachers},
        }
        | config,
    }  # fmt: skip
    return Study(record, cells, [], 0, cells)
