"""Two processes train a LLaVA as one does, also where one of them has a batch without any image."""

import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_vlm_trainer import losses, make_model, make_rows, make_trainer

LAUNCH_SECONDS = 120
# In both steps the first process sees images and the second one none.
TEXT_ONLY = (4, 5, 6, 7, 12, 13, 14, 15)


def make_run(folder, batch_size):
    model, processor = make_model()
    return make_trainer(
        folder,
        model,
        processor,
        dataset=make_rows(16, TEXT_ONLY),
        max_steps=2,
        per_device_train_batch_size=batch_size,
        group_by_modality_length=False,
        train_sampling_strategy="sequential",
        optim="sgd",  # AdamW would magnify rounding errors of small gradients
        learning_rate=0.1,
        ddp_find_unused_parameters=False,  # a parameter without gradient is an error, as it is a hang under ZeRO-3
    )


def worker(rank, port, folder):
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    run = make_run(f"{folder}/run", batch_size=4)
    run.train()
    torch.save({"state": run.model.state_dict(), "losses": losses(run)}, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads abort now and then while the interpreter shuts down; the result file is what counts


def test_a_batch_without_images_on_one_process(tmp_path):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    context = mp.spawn(worker, (port, str(tmp_path)), nprocs=2, join=False)
    context.join(timeout=LAUNCH_SECONDS)
    for process in context.processes:
        process.join(LAUNCH_SECONDS)
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]

    single = make_run(tmp_path / "single", batch_size=8)
    before = {name: value.clone() for name, value in single.model.state_dict().items()}
    single.train()
    assert results[0]["losses"] == pytest.approx(losses(single), rel=1e-5)
    for name, value in single.model.state_dict().items():
        for result in results:
            torch.testing.assert_close(result["state"][name], value, rtol=1e-5, atol=1e-6, msg=name)
    moved = {name for name, value in single.model.state_dict().items() if not torch.equal(value, before[name])}
    assert any("projector" in name for name in moved) and any("language_model" in name for name in moved)
