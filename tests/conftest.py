"""Every test runs offline, seeded and with caches of its own."""

import os
import tempfile

# Read by the libraries when they are imported, so set before pytest imports any test.
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HOME": tempfile.mkdtemp(prefix="hf_clip_kd_tests_"),
    "TOKENIZERS_PARALLELISM": "false",
}
# The cores are shared with pytest-xdist's other workers: more threads than cores are many times slower.
workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
os.environ.setdefault("OMP_NUM_THREADS", str(min(2, max(1, (os.cpu_count() or 1) // workers))))

import random  # noqa: E402
import shutil  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_unconfigure():
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_caches(tmp_path_factory, monkeypatch):
    """Empty caches for the test and for the processes it starts."""
    home = tmp_path_factory.mktemp("hf_home")
    for name, folder in {
        "HF_HOME": home,
        "HF_HUB_CACHE": home / "hub",
        "HF_DATASETS_CACHE": home / "datasets",
        "HF_MODULES_CACHE": home / "modules",
        "TORCH_HOME": home / "torch",
    }.items():
        monkeypatch.setenv(name, str(folder))
    if "datasets" in sys.modules:
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(home / "datasets"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A connection that leaves this machine fails the test, also where a library would swallow the error."""
    connect = socket.socket.connect

    def local_only(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            pytest.fail(f"A test tried to reach {address}.")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
