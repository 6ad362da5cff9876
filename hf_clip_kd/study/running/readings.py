"""The readings of a study: how the vision-language model reads a tower."""

from __future__ import annotations

from typing import Any

from .arguments import StudyArguments

BEST_OF = "best_of"
VALIDATION = "validation"  # The benchmark that `best_of` chooses by. No other number is of it.
DEFAULT = "default"  # The reading of a study that names none.
# Values that only the stage reads which builds the LLaVA.
BUILDING = ("vision_feature_layer", "chat_template", "image_size", "image_tokens", "token_reduction", "tiles")
# Values that the study decides on.
DECIDED = ("seed", "vision_tower", "language_model", "model_name_or_path", "beside", "output_dir")


def readings_of(study: StudyArguments) -> dict[str, dict[str, Any]]:
    """Return the readings by name; a study with a vision-language model has one at least."""
    return study.readings or ({DEFAULT: {}} if study.vlm else {})


def choices(study: StudyArguments, reading: str) -> list[str]:
    """Return the readings that a reading chooses from; most have no choice and return themselves."""
    return readings_of(study)[reading].get(BEST_OF, [reading])


def chooses(study: StudyArguments) -> bool:
    """Return True if a reading of the study is the best of others."""
    return any(BEST_OF in values for values in readings_of(study).values())


def stages_of(study: StudyArguments, reading: str) -> list[dict[str, Any]]:
    """
    Return the stages of `vlm` with the values of a reading, which is no choice.

    The values replace those of the last stage. Those of `BUILDING` replace values of the first, which builds the
    LLaVA.
    """
    specs = [{"recipe": spec} if isinstance(spec, str) else dict(spec) for spec in study.vlm]
    for name, value in readings_of(study)[reading].items():
        specs[0 if name in BUILDING else -1][name] = value
    return specs


def check_readings(study: StudyArguments) -> None:
    """
    Check the values of all readings, as far as they can be known without the YAMLs of the stages.

    Raises:
        ValueError: if a reading is no mapping, sets what the study decides on, or chooses among what is no reading.
    """
    for name, values in study.readings.items():
        if not isinstance(values, dict):
            raise ValueError(
                f"`readings`, {name!r}: {values!r} is no reading. It maps arguments of `train_vlm.py` to values. "
                f"Write for example `{name}: {{vision_feature_layer: -1}}`, or `{name}: {{}}`."
            )
        decided = [value for value in DECIDED if value in values]
        if decided:
            raise ValueError(
                f"`readings`, {name!r} sets `{decided[0]}`, on which the study decides. A reading holds other "
                "arguments of `train_vlm.py`. Leave it out; seeds stand in `vlm_seeds`."
            )
        if BEST_OF in values:
            _check_choice(study, name)


def _check_choice(study: StudyArguments, name: str) -> None:
    values = study.readings[name]
    fixed = [other for other, others in study.readings.items() if not (isinstance(others, dict) and BEST_OF in others)]
    among = values[BEST_OF]
    alone = list(values) == [BEST_OF] and isinstance(among, list)
    if not alone or len(among) < 2 or any(other not in fixed for other in among):
        raise ValueError(
            f"`readings`, {name!r}: {values} is no choice. `{BEST_OF}` stands alone and lists two or more of the "
            f"other readings, which are {fixed}. Correct it, for example `best: {{{BEST_OF}: [trained, last]}}`."
        )


def check_answers(study: StudyArguments, training: dict[str, Any], evaluation: dict[str, Any] | None) -> None:
    """
    Check that the answers will hold what the study's readings and its `meter` need.

    Args:
        training (`dict`): Arguments of the last stage of `vlm`.
        evaluation (`dict`): The `evaluation` of the stage that answers questions.

    Raises:
        ValueError: if a reading chooses and no benchmark is left to choose by, or to measure.
            Or if the study judges by learning curves that nobody draws.
    """
    names = list(evaluation or {})
    if chooses(study) and (VALIDATION not in names or len(names) < 2):
        raise ValueError(
            f"`readings` chooses with `{BEST_OF}`, and the benchmarks are {names}. The choice is made on one that is "
            f"named `{VALIDATION}`; the others measure what was chosen. Add it to the `evaluation` of the last stage, "
            f"for example `{VALIDATION}: {{benchmark: shapes, split: validation}}`."
        )
    if study.meter == "curve_area" and not training.get("score_at_steps"):
        raise ValueError(
            "`meter=curve_area` is the area under a learning curve, and the last stage of `vlm` has no "
            "`score_at_steps`. A curve needs two steps at least. Add for example `score_at_steps: [100, 250]` there."
        )
