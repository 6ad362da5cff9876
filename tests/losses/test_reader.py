"""The loss `reader`: what flows through a frozen reader, and by which formula."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from loss_inputs import BATCH, PAIRS, STUDENT, TEACHER, build, features
from made_up_reader import LinearReader, answers_about, made_up_texts

from hf_clip_kd.losses import EnsembleLoss, requested
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures, FeatureRequest
from hf_clip_kd.losses.parts.heads import MLPHead
from hf_clip_kd.losses.parts.resample import resample


def double(dims, seed):
    return features(dims, seed, torch.float64)


def loss_of(pair="wider teacher", **options):
    return build("reader", PAIRS[pair], **options).double()


@pytest.mark.parametrize("divergence", ["kl", "reverse_kl", "dbild"])
def test_is_zero_for_the_teachers_own_tokens(divergence):
    loss, teacher = loss_of("same width", divergence=divergence, cross_entropy=0.0), double(STUDENT, 2)
    assert not list(loss.parameters())  # Equal widths need no head.
    student = replace(double(STUDENT, 1), image_tokens=teacher.image_tokens)
    assert loss(student, teacher).item() == pytest.approx(0, abs=1e-12)
    assert loss(double(STUDENT, 1), teacher) > 1e-2


def test_is_the_formula():
    loss, student, teacher = loss_of(temperature=2.0, cross_entropy=0.3), double(STUDENT, 1), double(TEACHER, 2)
    tokens = resample(loss.token_proj(student.image_tokens), student.image_grid, teacher.image_grid)
    reader, texts = LinearReader(TEACHER.token_dim, 12, torch.float64), made_up_texts(BATCH)
    expected = []
    for i in range(BATCH):
        words = []
        for place in range(4):
            label = texts["labels"][i, place]
            if label < 0:
                continue
            q, p = (
                2 * torch.tanh(reader.image(x[i])).mean(0) + reader.words.weight[texts["input_ids"][i, place]]
                for x in (tokens, teacher.image_tokens)
            )
            soft = F.kl_div((q / 2).log_softmax(0), (p / 2).softmax(0), reduction="sum")
            words.append(4 * soft - 0.3 * q.log_softmax(0)[label])
        expected.append(torch.stack(words).mean())
    torch.testing.assert_close(loss.values(student, teacher), torch.stack(expected))


def test_gradient_reaches_the_tokens_and_the_head_but_no_parameter_of_the_reader():
    loss, student = loss_of(), double(STUDENT, 1)
    reader = LinearReader(TEACHER.token_dim, 12, torch.float64)
    student.image_tokens.requires_grad_()
    teacher = double(TEACHER, 2)
    teacher = replace(teacher, answers=(reader.answers(teacher.image_tokens, made_up_texts(BATCH)),))
    loss(student, teacher).backward()
    assert (student.image_tokens.grad.abs().sum(dim=(1, 2)) > 0).all()
    assert all(parameter.grad.abs().sum() > 0 for parameter in loss.parameters())
    assert all(p.grad is None and not p.requires_grad for p in reader.parameters()) and not reader.image.training
    assert not teacher.answers[0].logits.requires_grad


def test_an_image_without_a_position_counts_as_nothing_to_say():
    loss, student, teacher = loss_of(), double(STUDENT, 1), double(TEACHER, 2)
    texts = made_up_texts(BATCH)
    texts["labels"][0] = -100
    reader = LinearReader(TEACHER.token_dim, 12, torch.float64)
    silent = replace(teacher, answers=(reader.answers(teacher.image_tokens, texts),))
    values = loss.values(student, silent)
    assert values[0] == 0
    torch.testing.assert_close(values[1:], loss.values(student, teacher)[1:])


def test_several_readers_count_alike():
    loss, student, teacher = loss_of(), double(STUDENT, 1), double(TEACHER, 2)
    other = answers_about(teacher.image_tokens.flip(0))
    first, second, both = (
        loss.values(student, replace(teacher, answers=answers))
        for answers in (teacher.answers, (other,), (*teacher.answers, other))
    )
    torch.testing.assert_close(both, (first + second) / 2)


@pytest.mark.parametrize("divergence", ["kl", "reverse_kl"])
def test_stored_largest_answers_are_those_of_the_whole(divergence):
    loss, student, teacher = loss_of(divergence=divergence, top_k=3), double(STUDENT, 1), double(TEACHER, 2)
    (answers,) = teacher.answers
    logits, ids = answers.logits.log_softmax(-1).topk(3)
    stored = replace(teacher, answers=(replace(answers, logits=logits, ids=ids),))
    torch.testing.assert_close(loss(student, stored), loss(student, teacher))
    torch.testing.assert_close(loss_of(divergence=divergence)(student, stored), loss(student, teacher))
    assert abs(loss_of(divergence=divergence)(student, teacher) - loss(student, teacher)) > 1e-3


def test_an_ensemble_has_a_head_and_a_reader_for_each():
    loss = build("reader", PAIRS["wider teacher"]).double()
    student, teacher = double(STUDENT, 1), double(TEACHER, 2)
    torch.manual_seed(0)
    both = EnsembleLoss(type(loss), STUDENT, replace(TEACHER, members=(TEACHER, STUDENT))).double()
    members = (teacher, double(STUDENT, 3))
    expected = [part(student, member) for part, member in zip(both.losses, members, strict=True)]
    torch.testing.assert_close(both.eval()(student, CLIPFeatures(members=members)), sum(expected) / 2)


def test_asks_for_layers_and_readers():
    assert requested("reader") == FeatureRequest(layer=-2, teacher_layer=-2, readers=())
    named = requested({"reader": {"reader": ["a", {"name": "b", "layers": 2}], "teacher_layer": -1}})
    assert named == FeatureRequest(layer=-2, teacher_layer=-1, readers=(("a", None), ("b", 2)))


def test_a_head_may_be_an_mlp():
    assert isinstance(loss_of(hidden_dim=12).token_proj, MLPHead)
    assert isinstance(loss_of("same width", hidden_dim="teacher").token_proj, MLPHead)


def test_refused():
    with pytest.raises(ValueError, match="hidden_dim=0 is no width of the head of the loss 'reader'"):
        loss_of(hidden_dim=0)
    with pytest.raises(ValueError, match="divergence='mse'.*'kl', 'reverse_kl', 'dbild'"):
        loss_of(divergence="mse")
    bad = [{"temperature": value} for value in (0, "3", float("inf"), 10**400)] + [
        {"cross_entropy": -1},
        {"cross_entropy": "1"},
    ]
    for options in (*bad, {"top_k": 1}, {"top_k": 8.0}):
        with pytest.raises(ValueError, match="Allowed are a temperature above 0"):
            loss_of(**options)
    for entry in ({"layers": 2}, {"name": 2}, {"name": "a", "layers": "2"}, {"name": "a", "depth": 2}):
        with pytest.raises(ValueError, match=r"reader=\{.*names no reader.*'outputs/captioner'"):
            requested({"reader": {"reader": entry}})
    with pytest.raises(ValueError, match="reads the student's image tokens, whose width is unknown"):
        build("reader", (CLIPDims(16), TEACHER))
    with pytest.raises(ValueError, match=r"no `answers`.*`readers=\[...\]` to the trainer"):
        loss_of()(double(STUDENT, 1), replace(double(TEACHER, 2), answers=()))
