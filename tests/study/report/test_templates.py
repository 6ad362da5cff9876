"""The page of a report: every figure is there, in the reader's width and colours. In a browser, nothing sticks out."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import made_up_study as made_up
import pytest
from browser import FRAMES, looks, needs_browser

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.report.figures import figures_of
from hf_clip_kd.study.report.report import FORMS, write_report

ROOT = Path(__file__).parents[3]

MEASURE = """(w, d) => {
  const images = [...d.images], boxes =
    [...d.querySelectorAll("p, h1, h2, h3, li > *, img, table")].map(box => box.getBoundingClientRect());
  return {
    loaded: images.filter(one => one.complete && one.naturalWidth > 0).length,
    narrow: images.filter(one => one.naturalWidth < 400).length,
    forms: new Set(images.map(one => one.currentSrc)).size,
    first: images[0].currentSrc.slice(-2000),
    sticking_out: boxes.filter(box => box.right > w.innerWidth + 1 || box.left < -1).length,
  };
}"""


@pytest.fixture(scope="module", params=[pytest.param("made up", marks=pytest.mark.slow), "committed"])
def report(request, tmp_path_factory):
    """The path of a `report.html`, with all that lies beside it."""
    if request.param == "committed":
        return ROOT / "model_cards/miniature/report.html"
    folder = made_up.write(tmp_path_factory.mktemp("study") / "whole", made_up.cells())
    write_report(folder)
    return folder / "report.html"


# ---- Page ----


class Page(HTMLParser):
    """Read the links, the pictures and the meta tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors, self.meta, self.pictures = [], set(), {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes["id"]} if "id" in attributes else set()
        if tag == "a":
            self.links.append(attributes["href"])
        elif tag == "meta" and "name" in attributes:
            self.meta[attributes["name"]] = attributes["content"]
        elif tag == "picture":
            self.pictures.append({})
        elif tag == "source":
            self.pictures[-1][attributes["media"]] = attributes["srcset"]
        elif tag == "img":
            self.pictures[-1] |= {"title": attributes["alt"], "": attributes["src"]}


def drawing(url):
    """Return the width of an SVG in CSS pixels, and the colours of its shapes in the order of drawing."""
    data = base64.b64decode(url.removeprefix("data:image/svg+xml;base64,"), validate=True)
    width = ElementTree.fromstring(data).attrib["width"]
    return float(width.removesuffix("pt")) * 96 / 72, re.findall(r"(?:fill|stroke): (#\w{6})", data.decode())


def test_every_figure_has_a_form_for_each_width_and_colour(report):
    page = Page(report.read_text())
    titles = [figure.title for figure in figures_of(read_study(report.parent)).values()]
    assert [picture.pop("title") for picture in page.pictures] == titles
    for picture in page.pictures:
        # The first form that fits is shown, so the order counts.
        assert list(picture) == [*FORMS.values(), ""] and len(set(picture.values())) == 4
        for media, url in picture.items():
            width, colours = drawing(url)
            assert width < 360 if "max-width" in media else 600 < width < 800
            # Numbers on a map of colours may have the other ink, so the first texts count, beside the axes.
            inks = [colour for colour in colours if colour in ("#e8e8e8", "#1a1a1a")]
            assert inks[0] == ("#e8e8e8" if "dark" in media else "#1a1a1a")


def test_links_lead_somewhere_and_the_page_follows_width_and_colours(report):
    text = report.read_text()
    page = Page(text)
    for link in page.links:
        assert link.startswith("https://") or link.removeprefix("#") in page.anchors, link
    assert page.meta["viewport"] == "width=device-width, initial-scale=1"
    assert page.meta["color-scheme"] == "light dark"
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    for selector, rule in (("img", "max-width: 100%"), ("table", "overflow-x: auto"), ("body", "overflow-wrap")):
        assert rule in re.search(rf"^{selector} {{(.*?)}}", style, re.MULTILINE)[1]
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root {(.*?)}", style))
    assert list(light) == list(dark) and all(light[name] != dark[name] for name in light)
    assert style.index("prefers-color-scheme: dark") < style.index(dark["page"])


def test_files_that_the_markdown_names_are_there(report):
    folder = report.parent
    files = re.findall(r'figures/[^")]+', (folder / "report.md").read_text())
    assert len(set(files)) >= 4 * len(figures_of(read_study(folder)))
    assert [path for path in files if not (folder / path).is_file()] == []


# ---- Browser ----


@pytest.mark.slow
@needs_browser
def test_the_page_on_a_phone_and_on_a_desk_in_light_and_dark(report, tmp_path):
    seen = looks(report.read_text(), MEASURE, tmp_path)
    assert [(frame["width"], frame["dark"]) for frame in seen] == FRAMES
    assert len({frame["first"] for frame in seen}) == 4  # each has a form of its own
    count = len(figures_of(read_study(report.parent)))
    for frame in seen:
        assert frame["loaded"] == frame["forms"] == count
        assert frame["narrow"] == (count if frame["width"] == 360 else 0)
        assert frame["sticking_out"] == 0 and frame["overflow"] <= 0
