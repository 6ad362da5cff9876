"""Heads that every process has for itself: what public code does in several processes, computed in a single one."""

import pytest
import torch
import torch.distributed as dist
from loss_inputs import STUDENT, TEACHER, features, leaves
from processes import join, launch, leave
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from hf_clip_kd.losses import LOSSES, LossSum
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures
from hf_clip_kd.losses.parts.process_heads import ProcessHeads
from hf_clip_kd.losses.specification import defects, requested, specification
from hf_clip_kd.training.distributed import gather

ROWS, INPUT, NARROW, WIDE, PROCESSES, STEPS, RATE = 8, 5, 6, 10, 2, 3, 0.1


def built(losses, teacher=TEACHER):
    torch.manual_seed(0)
    return LossSum(losses, STUDENT, teacher)


@pytest.mark.parametrize("name", ["fd", "icl", "afd", "patch"])
def test_the_value_is_the_mean_over_the_processes(name):
    module = built({name: {"frozen_heads": 3}})
    student, teacher = features(STUDENT, 1), features(TEACHER, 2)
    copies = module.terms[name].losses
    values = [copy(student, teacher) for copy in copies]
    assert len({value.item() for value in values}) == len(copies) == 3
    assert_close(module(student, teacher)[0], LOSSES[name].default_weight * sum(values) / 3)
    # The heads of the first process are those of a run without the switch.
    expected = built({name: {}}).terms[name].state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in copies[0].state_dict().items())


def test_frozen_heads_do_not_learn_and_unsynced_heads_learn_apart():
    module = built({"icl": {"frozen_heads": 2}, "fd": {"unsynced_heads": 2}})
    assert not any(parameter.requires_grad for parameter in module.terms["icl"].parameters())
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    assert len(learning) == 2 * len(list(module.terms["fd"].losses[0].parameters()))
    optimizer = torch.optim.AdamW(learning, lr=0.01)
    student, teacher = leaves(features(STUDENT, 1)), features(TEACHER, 2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    for _ in range(3):
        optimizer.zero_grad()
        module(student, teacher)[0].backward()
        optimizer.step()
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]) == ("icl" in name), name
    first, second = module.terms["fd"].losses
    assert not torch.equal(first.image_proj.weight, second.image_proj.weight)
    assert student.image_embeds.grad.abs().sum() > 0


def test_losses_without_heads_stay_as_they_are():
    """A head between equal widths is no more than a scale. A loss without any is computed once."""
    losses = {"clip_kd": {"frozen_heads": 8}}
    narrow = LossSum(losses, STUDENT, STUDENT)
    kept = {name: isinstance(term, ProcessHeads) for name, term in narrow.terms.items()}
    assert kept == {"clip": False, "crd": False, "icl": True, "fd": False}
    assert [name for name, _ in narrow.terms["icl"].losses[0].named_parameters()] == ["logit_scale"]
    wide = LossSum(losses, STUDENT, TEACHER)
    assert isinstance(wide.terms["fd"], ProcessHeads) and len(wide.terms["fd"].losses) == 8
    assert specification(losses)["fd"][2] == {"frozen_heads": 8} and requested(losses) == requested("clip_kd")


def test_each_of_several_teachers_has_heads_of_each_process():
    several = CLIPDims(TEACHER.embed_dim, members=(TEACHER, TEACHER))
    module = built({"fd": {"unsynced_heads": 2}}, several)
    student, members = leaves(features(STUDENT, 1)), (features(TEACHER, 2), features(TEACHER, 3))
    value, _ = module(student, CLIPFeatures(members=members))
    assert value.isfinite() and module.asked() == {0, 1}
    assert len({head.weight for head in module.modules() if isinstance(head, nn.Linear)}) == 2 * 2 * 2


def test_scales_of_all_processes_are_bounded():
    module = built({"icl": {"unsynced_heads": 2}})
    for scale in module.bounded_scales():
        scale.data.fill_(9.0)
    module.clamp_scales_()
    assert [scale.exp().item() for scale in module.bounded_scales()] == pytest.approx([100.0, 100.0])


def test_defects_are_named():
    losses = {"clip_kd": {"frozen_heads": 8}, "fd": {"unsynced_heads": 2}, "patch": 1.0}
    assert defects(losses) == [
        "frozen_heads: 8 of clip",
        "frozen_heads: 8 of crd",
        "frozen_heads: 8 of icl",
        "unsynced_heads: 2 of fd",
    ]
    assert defects("clip_kd") == []


BAD_HEADS = {
    "both": (
        {"frozen_heads": 2, "unsynced_heads": 2},
        r"'fd' in `losses` has \{.*one option of .* is allowed\. Leave",
    ),
    "none": ({"frozen_heads": 0}, r"`frozen_heads=0` of the loss 'fd' .*at least 1\. Write .*'frozen_heads': 8"),
    "a switch": ({"unsynced_heads": True}, r"`unsynced_heads=True` .*no number of processes"),
    "text": ({"frozen_heads": "8"}, r"`frozen_heads='8'` .*integer"),
}


@pytest.mark.parametrize(("options", "message"), BAD_HEADS.values(), ids=BAD_HEADS)
def test_bad_heads(options, message):
    with pytest.raises(ValueError, match=message):
        LossSum({"fd": options}, STUDENT, TEACHER)


# ---- Public code in two processes ----


class Towers(nn.Module):
    """A student of two linear towers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(INPUT, NARROW), nn.Linear(INPUT, NARROW)

    def forward(self, images, texts):
        return CLIPFeatures(self.image(images), self.text(texts), logit_scale=torch.tensor(14.0))


def rows(seed, width):
    return torch.randn(ROWS, width, generator=torch.Generator().manual_seed(seed))


def teacher():
    return CLIPFeatures(rows(10, WIDE), rows(11, WIDE), logit_scale=torch.tensor(20.0))


def heads_of(process):
    """The losses as public code builds them: after the seed of the process, and out of DDP's sight."""
    torch.manual_seed(100 + process)
    return nn.ModuleDict({name: LOSSES[name](CLIPDims(NARROW), CLIPDims(WIDE)) for name in ("fd", "icl")})


def published(rank, processes, port, folder, trained):
    """Train as public code does: DDP holds the student alone, and every process steps its own heads."""
    join(rank, processes, port)
    dist.init_process_group("gloo")
    student, losses = DistributedDataParallel(Towers()), heads_of(rank)
    share = slice(rank * ROWS // processes, (rank + 1) * ROWS // processes)
    parameters = [*student.parameters(), *(losses.parameters() if trained else ())]
    for _ in range(STEPS):
        own = student(rows(1, INPUT)[share], rows(2, INPUT)[share])
        whole = CLIPFeatures(gather(own.image_embeds), gather(own.text_embeds), logit_scale=own.logit_scale)
        value = sum(loss(whole, teacher()) for loss in losses.values())
        descend(parameters, value, [RATE] * len(parameters))
    torch.save({"student": student.module.state_dict(), "heads": losses.state_dict()}, f"{folder}/{rank}.pt")
    leave()


def descend(parameters, value, rates):
    for parameter in parameters:
        parameter.grad = None
    value.backward()
    with torch.no_grad():
        for parameter, rate in zip(parameters, rates, strict=True):
            parameter -= rate * parameter.grad


@pytest.mark.slow
@pytest.mark.parametrize("option", ["frozen_heads", "unsynced_heads"])
def test_it_is_what_public_code_does_in_two_processes(option, tmp_path):
    """Student and heads after some steps are those of two processes that do not synchronise their heads."""
    trained = option == "unsynced_heads"
    launch(published, PROCESSES, tmp_path, trained)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]

    student = Towers()
    losses = LossSum(
        {name: {"weight": 1.0, option: PROCESSES} for name in ("fd", "icl")}, CLIPDims(NARROW), CLIPDims(WIDE)
    )
    for rank in range(PROCESSES):
        for name, copy in heads_of(rank).items():
            losses.terms[name].losses[rank].load_state_dict(copy.state_dict())
    heads = [parameter for parameter in losses.parameters() if parameter.requires_grad]
    assert bool(heads) == trained
    parameters = [*student.parameters(), *heads]
    # A head has 1/W of the gradient here. AdamW does not see it, plain descent does.
    rates = [RATE] * len(list(student.parameters())) + [PROCESSES * RATE] * len(heads)
    for _ in range(STEPS):
        value, _ = losses(student(rows(1, INPUT), rows(2, INPUT)), teacher())
        descend(parameters, value, rates)

    for rank, result in enumerate(found):
        for name, weight in student.state_dict().items():
            assert_close(weight, result["student"][name], rtol=1e-5, atol=1e-6)
        for name in ("fd", "icl"):
            for key, value in losses.terms[name].losses[rank].state_dict().items():
                assert_close(value, result["heads"][f"{name}.{key}"], rtol=1e-5, atol=1e-6)
    apart = [not torch.equal(value, found[1]["heads"][key]) for key, value in found[0]["heads"].items()]
    assert sum(apart) >= len(apart) - 1  # The scales may meet.
