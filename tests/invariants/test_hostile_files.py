"""Files by somebody who means harm: tars, tables, pictures and YAMLs read no other file, run nothing, fill no memory.

docs/security.md names each of these tests.
"""

import gzip
import io
import tarfile
import time

import pytest
from PIL import Image
from recipe_runs import distill_parser

import hf_clip_kd as kd
from hf_clip_kd.data.reading.images import BrokenImageError, decode_image
from hf_clip_kd.data.reading.tars import ERROR, read_tar
from hf_clip_kd.recipe_io.foreign import ForeignFileError, read_yaml

WORDS = {"allowed": "Allowed.", "fix": "Fix."}


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
        read_yaml(path, **WORDS) if reader == "plain" else distill_parser(path).parse(["--config", str(path)])
    assert time.monotonic() - started < 60
    path.write_text("losses: &a [*a]\n")
    with pytest.raises(ForeignFileError, match="or for themselves"):
        read_yaml(path, **WORDS) if reader == "plain" else distill_parser(path).parse(["--config", str(path)])
    path.write_text(f"losses:\n  - &a {'x' * 8000}\n" + "  - *a\n" * 2500)  # 26 kB stand for 20 MB.
    with pytest.raises(ForeignFileError, match="or 16,000,000 letters"):
        read_yaml(path, **WORDS) if reader == "plain" else distill_parser(path).parse(["--config", str(path)])
    path.write_text("losses: &a {clip: 1.0}\nb: [*a, *a]\n")
    assert read_yaml(path, **WORDS) == {"losses": {"clip": 1.0}, "b": [{"clip": 1.0}] * 2}
