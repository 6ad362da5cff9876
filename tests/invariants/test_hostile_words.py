"""Words by somebody who means harm are text in each page. No token gets out of a run.

docs/security.md names each of these tests.
"""

import json
import logging

import made_up_meter
import made_up_study
import pytest
from card_folders import make_run, write_scores
from made_up_choice import made_up_scores
from markdown_it import MarkdownIt
from recipe_runs import distill_parser

from hf_clip_kd.data.reading.images import BrokenImages
from hf_clip_kd.hub.cards import write_card
from hf_clip_kd.hub.cards.markdown import environment
from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.study.choice.page import page
from hf_clip_kd.study.choice.ranking import rank
from hf_clip_kd.study.report import report
from hf_clip_kd.study.report.report import write_report

TOKEN = "hf_" + "x" * 34


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


@pytest.mark.parametrize(
    "flag",
    [f"--dataset_name=https://me:{TOKEN}@huggingface.co/d", f"--run_name={TOKEN}", f'--losses={{"{TOKEN}": 1}}'],
)
def test_a_token_in_an_argument_is_refused(flag, tmp_path):
    (tmp_path / "a.yaml").write_text("model_name_or_path: shapes-vit-t\noutput_dir: x\n")
    with pytest.raises(ValueError, match="holds a token of the Hub.*HF_TOKEN") as error:
        distill_parser(tmp_path / "a.yaml").parse([flag, "--config", str(tmp_path / "a.yaml")])
    assert TOKEN not in str(error.value)


def test_a_token_of_the_environment_is_in_no_recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (tmp_path / "a.yaml").write_text(
        f"model_name_or_path: shapes-vit-t\noutput_dir: {tmp_path}/x\nuse_cpu: true\nhub_token: {TOKEN}\n"
    )
    recipe = distill_parser(tmp_path / "a.yaml")
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
