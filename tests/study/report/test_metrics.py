"""Numbers of a cell, by type of question and by benchmark."""

from hf_clip_kd.study.report.metrics import question_types


def test_types_of_a_benchmark():
    vqa = {"accuracy": 0.5, "count/accuracy": 0.25, "count/answer_bits": 3.0}
    assert question_types({"vqa": vqa}) == {"count": 25}


def test_several_benchmarks_have_one_share_each():
    vqa = {"accuracy": 0.4, "docvqa/anls": 0.5, "docvqa/form/anls": 0.75, "blink/accuracy": 0.3}
    vqa |= {"blink/Jigsaw/accuracy": 0.2, "mmvp/accuracy": 0.6, "mmvp/pair_accuracy": 0.1}
    assert question_types({"vqa": vqa}) == {"docvqa": 50, "blink": 30, "mmvp": 60}
