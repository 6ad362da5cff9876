"""hf_clip_kd/hub/push.py and recipes/push.py with the real client: contents of pushes, and state after failures."""

import hashlib
import json
import logging
import runpy
import shlex
import shutil
import sys
import traceback
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import save_file

import hf_clip_kd as kd
from hf_clip_kd.hub.push import PushError, check_push, push_folder
from recipes import push as push_recipe

ROOT = Path(__file__).parents[2]
PRIVATE = (
    "checkpoint-5/model.safetensors",
    "losses.safetensors",
    "ema.safetensors",
    "non_finite/step_3_rank_0.safetensors",
    "torn-checkpoint-7/model.safetensors",
    "optimizer.pt",
    "training_args.bin",
    "trainer_state.json",
    "runs/now/events.out.tfevents.1",
    "results/samples/answers.json",
    ".cache/notes.json",
)


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    model, processor = kd.load_clip("test-vit")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "recipe.yaml").write_text("dataset_name: shapes\nlosses: clip\n")
    (folder / "training_args.json").write_text('{"learning_rate": 0.001}')
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\nA card.\n")
    (folder / "results").mkdir()
    record = {"dataset": "shapes/test", "model": "x", "pretrained": "", "task": "zeroshot_classification"}
    (folder / "results/scores.json").write_text(json.dumps(record | {"metrics": {"acc1": 0.5}, "config": {}}))
    save_file({"more": torch.zeros(3)}, folder / "more.safetensors")
    return folder


@pytest.fixture
def folder(student, tmp_path):
    copy = tmp_path / "my student"
    shutil.copytree(student, copy)
    for name in PRIVATE:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("private")
    return copy


def content(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def on_hub(hub, repo_id, revision="main", type="model"):
    files = hub.files(repo_id, revision, type)
    return {path: hashlib.sha256(data).hexdigest() for path, data in files.items() if path != ".gitattributes"}


def public(folder):
    return {path: digest for path, digest in content(folder).items() if path not in PRIVATE}


# ---- Contents of a push ----


def test_one_commit_has_all_that_is_public(hub, folder):
    url = push_folder(folder, "me/student", message="A student")
    assert url == f"{hub.url}/me/student"
    assert on_hub(hub, "me/student") == public(folder)
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "recipe.yaml"} < set(public(folder))
    assert hub.titles("me/student") == ["A student"]


def test_pushing_again_sends_what_is_new(hub, folder):
    push_folder(folder, "me/student")
    sent = len(hub.calls("PUT", "/lfs/"))
    push_folder(folder, "me/student")
    assert len(hub.titles("me/student")) == 1 and len(hub.calls("PUT", "/lfs/")) == sent
    (folder / "README.md").write_text("---\nlicense: mit\n---\nAnother card.\n")
    push_folder(folder, "me/student", message="Card")
    assert hub.titles("me/student") == ["Card", "Upload"] and len(hub.calls("PUT", "/lfs/")) == sent


FORMS = ("open_clip_model.safetensors", "onnx/vision_model.onnx", "vision_model/model.safetensors")


def test_a_push_deletes_the_forms_of_an_earlier_export_that_it_does_not_bring(hub, folder, tmp_path, caplog):
    """Else open_clip would load the old model under the same name."""
    export = tmp_path / "export"
    shutil.copytree(folder, export)
    for name in ("parity.json", "onnx/mine.onnx", *FORMS):
        (export / name).parent.mkdir(exist_ok=True)
        (export / name).write_text("{}")
    push_folder(export, "me/student", tag="v1")
    (export / FORMS[0]).unlink()
    (export / "onnx/mine.onnx").unlink()
    caplog.set_level(logging.INFO)
    push_folder(export, "me/student", message="Fewer forms")
    assert set(hub.files("me/student", "v1")) - set(hub.files("me/student")) == {FORMS[0]}
    assert f"Deleted there, as they are of an earlier export: {FORMS[0]}." in caplog.text
    push_folder(folder, "me/student", message="The run alone")
    assert set(on_hub(hub, "me/student")) == {*public(folder), "onnx/mine.onnx"}  # This one is of somebody else.
    push_folder(folder, "me/student", message="The run again")
    assert hub.titles("me/student") == ["The run alone", "Fewer forms", "Upload"]


def test_a_push_leaves_weights_that_no_export_of_ours_has_made(hub, folder):
    hub.seed("me/student", {name: b"{}" for name in FORMS})
    push_folder(folder, "me/student")
    assert {*FORMS, *public(folder)} <= set(hub.files("me/student"))


def test_branch_tag_organisation_and_privacy(hub, folder):
    url = push_folder(folder, "lab/student", private=True, revision="next", tag="v1")
    assert url.endswith("/lab/student/tree/next")
    assert hub.repos["model", "lab/student"].private
    assert set(hub.files("lab/student", "main")) == {".gitattributes"}
    assert on_hub(hub, "lab/student", "next") == on_hub(hub, "lab/student", "v1") == public(folder)
    # The tag stays where it is.
    push_folder(folder, "lab/student", revision="next", tag="v1")
    (folder / "recipe.yaml").write_text("changed: true\n")
    with pytest.raises(PushError, match="the tag 'v1' is already that of .*. Give another tag"):
        push_folder(folder, "lab/student", revision="next", tag="v1")
    assert on_hub(hub, "lab/student", "v1") != on_hub(hub, "lab/student", "next") == public(folder)


def test_what_was_pushed_loads_for_another(hub, folder, wipe_cache):
    push_folder(folder, "me/student")
    wipe_cache()
    here, _ = kd.load_clip(str(folder))
    there, _ = kd.load_clip("me/student")
    for name, tensor in here.state_dict().items():
        assert torch.equal(tensor, there.state_dict()[name]), name


# ---- Checks before the training ----


def test_check_makes_repository_and_branch(hub):
    assert check_push("student", private=True, revision="next") == "me/student"
    assert hub.repos["model", "me/student"].private and "next" in hub.repos["model", "me/student"].branches
    assert check_push("student", revision="next") == "me/student"
    assert check_push("lab/cache", repo_type="dataset") == "lab/cache"


READER = "hf_" + "r" * 34


@pytest.mark.parametrize(
    ("repo_id", "options", "message"),
    [
        ("me/student", {"token": "hf_wrong"}, "Invalid user token.*Log in: `hf auth login`"),
        ("me/student", {"token": "hf_odd \n\u00e9"}, "the token holds a space or an odd letter"),
        ("somebody/student", {}, "don't have the rights to create.*in your own namespace"),
        ("me/open", {"token": READER}, "must use a write token.*Take a token that may write"),
        ("reader/own", {"token": READER}, "don't have the rights"),
        ("a/b/c", {}, "a/b/c"),
        ("me/what is this", {}, "me/what is this"),
        ("me/open", {"private": True}, "exists and is public. Make it private"),
    ],
)
def test_what_cannot_be_pushed_is_told_before(hub, repo_id, options, message):
    hub.seed("me/open", {"config.json": b"{}"})
    with pytest.raises(ValueError, match=message) as error:
        check_push(repo_id, **options)
    assert "\n" not in str(error.value)
    assert options.get("token", hub.token) not in str(error.value)


@pytest.mark.parametrize(("status", "advice"), [(500, "wait until the Hub answers again"), (403, "Take a token")])
def test_a_hub_that_is_ill_is_told_before(hub, status, advice):
    hub.fail("GET", "/auth-check", status=status)
    with pytest.raises(ValueError, match=f"Nothing can be pushed to 'me/x'.*{advice}"):
        check_push("me/x")


def test_no_token_is_told_before(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ValueError, match="there is no token.*hf auth login"):
        check_push("me/student")
    assert hub.log == []


@pytest.mark.parametrize("where", ["README.md", "recipe.yaml", "results/scores.json"])
def test_a_token_in_a_file_is_never_pushed(hub, folder, where):
    with open(folder / where, "a") as file:
        file.write(f"\ntoken: {hub.token}\n")
    with pytest.raises(ValueError, match=f"{Path(where).name} holds a token") as error:
        push_folder(folder, "me/student")
    assert hub.token not in str(error.value) and hub.repos == {}


def test_a_folder_without_a_model(tmp_path, hub):
    (tmp_path / "notes.md").write_text("no model")
    with pytest.raises(ValueError, match="There is nothing to push in .*: it has no config.json"):
        push_folder(tmp_path, "me/student")


# ---- Every failure ----

FOREVER = {"times": 99}
FAILURES = {
    "401": ("POST", "/api/repos/create", {"status": 401, "message": "Token expired"}, "Token expired", "Log in"),
    "401 at the commit": ("POST", "/commit/", {"status": 401}, "scripted failure", "Log in"),
    "403": ("POST", "/commit/", {"status": 403}, "scripted failure", "Take a token that may write"),
    "403 of the bucket": ("PUT", "/lfs/", {"status": 403}, "Error while uploading", "Take a token that may write"),
    "409": ("POST", "/commit/", {"status": 409}, "scripted failure", "wait a little"),
    "412": ("POST", "/commit/", {"status": 412}, "scripted failure", "Somebody else has pushed"),
    "429": ("POST", "/commit/", {"status": 429}, "scripted failure", "wait until the Hub"),
    "500 mid-upload": ("PUT", "/lfs/", {"status": 500, **FOREVER}, "Error while uploading", "wait until the Hub"),
    "500 at the commit": ("POST", "/commit/", {"status": 500}, "scripted failure", "wait until the Hub"),
    "reset mid-upload": ("PUT", "/lfs/", {"cut_request": 1000, **FOREVER}, "Error while uploading", "wait until"),
    "closed mid-upload": (
        "PUT",
        "/lfs/",
        {"cut_request": 1000, "reset": False, **FOREVER},
        "Error while uploading",
        "wait until",
    ),
    "second file only": ("PUT", "/lfs/", {"status": 500, "skip": 1, **FOREVER}, "Error while uploading", "wait until"),
    "commit reset": ("POST", "/commit/", {"cut_request": 100}, "", "wait until the Hub"),
    "commit closed": ("POST", "/commit/", {"cut_request": 100, "reset": False}, "", "wait until the Hub"),
    "card refused": ("POST", "/api/validate-yaml", {"status": 400}, "scripted failure", "Correct this"),
    "ill gateway": ("POST", "/api/validate-yaml", {"status": 502}, "", "wait until the Hub"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure_leaves_all_and_the_next_push_completes(hub, folder, caplog, name):
    method, path, how, reason, advice = FAILURES[name]
    caplog.set_level(logging.DEBUG)
    before = content(folder)
    hub.fail(method, path, **how)
    with pytest.raises(PushError) as caught:
        push_folder(folder, "me/student", private=True, revision="next")

    # Nothing has changed on disk, and nobody sees half of the push on the Hub.
    assert content(folder) == before
    assert all(set(hub.files(id, rev)) == {".gitattributes"} for (_, id), r in hub.repos.items() for rev in r.branches)

    # The user reads the reason, the fix and the command, and never the token.
    told = str(caught.value)
    assert f"The push of {str(folder)!r} to 'me/student' failed: " in told and reason in told and advice in told
    everything = told + caplog.text + "".join(traceback.format_exception(caught.value))
    assert hub.token not in everything

    # The command that finishes it.
    command = shlex.split(told.split("Then finish it with: ")[1])
    assert command == ["python", "recipes/push.py", str(folder), "me/student", "--private", "--revision", "next"]
    hub.failures.clear()
    arrived = [call["path"] for call in hub.calls("PUT", "/lfs/") if call["status"] == 200]
    push_recipe.main(command[2:])
    assert on_hub(hub, "me/student", "next") == public(folder) and len(hub.titles("me/student", "next")) == 1
    assert hub.repos["model", "me/student"].private
    assert all(len(hub.calls("PUT", path)) == 1 for path in arrived)  # not sent again


def test_commit_whose_answer_is_lost(hub, folder):
    hub.fail("POST", "/commit/", cut_response=5)
    with pytest.raises(PushError, match="finish it with"):
        push_folder(folder, "me/student")
    push_folder(folder, "me/student")
    assert on_hub(hub, "me/student") == public(folder) and len(hub.titles("me/student")) == 1


@pytest.mark.parametrize(
    "how", [{"status": 500}, {"cut_request": 1000}, {"cut_request": 1000, "reset": False}, {"delay": 0.3}]
)
def test_what_passes_by_is_waited_for(hub, folder, how):
    hub.fail("PUT", "/lfs/", **how)
    push_folder(folder, "me/student")
    assert on_hub(hub, "me/student") == public(folder)
    assert hub.slept == ([] if "delay" in how else [1])


def test_a_server_that_repeats_the_token(hub, folder):
    hub.fail("POST", "/commit/", status=400, message=f"bad token {hub.token} of hf_{'x' * 34}")
    with pytest.raises(PushError, match="bad token <token> of <token>") as caught:
        push_folder(folder, "me/student")
    assert hub.token not in "".join(traceback.format_exception(caught.value))


def test_a_client_that_repeats_the_token(hub, folder):
    with pytest.raises(PushError, match="Illegal header value.*<token>") as caught:
        push_folder(folder, "me/student", token="hf_secret\nsecret")
    assert "secret" not in "".join(traceback.format_exception_only(caught.value))


def test_the_hub_is_gone(hub, folder, monkeypatch):
    before = content(folder)
    monkeypatch.setattr(
        HfApi, "create_repo", lambda *args, **kwargs: (_ for _ in ()).throw(ConnectionError("no route"))
    )
    with pytest.raises(PushError, match="ConnectionError: no route.*Then finish it with: python recipes/push.py"):
        push_folder(folder, "me/student")
    with pytest.raises(ValueError, match="Nothing can be pushed to 'me/student': ConnectionError: no route"):
        check_push("me/student")
    assert content(folder) == before


# ---- recipes/push.py ----


def test_recipe_writes_the_card_and_pushes(hub, folder, capsys):
    url = push_recipe.main([str(folder), "student", "--tag", "v1"])
    assert url in capsys.readouterr().out and url.endswith("/me/student")
    card = hub.files("me/student", "v1")["README.md"].decode()
    assert "A card." not in card and "me/student" in card and hub.token not in card
    assert on_hub(hub, "me/student") == public(folder)


def test_recipe_checks_the_right_to_write_before_an_export(hub, folder):
    with pytest.raises(ValueError, match="don't have the rights"):
        push_recipe.main([str(folder), "somebody/student", "--export", "onnx"])
    assert not folder.with_name("my student-export").exists()


def test_recipe_pushes_an_export_in_one_commit(hub, folder, monkeypatch):
    def export_model(source, target, formats, *, quantize=False, repo_id):
        shutil.copytree(source, target)
        (Path(target) / "exported.json").write_text(json.dumps([formats, quantize, repo_id]))
        (Path(target) / "parity.json").write_text("{}")

    monkeypatch.setattr("hf_clip_kd.export.export_model", export_model)
    push_recipe.main([str(folder), "me/student", "--export", "native,onnx", "--quantize"])
    assert json.loads(hub.files("me/student")["exported.json"]) == [["native", "onnx"], True, "me/student"]
    assert hub.titles("me/student") == ["Upload"]
    # Another time, the first export is replaced.
    push_recipe.main([str(folder), "me/student", "--export", "native", "--message", "Again"])
    assert json.loads(hub.files("me/student")["exported.json"]) == [["native"], False, "me/student"]
    assert hub.titles("me/student") == ["Again", "Upload"]


def test_recipe_refuses_what_is_no_folder(tmp_path, hub):
    with pytest.raises(ValueError, match="is no folder"):
        push_recipe.main([str(tmp_path / "none"), "me/student"])


def test_recipe_tells_in_one_line(hub, folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["push.py", str(folder), "somebody/student"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "recipes/push.py"), run_name="__main__")
    out, said = capsys.readouterr()
    assert end.value.code == 2 and said.strip().splitlines()[-1].startswith("error: Nothing can be pushed")
    assert "Traceback" not in said and hub.token not in said + out
