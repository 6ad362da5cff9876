"""Study with two readings and two VLM seeds that nobody ran; each number follows from a skill of the tower."""

import copy
import dataclasses
import functools
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from made_up_study import write as write_study

from hf_clip_kd.study.cells.cells import read_study

TYPES = ("color_at", "shape_at", "texture_at", "count")
STEPS, DROPS = [100, 250, 1000], (0.2, 0.1, 0.0)
ALONE, UNTRAINED = 0.50, 0.20
TEACHERS = {"S": 0.56, "M": 0.62, "L": 0.70}
# Share of a teacher's lead over the student alone.
SHARES = {"clip_kd": 0.25, "clip_kd_patch": 0.5}
READINGS = {"trained": 0.0, "frozen": -0.05}
VLM_SEEDS, SEEDS = (0, 1), (0, 1, 2)
VLM_NOISE, SEED_NOISE = 0.01, 0.01
IMAGES = 50
QUESTIONS = IMAGES * len(TYPES)


def measured(skill, reading, vlm_seed, *, flipped=False, blind=False):
    """Return the VQA parts of one tower. Each image has a question of each type; those of colour and shape differ."""
    skill += READINGS[reading] + VLM_NOISE * (1 - 2 * vlm_seed)
    hard = np.random.default_rng(5).permutation(IMAGES) / IMAGES
    right = {
        "color_at": hard < skill,
        "shape_at": hard < skill,
        "texture_at": np.arange(IMAGES) % 3 == 0,  # Chance, for everybody.
        "count": np.arange(IMAGES) % 3 == 0 if blind else np.ones(IMAGES, bool),  # The ceiling, for all who see.
    }
    correct = np.stack(list(right.values()), axis=1).ravel()
    bits = np.where(correct, 1 - skill, 3.0)
    kinds = list(TYPES) * IMAGES
    share = {kind: float(values.mean()) for kind, values in right.items()}
    bits_of = {kind: float(bits[[name == kind for name in kinds]].mean()) for kind in TYPES}
    types = {}
    for kind in TYPES:
        drops = np.array(DROPS) if kind in ("color_at", "shape_at") else np.zeros(3)
        lift = np.array([0.4, 0, 0]) if flipped and drops.any() else np.zeros(3)
        types[kind] = {
            "accuracy": (share[kind] - drops + lift).tolist(),
            "answer_bits": (bits_of[kind] + 5 * (drops - lift)).tolist(),
        }
    curve = {name: np.mean([types[kind][name] for kind in TYPES], axis=0) for name in ("accuracy", "answer_bits")}
    width = np.log(STEPS[-1] / STEPS[0])
    areas = {name: float(np.trapezoid(values, np.log(STEPS)) / width) for name, values in curve.items()}
    return {
        "vqa": {"accuracy": float(correct.mean()), "answer_bits": float(bits.mean())}
        | {f"{kind}/accuracy": value for kind, value in share.items()}
        | {f"{kind}/answer_bits": value for kind, value in bits_of.items()},
        "vqa_correct": correct.astype(int).tolist(),
        "vqa_bits": bits.tolist(),
        "vqa_images": [image for image in range(IMAGES) for _ in TYPES],
        "vqa_types": kinds,
        "curve": {"steps": STEPS, "seconds": [10.0, 25.0, 100.0]}
        | {name: values.tolist() for name, values in curve.items()}
        | {"area": areas, "types": types},
        "seconds": {"student": 180.0, "vlm": 110.0, "evaluate": 45.0},
    }


def student(teacher, objective, seed, reading, vlm_seed):
    """Return a cell. Its skill is a share of the way from alone to the teacher."""
    skill = ALONE + SEED_NOISE * (seed - 1)
    skill += 0 if teacher is None else SHARES[objective] * (TEACHERS[teacher] - ALONE)
    flipped = teacher is None and vlm_seed == 1 and reading == "trained"
    return {
        "id": f"{teacher}-{objective}-{seed}-{reading}-{vlm_seed}",
        "study": "meter",
        "axes": {
            "teacher": teacher, "student": "T", "objective": objective, "duration": "x1", "data": "plain",
            "seed": seed, "language_model": "tiny", "reading": reading, "vlm_seed": vlm_seed,
        },
        "epochs": 1.0, "steps": 100, "status": "done",
        "student": {"acc1": skill, "image_retrieval_recall@1": skill, "text_retrieval_recall@1": skill},
        "representation": {"vqa": probe(skill)}, "representation_maps": {},
        "cost": {"vision_parameters": 35_000, "text_parameters": 36_000, "images_per_second": 9000.0},
        "teacher": None,
    } | measured(skill, reading, vlm_seed, flipped=flipped)  # fmt: skip


def probe(skill):
    """Return the numbers of frozen tokens; the distance to the language falls as the skill grows."""
    share = {"color_at": skill + 0.2, "shape_at": skill, "texture_at": 0.33, "count": 1.0}
    return {f"question_probe/{kind}": value for kind, value in share.items()} | {
        "question_probe": float(np.mean(list(share.values()))),
        "question_probe_stderr": 0.01,
        "gromov_wasserstein": 1 - skill,
        "a_score": skill,
        "c_score": 0.5 + 0.1 * skill,
    }


def cells():
    """Return the student alone, and both objectives with each teacher, for all seeds and readings."""
    students = [(None, "clip"), *((teacher, objective) for objective in SHARES for teacher in TEACHERS)]
    return [
        student(*kind, seed, reading, vlm_seed)
        for kind in students
        for reading in READINGS
        for seed in SEEDS
        for vlm_seed in VLM_SEEDS
    ]


def towers():
    """Return teachers, the untrained tower and the blind model with each reading and VLM seed."""
    skills = {("teacher", name): skill for name, skill in TEACHERS.items()}
    skills |= {("reference", "untrained"): UNTRAINED, ("reference", "blind"): 0.1}
    return [
        {"name": name, "kind": kind, "axes": {"reading": reading, "vlm_seed": seed, "language_model": "tiny"}}
        | measured(skill, reading, seed, blind=name == "blind")
        for (kind, name), skill in skills.items()
        for reading in READINGS
        for seed in VLM_SEEDS
    ]


def write(folder, *, some=None, config=None, **record):
    """Write the output folder of this study."""
    found = towers()
    first = {
        (tower["kind"], tower["name"]): tower for tower in reversed(found) if tower["axes"]["reading"] == "trained"
    }
    teachers = {
        name: {
            "strength": name,
            "student": {"acc1": skill, "image_retrieval_recall@1": skill, "text_retrieval_recall@1": skill},
            "vqa": first["teacher", name]["vqa"],
            "representation": {"vqa": probe(skill)},
            "cost": {"vision_parameters": 300_000 if name != "L" else 700_000, "images_per_second": 900.0},
        }
        for name, skill in TEACHERS.items()
    }
    oracle = {
        "accuracy": 0.9875,
        **dict.fromkeys((f"{kind}/accuracy" for kind in TYPES), 1.0),
        "shape_at/accuracy": 0.95,
    }
    references = {name: first["reference", name]["vqa"] for name in ("blind", "untrained")} | {"oracle": oracle}
    settings = {"readings": {"trained": {}, "frozen": {"stage": "pretrain"}}, "vlm_seeds": list(VLM_SEEDS)}
    settings |= {"vlm": ["vlm.yaml"]} | (config or {})
    return write_study(
        folder, some or cells(), name="meter", teachers=teachers, references=references, towers=found, config=settings,
        **record,
    )  # fmt: skip


@functools.cache
def study(ungraded=()):
    """Return this study as its report reads it; `ungraded` has pairs of type and reason. It is written once."""
    with TemporaryDirectory() as folder:
        return read_study(write(Path(folder) / "study", config={"ungraded": dict(ungraded)}))


def with_settings(found, **settings):
    """Return the same study with other settings, and with a record that may be changed."""
    record = copy.deepcopy(found.record)
    return dataclasses.replace(found, record=record | {"config": record["config"] | settings})
