"""Report in a headless browser, if there is one: every figure, in the reader's colours, with nothing sticking out."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import made_up_study as made_up
import pytest

from hf_clip_kd.study.report.figures import FIGURES
from hf_clip_kd.study.report.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# A frame has the width and the colours of a screen. The script writes the look of its page for the test to read.
FRAMES = """<!DOCTYPE html><meta charset="utf-8"><body>
<iframe style="width: 360px; height: 800px; border: 0; color-scheme: light" srcdoc="{page}"></iframe>
<iframe style="width: 360px; height: 800px; border: 0; color-scheme: dark" srcdoc="{page}"></iframe>
<iframe style="width: 1000px; height: 800px; border: 0; color-scheme: light" srcdoc="{page}"></iframe>
<iframe style="width: 1000px; height: 800px; border: 0; color-scheme: dark" srcdoc="{page}"></iframe>
<script>
addEventListener("load", () => {{
  const seen = [...document.querySelectorAll("iframe")].map(({{ contentWindow: w, contentDocument: d }}) => {{
    const images = [...d.images], blocks = [...d.querySelectorAll("p, h1, h2, h3, li > *, img, table")];
    const boxes = blocks.map(block => block.getBoundingClientRect());
    return {{
      width: w.innerWidth,
      dark: w.getComputedStyle(d.body).backgroundColor === "rgb(22, 24, 28)",
      loaded: images.filter(one => one.complete && one.naturalWidth > 0).length,
      narrow: images.filter(one => one.naturalWidth < 400).length,
      forms: new Set(images.map(one => one.currentSrc)).size,
      first: images[0].currentSrc.slice(-2000),
      sticking_out: boxes.filter(box => box.right > w.innerWidth + 1 || box.left < -1).length,
      overflow: d.documentElement.scrollWidth - w.innerWidth,
    }};
  }});
  document.body.innerHTML = "<pre>" + JSON.stringify(seen) + "</pre>";
}});
</script>"""


def made_up_report(folder):
    made_up.write(folder, made_up.cells())
    write_report(folder)
    return folder / "report.html"


def committed_report(folder):
    return Path(__file__).parents[3] / "model_cards/miniature/report.html"


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no browser")
@pytest.mark.parametrize("report", [made_up_report, committed_report])
def test_the_page_on_a_phone_and_on_a_desk_in_light_and_dark(report, tmp_path):
    page = html.escape(report(tmp_path / "study").read_text(), quote=True)
    (tmp_path / "frames.html").write_text(FRAMES.format(page=page))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    shown = subprocess.run(
        [*command, (tmp_path / "frames.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    seen = json.loads(html.unescape(re.search(r"<pre>(.*?)</pre>", shown.stdout, re.DOTALL)[1]))
    assert [(page["width"], page["dark"]) for page in seen] == [(360, False), (360, True), (1000, False), (1000, True)]
    assert len({page["first"] for page in seen}) == 4  # each has a form of its own
    for page in seen:
        assert page["loaded"] == page["forms"] == len(FIGURES)
        assert page["narrow"] == (len(FIGURES) if page["width"] == 360 else 0)
        assert page["sticking_out"] == 0 and page["overflow"] <= 0
