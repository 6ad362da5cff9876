"""Push of a folder to the Hub in one commit; errors come before training, or with the command to finish."""

from __future__ import annotations

import fnmatch
import logging
import re
import shlex
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoUrl, get_token
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import validate_repo_id

from ..recipe_io.tokens import holds_token, without_tokens
from .exports import stale_forms

logger = logging.getLogger(__name__)
# The client's HTTP library logs each address. Addresses for large files are signed: whoever has one may write.
logging.getLogger("httpx2").setLevel(logging.WARNING)

# Kinds of files that others can use; pickles, logs and states of an optimizer are not among them.
PUBLIC = (".json", ".safetensors", ".md", ".yaml", ".jinja", ".txt", ".model", ".py", ".onnx", ".data", ".png")
# Files that belong to the run and not to its result. `losses.safetensors` (heads, learned scales), the average and
# all states serve to resume here. A bad batch helps to find an error. `samples` belong to the benchmark.
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
    "checkpoint.json",
    "stream_state_*",
)
BINARY = (".safetensors", ".onnx", ".data", ".png")
CACHE = "cache.json"
# Parts of a name that git allows in no branch.
_NO_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|^[./-]|[/.]$|\.lock(/|$)|^@?$")


class PushError(ValueError):
    """A push that failed. The folder is unchanged; the message has the reason and the command that finishes the push.

    It is a `ValueError`, so a recipe ends with this message in place of a traceback.
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
    Create the repository and the branch before training, so that missing rights are known at once.

    Args:
        repo_id (`str`): `"namespace/name"`, or `"name"` in one's own namespace.
        repo_type (`str`, *optional*, defaults to `"model"`): `"model"` or `"dataset"`.
        private (`bool`, *optional*): Visibility of a new repository. Default is the namespace's.
        revision (`str`, *optional*): A branch. A missing one is created at `main`.
        token (`str`, *optional*): Default is that of `HF_TOKEN` or `hf auth login`. It enters no message.

    Returns:
        `str`: The whole id, with the namespace.

    Raises:
        ValueError: The token is missing, wrong or may not write, or the name is not allowed. Also raised if the Hub
            cannot be reached, or if the repository is public and shall be private. The message is one line.
    """
    token = token or get_token()
    # httpx rejects such a token and prints it in the error.
    if token is None or not re.fullmatch(r"[!-~]+", token):
        found = "there is no token" if token is None else "the token holds a space or an odd letter"
        raise ValueError(
            f"Nothing can be pushed to {repo_id!r}: {found}. A token with the right to write must be at hand. Run "
            "`hf auth login`, or set HF_TOKEN."
        )
    try:
        api = HfApi(token=token)
        # whoami comes first: it names a wrong token as such, any other call speaks of the repository.
        api.whoami()
        return _open(api, repo_id, repo_type, private, revision).repo_id
    # The client raises errors of six unrelated families. Each means: it cannot be pushed.
    except Exception as error:
        # The error itself would show text that is not ours and may hold the token.
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
    Push all public files of a folder as one commit.

    Checkpoints, optimizer states, heads of the losses, logs and pickles are left out. Large files that already arrived
    are not sent again, so a second push continues the first. Unchanged files make no commit.

    Forms of an earlier export (open_clip, ONNX, the image tower alone) hold another model than the one that is pushed.
    The same commit deletes those that the folder does not bring. All other files of the repository stay.

    Args:
        folder (`str` or `Path`): A run, an export or a teacher cache, with its card.
        repo_id, repo_type, private, revision: See [`check_push`].
        tag (`str`, *optional*): Tag of the new commit.
        message (`str`, *optional*, defaults to `"Upload"`): Title of the commit.
        token (`str`, *optional*): See [`check_push`].

    Returns:
        `str`: Its address.

    Raises:
        PushError: The message has the reason and the command that finishes the push.
        ValueError: The folder has nothing to push. A file in it holds a token, or a link in it leads outside.
    """
    folder, token = Path(folder), token or get_token()
    files = public_files(folder)
    _refuse_secrets(files, token)
    try:
        api = HfApi(token=token)
        place = _open(api, repo_id, repo_type, private, revision)
        brought = {path.relative_to(folder).as_posix(): path for path in files}
        there = api.list_repo_files(place.repo_id, repo_type=repo_type, revision=revision)
        stale = stale_forms(there, brought)
        # `upload_folder` with Xet makes several commits of a large folder, and a second one if an answer gets lost.
        commit = api.create_commit(
            place.repo_id,
            [*(CommitOperationAdd(*pair) for pair in brought.items()), *map(CommitOperationDelete, stale)],
            commit_message=message,
            repo_type=repo_type,
            revision=revision,
        )
        if tag is not None:
            _set_tag(api, place.repo_id, repo_type, tag, commit.oid)
    except Exception as error:  # See `check_push`.
        command = _command(folder, repo_id, private, revision, tag)
        raise PushError(
            f"The push of {str(folder)!r} to {repo_id!r} failed: {_reason(error, token)}. Everything is still in that "
            f"folder. {_advice(error)} Then finish it with: {command}"
        ) from None
    url = place if revision is None else f"{place}/tree/{revision}"
    logger.info("Pushed %s to %s.", folder, url)
    if stale:
        logger.info("Deleted there, as they are of an earlier export: %s.", ", ".join(stale))
    return str(url)


def public_files(folder: Path) -> list[Path]:
    """
    Return the files that [`push_folder`] pushes, in order of their names.

    Raises:
        ValueError: There are none. Or a link among them leads out of the folder, or to a file that is not pushed.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in PUBLIC)
    files = [path for path in paths if not any(map(_is_private, path.relative_to(folder).parts))]
    if not any(path.name in ("config.json", CACHE) for path in files):
        raise ValueError(
            f"There is nothing to push in {str(folder)!r}: it has no config.json. It must be a folder that a recipe "
            "left behind. Pass its path."
        )
    root = folder.resolve()
    for path in files:
        target = path.resolve()
        if not target.is_relative_to(root):
            problem = "outside of the folder. Only files of the folder itself are pushed"
        elif target.suffix != path.suffix or any(map(_is_private, target.relative_to(root).parts)):
            problem = "which is another kind of file or never pushed. A link may lead to a file that is pushed, too"
        else:
            continue
        raise ValueError(
            f"{path} is a link to {target}, {problem}. Put a copy of the file in the place of the link, or delete the "
            "link."
        )
    return files


def repo_type_of(folder: str | Path) -> str:
    """Return `"dataset"` for a teacher cache, `"model"` for all else."""
    return "dataset" if Path(folder, CACHE).is_file() else "model"


def _is_private(part: str) -> bool:
    return any(fnmatch.fnmatch(part, pattern) for pattern in PRIVATE)


def _refuse_secrets(files: list[Path], token: str | None) -> None:
    for path in files:
        if path.suffix not in BINARY and holds_token(path.read_text(encoding="utf-8", errors="replace"), token):
            raise ValueError(
                f"{path} holds a token, which everybody could read there. Nothing was pushed. Delete the token in "
                "that file, and give it by HF_TOKEN or `hf auth login` from now on."
            )


def _open(api: HfApi, repo_id: str, repo_type: str, private: bool | None, revision: str | None) -> RepoUrl:
    """Return the repository and its branch, created if missing, after a check of the right to write."""
    validate_repo_id(repo_id)
    if revision is not None and _NO_BRANCH.search(revision):
        raise ValueError(f"the revision {revision!r} is no name of a branch. Give another, such as `next` or `v1.0`")
    place = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
    # `create_repo` does not report a repository that one may only read.
    api.auth_check(place.repo_id, repo_type=repo_type, write=True)
    if private and not api.repo_info(place.repo_id, repo_type=repo_type).private:
        raise ValueError(f"{place} exists and is public. Make it private in its settings, or push to another id")
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
            f"the files are there, but the tag {tag!r} is already that of {tags[tag][:7]}. Give another tag"
        )


def _reason(error: Exception, token: str | None) -> str:
    """Return the client's message and its cause in one line, without the token."""
    # The cause of a Hub error is the same answer once more.
    cause = None if isinstance(error, HfHubHTTPError) else error.__cause__
    errors = [error] if cause is None else [error, cause]
    told = ": ".join(f"{type(e).__name__}: {' '.join(str(e).split())}".rstrip(".: ") for e in errors)
    return without_tokens(re.sub(r" For more information check: \S+", "", told), token)


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
