"""Students, teachers and losses compile as a single graph at fixed shapes, and few times in a run."""

import pytest
import torch
from every_loss import collate, make_run
from miniature import BATCH, Pairs, logs, make_trainer

import hf_clip_kd as kd
from hf_clip_kd.losses import LOSSES

pytestmark = pytest.mark.slow
WIDTH, PAIRS, WORDS = 512, 2, 8
# They read as many answers as the texts have words, a number of the data.
BREAKING = {"reader", "caption"}


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()


def explained(module, *args, **kwargs):
    found = torch._dynamo.explain(module)(*args, **kwargs)
    return found.graph_break_count, [f"{x.reason} at {x.user_stack[-1]}" for x in found.break_reasons]


def inputs(student):
    size, words = student.config.vision_config.image_size, student.config.text_config.vocab_size
    ids = torch.randint(0, words - 2, (PAIRS, WORDS))
    return torch.randn(PAIRS, 3, size, size), ids, torch.ones_like(ids)


@pytest.mark.parametrize("name", kd.list_models())
def test_a_student_with_its_losses_is_one_graph(name):
    student, _ = kd.load_clip(name)
    model = kd.DistillationModel(student, "clip_kd", kd.CLIPDims(WIDTH)).train()
    teacher = kd.CLIPFeatures(torch.randn(PAIRS, WIDTH), torch.randn(PAIRS, WIDTH), torch.tensor(100.0))
    assert explained(model, *inputs(student), teacher_features=teacher) == (0, [])


@pytest.mark.parametrize("name", kd.list_models())
def test_a_teacher_is_one_graph(name):
    student, processor = kd.load_clip(name)
    assert explained(kd.CLIPTeacher(student, processor=processor), *inputs(student)) == (0, [])


@pytest.mark.parametrize("name", LOSSES)
def test_a_student_with_any_loss_is_one_graph(tmp_path, name):
    """All features that the loss reads of the student are made in the same graph."""
    model, given = run_of(tmp_path, [name])
    count, reasons = explained(model, **given)
    assert (count > 0) == (name in BREAKING), reasons


def test_several_losses_are_one_graph(tmp_path):
    model, given = run_of(tmp_path, sorted(LOSSES.keys() - BREAKING))
    assert explained(model, **given) == (0, [])


def test_machine_code_on_a_cpu_learns_the_same(tmp_path):
    plain, compiled = (
        make_run(tmp_path, ["clip_kd", "patch"], compile_teacher=on, torch_compile=on, weight_decay=0.0)
        for on in (False, True)
    )
    assert compiled.args.torch_compile_backend == "inductor"
    for run in (plain, compiled):
        run.train()
    assert type(compiled.model_wrapped).__name__ == "OptimizedModule"
    assert logs(compiled, "loss") == pytest.approx(logs(plain, "loss"), rel=1e-4)


def run_of(folder, names):
    run = make_run(folder, names)
    return run.model, run.model_inputs(collate([Pairs()[i] for i in range(BATCH)]))


def test_the_ends_of_epochs_and_evaluations_compile_few_graphs(tmp_path):
    """Three epochs with a smaller last batch, and an evaluation after each."""
    run = make_trainer(
        tmp_path,
        dataset=Pairs(2 * BATCH + 3),
        eval_dataset=Pairs(BATCH + 2),
        dataloader_drop_last=False,
        max_steps=-1,
        num_train_epochs=3,
        eval_strategy="epoch",
        torch_compile=True,
        torch_compile_backend="eager",
    )
    torch._dynamo.utils.counters.clear()
    run.train()
    assert run.state.global_step == 9
    assert 0 < torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 6
