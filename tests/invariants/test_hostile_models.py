"""Models by somebody who means harm: no code of theirs runs, and no push takes a file from elsewhere.

docs/security.md names each of these tests.
"""

import json
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch
from chat_tokenizers import chat_tokenizer
from jinja2 import TemplateError
from teacher_models import tiny_clip
from transformers import LlamaConfig

import hf_clip_kd as kd
from hf_clip_kd.export.importing.weights import read_state_dict
from hf_clip_kd.hub.push import check_push, public_files
from hf_clip_kd.vlm.chat_templates import default_chat_template


class Harm:
    """Object whose unpickling writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


# ---- Models ----


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    for part in tiny_clip():
        part.save_pretrained(folder)
    return folder


def copied(saved, folder):
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_pickle_beside_the_weights_is_not_read(saved, tmp_path):
    folder = copied(saved, tmp_path / "student")
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        (folder / name).write_bytes(pickle.dumps(Harm(tmp_path / "harm")))
    kd.load_clip(str(folder))
    assert not (tmp_path / "harm").exists()
    assert not [path for path in public_files(folder) if path.suffix in (".bin", ".pt")]


def test_a_pickle_in_the_place_of_the_weights_runs_nothing(saved, tmp_path):
    folder = copied(saved, tmp_path / "student")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harm(tmp_path / "harm"), protocol=2))
    with pytest.raises(ValueError, match="student"):
        kd.load_clip(str(folder))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_a_checkpoint_of_another_project_runs_nothing(protocol, tmp_path):
    path = tmp_path / "a.pt"
    harm = {"state_dict": {"visual": Harm(tmp_path / "harm")}}
    torch.save(harm, path) if protocol == "torch" else path.write_bytes(pickle.dumps(harm, protocol=2))
    with pytest.raises(ValueError, match=r"a.pt' cannot be read .*pickles of tensors alone \(weights_only=True\)"):
        read_state_dict(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("reader", ["checkpoint", "folder", "open_clip"])
def test_a_zip_bomb_in_the_place_of_weights_is_not_unpacked(reader, saved, tmp_path):
    """A zip of 70 kB stands for 64 MB. Another has one part under many names."""
    folder = copied(saved, tmp_path / "student")
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    torch.save({"a": torch.zeros(2**26, dtype=torch.uint8)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for part in plain.infolist():
            packed.writestr(part.filename, plain.read(part))
    assert path.stat().st_size < 2**17
    read = {
        "checkpoint": lambda: read_state_dict(path),
        "folder": lambda: kd.load_clip(str(folder)),
        "open_clip": lambda: kd.load_teacher(f"open_clip:ViT-B-32//{path}"),
    }
    with pytest.raises(ValueError, match=r"would unpack to 67,\d{3},\d{3} bytes from [\d,]{6}\."):
        read[reader]()


def test_nothing_else_of_the_package_opens_a_zip():
    """`datasets` unpacks zips of pictures into its cache, which the page calls trusted."""
    package = Path(kd.__file__).parent
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"zipfile|unpack_archive|np\.load\(|torch\.load\(", path.read_text(encoding="utf-8"))
    }
    # The second reads a file of the package itself.
    assert found == {"models/zip_bombs.py", "data/shapes/drawn.py", "export/importing/weights.py"}


def test_code_of_a_folder_runs_on_demand_alone(saved, tmp_path):
    folder = copied(saved, tmp_path / "student")
    (folder / "code.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w')\n")
    config = {"model_type": "own", "auto_map": {"AutoConfig": "code.Own", "AutoModel": "code.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="pass trust_remote_code=True if it brings its own code and you trust it"):
        kd.load_clip(str(folder))
    assert not (tmp_path / "harm").exists()


def test_a_chat_template_is_in_a_sandbox(tmp_path):
    tokenizer = chat_tokenizer("smollm2")
    for name in ("cycler.__init__.__globals__", "().__class__.__base__.__subclasses__", "messages.append"):
        tokenizer.chat_template = f"{{{{ {name}('{tmp_path}/harm') }}}}"
        assert default_chat_template(LlamaConfig(), tokenizer) == "smollm2"
        with pytest.raises(TemplateError):
            tokenizer.apply_chat_template([{"role": "user", "content": "red?"}], tokenize=False)


# ---- Push ----


def test_a_link_out_of_the_folder_is_not_pushed(saved, tmp_path):
    folder = copied(saved, tmp_path / "student")
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (folder / "notes.json").symlink_to(secret)
    with pytest.raises(ValueError, match=r"notes.json is a link to .*secret.json, outside of the folder.*Put a copy"):
        public_files(folder)
    (folder / "notes.json").unlink()
    (folder / "notes.json").symlink_to(folder / "config.json")
    assert folder / "notes.json" in public_files(folder)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("notes.json", "trainer_state.json"),
        ("notes.json", "samples/a.json"),
        ("notes.json", ".token.json"),
        ("notes.json", "optimizer.pt"),
        ("notes.safetensors", "config.json"),  # Tensors are not searched for tokens.
        ("notes.safetensors", "losses.safetensors"),
    ],
)
def test_a_link_to_a_file_that_is_not_pushed_is_not_pushed(link, target, saved, tmp_path):
    folder = copied(saved, tmp_path / "student")
    (folder / "samples").mkdir()
    if not (folder / target).exists():
        (folder / target).write_text("{}")
    (folder / link).symlink_to(folder / target)
    with pytest.raises(ValueError, match=rf"{link} is a link to .*{target}, which is another kind.*Put a copy"):
        public_files(folder)


@pytest.mark.parametrize(
    "repo_id", ["../me", "me/../you", "me/a?b=c", "me/a#b", "me/a%2fb", "me/\u202ea", "me/a\nb", ""]
)
def test_an_odd_id_is_refused_before_a_push(repo_id, hub):
    with pytest.raises(ValueError, match="^Nothing can be pushed to ") as error:
        check_push(repo_id)
    assert "\n" not in str(error.value) and hub.repos == {}


@pytest.mark.parametrize(
    "revision",
    [
        "../main",
        "a b",
        "a\nb",
        "x?y=z",
        "-",
        "-f",
        "refs/../main",
        "",
        "@",
        "a//b",
        "/a",
        "a/",
        "a.lock",
        "a~1",
        "a/.b",
    ],
)
def test_an_odd_revision_is_refused_before_a_push(revision, hub):
    with pytest.raises(ValueError, match="^Nothing can be pushed to 'me/student'.*is no name of a branch") as error:
        check_push("me/student", revision=revision)
    assert "\n" not in str(error.value) and hub.repos == {}


@pytest.mark.parametrize("revision", ["next", "v1.0", "feature/a-1", "50%", "a#b", "gr\u00fcn"])
def test_a_usual_revision_is_a_branch(revision, hub):
    check_push("me/student", revision=revision)
    assert {*hub.repos["model", "me/student"].branches} == {"main", revision}
