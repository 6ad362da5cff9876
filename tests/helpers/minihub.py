"""Hub on loopback for the real huggingface_hub client: commits, LFS, downloads, and failures on request.

It approximates the public Hub. Its error texts, its choice of LFS files and its rules for cards are not equal.
Large files use only git-LFS (the client's `HF_HUB_DISABLE_XET=1`), from another host name, like a storage bucket. Set
`HF_ENDPOINT` to its `url` before anything imports huggingface_hub.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LFS_NAMES = ("*.safetensors", "*.onnx", "*.bin", "*.pt", "*.parquet", "*.arrow", "*.npy", "*.zip", "*.tar", "*.gz")
LFS_SIZE = 10 * 2**20
LICENSES = {
    "apache-2.0",
    "mit",
    "bsd-3-clause",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "apple-amlr",
    "openrail",
    "other",
    "unknown",
}
PREFIX = {"model": "", "dataset": "datasets/", "space": "spaces/"}


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


@dataclass
class Failure:
    """Failure of requests, in place of an answer or before it. See [`MiniHub.fail`]."""

    method: str
    path: str
    status: int | None = None
    message: str = "scripted failure"
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    skip: int = 0
    delay: float = 0.0
    cut_request: int | None = None
    cut_response: int | None = None
    reset: bool = True
    met: int = 0

    def hits(self, method: str, path: str) -> bool:
        if self.method != method or not re.search(self.path, path):
            return False
        self.met += 1
        return self.skip < self.met <= self.skip + self.times


class MiniHub:
    """Users, repositories and a log of all requests, served on a free port."""

    def __init__(self):
        self.lock = threading.RLock()
        self.users: dict[str, dict] = {}
        self.server: _Server | None = None
        self.reset()

    # ---- Methods for tests ----

    def start(self) -> MiniHub:
        self.server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def reset(self) -> None:
        """Forget all but the users and the port."""
        self.repos: dict[tuple[str, str], Repo] = {}
        self.stored: dict[str, bytes] = {}
        self.failures: list[Failure] = []
        self.log: list[dict] = []
        self.unknown: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def bucket(self) -> str:
        """Another origin than `url`, so that the client must not send its token there."""
        return f"http://localhost:{self.server.server_address[1]}"

    def add_user(self, name: str, token: str, role: str = "write", orgs: tuple[str, ...] = ()) -> None:
        self.users[token] = {"name": name, "role": role, "orgs": orgs}

    def seed(self, repo_id: str, files: dict[str, bytes], type: str = "model", private: bool = False) -> Repo:
        """A repository, or one more commit, without the client."""
        repo = self.repos.setdefault((type, repo_id), Repo(type, repo_id, private))
        old = repo.find("main").files if "main" in repo.branches else {}
        repo.commit(
            "main", old | {path: File(data, is_lfs(path, data, len(data))) for path, data in files.items()}, "seed"
        )
        self.stored |= {file.sha256: file.data for file in repo.find("main").files.values() if file.lfs}
        return repo

    def fail(self, method: str, path: str, **how) -> Failure:
        """
        Script a failure of the next requests with this `method`, and with the regular expression `path` in their path.

        Args:
            status, message, headers: Answer this instead.
            cut_request, cut_response (`int`): Drop the connection after so many bytes of the body.
            reset (`bool`, defaults to `True`): Drop it by a reset (RST); else it is closed (FIN).
            delay (`float`): Wait so many seconds first. The answer is then the right one, unless the above change it.
            times (`int`, defaults to `1`): Number of failing requests.
            skip (`int`, defaults to `0`): Number of good requests before them.
        """
        self.failures.append(Failure(method, path, **how))
        return self.failures[-1]

    def files(self, repo_id: str, revision: str = "main", type: str = "model") -> dict[str, bytes]:
        return {path: file.data for path, file in self.repos[type, repo_id].find(revision).files.items()}

    def titles(self, repo_id: str, revision: str = "main", type: str = "model") -> list[str]:
        """Return the titles of all commits, from the newest, without the first, which made the repository."""
        return [commit.title for commit in self.repos[type, repo_id].history(revision)][:-1]

    def calls(self, method: str, path: str) -> list[dict]:
        return [call for call in self.log if call["method"] == method and re.search(path, call["path"])]

    # ---- Rights ----

    def who(self, request) -> dict | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.users:
            raise refusal(401, "Invalid credentials in Authorization header", **{"WWW-Authenticate": "Bearer"})
        return self.users.get(token)

    def user(self, request) -> dict:
        if (user := self.who(request)) is None:
            raise refusal(401, "Invalid username or password.")
        return user

    def repo(self, request, type: str, id: str, write: bool = False) -> Repo:
        user, repo, namespace = self.who(request), self.repos.get((type, id)), id.split("/")[0]
        member = user is not None and namespace in (user["name"], *user["orgs"])
        if repo is None or (repo.private and not member):
            raise refusal(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and not (member and self.user(request)["role"] == "write"):
            raise refusal(403, "Forbidden: you must use a write token to upload to a repository.")
        return repo

    def at(self, repo: Repo, revision: str) -> Commit:
        if (commit := repo.find(revision)) is None:
            raise refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    # ---- Endpoints ----

    def agent_harnesses(self, request):
        return {"standardEnvVars": [], "harnesses": {}}

    def whoami(self, request):
        user = self.user(request)
        orgs = [{"type": "org", "name": name, "roleInOrg": "write"} for name in user["orgs"]]
        access = {"type": "access_token", "accessToken": {"displayName": "test", "role": user["role"]}}
        return {"type": "user", "id": user["name"], "name": user["name"], "orgs": orgs, "auth": access}

    def create_repo(self, request):
        user, wish = self.user(request), request.json()
        type, namespace = wish.get("type") or "model", wish.get("organization") or user["name"]
        if user["role"] != "write" or namespace not in (user["name"], *user["orgs"]):
            raise refusal(403, f'You don\'t have the rights to create a {type} under the namespace "{namespace}".')
        id = f"{namespace}/{wish['name']}"
        found = {"url": f"{self.url}/{PREFIX[type]}{id}", "name": id}
        if (type, id) in self.repos:
            raise Reply(409, {"error": f"You already created this {type} repo", **found})
        repo = self.repos[type, id] = Repo(type, id, wish.get("visibility") == "private")
        attributes = "".join(f"{name} filter=lfs diff=lfs merge=lfs -text\n" for name in LFS_NAMES)
        repo.commit("main", {".gitattributes": File(attributes.encode(), lfs=False)}, "initial commit")
        return found

    def auth_check(self, request, type, id, write):
        self.repo(request, type, id, write=bool(write))
        return {}

    def validate_yaml(self, request):
        errors, warnings = card_errors(request.json()["content"])
        as_messages = {"errors": errors, "warnings": warnings}
        raise Reply(400 if errors else 200, {key: [{"message": m} for m in ms] for key, ms in as_messages.items()})

    def repo_info(self, request, type, id, revision):
        repo = self.repo(request, type, id)
        commit = self.at(repo, revision or "main")
        siblings = [
            {"rfilename": path, "size": len(file.data), "blobId": file.git, **file.lfs_info("sha256")}
            for path, file in sorted(commit.files.items())
        ]
        readme = commit.files.get("README.md")
        card = front_matter(readme.data.decode()) if readme else {}
        return {
            "id": id,
            "sha": commit.oid,
            "private": repo.private,
            "author": id.split("/")[0],
            "siblings": siblings,
            "cardData": card,
            "tags": list(card.get("tags") or []),
            "pipeline_tag": card.get("pipeline_tag"),
            "library_name": card.get("library_name"),
        }

    def tree(self, request, type, id, revision, root):
        commit = self.at(self.repo(request, type, id), revision)
        recursive = request.query.get("recursive", ["false"])[0].lower() == "true"
        start = f"{root}/" if root else ""
        found: dict[str, dict] = {}
        for path, file in sorted(commit.files.items()):
            if path.startswith(start):
                folders = path.removeprefix(start).split("/")[:-1]
                for i in range(len(folders) if recursive else min(1, len(folders))):
                    folder = start + "/".join(folders[: i + 1])
                    found[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
                if recursive or not folders:
                    found[path] = entry(path, file)
        if root and not found:
            raise refusal(404, f'"{root}" does not exist on "{commit.oid}"', "EntryNotFound")
        return list(found.values())

    def paths_info(self, request, type, id, revision):
        files = self.at(self.repo(request, type, id), revision).files
        form = parse_qs(request.body.decode())
        return [entry(path, files[path]) for path in form.get("paths", []) if path in files]

    def refs(self, request, type, id):
        repo = self.repo(request, type, id)
        lists = {"branches": ("heads", repo.branches), "tags": ("tags", repo.tags)}
        return {"converts": [], "pullRequests": []} | {
            key: [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in table.items()]
            for key, (kind, table) in lists.items()
        }

    def commits(self, request, type, id, revision):
        repo = self.repo(request, type, id)
        self.at(repo, revision)
        date = "2026-01-01T00:00:00.000Z"
        return [
            {"id": commit.oid, "title": commit.title, "message": "", "date": date, "authors": []}
            for commit in repo.history(revision)
        ]

    def reference(self, request, type, id, kind, name):
        repo, wish = self.repo(request, type, id, write=True), request.json()
        table = repo.branches if kind == "branch" else repo.tags
        target, start = (name, wish.get("startingPoint", "main")) if kind == "branch" else (wish["tag"], name)
        if target in table:
            raise refusal(409, f"Reference already exists: {target}")
        table[target] = self.at(repo, start).oid
        return {}

    def preupload(self, request, type, id, revision):
        commit = self.at(self.repo(request, type, id, write=True), revision)
        answers = []
        for file in request.json()["files"]:
            lfs = is_lfs(file["path"], base64.b64decode(file.get("sample", "")), file["size"])
            old = commit.files.get(file["path"])
            mode = {"uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, "oid": old.etag if old else None}
            answers.append({"path": file["path"], **mode})
        return {"files": answers, "commitOid": commit.oid}

    def commit(self, request, type, id, revision):
        repo = self.repo(request, type, id, write=True)
        lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        base = self.at(repo, revision)
        if revision not in repo.branches:
            raise refusal(400, f"{revision} is not a branch")
        if header.get("parentCommit") not in (None, base.oid):
            raise refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(base.files)
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), lfs=False)
            elif key == "lfsFile":
                if len(self.stored.get(value["oid"], b"")) != value["size"]:
                    raise refusal(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
                files[value["path"]] = File(self.stored[value["oid"]], lfs=True)
            elif key == "deletedFile":
                del files[value["path"]]
        oid = repo.commit(revision, files, header["summary"]).oid
        return {"success": True, "commitOid": oid, "commitUrl": f"{self.url}/{PREFIX[type]}{id}/commit/{oid}"}

    def lfs_batch(self, request, prefix, id):
        self.repo(request, kind_of(prefix), id, write=True)
        objects = []
        for wanted in request.json()["objects"]:
            upload = {"href": f"{self.bucket}/lfs/{wanted['oid']}", "header": {}}
            actions = {"actions": {"upload": upload, "verify": {"href": f"{self.url}/lfs-verify"}}}
            there = wanted["oid"] in self.stored
            objects.append({"oid": wanted["oid"], "size": wanted["size"], **({} if there else actions)})
        return {"transfer": "basic", "objects": objects}

    def lfs_put(self, request, oid):
        if request.headers.get("Authorization"):
            raise refusal(400, "Only one auth mechanism allowed")
        if hashlib.sha256(request.body).hexdigest() != oid:
            raise refusal(400, "sha256 mismatch")
        self.stored[oid] = request.body
        raise Reply(200, b"", {"ETag": f'"{oid}"'})

    def lfs_verify(self, request):
        self.user(request)
        wanted = request.json()
        if len(self.stored.get(wanted["oid"], b"")) != wanted["size"]:
            raise refusal(404, "Object not found in storage")
        return {}

    def lfs_get(self, request, oid):
        if request.headers.get("Authorization"):
            raise refusal(400, "Only one auth mechanism allowed")
        raise content(request, self.stored[oid], {"ETag": f'"{oid}"'})

    def resolve(self, request, prefix, id, revision, path):
        commit = self.at(self.repo(request, kind_of(prefix), id), revision)
        head = {"X-Repo-Commit": commit.oid}
        if (file := commit.files.get(path)) is None:
            raise refusal(404, "Entry not found", "EntryNotFound", **head)
        head["ETag"] = f'"{file.etag}"'
        if not file.lfs:
            raise content(request, file.data, head)
        head |= {"X-Linked-Etag": head["ETag"], "X-Linked-Size": str(len(file.data))}
        raise Reply(302, b"", head | {"Location": f"{self.bucket}/lfs/{file.sha256}"})


def entry(path: str, file: File) -> dict:
    return {"type": "file", "path": path, "oid": file.git, "size": len(file.data), **file.lfs_info("oid")}


def content(request, data: bytes, headers: dict[str, str]) -> Reply:
    """All of it, or the range that was asked for."""
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if not wanted:
        return Reply(200, data, {"Accept-Ranges": "bytes", **headers})
    first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
    if first > last:
        return Reply(416, b"", {"Content-Range": f"bytes */{len(data)}"})
    return Reply(206, data[first : last + 1], headers | {"Content-Range": f"bytes {first}-{last}/{len(data)}"})


def kind_of(prefix: str) -> str:
    return prefix.rstrip("s/") or "model"


def is_lfs(path: str, sample: bytes, size: int) -> bool:
    name = path.rsplit("/", 1)[-1]
    return any(fnmatch(name, pattern) for pattern in LFS_NAMES) or b"\0" in sample[:512] or size > LFS_SIZE


def front_matter(card: str) -> Any:
    """Read the YAML between the first two lines of three dashes, or return `None` without them."""
    found = re.match(r"\s*---\r?\n(.*?)\r?\n---\s*(?:\n|$)", card, re.S)
    return yaml.safe_load(found[1]) if found else None


def card_errors(card: str) -> tuple[list[str], list[str]]:
    """Errors and warnings of the metadata, by the rules of the Hub that matter here."""
    try:
        metadata = front_matter(card)
    except yaml.YAMLError as error:
        return [f"YAML parse error: {error}"], []
    if not metadata:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(metadata, dict):
        return ["metadata must be a mapping"], []
    errors = []
    licenses = metadata.get("license") or []
    if set([licenses] if isinstance(licenses, str) else licenses) - LICENSES:
        errors.append(f'"license" must be one of {sorted(LICENSES)}')
    tags = metadata.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        errors.append('"tags" must be an array of strings')
    for i, model in enumerate(metadata.get("model-index") or []):
        if not model.get("name"):
            errors.append(f'"model-index[{i}].name" is required')
        for j, result in enumerate(model.get("results") or []):
            missing = [key for key in ("task", "dataset", "metrics") if not result.get(key)]
            errors += [f'"model-index[{i}].results[{j}].{key}" is required' for key in missing]
    return errors, []


_REPO = r"/api/(model|dataset|space)s/([^/]+/[^/]+)"
_FILES = r"/((?:datasets|spaces)/)?([^/]+/[^/]+)"
ROUTES: list[tuple[str, re.Pattern, Callable]] = [
    (methods, re.compile(path), endpoint)
    for methods, path, endpoint in [
        ("GET", r"/api/agent-harnesses", MiniHub.agent_harnesses),
        ("GET", r"/api/whoami-v2", MiniHub.whoami),
        ("POST", r"/api/repos/create", MiniHub.create_repo),
        ("POST", r"/api/validate-yaml", MiniHub.validate_yaml),
        ("GET", _REPO + r"(?:/revision/([^/]+))?", MiniHub.repo_info),
        ("GET", _REPO + r"/auth-check(/write)?", MiniHub.auth_check),
        ("GET", _REPO + r"/tree/([^/]+)(?:/(.+))?", MiniHub.tree),
        ("POST", _REPO + r"/paths-info/([^/]+)", MiniHub.paths_info),
        ("GET", _REPO + r"/refs", MiniHub.refs),
        ("GET", _REPO + r"/commits/([^/]+)", MiniHub.commits),
        ("POST", _REPO + r"/(branch|tag)/([^/]+)", MiniHub.reference),
        ("POST", _REPO + r"/preupload/([^/]+)", MiniHub.preupload),
        ("POST", _REPO + r"/commit/([^/]+)", MiniHub.commit),
        ("POST", _FILES + r"\.git/info/lfs/objects/batch", MiniHub.lfs_batch),
        ("PUT", r"/lfs/([0-9a-f]{64})", MiniHub.lfs_put),
        ("POST", r"/lfs-verify", MiniHub.lfs_verify),
        ("GET HEAD", r"/lfs/([0-9a-f]{64})", MiniHub.lfs_get),
        ("GET HEAD", _FILES + r"/resolve/([^/]+)/(.+)", MiniHub.resolve),
    ]
]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is part of the tests


class _Handler(BaseHTTPRequestHandler):
    hub: MiniHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def json(self) -> dict:
        return json.loads(self.body or b"{}")

    def _read(self, most: int | None = None) -> bytes:
        """The body, sent whole or in chunks, or its first `most` bytes."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            length = int(self.headers.get("Content-Length") or 0)
            return self.rfile.read(length if most is None else min(most, length))
        body = b""
        while (most is None or len(body) < most) and (size := int(self.rfile.readline().split(b";")[0], 16)):
            body += self.rfile.read(size)
            self.rfile.readline()
        if most is None:
            self.rfile.readline()
        return body

    def _drop(self, reset: bool) -> None:
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _handle(self) -> None:
        path, hub = urlsplit(self.path), self.hub
        self.query = parse_qs(path.query, keep_blank_values=True)
        with hub.lock:
            failure = next((failure for failure in hub.failures if failure.hits(self.command, self.path)), None)
        call = {"method": self.command, "path": self.path, "headers": dict(self.headers), "status": "cut"}
        hub.log.append(call)
        if failure:
            time.sleep(failure.delay)
        if failure and failure.cut_request is not None:
            self._read(failure.cut_request)
            return self._drop(failure.reset)
        self.body = self._read()
        if failure and failure.status:
            reply = refusal(failure.status, failure.message, **failure.headers)
        else:
            reply = self._answer(path.path)
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        kind = "application/octet-stream" if isinstance(reply.body, bytes) else "application/json"
        call["status"] = reply.status
        self.send_response(reply.status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "X-Request-Id": f"mini-{len(hub.log)}"}
        for name, value in (headers | reply.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        if failure and failure.cut_response is not None:
            self.wfile.write(body[: failure.cut_response])
            return self._drop(failure.reset)
        self.wfile.write(body)

    def _answer(self, path: str) -> Reply:
        for methods, pattern, endpoint in ROUTES:
            if self.command in methods.split() and (match := pattern.fullmatch(path)):
                try:
                    with self.hub.lock:
                        return Reply(200, endpoint(self.hub, self, *(unquote(part or "") for part in match.groups())))
                except Reply as reply:
                    return reply
                except Exception as error:  # a fault of this file must be loud
                    self.hub.unknown.append(f"{self.command} {self.path}: {error!r}")
                    return refusal(500, f"minihub: {error!r}")
        self.hub.unknown.append(f"{self.command} {self.path}")
        return refusal(404, f"minihub does not know {self.command} {path}")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle
