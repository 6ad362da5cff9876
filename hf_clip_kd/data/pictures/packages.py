"""Packages of Debian and npm that hold the pictures. They are unpacked in a folder, and nothing is installed."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)

DEBIAN = (
    "openclipart-png",
    "openclipart-svg",
    "tuxpaint-stamps-default",
    "fonts-noto-color-emoji",
    "gcompris-qt-data",
)
NPM = {"emoji-datasource-twitter": "16.0.0", "openmoji": "17.0.0", "fluentui-emoji": "1.3.0"}
_CURES = {
    "apt-get": "Run `apt-get update`, and check the network",
    "dpkg-deb": "Make room on the disk",
    "npm": "Check the network",
}
_PYTHON = {"fontTools": "fonttools", "resvg_py": "resvg-py"}


def fetch(folder: Path) -> dict[str, Path]:
    """
    Fetch the packages that a folder lacks, by the clients of Debian and npm.

    Args:
        folder (`Path`): Folder with one folder for each package, named as the package, in which its files lie.

    Returns:
        `dict[str, Path]`: the folder of each package by its name.

    Raises:
        ValueError: if a package is missing and cannot be fetched, or a module that reads packages is not installed.
    """
    _check_modules()
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: folder / name for name in (*DEBIAN, *NPM)}
    for name, place in found.items():
        if not place.is_dir():
            logger.info("Fetching the package %s", name)
            # A package appears whole: its folder gets its name in the end.
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                unpack = _unpack_npm if name in NPM else _unpack_debian
                os.replace(unpack(name, Path(temporary), place), place)
    return found


def _check_modules() -> None:
    missing = [package for module, package in _PYTHON.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ValueError(
            f"The pictures need {' and '.join(missing)}, which is not installed. A font and drawings are read with "
            "it. Run `pip install 'hf_clip_kd[pictures]'`."
        )


def _unpack_debian(name: str, folder: Path, place: Path) -> Path:
    _run(["apt-get", "download", "--quiet", name], folder, name, place)
    (file,) = folder.glob("*.deb")
    _run(["dpkg-deb", "--extract", file.name, "unpacked"], folder, name, place)
    return folder / "unpacked"


def _unpack_npm(name: str, folder: Path, place: Path) -> Path:
    _run(["npm", "pack", "--silent", f"{name}@{NPM[name]}"], folder, name, place)
    (file,) = folder.glob("*.tgz")
    with tarfile.open(file) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (inside,) = (folder / "unpacked").iterdir()
    return inside


def _run(command: list[str], folder: Path, name: str, place: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        reason, cure = f"this machine has no `{command[0]}`", "Install it"
    else:
        if done.returncode == 0:
            return
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        cure = _CURES[command[0]]
    raise ValueError(
        f"The package {name} cannot be fetched ({reason}). Packages come from Debian (`apt-get`, `dpkg-deb`) and npm "
        f"(`npm`). {cure}, or unpack the package on another machine into {place}."
    )
