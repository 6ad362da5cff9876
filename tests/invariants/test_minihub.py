"""The Hub on loopback: what the real client gets from it. The rest of it is tested by all that pushes."""

import hashlib

import httpx2
import pytest
from datasets import Dataset, load_dataset
from huggingface_hub import HfApi, ModelCard, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

LARGE = bytes(range(256)) * 64


@pytest.fixture
def api(hub):
    api = HfApi()
    api.create_repo("me/model")
    return api


def upload(api, name="model.safetensors", data=LARGE, **where):
    return api.upload_file(path_or_fileobj=data, path_in_repo=name, repo_id="me/model", **where)


def test_what_was_pushed_comes_back(api, hub, wipe_cache):
    commit = upload(api)
    upload(api, "deep/config.json", b"{}")
    path = hf_hub_download("me/model", "model.safetensors")
    with open(path, "rb") as file:
        assert file.read() == LARGE
    assert path.split("/")[-2] == api.model_info("me/model").sha != commit.oid
    wipe_cache()
    folder = snapshot_download("me/model", revision=commit.oid)
    with open(f"{folder}/model.safetensors", "rb") as file:
        assert hashlib.sha256(file.read()).digest() == hashlib.sha256(LARGE).digest()
    assert api.list_repo_files("me/model") == [".gitattributes", "deep/config.json", "model.safetensors"]
    assert [entry.path for entry in api.list_repo_tree("me/model")] == [".gitattributes", "deep", "model.safetensors"]
    (info,) = api.get_paths_info("me/model", ["model.safetensors"])
    assert info.lfs.sha256 == hashlib.sha256(LARGE).hexdigest() and info.size == len(LARGE)
    # The bytes went to the bucket, without the token.
    assert len(hub.calls("PUT", "/lfs/")) == 1 and "Authorization" not in hub.calls("PUT", "/lfs/")[0]["headers"]


def test_branches_and_tags_hold_what_they_held(api):
    upload(api, data=b"old" * 200)
    api.create_branch("me/model", branch="next")
    api.create_tag("me/model", tag="v1")
    upload(api, data=b"new" * 200, revision="next")
    found = {
        revision: hf_hub_download("me/model", "model.safetensors", revision=revision)
        for revision in ("main", "v1", "next")
    }
    assert [open(path, "rb").read()[:3] for path in found.values()] == [b"old", b"old", b"new"]
    refs = api.list_repo_refs("me/model")
    assert [b.name for b in refs.branches] == ["main", "next"] and [t.name for t in refs.tags] == ["v1"]
    assert len(api.list_repo_commits("me/model", revision="next")) == 3


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda: hf_hub_download("me/none", "x"), RepositoryNotFoundError),
        (lambda: hf_hub_download("me/model", "x"), EntryNotFoundError),
        (lambda: hf_hub_download("me/model", "x", revision="none"), RevisionNotFoundError),
        (lambda: HfApi(token="hf_wrong").whoami(), HfHubHTTPError),
        (lambda: HfApi().create_repo("somebody/model"), HfHubHTTPError),
        (lambda: HfApi().create_repo("me/model"), HfHubHTTPError),
        (lambda: HfApi(token="hf_" + "r" * 34).auth_check("me/model", write=True), HfHubHTTPError),
        (lambda: HfApi(token=False).model_info("me/secret"), RepositoryNotFoundError),
        (
            lambda: HfApi().create_commit("me/model", operations=[], commit_message="x", revision="none"),
            RevisionNotFoundError,
        ),
    ],
)
def test_what_the_hub_refuses(api, ask, error):
    api.create_repo("me/secret", private=True)
    with pytest.raises(error):
        ask()


def test_data_sets_come_back(api):
    Dataset.from_dict({"text": ["a", "b"]}).push_to_hub("me/data")
    assert load_dataset("me/data", split="train")["text"] == ["a", "b"]
    streamed = load_dataset("me/data", split="train", streaming=True)
    assert [row["text"] for row in streamed] == ["a", "b"]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("license: apache-2.0", None),
        ("license: nonsense", "must be one of"),
        ("tags: [1]", "array of strings"),
    ],
)
def test_cards_are_checked(hub, metadata, message):
    card = ModelCard(f"---\n{metadata}\n---\nText")
    if message is None:
        card.validate()
    else:
        with pytest.raises(ValueError, match=message):
            card.validate()


@pytest.mark.parametrize(
    ("failure", "slept", "error"),
    [
        ({"status": 500}, [1], None),
        ({"cut_request": 100}, [1], None),
        ({"cut_request": 100, "reset": False}, [1], None),
        ({"delay": 0.2}, [], None),
        ({"status": 500, "times": 6}, [1, 2, 4, 8, 8], "Error while uploading"),
        ({"status": 403}, [], "Error while uploading"),
    ],
)
def test_scripted_failures_of_an_upload(api, hub, failure, slept, error):
    hub.fail("PUT", "/lfs/", **failure)
    if error is None:
        upload(api)
    else:
        with pytest.raises(RuntimeError, match=error):
            upload(api)
    assert hub.slept == slept
    assert ("model.safetensors" in hub.files("me/model")) == (error is None)


def test_scripted_failures_of_answers(api, hub):
    hub.fail("POST", "/commit/", status=412, message="A commit has happened since.", skip=1)
    upload(api, "a.json", b"1")
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        upload(api, "b.json", b"2")
    hub.fail("POST", "/commit/", cut_response=5)
    with pytest.raises(httpx2.HTTPError):
        upload(api, "b.json", b"3")
    # It was done, only nobody heard of it.
    assert hub.files("me/model")["b.json"] == b"3" and len(hub.titles("me/model")) == 2
