"""Users, repositories and their rights, and what tests ask of a hub."""

from __future__ import annotations

import re
import threading

from .repos import Commit, File, Repo, is_lfs, refusal
from .server import Failure, Handler, Server


class MiniHub:
    """Users, repositories and a log of all requests, served on a free port."""

    def __init__(self):
        self.lock = threading.RLock()
        self.users: dict[str, dict] = {}
        self.server: Server | None = None
        self.reset()

    # ---- Methods for tests ----

    def start(self) -> MiniHub:
        self.server = Server(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
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
