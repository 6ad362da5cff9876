"""Input by somebody who means harm: its code does not run, files outside are safe, and no token gets out.

docs/security.md names each of these tests.
"""

import gzip
import io
import json
import logging
import pickle
import re
import tarfile
import time
import zipfile
from pathlib import Path

import made_up_meter
import made_up_study
import pytest
import torch
from card_folders import make_run, write_scores
from chat_tokenizers import chat_tokenizer
from jinja2 import TemplateError
from made_up_choice import made_up_scores
from markdown_it import MarkdownIt
from PIL import Image
from teacher_models import tiny_clip
from transformers import LlamaConfig

import hf_clip_kd as kd
from hf_clip_kd.data.reading.images import BrokenImageError, BrokenImages, decode_image
from hf_clip_kd.data.reading.tars import ERROR, read_tar
from hf_clip_kd.export.importing.weights import read_state_dict
from hf_clip_kd.hub.cards import write_card
from hf_clip_kd.hub.cards.markdown import environment
from hf_clip_kd.hub.push import check_push, public_files
from hf_clip_kd.recipe_io.foreign import ForeignFileError, read_yaml
from hf_clip_kd.recipe_io.parser import RecipeParser, exit_with_one_line
from hf_clip_kd.study.choice.page import page
from hf_clip_kd.study.choice.ranking import rank
from hf_clip_kd.study.report import report
from hf_clip_kd.study.report.report import write_report
from hf_clip_kd.vlm.chat_templates import default_chat_template
from recipes import distill

TOKEN = "hf_" + "x" * 34
WORDS = {"allowed": "Allowed.", "fix": "Fix."}


class Harm:
    """Object whose unpickling writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


# ---- Archives ----


def odd_member(name, kind=tarfile.REGTYPE, link=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


@pytest.mark.parametrize("name", ["/etc/passwd.txt", "../../up.txt", "a/../../b.txt", "C:\\up.txt"])
def test_a_path_in_a_tar_leads_nowhere(name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = odd_member(name)
        member.size = 3
        archive.addfile(member, io.BytesIO(b"red"))
    buffer.seek(0)
    (row,) = read_tar(buffer, "a.tar")
    assert row["txt"] == "red" and [*tmp_path.rglob("*")] == [tmp_path / "here"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_a_device_in_a_tar_is_passed_over(kind, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(odd_member("1.txt", kind, str(secret)))
        member = odd_member("2.txt")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"red"))
    buffer.seek(0)
    assert [(row["__key__"], row.get("txt"), row[ERROR]) for row in read_tar(buffer, "a.tar")] == [("2", "red", None)]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_name_in_a_tar_fills_no_memory(kind):
    member = odd_member("1.txt", kind)
    member.size = 2**30
    file = io.BytesIO(gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(2**22)))
    (row,) = read_tar(file, "a.tar")
    assert "a header claims 1,073,741,824 bytes for the name of a file" in row[ERROR]


@pytest.mark.parametrize("name", ["secret.txt", "../secret.txt", "file://{folder}/secret.txt"])
def test_a_path_in_a_table_gives_pictures_alone(name, tmp_path):
    (tmp_path / "data").mkdir()
    for folder in (tmp_path, tmp_path / "data"):
        (folder / "secret.txt").write_text("the password")
    (tmp_path / "data/a.csv").write_text(f"file_name,text\n{name.format(folder=tmp_path)},red\n")
    (row,) = kd.load_image_text(str(tmp_path / "data/a.csv"), image_column="file_name")
    with pytest.raises(BrokenImageError) as error:
        decode_image(row["image"])
    assert "password" not in str(error.value) + repr(row)


# ---- Pictures ----


def test_no_other_program_draws_a_picture(monkeypatch):
    monkeypatch.setattr("subprocess.check_call", lambda *args, **kwargs: pytest.fail("Ghostscript was started"))
    file = io.BytesIO()
    Image.new("RGB", (9, 9)).save(file, "EPS")
    with pytest.raises(BrokenImageError, match="a file of EPS, which only another program can draw"):
        decode_image(file.getvalue())


# ---- YAML ----


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system ['x']", "!!python/name:os.system", "!own {a: 1}"])
def test_a_tag_in_a_yaml_makes_no_object(tag, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(f"losses: {tag}\n")
    with pytest.raises(ForeignFileError, match="a.yaml is no valid YAML: line 1.*could not determine a constructor"):
        read_yaml(path, **WORDS)


@pytest.mark.parametrize("reader", ["plain", "recipe"])
def test_anchors_do_not_multiply(reader, tmp_path):
    path = tmp_path / "a.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    path.write_text("losses:\n" + "".join(f"  {line}\n" for line in lines))
    started = time.monotonic()
    with pytest.raises(ForeignFileError, match="a.yaml: its anchors stand for more than 1,000,000 values"):
        read_yaml(path, **WORDS) if reader == "plain" else parser(path).parse(["--config", str(path)])
    assert time.monotonic() - started < 60
    path.write_text("losses: &a [*a]\n")
    with pytest.raises(ForeignFileError, match="or for themselves"):
        read_yaml(path, **WORDS) if reader == "plain" else parser(path).parse(["--config", str(path)])
    path.write_text(f"losses:\n  - &a {'x' * 8000}\n" + "  - *a\n" * 2500)  # 26 kB stand for 20 MB.
    with pytest.raises(ForeignFileError, match="or 16,000,000 letters"):
        read_yaml(path, **WORDS) if reader == "plain" else parser(path).parse(["--config", str(path)])
    path.write_text("losses: &a {clip: 1.0}\nb: [*a, *a]\n")
    assert read_yaml(path, **WORDS) == {"losses": {"clip": 1.0}, "b": [{"clip": 1.0}] * 2}


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


# ---- Words ----


# A caption, a class name or the name of a run may look like Jinja, and hold HTML.
EVIL = "{{ ().__class__ }} {% raw %} <script>x</script>"


def as_html(markdown):
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)


def is_text(page):
    """Tell whether a page of HTML shows the evil words as they are."""
    return "<script>x" not in page and "__class__" in page.replace("\\", "") and "{{" in page and "<class" not in page


@pytest.mark.parametrize("folder", ["hub/cards/templates", "study/report/templates", "study/choice/templates"])
def test_words_of_others_are_no_template(folder):
    assert is_text(as_html(environment(folder).from_string("{{ value }}").render(value=EVIL)))


def test_words_of_others_are_text_in_a_card(tmp_path):
    run = make_run(tmp_path / "run", dataset_name=EVIL, label_template=EVIL, output_dir="x")
    write_scores(tmp_path / "run", **{EVIL: 0.5})
    card = write_card(run, name=EVIL, compare={EVIL: run}).read_text()
    assert card.count("__class") > 3 and is_text(as_html(card.split("\n---\n", 1)[1]))


def test_words_of_others_are_text_in_a_report(tmp_path):
    cells = [made_up_study.cell(None, "clip", "x1", "plain", seed, student=EVIL) for seed in range(2)]
    cells[0] |= {"status": "failed", "error": EVIL}
    folder = made_up_study.write(tmp_path / "study", cells, name=EVIL, machine={"cpu": EVIL, "cores": 2})
    write_report(folder)
    page, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    assert is_text(page) and is_text(as_html(text)) and page.count("__class") > 2


def renamed(value, names):
    """Return a JSON value with other names, of keys, too."""
    if isinstance(value, dict):
        return {names.get(key, key): renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def test_names_of_others_are_text_in_the_findings_of_a_report(tmp_path, monkeypatch):
    """Teachers, their strengths, objectives, readings, and reasons to leave out a type stand in sentences there."""
    monkeypatch.setattr(report, "figures_of", lambda study: {})  # They take seconds, and hold no HTML.
    folder = made_up_meter.write(tmp_path / "study", config={"ungraded": {"texture_at": EVIL}})
    evil = {name: f"{EVIL} {name}" for name in (*made_up_meter.TEACHERS, *made_up_meter.READINGS, "clip_kd_patch")}
    for path in folder.rglob("*.json"):
        content = renamed(json.loads(path.read_text()), evil)
        for teacher in content.get("teachers", {}).values():
            teacher["strength"] = f"{EVIL} of {teacher['strength'][-1]}"
        path.write_text(json.dumps(content))
    report.write_report(folder)
    page, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    assert is_text(page) and is_text(as_html(text))
    findings = text.split("## What came out")[1].split("##")[0]
    shown = ["reaches them at step", "left out: ", "**Share of the lead.**", "**The meter.**"]
    assert all(words in findings for words in shown) and findings.count("__class") > 8


def test_words_of_others_are_text_in_the_choice_of_a_teacher():
    ranking = rank(made_up_scores(**{"alone": 0.3, EVIL: 0.5, "other": 0.51}))
    shown = page(ranking, [(EVIL, EVIL)], None)
    assert shown.count("__class") > 3 and is_text(as_html(shown))


# ---- Tokens ----


def parser(path):
    return RecipeParser((distill.DistillArguments, kd.DistillationTrainingArguments), path)


@pytest.mark.parametrize(
    "flag",
    [f"--dataset_name=https://me:{TOKEN}@huggingface.co/d", f"--run_name={TOKEN}", f'--losses={{"{TOKEN}": 1}}'],
)
def test_a_token_in_an_argument_is_refused(flag, tmp_path):
    (tmp_path / "a.yaml").write_text("model_name_or_path: shapes-vit-t\noutput_dir: x\n")
    with pytest.raises(ValueError, match="holds a token of the Hub.*HF_TOKEN") as error:
        parser(tmp_path / "a.yaml").parse([flag, "--config", str(tmp_path / "a.yaml")])
    assert TOKEN not in str(error.value)


def test_a_token_of_the_environment_is_in_no_recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (tmp_path / "a.yaml").write_text(
        f"model_name_or_path: shapes-vit-t\noutput_dir: {tmp_path}/x\nuse_cpu: true\nhub_token: {TOKEN}\n"
    )
    recipe = parser(tmp_path / "a.yaml")
    found = recipe.parse(["--config", str(tmp_path / "a.yaml")])
    recipe.save(tmp_path / "recipe.yaml", *found)
    assert (
        "output_dir" in (tmp_path / "recipe.yaml").read_text() and TOKEN not in (tmp_path / "recipe.yaml").read_text()
    )
    assert TOKEN not in repr(found)


@pytest.mark.parametrize("error", [ValueError, RuntimeError])
def test_no_error_of_a_recipe_shows_a_token(error, monkeypatch, capsys, caplog):
    monkeypatch.setenv("HF_TOKEN", "secret \u00e9 of nobody")
    caplog.set_level(logging.DEBUG)

    def main():
        raise error(f"the client said {TOKEN} and {b'secret'.decode()} \u00e9 of nobody")

    with pytest.raises(SystemExit):
        exit_with_one_line(main)
    told = capsys.readouterr().err + caplog.text
    assert "the client said <token> and <token>" in told and TOKEN not in told


def test_a_token_in_the_address_of_a_picture_is_not_logged(caplog):
    broken = BrokenImages(max_fraction=1.0)
    broken.add(2, [(f"https://me:{TOKEN}@hf.co/a.png", f"no answer from https://hf.co?t={TOKEN}")])
    assert "Skipped a broken row: https://me:<token>@hf.co/a.png" in caplog.text
    assert TOKEN not in caplog.text + str(broken.names)


# ---- The page ----

PAGE = Path(__file__).parents[2] / "docs/security.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_each_sentence_of_the_page_has_its_test():
    text = PAGE.read_text(encoding="utf-8")
    tables = re.findall(r"^\|.*\| test \|\n[| -]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(tables) == 6 and len(rows) > 65
    for row in rows:
        assert NAMED.search(row), row
    # Each part of the page has such a table, except the last, which shows what commands have counted.
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:-1]:
        assert NAMED.search(part), part
    for path, name in NAMED.findall(text):
        source = (PAGE.parents[1] / path).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{path} has no {name}"
