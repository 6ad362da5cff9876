"""Question probe: its standard error by hand, its learning curve, and questions of several types at once."""

import importlib
import math
import statistics

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hf_clip_kd.evaluation.representation import AttentiveProbe, Question, question_hits, question_probe
from hf_clip_kd.evaluation.representation.attentive_probe import HEADS, bags, number_of_steps, numbered, words_of
from hf_clip_kd.evaluation.representation.question_probe import ProbeScore, standard_error


@pytest.fixture
def short(monkeypatch):
    """Keep fits short: these questions are easy."""
    probe = importlib.import_module("hf_clip_kd.evaluation.representation.attentive_probe")
    monkeypatch.setattr(probe, "LEAST_STEPS", 40)
    monkeypatch.setattr(probe, "STEPS_PER_TYPE", 20)


COLORS = ["red", "green", "blue", "yellow"]


def colored(images, places=4):
    """Images with a colour in each place; a question about the first, and whether the last is red."""
    colors = torch.randint(len(COLORS), (images, places))
    tokens = F.one_hot(colors, 16).float() @ torch.randn(16, 16) * 30 + torch.randn(images, places, 16) + 100
    first = [Question(i, "What is first?", (COLORS[row[0]],), "color") for i, row in enumerate(colors)]
    last = [Question(i, "Is the last red?", ("no" if row[-1] else "yes",), "red") for i, row in enumerate(colors)]
    return tokens, [*first, *last]


def test_all_types_and_the_curve(short):
    tokens, asked = colored(480)
    score = question_probe(tokens, asked)
    assert score.accuracy == pytest.approx(sum(score.by_type.values()) / 2) and min(score.by_type.values()) > 0.9
    assert list(score.curve) == [180, 360] and score.curve[360] == score.accuracy
    assert score.held_out == 120 and set(score.details()["images"]) == set(score.curve)


@pytest.mark.parametrize(
    ("questions", "kinds", "steps"), [(18_000, 6, 900), (60_000, 6, 1875), (2000, 1, 300), (240, 6, 93), (1, 1, 1)]
)
def test_steps_grow_with_types_and_questions(questions, kinds, steps):
    """150 for each type, 300 at least, 8 passes at least, 100 passes at most; a batch has 256 questions."""
    known = [Question(i, "", (), f"type {i % kinds}") for i in range(questions)]
    assert number_of_steps(known) == steps


def test_standard_error_by_hand():
    """
    Two types, three images. Means are 2/3 and 1/2. An image's part is its deviations over twice the number of the
    type's questions. Image 0 has (1/3) / 6 + (1/2) / 4, image 1 (1/3) / 6 - (1/2) / 4, image 2 -(2/3) / 6.
    """
    asked = [Question(image, "", (), kind) for image, kind in ((0, "a"), (1, "a"), (2, "a"), (0, "b"), (1, "b"))]
    parts = 1 / 18 + 1 / 8, 1 / 18 - 1 / 8, -1 / 9
    expected = math.sqrt(3 / 2 * sum(part**2 for part in parts))
    assert standard_error([1, 1, 0, 1, 0], asked) == pytest.approx(expected)
    assert standard_error([1, 1], asked[::3][:2]) == 0  # a single image


def test_standard_error_of_full_rows_is_that_of_their_means():
    hits = (torch.rand(50, 3) < 0.6).float()
    asked = [Question(image, "", (), kind) for image in range(50) for kind in "abc"]
    expected = statistics.stdev(hits.mean(dim=1).tolist()) / 50**0.5
    assert standard_error(hits.flatten().tolist(), asked) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("curve", "rising"), [({10: 0.7, 20: 0.712}, True), ({10: 0.7, 20: 0.709}, False), ({5: 1}, False)]
)
def test_a_score_that_still_rises(curve, rising):
    score = ProbeScore(accuracy=0.7, by_type={}, stderr=0.0, curve=curve, held_out=5, steps=1)
    assert score.rising is rising and score.details()["rising"] is rising


def test_attention_is_that_of_standardised_tokens():
    """The probe never makes standardised tokens; plain attention over them gives the same answers."""
    tokens, questions = torch.randn(5, 4, 6) * 3 + 50, torch.randint(1, 9, (5, 3))
    probe = AttentiveProbe(tokens, 9, 7)
    asked = probe.words(questions)
    keys = (tokens - tokens.mean(dim=(0, 1))) / tokens.std(dim=(0, 1)) + probe.position
    read = F.scaled_dot_product_attention(probe.query(asked).unflatten(-1, (HEADS, -1)), keys, keys)
    expected = probe.answer(F.gelu(torch.cat([probe.value(read.flatten(1)), asked], dim=-1)))
    torch.testing.assert_close(probe(tokens, questions), expected, rtol=1e-3, atol=1e-3)


def test_words_are_padded_and_unknown_words_left_out():
    asked = [Question(0, "Is it red?", (), "a"), Question(0, "Red!", (), "a")]
    known = {word: place for place, word in enumerate(numbered(["it", "red", "type a"]), start=1)}
    assert words_of(asked[1]) == ["red", "type a"]
    assert bags(asked, known).tolist() == [[1, 2, 3], [2, 3, 0]]
    assert isinstance(AttentiveProbe(torch.randn(2, 2, 2), 4, 2).words, nn.EmbeddingBag)


def test_a_type_of_few_questions_counts_like_the_others(short):
    """Both types have the same question. The rare type's own word tells its answer."""
    often = [Question(image, "what?", ("yes",), "often") for image in range(400)]
    rare = [Question(image, "what?", ("no",), "rare") for image in range(8)]
    tokens = torch.randn(400, 2, 4)
    assert question_hits(tokens, often + rare, tokens, rare) == [1.0] * 8


def questions_about(images, tokens=4):
    """Images with a colour in each place, and a question about one of the places."""
    colors = torch.randint(len(COLORS), (images, tokens))
    features = F.one_hot(colors, 16).float() @ torch.randn(16, 16) * 30 + torch.randn(images, tokens, 16) + 100
    places = torch.randint(tokens, (images,)).tolist()
    asked = [
        Question(image, f"What colour is at place {place}?", (COLORS[colors[image, place]],), "color_at")
        for image, place in enumerate(places)
    ]
    return features, asked


def test_question_probe_learns_to_look():
    tokens, asked = questions_about(1200)
    before = torch.random.get_rng_state()
    with torch.no_grad():  # Evaluators run in this context.
        hits = question_hits(tokens, asked[:900], tokens, asked[900:], steps=100)
    assert sum(hits) / 300 > 0.95
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_seed_makes_a_fit():
    tokens, asked = questions_about(60)
    first, again, other = (question_hits(tokens, asked, tokens, asked, seed, steps=2) for seed in (0, 0, 1))
    assert first == again != other


def test_question_probe_of_tokens_that_say_nothing(short):
    tokens, asked = questions_about(800)
    assert question_probe(torch.randn_like(tokens), asked).accuracy == pytest.approx(0.25, abs=0.1)


def test_question_probe_is_judged_on_other_images():
    """Every image has an answer of its own, which no other image teaches."""
    asked = [Question(image, "which image is it?", (str(image),), "all") for image in range(40)]
    assert question_probe(torch.randn(40, 2, 4), asked).accuracy == 0
    assert question_probe(torch.randn(40, 2, 4), asked[:30]).accuracy == 0  # nobody asks about the last quarter


def test_any_accepted_answer_counts():
    asked = [Question(image, "yes or no?", ("no", "yes", "yes"), "all") for image in range(40)]
    assert question_probe(torch.randn(40, 2, 4), asked).accuracy == 1
    asked[30:] = [question._replace(answers=("no",)) for question in asked[30:]]
    assert (
        question_probe(torch.randn(40, 2, 4), asked).accuracy == 0
    )  # `yes`, the most frequent answer, is what is learned
