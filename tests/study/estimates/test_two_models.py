"""Two models' answers against scipy, closed forms and hand-made cases."""

import numpy as np
import pytest
from answered_runs import write_run
from scipy import stats

from hf_clip_kd.study.cells.samples import read_samples
from hf_clip_kd.study.estimates.two_models import compare_models, flip_test


def of(folder):
    return read_samples(folder)["shapes"]


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    return np.stack([rng.random(300) < 0.55, rng.random(300) < 0.58]).astype(float)


def test_flips_of_single_questions_are_mcnemars_exact_test(scores):
    better, worse = ((scores[i] > scores[1 - i]).sum() for i in (1, 0))
    assert flip_test(scores, None) == pytest.approx(stats.binomtest(better, better + worse).pvalue, abs=0.01)


@pytest.mark.parametrize(("images", "exact"), [(11, True), (12, False)])
def test_all_flips_of_few_images_are_counted(images, exact):
    """The second model is right everywhere. Only all flips together, and none of them, give so large a sum."""
    p_value = flip_test(np.array([[0.0] * images, [1.0] * images]), None)
    assert (p_value == pytest.approx(2 / 2**images, rel=1e-6)) == exact and p_value < 0.01


def test_copies_of_a_question_are_no_evidence(scores):
    """Four equal questions about each image say what one says."""
    scores = scores[:, :200]
    copies, images = np.repeat(scores, 4, axis=1), np.repeat(np.arange(200), 4)
    assert flip_test(copies, images) == pytest.approx(flip_test(scores, None), abs=0.01)
    assert flip_test(copies, None) < flip_test(scores, None) / 3


def test_the_difference_is_that_of_the_paired_test(tmp_path, scores):
    bits = np.random.default_rng(1).random((2, 300)).tolist()
    runs = [write_run(tmp_path / name, scores[i], bits=bits[i]) for i, name in enumerate("ab")]
    (accuracy, found), numbers = compare_models(*map(of, runs), {})
    assert (accuracy.what, found.what) == ("accuracy", "answer bits")
    for pair, (first, second) in ((accuracy, 100 * scores), (found, np.array(bits))):
        expected = stats.ttest_rel(second, first)
        assert pair.first == pytest.approx(first.mean()) and pair.second == pytest.approx(second.mean())
        assert pair.difference.p_value == pytest.approx(expected.pvalue, abs=0.02)
        error = (second - first).std(ddof=1) / 300**0.5
        assert pair.detectable == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * error, rel=0.1)
    assert numbers["questions"] == 300 and numbers["units"] == 0 and numbers["unshared"] == 0
    assert numbers["second_alone"] - numbers["first_alone"] == scores[1].sum() - scores[0].sum()


def test_questions_of_one_model_and_those_without_need_of_a_picture_are_left_out(tmp_path):
    first = write_run(tmp_path / "a", [1, 0, 1, 0, 1], images=[0, 0, 1, 1, 2])
    second = write_run(tmp_path / "b", [1, 1, 1, 0], images=[0, 0, 1, 1])
    blind = write_run(tmp_path / "c", [1, 0, 0, 0])
    (accuracy,), numbers = compare_models(of(first), of(second), of(blind))
    assert accuracy.first == pytest.approx(100 / 3) and accuracy.second == pytest.approx(200 / 3)
    assert numbers == {
        "questions": 3, "units": 2, "unit": "image", "unshared": 1, "left_out": 1, "first_alone": 0, "second_alone": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match="No question is left"):
        compare_models(of(first), of(second), of(write_run(tmp_path / "d", [1, 1, 1, 1])))


def test_two_models_that_agree_in_all_do_not_differ(tmp_path):
    run = of(write_run(tmp_path / "a", [1, 0, 1]))
    (accuracy,), _ = compare_models(run, run, {})
    assert accuracy.difference.value == 0 and accuracy.flipped == 1 and not accuracy.clear


def test_pairs_are_drawn_as_one(tmp_path, scores):
    """Two questions of a pair with equal outcomes are as much evidence as one."""
    twice = np.repeat(scores, 2, axis=1)
    units = [{"unit": f"pair {i // 2}"} for i in range(600)]
    runs = [of(write_run(tmp_path / name, twice[i], questions=units)) for i, name in enumerate("ab")]
    once = [of(write_run(tmp_path / name, scores[i])) for i, name in enumerate("cd")]
    ((pair,), numbers), ((single,), _) = compare_models(*runs, {}), compare_models(*once, {})
    assert (numbers["units"], numbers["unit"]) == (300, "pair")
    assert pair.difference.error == pytest.approx(single.difference.error, rel=0.1)


class Quoted:
    """A number that papers quote: the share of pairs with both right."""

    name = "pair_accuracy"

    def __init__(self, record, answers):
        assert record["benchmark"] == "mmvp"
        self.both = np.array([answered.score for answered in answers]).reshape(-1, 2).min(axis=1)

    def of(self, weights):
        return 100 * np.average(self.both, weights=weights[::2])


def test_the_number_that_papers_quote_is_compared(tmp_path, scores):
    """Its interval is that of a paired test over the pairs."""
    units = [{"unit": f"pair {i // 2}"} for i in range(300)]
    first, second = (of(write_run(tmp_path / name, scores[i], questions=units)) for i, name in enumerate("ab"))
    options = {"records": ({"benchmark": "mmvp"},) * 2, "summarize": Quoted}
    pairs, _ = compare_models(first, second, {}, **options)
    accuracy, quoted = pairs
    assert accuracy.what == "accuracy" and quoted.what == "pair_accuracy"
    both = 100 * scores.reshape(2, 150, 2).min(axis=2)
    assert (quoted.first, quoted.second) == pytest.approx(tuple(both.mean(axis=1)))
    expected = stats.ttest_rel(both[1], both[0])
    assert quoted.difference.value == pytest.approx(both[1].mean() - both[0].mean())
    assert quoted.p_value == quoted.difference.p_value == pytest.approx(expected.pvalue, abs=0.03)
    low, high = expected.confidence_interval()
    assert (quoted.difference.low, quoted.difference.high) == pytest.approx((low, high), abs=1)
    # It is of all questions, so it is not compared where some are left out.
    fewer = {key: answered for i, (key, answered) in enumerate(second.items()) if i > 1}
    assert len(compare_models(first, fewer, {}, **options)[0]) == 1
    assert len(compare_models(first, second, dict(list(first.items())[:5]), **options)[0]) == 1


def test_the_mean_score_is_compared_once(tmp_path, scores):
    class Mean(Quoted):
        def __init__(self, record, answers):
            self.scores = [answered.score for answered in answers]

        def of(self, weights):
            return 100 * np.average(self.scores, weights=weights)

    runs = [of(write_run(tmp_path / name, scores[i])) for i, name in enumerate("ab")]
    assert [pair.what for pair in compare_models(*runs, {}, summarize=Mean)[0]] == ["accuracy"]
    assert len(compare_models(*runs, {}, summarize=lambda *_: None)[0]) == 1
