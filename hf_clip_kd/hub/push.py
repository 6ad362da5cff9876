"""Put a folder on the Hub in one commit; what can go wrong is told before training, or with the command that finishes it."""

from __future__ import annotations

import fnmatch
import logging
import re
import shlex
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, RepoUrl, get_token
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import validate_repo_id

logger = logging.getLogger(__name__)
# The client's HTTP library logs each address, and those that large files are sent to are signed: who has one may
# write.
logging.getLogger("httpx2").setLevel(logging.WARNING)

# Kinds of files that others can use; pickles, logs and states of an optimizer are not among them.
PUBLIC = (".json", ".safetensors", ".md", ".yaml", ".jinja", ".txt", ".model", ".py", ".onnx", ".data", ".png")
# What belongs to the run and not to its result: `losses.safetensors` (heads, learned scales), the average and
# `trainer_state.json` serve to go on training here, a bad batch to find out why, and a benchmark's `samples` are its
# owner's.
PRIVATE = (
    ".*",
    "_*",
    "checkpoint-*",
    "torn-checkpoint-*",
    "non_finite",
    "adapter",
    "runs",
    "samples",
    "submissions",
    "losses.safetensors",
    "ema*.safetensors",
    "trainer_state.json",
)
BINARY = (".safetensors", ".onnx", ".data", ".png")
SECRET = re.compile(rb"\bhf_[A-Za-z0-9]{30,}")
CACHE = "cache.json"


class PushError(ValueError):
    """A push that failed. The folder is as it was; the message has the reason, and the command that finishes the push.

    A `ValueError`, so that a recipe ends with this message in place of a traceback.
    """


def check_push(
    repo_id: str,
    *,
    repo_type: str = "model",
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """
    Make the repository, and the branch, so that nobody learns after days of training that they may not.

    Args:
        repo_id (`str`): `"namespace/name"`, or `"name"` in one's own namespace.
        repo_type (`str`, *optional*, defaults to `"model"`): Or `"dataset"`.
        private (`bool`, *optional*): Of a new repository; without it, what the namespace has as its default.
        revision (`str`, *optional*): A branch, made where `main` is if it does not exist.
        token (`str`, *optional*): By default that of `HF_TOKEN` or `hf auth login`. It enters no message.

    Returns:
        `str`: The whole id, with the namespace.

    Raises:
        ValueError: In one line: there is no token or a wrong one, no such name is allowed, there is no right to write,
            the Hub cannot be reached, or the repository is public and shall be private.
    """
    token = token or get_token()
    # Of any other the HTTP library would complain in its own way, and show it.
    if token is None or not re.fullmatch(r"[!-~]+", token):
        found = "there is no token" if token is None else "the token holds a space or an odd letter"
        raise ValueError(
            f"Nothing can be pushed to {repo_id!r}: {found}. A token with the right to write must be at hand. Run "
            "`hf auth login`, or set HF_TOKEN."
        )
    try:
        api = HfApi(token=token)
        # Asked first, a wrong token is told as such; anywhere else the answer speaks of the repository.
        api.whoami()
        return _open(api, repo_id, repo_type, private, revision).repo_id
    # The client fails with errors of six unrelated families, its HTTP library's among them; each is "it cannot be
    # pushed".
    except Exception as error:
        # No `from error`: its text is not ours, and may hold the token.
        raise ValueError(
            f"Nothing can be pushed to {repo_id!r}: {_reason(error, token)}. Pushing takes a token that may write "
            f"there, an id `namespace/name`, and the Hub in reach. {_advice(error)}"
        ) from None


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    repo_type: str = "model",
    private: bool | None = None,
    revision: str | None = None,
    tag: str | None = None,
    message: str = "Upload",
    token: str | None = None,
) -> str:
    """
    Pushes all that is public in a folder as one commit.

    Checkpoints, optimizer states, heads of the losses, logs and pickles stay here. Large files that already arrived
    are not sent again, so to push once more is to go on. Where nothing has changed no commit is made.

    Args:
        folder (`str` or `Path`): Of a run, an export or a teacher cache, with its card.
        repo_id, repo_type, private, revision, token: As for [`check_push`].
        tag (`str`, *optional*): Of the new commit.
        message (`str`, *optional*, defaults to `"Upload"`): Title of the commit.

    Returns:
        `str`: Where it is to be seen.

    Raises:
        PushError: With the reason and the command that finishes it.
        ValueError: The folder has nothing to push, or a file in it holds a token.
    """
    folder, token = Path(folder), token or get_token()
    files = public_files(folder)
    _refuse_secrets(files, token)
    try:
        api = HfApi(token=token)
        place = _open(api, repo_id, repo_type, private, revision)
        # Not `upload_folder`: with Xet it makes several commits of a large folder, and a second one if an answer gets
        # lost.
        commit = api.create_commit(
            place.repo_id,
            [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files],
            commit_message=message,
            repo_type=repo_type,
            revision=revision,
        )
        if tag is not None:
            _set_tag(api, place.repo_id, repo_type, tag, commit.oid)
    except Exception as error:  # as in `check_push`
        command = _command(folder, repo_id, private, revision, tag)
        raise PushError(
            f"The push of {str(folder)!r} to {repo_id!r} failed: {_reason(error, token)}. Everything is still in that "
            f"folder. {_advice(error)} Then finish it with: {command}"
        ) from None
    url = place if revision is None else f"{place}/tree/{revision}"
    logger.info("Pushed %s to %s.", folder, url)
    return str(url)


def public_files(folder: Path) -> list[Path]:
    """
    Return what [`push_folder`] pushes, in order of their names.

    Raises:
        ValueError: There is nothing.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in PUBLIC)
    files = [path for path in paths if not any(map(_is_private, path.relative_to(folder).parts))]
    if not any(path.name in ("config.json", CACHE) for path in files):
        raise ValueError(
            f"There is nothing to push in {str(folder)!r}: it has no config.json. It must be a folder that a recipe "
            "left behind. Pass its path."
        )
    return files


def repo_type_of(folder: str | Path) -> str:
    """`"dataset"` for a teacher cache, `"model"` for all else."""
    return "dataset" if Path(folder, CACHE).is_file() else "model"


def _is_private(part: str) -> bool:
    return any(fnmatch.fnmatch(part, pattern) for pattern in PRIVATE)


def holds_token(data: bytes, token: str | None = None) -> bool:
    """Whether there is a token of the Hub in `data`, or the one that pushes."""
    return SECRET.search(data) is not None or (token is not None and token.encode() in data)


def _refuse_secrets(files: list[Path], token: str | None) -> None:
    for path in files:
        if path.suffix not in BINARY and holds_token(path.read_bytes(), token):
            raise ValueError(
                f"{path} holds a token, which everybody could read there. Nothing was pushed. Delete the token in "
                "that file, and give it by HF_TOKEN or `hf auth login` from now on."
            )


def _open(api: HfApi, repo_id: str, repo_type: str, private: bool | None, revision: str | None) -> RepoUrl:
    """Return the repository and its branch, made if need be, with the right to write."""
    validate_repo_id(repo_id)
    place = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
    # Of a repository that one may read, `create_repo` says nothing.
    api.auth_check(place.repo_id, repo_type=repo_type, write=True)
    if private and not api.repo_info(place.repo_id, repo_type=repo_type).private:
        raise ValueError(f"{place} exists and is public; make it private in its settings, or push to another id")
    if revision is not None:
        # The Trainer's own push would fail without it.
        api.create_branch(place.repo_id, branch=revision, repo_type=repo_type, exist_ok=True)
    return place


def _set_tag(api: HfApi, repo_id: str, repo_type: str, tag: str, oid: str) -> None:
    tags = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo_id, repo_type=repo_type).tags}
    if tag not in tags:
        api.create_tag(repo_id, tag=tag, revision=oid, repo_type=repo_type)
    elif tags[tag] != oid:
        raise ValueError(
            f"the files are there, but the tag {tag!r} is already that of {tags[tag][:7]}; give another tag"
        )


def _reason(error: Exception, token: str | None) -> str:
    """Return the client's words in one line, with those of the error that caused it, without the token."""
    # The cause of an answer of the Hub is that answer once more.
    cause = None if isinstance(error, HfHubHTTPError) else error.__cause__
    errors = [error] if cause is None else [error, cause]
    told = ": ".join(f"{type(e).__name__}: {' '.join(str(e).split())}".rstrip(".: ") for e in errors)
    told = re.sub(r" For more information check: \S+", "", told)
    # As it is, and as an error shows a header that it does not like.
    for form in (token, repr(token)[1:-1]) if token else ():
        told = told.replace(form, "<token>")
    return SECRET.sub(b"<token>", told.encode()).decode()


def _advice(error: Exception) -> str:
    cause = error if isinstance(error, HfHubHTTPError) else error.__cause__
    status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
    return {
        401: "Log in: `hf auth login`.",
        403: "Take a token that may write (`hf auth login`), or an id in your own namespace.",
        409: "Somebody else is pushing there: wait a little.",
        412: "Somebody else has pushed there meanwhile.",
    }.get(status, "Correct this, or wait until the Hub answers again.")


def _command(folder: Path, repo_id: str, private: bool | None, revision: str | None, tag: str | None) -> str:
    words = ["python", "recipes/push.py", str(folder), repo_id]
    words += ["--private"] if private else []
    for flag, value in (("--revision", revision), ("--tag", tag)):
        words += [] if value is None else [flag, value]
    return shlex.join(words)
