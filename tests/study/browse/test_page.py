"""The page of answers: all rows, nothing of the data is read as HTML, its size. In a browser, keys and filters."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from answered_runs import write_run
from browser import CONTRASTS, FRAMES, OVERLAPS, Browser, looks, needs_browser
from PIL import Image

from hf_clip_kd.study.browse.page import LARGEST, ShownMap, page
from hf_clip_kd.study.browse.questions import questions_of, read_runs

EVIL = "</script><script>document.title = 'bad'</script><!-- <b>bold</b> & \u2028 \"quotes\" ' "
EVIL += "<img src=x onerror=\"document.title = 'bad'\">"
CATEGORIES = ("color", "shape <i>")


class Page(HTMLParser):
    """Read the elements of a page, and the text of its JSON."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.data, self._inside = [], [], "", False
        self.feed(text)
        self.data = json.loads(self.data)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self._inside = ("id", "data") in attributes

    def handle_data(self, text):
        if self._inside:
            self.data += text

    def handle_endtag(self, tag):
        self._inside = False


def made_up_runs(folder, count, models=("alone", "distilled"), per_image=2):
    """Two models and `count` questions. The first is right in those that 2 divides, the second if 2 or 3 does."""
    scores = [[i % 2 == 0 for i in range(count)], [i % 2 == 0 or i % 3 == 0 for i in range(count)]]
    asked = [
        {
            "prompt": EVIL if i == 0 else f"what color is object {i}?\nAnswer with a word.",
            "answer": EVIL if i == 0 else ("red", "blue")[i % 2],
            "references": ["red"] * 7 + ["blue"] * 3,
            "category": CATEGORIES[i % 2],
        }
        for i in range(count)
    ]
    images = [f"pictures/{i // per_image}.png" for i in range(count)]
    return read_runs(
        [
            write_run(folder / name, scores[i], model=name, images=images, bits=[1 + i] * count, questions=asked)
            for i, name in enumerate(models)
        ]
    )


def photograph(name):
    """A smooth picture that compresses about as a photograph does."""
    number = int(re.search(r"\d+", name)[0])
    pixels = np.random.default_rng(number).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((320, 240), Image.Resampling.BICUBIC)


def drawing(name):
    return photograph(name).resize((16, 12))


def maps_of(questions):
    values = base64.b64encode(bytes(range(0, 245, 5))).decode()
    return {name: {i: ShownMap(values, -0.25, 0.5) for i in range(len(questions))} for name in ("L <b>", "student")}


@pytest.fixture
def made(tmp_path):
    """A page of 12 questions about 6 pictures, of which the last is missing, with two heat maps each."""
    runs = made_up_runs(tmp_path, 12)
    questions = questions_of(runs)
    texts = {i: f"text {i} {EVIL}" for i in range(12)}
    return page(
        runs, questions, lambda name: None if "5" in name else drawing(name), texts=texts, maps=maps_of(questions)
    )


# ---- Text ----


def test_all_rows_are_there_and_each_picture_once(made):
    data = Page(made).data
    assert data["models"] == ["alone", "distilled"] and data["encoders"] == ["L <b>", "student"]
    assert [question["name"] for question in data["questions"]] == [str(i) for i in range(12)]
    assert [question["picture"] for question in data["questions"]] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, -1, -1]
    assert [shape for _, *shape in data["pictures"]] == [[16, 12]] * 5
    assert made.count("data:image/webp") == 5 and len({uri for uri, *_ in data["pictures"]}) == 5
    question = data["questions"][3]
    assert question["answers"] == [
        {"text": "blue", "score": 0, "bits": 1},
        {"text": "blue", "score": 1, "bits": 2},
    ]
    assert question["references"] == [["red", 7], ["blue", 3]]
    assert question["maps"][0][1:] == [-0.25, 0.5] and len(base64.b64decode(question["maps"][0][0])) == 49


def test_numbers_are_those_of_all_questions(tmp_path):
    runs = made_up_runs(tmp_path, 12)
    data = Page(page(runs, questions_of(runs)[:4], drawing)).data
    assert len(data["questions"]) == 4 and data["asked"] == 12
    assert [(row["model"], row["questions"], row["accuracy"]) for row in data["scores"]] == [
        ("alone", 12, "50.00"),
        ("distilled", 12, "66.67"),
    ]
    accuracy, bits = data["pairs"]
    assert (accuracy["A better"], accuracy["B better"], accuracy["drawn"]) == (0, 2, "6 images")
    assert bits["number"] == "answer bits" and bits["B − A"] == "+1.000"


def test_the_number_of_papers_stands_beside_the_mean_score(tmp_path):
    about = {"main_metric": "pair_accuracy", "metrics": {"accuracy": 0.5, "pair_accuracy": 0.25}}
    points = {"main_metric": "perception", "metrics": {"perception": 1234.5}}
    write_run(tmp_path, [1, 0], dataset="mmvp", **about)
    write_run(tmp_path, [1, 0], dataset="mme", **points)
    runs = read_runs([write_run(tmp_path, [1, 0])])
    rows = {
        row["benchmark"]: row["papers quote"] for row in Page(page(runs, questions_of(runs), drawing)).data["scores"]
    }
    assert rows == {"mmvp": "pair_accuracy: 25.00", "mme": "perception: 1234.50", "shapes": "–"}


def test_nothing_of_the_data_is_html(made):
    """The elements are those of a page with harmless texts, and the harmful texts come back as they were."""
    read = Page(made)
    assert read.data["questions"][0]["prompt"] == EVIL
    assert read.data["questions"][0]["answers"][0]["text"] == EVIL
    assert read.data["questions"][0]["text"] == f"text 0 {EVIL}"
    assert read.tags.count("script") == 2 and not {"b", "i", "img"} & set(read.tags)
    # Only the template's own elements have text that a browser reads as HTML.
    assert "<" not in re.search(r'id="data">(.*?)</script>', made, re.DOTALL)[1]
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", made)


def test_the_page_loads_nothing_and_stores_nothing(made):
    names = {name for name, _ in Page(made).attributes}
    assert not names & {"src", "href", "srcset", "action", "onclick"}
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttpRequest|localStorage", made)


def test_a_title_is_escaped(tmp_path):
    runs = made_up_runs(tmp_path, 2, models=("a <b>", "c & d"))
    text = page(runs, questions_of(runs), drawing)
    assert "<title>Answers of a &lt;b&gt; and c &amp; d</title>" in text


def test_the_page_has_colours_for_light_and_dark(made):
    style = re.search(r"<style>(.*?)</style>", made, re.DOTALL)[1]
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root {(.*?)}", style))
    assert list(light) == list(dark) and all(light[name] != dark[name] for name in light)
    assert ("name", "color-scheme") in Page(made).attributes


def test_questions_without_scores_bits_or_pictures(tmp_path):
    runs = read_runs([write_run(tmp_path, [None, None], images=["/home/me/photos/1.jpg"] * 2)])
    data = Page(page(runs, questions_of(runs), lambda name: None)).data
    assert data["questions"][0]["image"] == "1.jpg"
    assert data["pictures"] == [] and data["pairs"] == []
    assert data["scores"][0]["accuracy"] == data["scores"][0]["answer bits"] == "–"
    assert data["questions"][0]["answers"] == [{"text": "", "score": None, "bits": None}]


def test_pictures_shrink_until_the_page_is_small_enough(tmp_path):
    runs = made_up_runs(tmp_path, 12)
    widths = []
    for largest in (10**6, 60_000):
        text = page(runs, questions_of(runs), photograph, largest=largest)
        widths.append(Page(text).data["pictures"][0][1])
        assert len(text.encode()) <= largest
    assert widths[0] == 320 > widths[1]
    with pytest.raises(ValueError, match="6 pictures do not fit.*smaller `--max_questions`"):
        page(runs, questions_of(runs), photograph, largest=10_000)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A page of 3,000 questions, each with a picture of its own, and two heat maps of the finest grid."""
    runs = made_up_runs(tmp_path_factory.mktemp("large"), 3000, per_image=1)
    questions = questions_of(runs)
    values = base64.b64encode(bytes(256)).decode()
    maps = {name: {i: ShownMap(values, -1, 1) for i in range(3000)} for name in ("teacher", "student")}
    return page(runs, questions, photograph, texts=dict.fromkeys(range(3000), "a text of a map" * 5), maps=maps)


@pytest.mark.slow
def test_three_thousand_questions_take_twenty_megabytes(large):
    assert len(large.encode()) <= LARGEST == 20_000_000
    assert len(Page(large).data["questions"]) == 3000 and len(Page(large).data["pictures"]) == 3000


# ---- Browser ----

MEASURE = """(w, d) => {
  const at = id => d.getElementById(id), position = () => at("position").textContent;
  const press = (key, target = d.body) =>
    target.dispatchEvent(new w.KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const choose = (id, value) => {
    at(id).value = value;
    at(id).dispatchEvent(new w.Event(id === "words" ? "input" : "change"));
    return position();
  };
  const box = element => element.getBoundingClientRect();
  const shown = [...d.querySelectorAll("h1, h2, p, label, select, input, button, .wide, figure, img, canvas, #list")];
  const parts = ["filters", "steps", "question", "list"].map(id => box(at(id)));
  const overlaps = (a, b) =>
    a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  const found = {
    title: d.title,
    prompt: d.querySelector("h2").textContent,
    answer: d.querySelector("#question td").textContent,
    elements: d.querySelectorAll("main b, main i, script").length,
    loaded: [...d.images].filter(one => one.complete && one.naturalWidth > 0).length,
    maps: d.querySelectorAll("canvas").length,
    sticking_out: shown.filter(one => box(one).right > w.innerWidth + 1 || box(one).left < -1).length,
    overlapping: parts.filter((a, i) => parts.some((b, j) => i < j && overlaps(a, b))).length,
    beside: box(at("list")).left > box(at("question")).right,
    open: at("numbers").open,
    figures: new Set([...d.querySelectorAll("figure")].map(one => Math.round(box(one).top))).size,
    steps: [position()],
  };
  for (const [key, target] of [["ArrowRight"], ["End"], ["ArrowLeft"], ["Home"], ["ArrowDown", at("list")],
      ["ArrowUp", at("list")], ["ArrowRight", at("words")]]) {
    press(key, target);
    found.steps.push(position());
  }
  press("/");
  found.focus = d.activeElement.id;
  found.outcomes = [...at("outcome").options].map(option => option.textContent);
  found.filtered = found.outcomes.map((_, i) => choose("outcome", i));
  choose("outcome", 0);
  found.filtered.push(choose("category", "color"), choose("words", "OBJECT 4"), choose("words", "none"));
  choose("words", "");
  choose("category", "");
  found.filtered.push(choose("order", "apart"), choose("outcome", 2));
  found.selected = d.querySelectorAll('[aria-selected="true"]').length;
  found.listed = d.querySelectorAll("#list li").length;
  return found;
}"""


@pytest.mark.slow
@needs_browser
def test_the_page_on_a_phone_and_on_a_desk_in_light_and_dark(made, tmp_path):
    seen = looks(made, MEASURE, tmp_path)
    assert [(frame["width"], frame["dark"]) for frame in seen] == FRAMES
    for frame in seen:
        assert frame["title"] == "Answers of alone and distilled" and frame["elements"] == 2
        assert frame["prompt"] == frame["answer"] == EVIL
        assert frame["loaded"] == 3 and frame["maps"] == 2
        assert frame["sticking_out"] == frame["overlapping"] == 0 and frame["overflow"] <= 0
        desk = frame["width"] == 1000
        assert frame["beside"] == frame["open"] == desk
        assert frame["figures"] == (1 if desk else 2)  # rows of a picture and its two maps
        assert frame["steps"] == [
            f"{number} of 12" for number in (1, 2, 12, 11, 1, 2, 1, 1)
        ]  # The last key was pressed in a text field.
        assert frame["focus"] == "words"
        assert frame["outcomes"] == [
            "all questions", "alone right, distilled wrong", "distilled right, alone wrong", "answers differ",
            "all right", "all wrong",
        ]  # fmt: skip
        # The first is right in 6 questions, and the second in 3 and 9 besides.
        none = "no question is left"
        assert frame["filtered"] == [
            "1 of 12", none, "1 of 2", none, "1 of 6", "1 of 4",  # outcomes
            "1 of 6", "1 of 1", none,  # type and words
            "1 of 12", "1 of 2",  # order and outcome
        ]  # fmt: skip
        assert frame["selected"] == 1 and frame["listed"] == 2


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


POSITION = 'document.getElementById("position").textContent'
# The element with the focus, and how its outline differs from the page.
FOCUS = """(() => {
  const one = document.activeElement, style = getComputedStyle(one);
  return [one.id || one.textContent.slice(0, 7), style.outlineStyle !== "none" && parseFloat(style.outlineWidth)];
})()"""


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("width", "dark"), FRAMES)
def test_nothing_lies_on_anything_and_all_can_be_read(made, browser, tmp_path, width, dark):
    """`--basetemp outputs/looks` keeps a picture of each screen, for a person to look at."""
    (tmp_path / "page.html").write_text(made)
    browser.open(tmp_path / "page.html", width, dark)
    for number in (0, 1, 10):  # a hostile text, a plain one, and one whose picture is missing
        browser.value(f"show({number})")
        assert browser.value(OVERLAPS) == []
        contrasts = browser.value(CONTRASTS)
        assert len(contrasts) > 20 and [pair for pair in contrasts if pair[1] < 4.5] == []
        browser.picture(tmp_path / f"{width}-{'dark' if dark else 'light'}-{number}.png")
    # The checks see what they look for.
    browser.value('document.getElementById("words").style.cssText = "color: #808080; margin-top: -3em"')
    assert browser.value(OVERLAPS)
    assert [name for name, ratio in browser.value(CONTRASTS) if ratio < 4.5] == ["words"]


@pytest.mark.slow
@needs_browser
def test_all_controls_are_reached_and_used_by_keys(made, browser, tmp_path):
    (tmp_path / "page.html").write_text(made)
    browser.open(tmp_path / "page.html", 1000, False)
    reached = []
    for _ in range(8):
        browser.press("Tab")
        name, outline = browser.value(FOCUS)
        assert outline >= 2, name
        reached.append(name)
    # The first button has nothing to go back to yet.
    assert reached == ["Numbers", "outcome", "benchmark", "category", "order", "words", "next", "list"]
    browser.press("ArrowDown")
    assert browser.value(POSITION) == "2 of 12"
    browser.value('document.getElementById("next").focus()')
    for key, position in (("Enter", 3), (" ", 4)):
        browser.press(key)
        assert browser.value(POSITION) == f"{position} of 12"
    opened = browser.value('document.getElementById("numbers").open')
    browser.value('document.querySelector("summary").focus()')
    browser.press("Enter")
    assert browser.value('document.getElementById("numbers").open') is not opened


@pytest.mark.slow
@needs_browser
def test_types_are_those_of_the_benchmark(browser, tmp_path):
    folders = [
        write_run(tmp_path, [1, 0], dataset=name, questions=[{"category": kind}, {"category": kind}])
        for name, kind in (("gqa", "query"), ("blink", "Counting"))
    ]
    runs = read_runs(folders[:1])
    (tmp_path / "page.html").write_text(page(runs, questions_of(runs), drawing))
    browser.open(tmp_path / "page.html", 1000, False)
    listed = '[...document.getElementById("category").options].map(option => option.value)'
    assert browser.value(listed) == ["", "Counting", "query"]
    browser.value("""{ const chosen = document.getElementById("benchmark"); chosen.value = "gqa";
        chosen.dispatchEvent(new Event("change")); }""")
    assert browser.value(listed) == ["", "query"]


@pytest.mark.slow
@needs_browser
def test_three_thousand_questions_open_and_are_stepped_through(large, browser, tmp_path):
    (tmp_path / "page.html").write_text(large)
    browser.open(tmp_path / "page.html", 1000, False)
    assert browser.value(POSITION) == "1 of 3000"
    assert browser.value('document.querySelectorAll("#list li").length') == 3000
    browser.press("End")
    assert browser.value(POSITION) == "3000 of 3000"
    assert browser.value('document.querySelector("#question img").naturalWidth') > 0
