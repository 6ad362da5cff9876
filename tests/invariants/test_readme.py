"""Blocks of README.md and docs/*.md run, and their sentences are short. CONTRIBUTING.md states the rules.

* ```python blocks of a page run in order, in one namespace, in an empty folder.
* ```bash blocks are checked here (targets, files and extras exist). The slow test of the page runs them.
* A block below the line `<!-- test: slow -->` is left to the slow test, which runs the whole page in order.
* A block below the line `<!-- test: checked -->` is checked and never run, since it takes more than ten minutes.
* ```text is printed output, ```yaml and ```json are parsed, ```bibtex is left alone. There are no others.
* A page may use what `make demo` leaves in `outputs/`, and nothing of another page.
"""

import csv
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from documents import CHECKED, PAGES, ROOT, SLOW, Block, blocks_of, commands, problems, read_blocks, run
from prose import BAD_FIRST_WORDS, MAX_WORDS, count_words, first_word, sentences

from hf_clip_kd.data.shapes import load_shapes

LANGUAGES = {"python", "bash", "text", "yaml", "json", "bibtex"}
SUBJECTS = (
    "data pictures losses teachers students evaluation vlm pictures_vlm choose_teacher study objectives several_gpus "
)
SUBJECTS += "speed flags hub security design"
DOCS = {f"docs/{name}.md" for name in SUBJECTS.split()}
# A newcomer does this before the repository can be used. The slow test starts after it.
SET_UP = re.compile(r"^(git clone|cd|pip install|python3? -m venv|source|\.)\s")
BLOCKS = [block for page in [*PAGES, "recipes/README.md"] for block in blocks_of(page)]


def test_every_subject_has_a_page_that_readme_links():
    assert DOCS == {page for page in PAGES if page != "README.md"}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"]({page})" in readme for page in DOCS)


def test_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150 and len(text.split()) <= 1200


def test_pages_show_commands_or_python():
    assert {block.language for block in BLOCKS} <= LANGUAGES
    assert {"bash", "python"} <= {block.language for block in blocks_of("README.md")}
    for page in PAGES:
        assert {"bash", "python"} & {block.language for block in blocks_of(page)}, f"{page} has nothing to run"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}-{block.line}")
def test_block_is_sound(block):
    if block.language == "python":
        compile(block.code, f"{block.page}:{block.line}", "exec")
    elif block.language == "bash":
        assert [problem for command in commands(block.code) for problem in problems(command)] == []
    elif block.language in ("yaml", "json"):
        assert yaml.safe_load(block.code) is not None


def anchors(path):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "recipes/README.md"])
def test_links_lead_somewhere(page):
    text = re.sub(r"(?ms)^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", text):
        path, _, anchor = "".join(target).partition("#")
        if not path.startswith("http"):
            found = (ROOT / page).parent / path if path else ROOT / page
            assert found.exists(), path
            assert not anchor or anchor in anchors(found), f"{path}#{anchor}"


def test_design_shows_the_arrows_that_a_test_holds():
    tree = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    shown = {room: names.split(", ") for room, names in re.findall(r"^  (\w+)/ .*→ (.*)$", tree, re.MULTILINE)}
    held = (ROOT / "tests/invariants/test_layers.py").read_text(encoding="utf-8")
    held = {
        room: re.findall(r"\w+", names) for room, names in re.findall(r'^    "(\w+)": \{(.*)\},$', held, re.MULTILINE)
    }
    assert shown == held


def written_prose(text):
    """Yield (line, paragraph) of a page's own sentences: no code, tables, headings or text that a command writes."""
    text = re.sub(r"(?ms)^```.*?^```|^<!-- (table|ablation|speed|study).*?<!-- end of \w+ -->", _blank, text)
    paragraph, start = [], 0
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        item = re.match(r"\s*([-*]|\d+\.)\s+", line)
        if paragraph and (item or not line.strip() or line.startswith(("#", "|", "<"))):
            yield start, re.sub(r"\*\*", "", " ".join(paragraph))
            paragraph = []
        if line.strip() and not line.startswith(("#", "|", "<")):
            start = start if paragraph else number
            paragraph.append(line[item.end() :].strip() if item else line.strip())


def _blank(match):
    return "\n" * match[0].count("\n")


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "recipes/README.md"])
def test_sentences_are_short_and_begin_with_a_noun_or_a_verb(page):
    found = []
    for line, paragraph in written_prose((ROOT / page).read_text(encoding="utf-8")):
        if first_word(paragraph).lower() in BAD_FIRST_WORDS and not paragraph.startswith("`"):
            found.append(f"{page}:{line} begins with {first_word(paragraph)!r}")
        long = [sentence for sentence in sentences(paragraph) if count_words(sentence) > MAX_WORDS]
        found += [f"{page}:{line} {count_words(sentence)} words: {sentence}" for sentence in long]
    assert not found, "\n".join(["", *found])


def test_python_blocks_run(tmp_path):
    """The pages share a process, since importing takes longer than the blocks do."""
    pages = [
        (tmp_path / page, [b for b in blocks_of(page) if b.language == "python" and b.marker not in (SLOW, CHECKED)])
        for page in PAGES
    ]
    run(pages, tmp_path, timeout=400)


def write_images(folder):
    """Write the pictures that a reader of README has."""
    folder.mkdir()
    with open(folder / "metadata.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "text"])
        for i, row in enumerate(load_shapes("train", size=64)):
            row["image"].save(folder / f"{i:03}.png")
            table.writerow([f"{i:03}.png", row["text"]])


def copy_of_repository(folder):
    """Copy the repository, with the environment that `make` would create."""
    assert (Path(sys.prefix) / ".installed").exists(), "`make demo` would install: run `make test-slow`"
    copy = folder / "repository"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "outputs", "__pycache__"))
    (copy / ".venv").symlink_to(sys.prefix)
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(
            copy / name, (0, 0)
        )  # `make` installs after a change of these, and the environment is not the copy's.
    return copy


def to_run(page):
    """Return the blocks of a page that its slow test runs, if bash or slow ones are among them."""
    blocks = [block for block in blocks_of(page) if block.language in ("bash", "python") and block.marker != CHECKED]
    for block in blocks:
        if block.language == "bash":
            block.code = "\n".join(command for command in commands(block.code) if not SET_UP.match(command))
    return blocks if any(block.language == "bash" or block.marker == SLOW for block in blocks) else []


@pytest.mark.slow
def test_whole_readme_runs(tmp_path):
    copy = copy_of_repository(tmp_path)
    write_images(copy / "my_images")
    run([(copy, to_run("README.md"))], copy, timeout=3600)


@pytest.fixture(scope="module")
def after_demo(tmp_path_factory):
    """Return a copy of the repository with the folders that `make demo` leaves, after few steps."""
    copy = copy_of_repository(tmp_path_factory.mktemp("demo"))
    command = "accelerate launch --num_cpu_threads_per_process 2 recipes/distill.py --max_steps 20"
    code = "\n".join(
        f"{command} --config recipes/configs/distill/{name}.yaml" for name in ("demo_teacher", "demo_baseline", "demo")
    )
    run([(copy, [Block("make demo", "bash", 0, code)])], copy, timeout=600)
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md" and to_run(page)])
def test_whole_page_runs(page, after_demo, tmp_path):
    copy = tmp_path / "repository"
    shutil.copytree(after_demo, copy, symlinks=True)
    run([(copy, to_run(page))], copy, timeout=3600)


SAMPLE = f"""# Title
```bash
make demo SEED=1  # four minutes
```
prints
```text
acc1 0.5
```
```python
x = 1
```
{SLOW}

```python
raise SystemExit(3)
```
```python
print("x is", x)
```
"""


def test_blocks_are_read_and_run(tmp_path):
    blocks = read_blocks(SAMPLE)
    assert [(b.language, b.line, b.marker == SLOW) for b in blocks] == [
        ("bash", 2, False),
        ("text", 6, False),
        ("python", 9, False),
        ("python", 14, True),
        ("python", 17, False),
    ]
    assert "page.md:17\nx is 1\n" in run([(tmp_path / "a", [blocks[2], blocks[4]])], tmp_path, timeout=60)
    with pytest.raises(AssertionError):
        run([(tmp_path / "a", [blocks[3]])], tmp_path, timeout=60)
    with pytest.raises(AssertionError):
        run([(tmp_path / "a", [blocks[2]]), (tmp_path / "b", [blocks[4]])], tmp_path, timeout=60)


def test_prose_is_read_without_code_and_tables():
    text = "# A\n\nShort. So\nlong.\n\n```text\nno\n```\n- **An** item\n| a | b |\n1. Two\n"
    text += "<!-- table: x -->\nno\n<!-- end of table -->\nEnd"
    assert list(written_prose(text)) == [(3, "Short. So long."), (9, "An item"), (11, "Two"), (15, "End")]


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("make demmo", "`make demmo` is no target"),
        ("make demo SEED=1", None),
        ("pip install -c constraints.txt -e '.[dev,deepspeed]'", None),
        ("pip install -e '.[gpu]'", "no extra 'gpu'"),
        ("HF_HUB_OFFLINE=1 python recipes/none.py", "recipes/none.py does not exist"),
        ("accelerate launch --config_file accelerate_configs/cpu.yaml x.py --output_dir outputs/x", None),
        ("accelerate launch --config_file accelerate_configs/gpu.yaml x.py", "accelerate_configs/gpu.yaml does not"),
        ("curl x", "'curl' is a command that this test does not know"),
    ],
)
def test_commands_are_checked(command, problem):
    found = problems(command)
    assert found == [] if problem is None else problem in found[0]
