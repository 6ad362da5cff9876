"""Measurements of teachers and references, each with the readings and VLM seeds that the students have."""

from __future__ import annotations

from statistics import mean
from typing import Any

from .merge import averaged

# Parts that a teacher's own record takes from its towers.
PARTS = ("vqa", "vqa_correct", "vqa_bits", "vqa_images", "vqa_types", "curve", "seconds")


def towers_of(
    record: dict[str, Any], kind: str, name: str, reading: str | None, language_model: str | None = None
) -> list[dict[str, Any]]:
    """
    Return the measurements of a teacher or reference, an entry for each VLM seed.

    Args:
        record (`dict`): The content of `study.json`. An old study has no `towers`.
        kind (`str`): `teacher` or `reference`.
        language_model (`str`, *optional*): Default is that of the first measurement.
    """
    found = [
        tower
        for tower in record.get("towers") or []
        if (tower["kind"], tower["name"], tower["axes"].get("reading")) == (kind, name, reading)
    ]
    wanted = language_model or (found[0]["axes"].get("language_model") if found else None)
    return [tower for tower in found if tower["axes"].get("language_model") == wanted]


def own_record(record: dict[str, Any], axes: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a cell's teacher, measured with the reading and the language model of the cell."""
    found = towers_of(record, "teacher", axes["teacher"], axes.get("reading"), axes.get("language_model"))
    return (record["teachers"].get(axes["teacher"]) or {}) | (averaged(found) if found else {})


def with_towers(record: dict[str, Any], reading: str | None, language_model: str | None) -> dict[str, Any]:
    """
    Return the record whose teachers have the curve and all else of the first reading, as means over VLM seeds.

    An old study measured each teacher and reference once. These become its `towers`.
    """
    if not record.get("towers"):
        axes = {"reading": reading, "vlm_seed": 0, "language_model": language_model}
        measured = [
            ("teacher", name, {part: teacher.get(part) for part in PARTS})
            for name, teacher in record["teachers"].items()
        ]
        measured += [("reference", name, {"vqa": vqa}) for name, vqa in (record.get("references") or {}).items()]
        towers = [
            {"kind": kind, "name": name, "axes": axes} | parts for kind, name, parts in measured if name != "oracle"
        ]
        record = record | {"towers": towers}
    teachers = {}
    for name, teacher in record["teachers"].items():
        found = towers_of(record, "teacher", name, reading)
        whole = averaged(found) if found else {}
        teachers[name] = teacher | {part: whole[part] for part in PARTS if whole.get(part) is not None}
    return record | {"teachers": teachers}


def groups_of_strength(record: dict[str, Any]) -> dict[str, list[str]]:
    """Return strength -> its teachers; a teacher without repeats is a strength of its own."""
    groups: dict[str, list[str]] = {}
    for name, teacher in record["teachers"].items():
        groups.setdefault(teacher.get("strength") or name, []).append(name)
    return groups


def ladder_of_teachers(record: dict[str, Any]) -> dict[str, list[str]]:
    """
    Return strength -> its teachers, the weakest strength first, by the mean of their zero-shot accuracies.

    A teacher without texts, such as a tower out of a vision-language model, has none. It is no rung beside others.
    """

    def zero_shot(names: list[str]) -> float:
        return mean((record["teachers"][name].get("student") or {}).get("acc1") or 0.0 for name in names)

    groups = groups_of_strength(record)
    groups = {strength: names for strength, names in groups.items() if zero_shot(names)} or groups
    return dict(sorted(groups.items(), key=lambda item: zero_shot(item[1])))
