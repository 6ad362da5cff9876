"""MMVP: its table, its two ways to read an answer, and its pairs."""

import random

import pytest
from vqa_benchmarks import S2, compute

from hf_clip_kd.evaluation.vqa import METRICS, READERS, Sample
from hf_clip_kd.evaluation.vqa.benchmarks.mmvp import read_letter
from hf_clip_kd.recipe_io.foreign import ForeignFileError

HEADING = "lndex,Question,Options,Correct Answer\n"
TABLE = HEADING + '1,"Is it open, or not?",(a) Open (b) Closed,(a)\n2,"Is it open, or not?",(a) Open (b) Closed,(b)\n'


def test_reader(put):
    first, second = READERS["mmvp"](put("Questions.csv", TABLE))
    prompt = "Is it open, or not?\nA. Open\nB. Closed" + S2
    assert first == Sample(1, "1.jpg", prompt, ("A",), ("Open", "Closed"))
    assert (second.image, second.answers) == ("2.jpg", ("B",))


def test_lmms_eval_turns_round_four_labels(put):
    rows = "".join(f"{i},Q,(a) x (b) y,({'ab'[i % 2]})\n" for i in range(1, 301))
    path = put("Questions.csv", HEADING + rows)
    plain, turned = (READERS["mmvp"](path, protocol=protocol) for protocol in ("llava", "lmms_eval"))
    changed = [a.question_id for a, b in zip(plain, turned, strict=True) if a.answers != b.answers]
    assert changed == [99, 100, 279, 280]


@pytest.mark.parametrize(
    ("text", "letter", "right"),
    [
        ("A", "A", True),
        ("(a)", "A", True),
        ("a.", "A", True),
        ("A. Open", "A", False),  # sic: Cambrian-1 wants the letter or the text alone
        ("Open", "", True),
        ("The answer is Open.", "", True),
        ("The answer is (A)", "A", True),
        ("Option b", "B", False),
        ("I grab it", "B", False),  # sic: the end of a word
        ("Closed", "", False),
        ("", "", False),
    ],
)
def test_reads_an_answer(text, letter, right):
    assert read_letter(text) == letter
    rows = [{"answers": [answer], "choices": ["Open", "Closed"]} for answer in "AB"]
    assert compute("mmvp", [text, "B"], *rows)["scores"] == [float(right), 1]
    assert compute("mmvp", [text, "B"], *rows, protocol="lmms_eval")["scores"] == [float(letter == "A"), 1]


def test_a_pair_counts_if_both_are_right():
    rows = [{"answers": [answer], "choices": ["x", "y"]} for answer in "ABABAB"]
    found = compute("mmvp", list("ABAAAA"), *rows, n_resamples=50)
    assert (found["accuracy"], found["pair_accuracy"]) == (4 / 6, 1 / 3)
    assert found["bootstrap"]["unit"] == "pair"


def test_against_the_authors_count():
    """Their script walks through the answers, counts the right ones of two, and starts anew."""
    rng = random.Random(0)
    truth = [rng.choice("AB") for _ in range(300)]
    answers = [rng.choice(["A", "B", "b.", "(A)", "x", "?"]) for _ in truth]
    correct = total = right = 0
    for i, (answer, label) in enumerate(zip(answers, truth, strict=True), start=1):
        right += answer.strip("().").upper() == label or {"x": "A"}.get(answer) == label
        if i % 2 == 0:
            correct, total, right = correct + (right == 2), total + 1, 0
    rows = [{"answers": [label], "choices": ["x", "y"]} for label in truth]
    assert compute("mmvp", answers, *rows)["pair_accuracy"] == pytest.approx(correct / total)


def test_what_is_no_pair_is_refused():
    rows = [{"answers": ["A"], "choices": ["x", "y"]}, {"answers": ["B"], "choices": ["u", "v"]}]
    with pytest.raises(ValueError, match="The 2 questions of MMVP are no pairs.*same options.*read_mmvp"):
        compute("mmvp", ["A", "B"], *rows)
    with pytest.raises(ValueError, match="The 1 questions of MMVP are no pairs"):
        METRICS["mmvp"]().score([Sample(1, None, "Q", ("A",), ("x", "y"))], ["A"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"its columns are \[\].*It must be MMVP's Questions.csv, with a number, Question, Options"),
        ("a,b\n", r"its columns are \['a', 'b'\]"),
        (HEADING, "it holds no question"),
        (HEADING + "1,Q\n", r"question 0 has no \['Options', 'Correct Answer'\]"),
        (HEADING + "x,Q,(a) x (b) y,(a)\n", "`number` of question 0 is a text"),
        (HEADING + "1,Q,x or y,(a)\n", r"question 0: the options are 'x or y' and the answer '\(a\)', not \(a\) or"),
        (HEADING + "1,Q,(a) x (b) y,(c)\n", r"the answer '\(c\)'"),
        (HEADING + "1,Q,(a) x (b) y,(a)\n" * 2, "it has 2 questions with the id '1'"),
    ],
)
def test_wrong_files(content, message, put):
    with pytest.raises(ForeignFileError, match=f"Questions.csv.*{message}"):
        READERS["mmvp"](put("Questions.csv", content))
