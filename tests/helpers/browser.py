"""Pages in a headless browser: at the width of a phone and of a desk, in light and dark."""

import html
import json
import re
import shutil
import subprocess

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs a browser")
FRAMES = [(360, False), (360, True), (1000, False), (1000, True)]

# A frame has the width and the colours of a screen. Its page's looks are written where the test can read them.
FRAME = '<iframe style="width: {width}px; height: 800px; border: 0; color-scheme: {scheme}" srcdoc="{page}"></iframe>'
READ = """<script>
addEventListener("load", () => {
  const measure = MEASURE;
  const seen = [...document.querySelectorAll("iframe")].map(({ contentWindow: w, contentDocument: d }) => ({
    width: w.innerWidth,
    dark: w.getComputedStyle(d.body).backgroundColor === "rgb(22, 24, 28)",
    ...measure(w, d),
    overflow: d.documentElement.scrollWidth - w.innerWidth,
  }));
  const shown = document.createElement("pre");
  shown.textContent = JSON.stringify(seen);
  document.body.replaceChildren(shown);
});
</script>"""


def looks(page, measure, folder):
    """
    Return what a page looks like in each of `FRAMES`: `width`, `dark`, `overflow`, and what `measure` returns.

    `measure` is the text of a JavaScript function from the frame's window and document to an object.
    """
    page = html.escape(page, quote=True)
    frames = [FRAME.format(width=width, scheme="dark" if dark else "light", page=page) for width, dark in FRAMES]
    path = folder / "frames.html"
    path.write_text('<!DOCTYPE html><meta charset="utf-8"><body>' + "".join(frames) + READ.replace("MEASURE", measure))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    shown = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120)
    return json.loads(html.unescape(re.search(r"<pre>(.*?)</pre>", shown.stdout, re.DOTALL)[1]))
