"""Repositories with their commits and files, and the answer that refuses a request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

LFS_NAMES = ("*.safetensors", "*.onnx", "*.bin", "*.pt", "*.parquet", "*.arrow", "*.npy", "*.zip", "*.tar", "*.gz")
LFS_SIZE = 10 * 2**20


class Reply(Exception):
    """An answer; raised wherever a request turns out to be refused."""

    def __init__(self, status: int, body: Any = None, headers: dict[str, str] | None = None):
        self.status, self.body, self.headers = status, body, headers or {}


def refusal(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **headers}
    return Reply(status, {"error": message}, headers)


@dataclass
class File:
    data: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def git(self) -> str:
        """Hash of the blob in git. An LFS file has that of its pointer."""
        data = self.data
        if self.lfs:
            data = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(data)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git

    def lfs_info(self, key: str) -> dict:
        return {"lfs": {key: self.sha256, "size": len(self.data), "pointerSize": 128}} if self.lfs else {}


@dataclass
class Commit:
    oid: str
    parent: str | None
    title: str
    files: dict[str, File]


@dataclass
class Repo:
    type: str
    id: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def find(self, revision: str) -> Commit | None:
        name = revision.removeprefix("refs/heads/")
        return self.commits.get(self.branches.get(name) or self.tags.get(name) or name)

    def commit(self, branch: str, files: dict[str, File], title: str) -> Commit:
        parent = self.branches.get(branch)
        content = [(path, file.git) for path, file in sorted(files.items())]
        oid = hashlib.sha1(repr((parent, title, len(self.commits), content)).encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, title, files)
        self.branches[branch] = oid
        return self.commits[oid]

    def history(self, revision: str = "main") -> list[Commit]:
        """Return the commits from the newest to the first."""
        commit, found = self.find(revision), []
        while commit:
            found.append(commit)
            commit = self.commits.get(commit.parent)
        return found


def entry(path: str, file: File) -> dict:
    return {"type": "file", "path": path, "oid": file.git, "size": len(file.data), **file.lfs_info("oid")}


def is_lfs(path: str, sample: bytes, size: int) -> bool:
    name = path.rsplit("/", 1)[-1]
    return any(fnmatch(name, pattern) for pattern in LFS_NAMES) or b"\0" in sample[:512] or size > LFS_SIZE
