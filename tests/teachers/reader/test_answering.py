"""Readers beside a teacher: answers in its features, and which readers fit."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from made_up_reader import LinearReader, made_up_texts

from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures
from hf_clip_kd.teachers.reader import check_readers, name_of, with_answers


def features(seed=0, width=5):
    return CLIPFeatures(image_tokens=torch.randn(3, 4, width, generator=torch.Generator().manual_seed(seed)))


def batch(readers):
    return {f"reader_{i}_{name}": x for i in range(readers) for name, x in made_up_texts(3).items()}


def test_each_reader_answers_about_the_teachers_tokens():
    readers, teacher = [LinearReader(5, 4), LinearReader(5, 4)], features()
    answered = with_answers(teacher, readers, batch(2))
    assert answered.image_tokens is teacher.image_tokens and len(answered.answers) == 2
    expected = readers[0].answers(teacher.image_tokens, made_up_texts(3))
    assert torch.equal(answered.answers[0].logits, expected.logits)
    assert with_answers(teacher, [], {}) is teacher


def test_each_teacher_of_an_ensemble_has_its_reader():
    ensemble = CLIPFeatures(members=(features(), features(1, 7)))
    answered = with_answers(ensemble, [LinearReader(5, 4), LinearReader(7, 4)], batch(2))
    assert [len(member.answers) for member in answered.members] == [1, 1]
    assert not torch.equal(*(member.answers[0].logits for member in answered.members))
    silent = CLIPFeatures(members=(features(), CLIPFeatures()))
    answered = with_answers(silent, [LinearReader(5, 4), LinearReader(7, 4)], batch(2))
    assert [len(member.answers) for member in answered.members] == [1, 0]


def test_a_batch_without_texts():
    with pytest.raises(ValueError, match=r"no texts for reader 1.*readers=\[reader.texts\]"):
        with_answers(features(), [LinearReader(5, 4), LinearReader(5, 4)], batch(1))


def test_readers_that_do_not_fit():
    dims = CLIPDims(8, token_dim=5)
    teacher = SimpleNamespace(dims=dims)
    check_readers([LinearReader(5, 4)], teacher, (-2,))
    with pytest.raises(ValueError, match="has no reader.*'reader': FOLDER"):
        check_readers([], teacher, (-2,))
    with pytest.raises(ValueError, match="tokens 7 wide of layer -2.*gives tokens: 5 wide of layer -2"):
        check_readers([LinearReader(7, 4)], teacher, (-2,))
    with pytest.raises(ValueError, match="gives tokens: 5 wide of layer -1.*`teacher_layer: -2`"):
        check_readers([LinearReader(5, 4)], teacher, (-1,))
    both = SimpleNamespace(dims=CLIPDims(8, token_dim=5, members=(dims, dims)))
    with pytest.raises(ValueError, match="1 readers for 2 teachers.*in the order of the teachers"):
        check_readers([LinearReader(5, 4)], both, (-2,))


@pytest.mark.parametrize(
    ("teacher", "folder"),
    [
        ("outputs/demo", "outputs/demo"),
        (Path("outputs") / "demo", "outputs/demo"),
        ({"name": "demo", "image_size": 32}, "demo"),
        ({"name": "demo", "tokens_from": "llava"}, "llava"),
    ],
    ids=repr,
)
def test_the_folder_of_a_teacher_stands_in_a_name(teacher, folder):
    assert name_of("{teacher}/captioner", teacher) == f"{folder}/captioner"


@pytest.mark.parametrize(
    ("teacher", "kind"),
    [(None, "NoneType"), (["demo", {"name": "llava"}], "list"), ({"name": torch.nn.Identity()}, "dict")],
)
def test_a_teacher_without_a_folder(teacher, kind):
    with pytest.raises(ValueError, match=rf"'{{teacher}}/captioner' lies in .* of type {kind}.*'reader': FOLDER"):
        name_of("{teacher}/captioner", teacher)
    assert name_of("captioner", teacher) == "captioner"
