"""A finished study as the pilot of the next one."""

import copy

import made_up_study as made_up
import numpy as np
import pytest

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.cells.metrics import VQA, ZERO_SHOT
from hf_clip_kd.study.estimates.pilot import how_sure, pilot_variances, read_pilot


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made_up.write(tmp_path_factory.mktemp("pilot") / "study", made_up.cells(questions=60))


def test_variances_are_those_of_all_paired_differences(folder):
    """Zero-shot: the mean of the sample variances of each condition's difference to its reference."""
    study = read_study(folder)
    parts, design, number = pilot_variances(study, ZERO_SHOT)
    assert (design.seeds, design.vlm_seeds, design.images) == (3, 1, 1) and np.isnan(parts.vlm_seed)

    def of(**wanted):
        wanted = {"teacher": "L", "objective": "clip_kd", "duration": "x1", "data": "plain"} | wanted
        some = [cell for cell in study.cells if wanted.items() <= cell["axes"].items()]
        return np.array([ZERO_SHOT.of(cell) for cell in some])

    alone = of(teacher=None, objective="clip")
    pairs = [of(teacher=teacher) - alone for teacher in "SML"]
    pairs += [of(objective=objective) - alone for objective in made_up.OBJECTIVES if objective != "clip_kd"]
    pairs += [of(duration=duration) - of() for duration in ("x2", "x4")] + [of(data="attributes") - of()]
    assert number == len(pairs) == 9
    assert parts.seed == pytest.approx(np.mean([pair.var(ddof=1) for pair in pairs]))


def test_vlm_seeds_are_a_part_of_their_own(tmp_path):
    """Each student is read twice; the second VLM answers ten more questions right, or fewer."""
    cells = []
    for cell in made_up.cells(questions=60):
        for vlm_seed in (0, 1):
            again = copy.deepcopy(cell)
            again["axes"]["vlm_seed"] = vlm_seed
            again["id"] += f"-{vlm_seed}"
            if vlm_seed and cell["axes"]["teacher"]:
                again["vqa_correct"] = [0] * 20 + cell["vqa_correct"][20:]
                again["vqa"] = {"accuracy": np.mean(again["vqa_correct"])}
            cells.append(again)
    parts, design, _ = pilot_variances(read_study(made_up.write(tmp_path / "study", cells)), VQA)
    assert (design.seeds, design.vlm_seeds, design.images) == (3, 2, 60) and parts.vlm_seed > 10


def test_what_a_study_will_show_is_told_in_words(folder):
    text = how_sure(read_pilot(folder / "study.json"), "earlier", seeds=3, vlm_seeds=1)
    assert "seen in 8 of 10 studies" in text and "pilot earlier; this study has 3 seeds, 1 VLM seed each" in text
    parts, _, _ = pilot_variances(read_study(folder), VQA)
    assert f"VQA accuracy: standard deviation of a difference {parts.seed**0.5:.3g} over seeds" in text
    assert "3 seeds on 60 images see" in text and "to see 1 points: " in text
    assert "With one seed nothing is called clear" in how_sure(read_study(folder), "earlier", seeds=1, vlm_seeds=1)


def test_a_pilot_of_one_seed_tells_no_variance(tmp_path):
    folder = made_up.write(tmp_path / "study", made_up.cells(seeds=(0,), questions=20))
    assert "no two conditions that share two seeds" in how_sure(read_pilot(folder), "earlier", seeds=3, vlm_seeds=1)


def test_a_pilot_is_a_study(tmp_path):
    with pytest.raises(ValueError, match="holds no `study.json`.*output folder.*leave `pilot` out"):
        read_pilot(tmp_path)
