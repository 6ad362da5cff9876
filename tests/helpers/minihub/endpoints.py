"""Endpoints of the Hub: each is a function of the hub, the request and the parts of its path."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from .cards import card_errors, front_matter
from .repos import LFS_NAMES, File, Reply, Repo, entry, is_lfs, refusal

if TYPE_CHECKING:
    from .hub import MiniHub

PREFIX = {"model": "", "dataset": "datasets/", "space": "spaces/"}


def agent_harnesses(hub: MiniHub, request):
    return {"standardEnvVars": [], "harnesses": {}}


def whoami(hub: MiniHub, request):
    user = hub.user(request)
    orgs = [{"type": "org", "name": name, "roleInOrg": "write"} for name in user["orgs"]]
    access = {"type": "access_token", "accessToken": {"displayName": "test", "role": user["role"]}}
    return {"type": "user", "id": user["name"], "name": user["name"], "orgs": orgs, "auth": access}


def create_repo(hub: MiniHub, request):
    user, wish = hub.user(request), request.json()
    type, namespace = wish.get("type") or "model", wish.get("organization") or user["name"]
    if user["role"] != "write" or namespace not in (user["name"], *user["orgs"]):
        raise refusal(403, f'You don\'t have the rights to create a {type} under the namespace "{namespace}".')
    id = f"{namespace}/{wish['name']}"
    found = {"url": f"{hub.url}/{PREFIX[type]}{id}", "name": id}
    if (type, id) in hub.repos:
        raise Reply(409, {"error": f"You already created this {type} repo", **found})
    repo = hub.repos[type, id] = Repo(type, id, wish.get("visibility") == "private")
    attributes = "".join(f"{name} filter=lfs diff=lfs merge=lfs -text\n" for name in LFS_NAMES)
    repo.commit("main", {".gitattributes": File(attributes.encode(), lfs=False)}, "initial commit")
    return found


def auth_check(hub: MiniHub, request, type, id, write):
    hub.repo(request, type, id, write=bool(write))
    return {}


def validate_yaml(hub: MiniHub, request):
    errors, warnings = card_errors(request.json()["content"])
    as_messages = {"errors": errors, "warnings": warnings}
    raise Reply(400 if errors else 200, {key: [{"message": m} for m in ms] for key, ms in as_messages.items()})


def repo_info(hub: MiniHub, request, type, id, revision):
    repo = hub.repo(request, type, id)
    commit = hub.at(repo, revision or "main")
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


def tree(hub: MiniHub, request, type, id, revision, root):
    commit = hub.at(hub.repo(request, type, id), revision)
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


def paths_info(hub: MiniHub, request, type, id, revision):
    files = hub.at(hub.repo(request, type, id), revision).files
    form = parse_qs(request.body.decode())
    return [entry(path, files[path]) for path in form.get("paths", []) if path in files]


def refs(hub: MiniHub, request, type, id):
    repo = hub.repo(request, type, id)
    lists = {"branches": ("heads", repo.branches), "tags": ("tags", repo.tags)}
    return {"converts": [], "pullRequests": []} | {
        key: [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in table.items()]
        for key, (kind, table) in lists.items()
    }


def commits(hub: MiniHub, request, type, id, revision):
    repo = hub.repo(request, type, id)
    hub.at(repo, revision)
    date = "2026-01-01T00:00:00.000Z"
    return [
        {"id": commit.oid, "title": commit.title, "message": "", "date": date, "authors": []}
        for commit in repo.history(revision)
    ]


def reference(hub: MiniHub, request, type, id, kind, name):
    repo, wish = hub.repo(request, type, id, write=True), request.json()
    table = repo.branches if kind == "branch" else repo.tags
    target, start = (name, wish.get("startingPoint", "main")) if kind == "branch" else (wish["tag"], name)
    if target in table:
        raise refusal(409, f"Reference already exists: {target}")
    table[target] = hub.at(repo, start).oid
    return {}


def preupload(hub: MiniHub, request, type, id, revision):
    commit = hub.at(hub.repo(request, type, id, write=True), revision)
    answers = []
    for file in request.json()["files"]:
        lfs = is_lfs(file["path"], base64.b64decode(file.get("sample", "")), file["size"])
        old = commit.files.get(file["path"])
        mode = {"uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, "oid": old.etag if old else None}
        answers.append({"path": file["path"], **mode})
    return {"files": answers, "commitOid": commit.oid}


def commit(hub: MiniHub, request, type, id, revision):
    repo = hub.repo(request, type, id, write=True)
    lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    base = hub.at(repo, revision)
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
            if len(hub.stored.get(value["oid"], b"")) != value["size"]:
                raise refusal(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
            files[value["path"]] = File(hub.stored[value["oid"]], lfs=True)
        elif key == "deletedFile":
            del files[value["path"]]
    oid = repo.commit(revision, files, header["summary"]).oid
    return {"success": True, "commitOid": oid, "commitUrl": f"{hub.url}/{PREFIX[type]}{id}/commit/{oid}"}


def lfs_batch(hub: MiniHub, request, prefix, id):
    hub.repo(request, kind_of(prefix), id, write=True)
    objects = []
    for wanted in request.json()["objects"]:
        upload = {"href": f"{hub.bucket}/lfs/{wanted['oid']}", "header": {}}
        actions = {"actions": {"upload": upload, "verify": {"href": f"{hub.url}/lfs-verify"}}}
        there = wanted["oid"] in hub.stored
        objects.append({"oid": wanted["oid"], "size": wanted["size"], **({} if there else actions)})
    return {"transfer": "basic", "objects": objects}


def lfs_put(hub: MiniHub, request, oid):
    if request.headers.get("Authorization"):
        raise refusal(400, "Only one auth mechanism allowed")
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise refusal(400, "sha256 mismatch")
    hub.stored[oid] = request.body
    raise Reply(200, b"", {"ETag": f'"{oid}"'})


def lfs_verify(hub: MiniHub, request):
    hub.user(request)
    wanted = request.json()
    if len(hub.stored.get(wanted["oid"], b"")) != wanted["size"]:
        raise refusal(404, "Object not found in storage")
    return {}


def lfs_get(hub: MiniHub, request, oid):
    if request.headers.get("Authorization"):
        raise refusal(400, "Only one auth mechanism allowed")
    raise content(request, hub.stored[oid], {"ETag": f'"{oid}"'})


def resolve(hub: MiniHub, request, prefix, id, revision, path):
    commit = hub.at(hub.repo(request, kind_of(prefix), id), revision)
    head = {"X-Repo-Commit": commit.oid}
    if (file := commit.files.get(path)) is None:
        raise refusal(404, "Entry not found", "EntryNotFound", **head)
    head["ETag"] = f'"{file.etag}"'
    if not file.lfs:
        raise content(request, file.data, head)
    head |= {"X-Linked-Etag": head["ETag"], "X-Linked-Size": str(len(file.data))}
    raise Reply(302, b"", head | {"Location": f"{hub.bucket}/lfs/{file.sha256}"})


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


_REPO = r"/api/(model|dataset|space)s/([^/]+/[^/]+)"
_FILES = r"/((?:datasets|spaces)/)?([^/]+/[^/]+)"
ROUTES: list[tuple[str, re.Pattern, Callable]] = [
    (methods, re.compile(path), endpoint)
    for methods, path, endpoint in [
        ("GET", r"/api/agent-harnesses", agent_harnesses),
        ("GET", r"/api/whoami-v2", whoami),
        ("POST", r"/api/repos/create", create_repo),
        ("POST", r"/api/validate-yaml", validate_yaml),
        ("GET", _REPO + r"(?:/revision/([^/]+))?", repo_info),
        ("GET", _REPO + r"/auth-check(/write)?", auth_check),
        ("GET", _REPO + r"/tree/([^/]+)(?:/(.+))?", tree),
        ("POST", _REPO + r"/paths-info/([^/]+)", paths_info),
        ("GET", _REPO + r"/refs", refs),
        ("GET", _REPO + r"/commits/([^/]+)", commits),
        ("POST", _REPO + r"/(branch|tag)/([^/]+)", reference),
        ("POST", _REPO + r"/preupload/([^/]+)", preupload),
        ("POST", _REPO + r"/commit/([^/]+)", commit),
        ("POST", _FILES + r"\.git/info/lfs/objects/batch", lfs_batch),
        ("PUT", r"/lfs/([0-9a-f]{64})", lfs_put),
        ("POST", r"/lfs-verify", lfs_verify),
        ("GET HEAD", r"/lfs/([0-9a-f]{64})", lfs_get),
        ("GET HEAD", _FILES + r"/resolve/([^/]+)/(.+)", resolve),
    ]
]
