"""Scores of students as a choice of a teacher measures them, drawn with known means."""

import numpy as np

from hf_clip_kd.study.choice.scores import Scores


def made_up_scores(seeds=3, images=400, **means):
    """Return the scores of `alone` and of teachers: name to the mean of its pilots' question probe.

    All share the luck of the image. A seed moves the mean by up to 0.01, in another direction for each teacher.
    """
    rng = np.random.default_rng(0)
    difficulty = rng.normal(scale=0.1, size=images)
    found = []
    for turn, (name, mean) in enumerate(means.items()):
        of_seeds = np.roll([0.01, -0.01, 0.0], turn)[:seeds, None]
        luck = of_seeds + rng.normal(scale=0.05, size=(seeds, images))
        values = mean + difficulty - difficulty.mean() + luck
        own = {} if name == "alone" else {"question_probe": values[:1] + 0.1}
        found.append(Scores(name, {"question_probe": values}, own, seconds=12.0))
    return found
