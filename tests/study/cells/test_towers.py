"""Teachers in the order of their strength, and their own measurements."""

from hf_clip_kd.study.cells.towers import ladder_of_teachers, own_record


def record(**teachers):
    return {"teachers": teachers, "towers": []}


def test_a_teacher_without_texts_is_no_rung_beside_others():
    found = record(L={"student": {"acc1": 0.7}}, L_lifted={"student": {}}, S={"student": {"acc1": 0.2}})
    assert ladder_of_teachers(found) == {"S": ["S"], "L": ["L"]}
    assert ladder_of_teachers(record(a={}, b={})) == {"a": ["a"], "b": ["b"]}


def test_a_teacher_is_read_as_the_cell_is():
    found = record(L={"student": {"acc1": 0.7}, "vqa": {"accuracy": 0.5}})
    for model, seed, score in (("first", 0, 0.5), ("second", 0, 0.25), ("second", 1, 0.75)):
        axes = {"reading": "trained", "language_model": model, "vlm_seed": seed}
        found["towers"].append({"kind": "teacher", "name": "L", "axes": axes, "vqa": {"accuracy": score}})
    like = {"teacher": "L", "reading": "trained", "language_model": "second"}
    assert own_record(found, like)["vqa"] == {"accuracy": 0.5}  # The mean of both seeds.
    assert own_record(found, like)["student"] == {"acc1": 0.7}
    assert own_record(found, like | {"teacher": "none"}) == {}
