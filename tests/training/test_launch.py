"""Every file of accelerate_configs/ starts its engine, and launches that train something else are refused."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import (
    _validate_launch_command,
    launch_command_parser,
    prepare_deepspeed_cmd_env,
    prepare_multi_gpu_env,
)
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from miniature import make_args, make_clip
from ports import free_port
from vlm_parts import language_model

import hf_clip_kd as kd
from hf_clip_kd.distillation.model import DistillationModel
from hf_clip_kd.training.launch import blocks, check_engine, check_launch, check_precision

CONFIGS = {path.stem: path for path in (Path(__file__).parents[2] / "accelerate_configs").glob("*.yaml")}
NAMES = {"cpu", "single_gpu", "multi_gpu", "multi_cpu", "zero1", "zero2", "zero3", "fsdp2", "two_nodes"}


@pytest.fixture
def environment(monkeypatch):
    """Takes what the launcher hands to a process, and nothing else of its kind."""

    def become(values):
        for name in os.environ:
            if name.startswith(("ACCELERATE_", "FSDP_")):
                monkeypatch.delenv(name)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return become


def launched(name, *flags):
    """Return the arguments that `accelerate launch --config_file accelerate_configs/NAME.yaml script.py` makes."""
    args = launch_command_parser().parse_args(["--config_file", str(CONFIGS[name]), *flags, "script.py"])
    return _validate_launch_command(args)[0]


def test_there_is_a_file_for_each_way():
    assert set(CONFIGS) == NAMES


@pytest.mark.parametrize("name", CONFIGS)
def test_accelerate_reads_it(name):
    config = load_config_from_file(str(CONFIGS[name]))  # unknown keys are an error
    text = CONFIGS[name].read_text()
    assert text.startswith("# ") and f"--config_file accelerate_configs/{name}.yaml" in text
    assert config.mixed_precision == "no", "the recipe decides"
    assert config.num_processes == {"cpu": 1, "single_gpu": 1, "multi_cpu": 2, "two_nodes": 16}.get(name, 8)
    assert config.num_machines == (2 if name == "two_nodes" else 1)


@pytest.mark.parametrize("name", ["multi_gpu", "multi_cpu", "two_nodes"])
def test_several_processes_are_started(name):
    args = launched(name)
    assert args.multi_gpu and args.num_processes == yaml.safe_load(CONFIGS[name].read_text())["num_processes"]
    assert args.use_cpu == (name == "multi_cpu")


def test_two_nodes_take_rank_and_address():
    args = launched("two_nodes", "--machine_rank", "1", "--main_process_ip", "10.0.0.7")
    environment = prepare_multi_gpu_env(args)
    assert (args.nnodes, args.node_rank, args.nproc_per_node) == ("2", 1, "8")
    assert args.rdzv_endpoint == "10.0.0.7:29500"
    assert "ACCELERATE_USE_FSDP" not in environment


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_builds_its_plugin(stage, environment):
    from accelerate.utils import DeepSpeedPlugin

    args = launched(f"zero{stage}")
    assert args.use_deepspeed and args.num_processes == 8
    args.deepspeed_fields_from_accelerate_config = ",".join(
        yaml.safe_load(CONFIGS[f"zero{stage}"].read_text())["deepspeed_config"]
    )
    environment(prepare_deepspeed_cmd_env(args)[1])
    plugin = DeepSpeedPlugin()
    assert plugin.zero_stage == stage and not plugin.zero3_init_flag
    config = plugin.deepspeed_config
    assert config["zero_optimization"]["stage"] == stage
    assert config["gradient_accumulation_steps"] == config["gradient_clipping"] == "auto", "the recipe decides"
    assert config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] == (stage == 3)


@pytest.mark.parametrize("student", ["shapes-vit-t", "shapes-conv", "shapes-xcit"])
def test_fsdp_builds_its_plugin_and_finds_the_blocks(student, environment):
    args = launched("fsdp2")
    assert args.use_fsdp and args.num_processes == 8
    environment(prepare_multi_gpu_env(args))
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward
    assert type(plugin.cpu_offload).__name__ == "OffloadPolicy", "none"
    assert "FULL" in str(plugin.state_dict_type)
    model = DistillationModel(kd.load_clip(student)[0], {"clip": 1}, None)
    plugin.transformer_cls_names_to_wrap = blocks(model)  # the trainers do the same
    plugin.set_auto_wrap_policy(model)
    found = {cls.__name__ for cls in plugin.auto_wrap_policy.keywords["transformer_layer_cls"]}
    assert "CLIPEncoderLayer" in found
    assert all(parameter.ndim > 0 for parameter in model.parameters()), "FSDP and DeepSpeed refuse them"


# ---- Refusals ----


def process(world_size, n_gpu=1, **values):
    return types.SimpleNamespace(world_size=world_size, n_gpu=n_gpu, deepspeed=None, fsdp=None, **values)


@pytest.fixture
def alone(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_processes_that_would_never_meet_are_refused(alone):
    check_launch(process(1))
    alone.setenv("WORLD_SIZE", "2")
    check_launch(process(2))
    with pytest.raises(ValueError, match=r"2 processes were started .* trains with 1.*--use_cpu true"):
        check_launch(process(1))


@pytest.mark.parametrize("make", [kd.DistillationTrainingArguments, kd.LlavaTrainingArguments])
def test_one_process_on_several_gpus_is_refused(make, alone, tmp_path):
    """The Trainer would wrap the model into `nn.DataParallel`."""
    check_launch(process(1)), check_launch(process(1, n_gpu=0))
    alone.setattr(make, "n_gpu", 2)
    fix = r"accelerate launch --config_file accelerate_configs/multi_gpu\.yaml SCRIPT.*`CUDA_VISIBLE_DEVICES=0`"
    with pytest.raises(ValueError, match=f"one process sees 2 GPUs.*{fix}"):
        make(str(tmp_path), use_cpu=True)


def test_processes_that_share_their_pairs_are_refused(alone):
    alone.setenv("ACCELERATE_USE_PARALLELISM_CONFIG", "true")
    with pytest.raises(ValueError, match="count several times.*of its own.*accelerate_configs"):
        check_launch(process(1))


@pytest.mark.parametrize("make", [kd.DistillationTrainingArguments, kd.LlavaTrainingArguments])
def test_float16_is_refused_where_the_device_does_not_have_it(make, alone, tmp_path):
    alone.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="`fp16=True` with no GPU: .*float32.*Pass `--bf16 true --use_cpu true`"):
        make(str(tmp_path), fp16=True)
    alone.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ValueError, match="`mixed_precision: fp16` from the launcher with `use_cpu=True`"):
        make(str(tmp_path), use_cpu=True)


def test_float16_is_taken_where_the_device_has_it():
    gpu = types.SimpleNamespace(type="cuda")
    check_precision(process(1, mixed_precision="fp16", fp16=True, use_cpu=False, device=gpu))


@pytest.mark.parametrize(
    ("instructions", "slow"),
    [({"avx2": True, "avx512_bf16": False}, True), ({"amx_bf16": True}, False), ({"sve_bf16": True}, False)],
    ids=["without", "x86", "arm"],
)
def test_bfloat16_on_a_cpu_without_instructions_for_it_is_told(instructions, slow, alone, tmp_path, caplog):
    alone.setattr("torch.cpu.get_capabilities", lambda: instructions)
    make_args(tmp_path, use_cpu=True)
    assert not caplog.records
    make_args(tmp_path, use_cpu=True, bf16=True)
    told = "`bf16=True` on a CPU without instructions for it (amx_bf16, avx512_bf16" in caplog.text
    assert told == slow and ("Pass `--bf16 false`" in caplog.text) == slow


def test_one_process_in_the_place_of_several_is_refused(alone, tmp_path):
    # accelerate's `distributed_type: MULTI_CPU` leaves this behind without MPI.
    alone.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(ValueError, match=r"MASTER_ADDR=127.0.0.1 .* RANK.* is not set.*torchrun"):
        make_args(tmp_path)
    alone.setenv("RANK", "0")
    check_launch(process(1))


@pytest.mark.parametrize(
    ("argument", "variable", "fix"),
    [
        ("deepspeed", "ACCELERATE_USE_DEEPSPEED", "unset ACCELERATE_USE_CPU"),
        ("fsdp", "ACCELERATE_USE_FSDP", "It needs GPUs"),
    ],
)
def test_an_engine_that_was_asked_for_and_is_not_there_is_refused(alone, argument, variable, fix):
    plain, engine = (
        types.SimpleNamespace(distributed_type=made)
        for made in (DistributedType.MULTI_CPU, DistributedType[argument.upper()])
    )
    check_engine(process(2), plain)
    asked = process(2)
    setattr(asked, argument, {"some": "config"})
    check_engine(asked, engine)
    with pytest.raises(ValueError, match=rf"{argument}.*made MULTI_CPU of it.*{fix}"):
        check_engine(asked, plain)
    alone.setenv(variable, "true")
    with pytest.raises(ValueError, match=fix):
        check_engine(process(2), plain)


def test_a_teacher_without_blocks_is_not_shared_out(monkeypatch):
    from hf_clip_kd.distillation import teacher_sharding
    from hf_clip_kd.losses.features import CLIPDims
    from hf_clip_kd.teachers import FunctionTeacher

    monkeypatch.setattr(teacher_sharding, "world_size", lambda: 2)
    teacher = FunctionTeacher(
        lambda pixel_values: {"image_embeds": pixel_values.mean((2, 3))},
        processor=types.SimpleNamespace(image_processor=object()),
        dims=CLIPDims(3, has_text=False),
    )
    with pytest.raises(ValueError, match="no weights to share out.*Leave `teacher_sharded` out"):
        teacher_sharding.shard_teacher(teacher)


def test_a_wrong_answer_of_the_shared_out_teacher_is_found(monkeypatch):
    from miniature import Teacher

    from hf_clip_kd.distillation import teacher_sharding

    monkeypatch.setattr(teacher_sharding, "world_size", lambda: 2)
    cut = []
    monkeypatch.setattr(teacher_sharding, "shard_", cut.append)
    inputs = {"pixel_values": torch.randn(3, 3, 16, 16), "input_ids": torch.tensor([[3, 4, 39]] * 3)}
    right, wrong = (Teacher(make_clip()) for _ in range(2))
    for teacher in (right, wrong):
        teacher_sharding.shard_teacher(teacher)
    assert len(cut) == 8, "each of two layers of two towers, twice"
    right(**inputs), right(**inputs)
    wrong.model.text_projection.weight.data *= 2
    with pytest.raises(RuntimeError, match=r"`text_embeds` of the first batch are wrong.*At most 0.05 is rounding"):
        wrong(**inputs)


# ---- Real launches ----

RECIPES = {
    "distill.py": {
        "model_name_or_path": "test-vit",
        "teacher_recipe": "null",
        "losses": '{"clip": 1, "fd": 1}',
        "max_train_samples": "64",
    },
    "train_vlm.py": {
        "vision_tower": "test-vit",
        "beside": "null",
        "normalize_features": "false",
        "feature_cache": "null",
        "language_model_recipe": "null",
        "max_train_samples": "32",
    },
}
COMMON = {"evaluation": "null", "max_steps": "2", "logging_steps": "1", "learning_rate": "1e-3", "use_cpu": "true"}
PROCESSES = {name: 1 if name in ("cpu", "single_gpu") else 2 for name in NAMES}


def start(config, recipe, folder, processes, *flags):
    """`accelerate launch` as a user types it, on as many processes as this machine has room for."""
    settings = RECIPES[recipe] | COMMON | {"per_device_train_batch_size": str(8 // processes)}
    settings |= {"output_dir": str(folder / "run"), "save_strategy": "no", "report_to": "none"}
    if recipe == "train_vlm.py":
        settings |= {"language_model": str(folder / "language_model")}
    else:
        settings |= {"teacher_model_name_or_path": str(folder / "teacher")}
    arguments = [word for name, value in settings.items() for word in (f"--{name}", value)]
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS[config]), *flags]
    command += ["--num_processes", str(processes), str(root / "recipes" / recipe), *arguments]
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "FSDP_"))}
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        command, env=keep | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    try:
        return process.communicate(timeout=500)[1]
    finally:
        process.kill()


def losses(folder):
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


@pytest.fixture(scope="module")
def on_one_process(tmp_path_factory):
    found = {}
    for recipe in RECIPES:
        folder = prepared(tmp_path_factory.mktemp("cpu"))
        process = start("cpu", recipe, folder, 1)
        said = finish(process)
        assert process.returncode == 0, said
        found[recipe] = losses(folder)
    return found


def prepared(folder):
    parts = {"language_model": language_model("qwen2"), "teacher": kd.load_clip("test-vit")}
    for name, (model, processor) in parts.items():
        model.save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("config", sorted(NAMES - {"cpu"}))
def test_each_file_starts_both_recipes(config, recipe, on_one_process, tmp_path):
    prepared(tmp_path)
    if config == "two_nodes":  # both of them here
        port = ["--main_process_ip", "127.0.0.1", "--main_process_port", str(free_port())]
        nodes = [start(config, recipe, tmp_path, 2, "--machine_rank", str(rank), *port) for rank in range(2)]
        said = [finish(process) for process in nodes]
        codes = [process.returncode for process in nodes]
    else:
        process = start(config, recipe, tmp_path, PROCESSES[config], "--main_process_port", "0")
        said, codes = [finish(process)], [process.returncode]
    if config == "fsdp2":
        assert codes != [0] and "FSDP was asked for" in said[0] and "It needs GPUs" in said[0]
        return
    assert not any(codes), said
    assert len(losses(tmp_path)) == 2
    if recipe == "distill.py":  # its processes share out the samples of a step that one process has
        assert losses(tmp_path) == pytest.approx(on_one_process[recipe], rel=1e-5)
