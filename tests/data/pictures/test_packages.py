"""Packages: fetched once and whole by the clients of Debian and npm, or a sentence that says what to install."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from picture_packages import draw_with_stub, put, write_packages

from hf_clip_kd.data.pictures import fetch
from hf_clip_kd.data.pictures.packages import DEBIAN, NPM


@pytest.fixture
def commands(monkeypatch):
    """Answer for apt-get, dpkg-deb and npm; the list holds their commands."""
    draw_with_stub(monkeypatch)
    called = []

    def run(command, cwd, **_):
        called.append(" ".join(command))
        if command[0] == "apt-get":
            put(Path(cwd, f"{command[-1]}_1%3a0.18_all.deb"), "deb")
        elif command[0] == "dpkg-deb":
            assert Path(cwd, command[2]).read_text() == "deb"
            put(Path(cwd, command[-1], "usr/share/doc/a"), "a")
        else:
            with tarfile.open(Path(cwd, "x-1.tgz"), "w:gz") as tar:
                member = tarfile.TarInfo("package/package.json")
                member.size = 2
                tar.addfile(member, io.BytesIO(b"{}"))
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return called


def test_missing_packages_are_fetched_once(commands, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("new/packages")
    found = fetch(folder)
    assert found == {name: folder / name for name in (*DEBIAN, *NPM)}
    assert commands[:2] == [
        "apt-get download --quiet openclipart-png",
        "dpkg-deb --extract openclipart-png_1%3a0.18_all.deb unpacked",
    ]
    assert commands[-1] == "npm pack --silent fluentui-emoji@1.3.0"
    assert (folder / "openclipart-svg/usr/share/doc/a").is_file() and (folder / "openmoji/package.json").is_file()
    assert {path.name for path in folder.iterdir()} == set(found)
    number = len(commands)
    assert fetch(folder) == found and len(commands) == number


def test_unpacked_packages_need_no_client(monkeypatch, tmp_path):
    draw_with_stub(monkeypatch)
    packages = write_packages(tmp_path)
    monkeypatch.setenv("PATH", "")
    assert fetch(tmp_path) == packages


def test_a_machine_without_a_client_says_what_to_install(monkeypatch, tmp_path):
    draw_with_stub(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ValueError,
        match="openclipart-png cannot be fetched .this machine has no `apt-get`.*npm.*Install it, or unpack",
    ):
        fetch(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("client", "stderr", "cure"),
    [
        ("apt-get", "W: old\nE: Unable to locate package", "Run `apt-get update`, and check the network, or unpack"),
        ("dpkg-deb", "No space left on device", "Make room on the disk, or unpack"),
        ("npm", "npm error network", "Check the network, or unpack"),
    ],
)
def test_a_client_that_fails_is_quoted_with_a_cure(client, stderr, cure, commands, monkeypatch, tmp_path):
    works = subprocess.run

    def run(command, **rest):
        return SimpleNamespace(returncode=100, stderr=stderr) if command[0] == client else works(command, **rest)

    monkeypatch.setattr(subprocess, "run", run)
    last = stderr.splitlines()[-1]
    with pytest.raises(ValueError, match=f"cannot be fetched .{last}.*{cure}"):
        fetch(tmp_path)


def test_modules_are_asked_for_before_anything_is_fetched(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(
        ValueError, match=r"need resvg-py, which is not installed.*pip install 'hf_clip_kd\[pictures\]'"
    ):
        fetch(tmp_path / "new")
    assert not (tmp_path / "new").exists()
