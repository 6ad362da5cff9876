"""A user's words stay text in a card, and no local path or token gets into it."""

import re

import pytest
from card_folders import check_form, without_code_blocks, write_scores

from hf_clip_kd.hub.cards import write_card
from hf_clip_kd.hub.cards.markdown import code, escape, public, table

HOSTILE = "a\n---\n# b | c\n![x](y) <script>z</script> ```d``` *e* ]( & hf_abcdefghijklmnopqrstuvwxyz01234567 \u202e"


def test_hostile_strings_are_text(run, tmp_path):
    folder = run(dataset_name=HOSTILE, label_template=HOSTILE, text_column="label", output_dir=HOSTILE)
    write_scores(tmp_path / "other", acc1=0.125)
    text = write_card(folder, name=HOSTILE, compare={HOSTILE: tmp_path / "other"}).read_text()
    card, head = check_form(text)
    assert head["model-index"][0]["name"].startswith("a --- # b | c")
    body = without_code_blocks(text.split("\n---\n", 1)[1])
    assert "<script" not in re.sub(r"(`+) ?.*? ?(?<!`)\1(?!`)", "", body)
    (row,) = [line for line in text.splitlines() if line.startswith("| `acc1`")]
    (head_row,) = [line for line in text.splitlines() if line.startswith("|  |") and "this model" in line]
    assert len(re.findall(r"(?<!\\)\|", row)) == len(re.findall(r"(?<!\\)\|", head_row)) == 4
    assert "\u202e" not in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain_words and 3.5", "plain_words and 3.5"),
        ("_em_ *b* [l](x) `c`", r"\_em\_ \*b\* \[l\](x) \`c\`"),
        ("<b> & |", r"&lt;b&gt; &amp; \|"),
        ("a\nb\tc", "a b c"),
    ],
)
def test_escape(value, expected):
    assert escape(value) == expected


def test_code_spans_and_tables_hold_anything():
    assert code("a`b") == "``a`b``" and code("`a`") == "`` `a` ``"
    assert table(["a", "b"], [[code("x|y"), 1.5], ["p|q", 2]]).splitlines() == [
        "| a | b |",
        "| --- | ---: |",
        r"| `x\|y` | 1.5 |",
        r"| p\|q | 2 |",
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("outputs/demo/teacher", "outputs/demo/teacher"),
        ("me/model", "me/model"),
        ("/home/me/runs/teacher", "teacher"),
        ("~/runs/teacher", "teacher"),
        ("../../me/teacher", "teacher"),
        (r"C:\Users\me\teacher", "teacher"),
        ("open_clip:ViT-B-16/laion2b_s34b_b88k", "open_clip:ViT-B-16/laion2b_s34b_b88k"),
        ("open_clip:ViT-B-16//home/me/ours.pt", "open_clip:ViT-B-16//ours.pt"),
        ("timm:resnet18//home/me/ours.safetensors", "timm:resnet18//ours.safetensors"),
        ("/data/{00000..00331}.tar", "{00000..00331}.tar"),
    ],
)
def test_public_names(name, shown):
    assert public(name) == shown


def test_no_local_path_of_a_recipe_gets_out(run):
    folder = run(
        dataset_name="imagefolder",
        data_dir="/home/me/pictures",
        teacher_model_name_or_path="/srv/secret/teacher",
        output_dir="/data/me/student",
        hub_token="hf_" + "a" * 34,
    )
    text = write_card(folder).read_text()
    check_form(text)
    assert all(name in text for name in ("`pictures`", "`teacher`", "# student")) and "secret" not in text
