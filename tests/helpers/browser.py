"""Pages in a headless browser: at the width of a phone and of a desk, in light and dark."""

import base64
import html
import json
import os
import re
import select
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


# Key to its `code`, number and text, as a keyboard sends them.
KEYS = {"Tab": ("Tab", 9, ""), "Enter": ("Enter", 13, "\r"), " ": ("Space", 32, " ")}
KEYS |= {"End": ("End", 35, ""), "ArrowDown": ("ArrowDown", 40, "")}
# Texts and controls that a reader sees, as `{name, part, node, box}`; `node` is the element of a text.
SEEN = """
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), seen = [];
const clip = (box, node) => {
  for (let up = node; up; up = up.parentElement) {
    if (getComputedStyle(up).overflowY === "visible") continue;
    const outer = up.getBoundingClientRect();
    box = { left: Math.max(box.left, outer.left), right: Math.min(box.right, outer.right),
            top: Math.max(box.top, outer.top), bottom: Math.min(box.bottom, outer.bottom) };
  }
  return box;
};
const add = (name, part, node, box) => {
  const shown = clip(box, node);
  const visible = node.checkVisibility() && shown.right > shown.left && shown.bottom > shown.top;
  if (visible) seen.push({ name, part, node, box: shown });
};
while (walker.nextNode()) {
  const text = walker.currentNode, node = text.parentElement, range = document.createRange();
  if (!text.data.trim() || node.closest("script, style, noscript, option")) continue;
  range.selectNodeContents(text);
  for (const box of range.getClientRects()) add(text.data.trim().slice(0, 40), text, node, box);
}
for (const node of document.querySelectorAll("select, input, button, img"))
  add(node.id || node.tagName, node, node, node.getBoundingClientRect());
"""
# Pairs of names that lie on each other, although neither is a part of the other.
OVERLAPS = f"""(() => {{ {SEEN}
const whole = (a, b) => a.part.contains(b.part) || b.part.contains(a.part);
const on = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
const under = (a, i) => seen.slice(i + 1).filter(b => !whole(a, b) && on(a.box, b.box));
return seen.flatMap((a, i) => under(a, i).map(b => [a.name, b.name]));
}})()"""
# Texts with their contrast to what lies behind them, as WCAG 2 defines it. Disabled controls need none.
CONTRASTS = f"""(() => {{ {SEEN}
const parts = colour => {{
  const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
  return {{ rgb: [r, g, b], a }};
}};
const mix = (top, below, share) => top.map((value, i) => share * value + (1 - share) * below[i]);
const light = rgb => {{
  const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}};
return seen.filter(({{ node }}) => !node.matches(":disabled, img")).map(({{ name, node }}) => {{
  let share = 1, behind = null;
  for (let up = node; up; up = up.parentElement) {{
    const style = getComputedStyle(up), ground = parts(style.backgroundColor);
    if (behind === null && ground.a > 0) behind = ground.rgb;
    share *= Number(style.opacity);
  }}
  const ink = mix(parts(getComputedStyle(node).color).rgb, behind, share);
  const [high, low] = [light(ink), light(behind)].sort((x, y) => y - x);
  return [name, (high + 0.05) / (low + 0.05)];
}});
}})()"""


class Browser:
    """
    A headless browser that does as it is told, over two pipes with the messages of DevTools.

    Keys come from the browser itself, so Tab, Enter and the space key do what they do for a reader.
    """

    def __enter__(self):
        read, self._to = os.pipe()
        self._from, write = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars"]
        # The browser reads from 3 and writes to 4. Plain `sh` knows no numbers of two digits.
        command = ["bash", "-c", f'exec "$0" "$@" 3<&{read} 4>&{write}', BROWSER, *options]
        self._process = subprocess.Popen(command, pass_fds=(read, write), stderr=subprocess.DEVNULL)
        os.close(read)
        os.close(write)
        self._buffer, self._number, self._session = b"", 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def call(self, method, **params):
        """Return the answer to a message."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {} if self._session is None else {"sessionId": self._session}
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        answer = self._wait(lambda answer: answer.get("id") == self._number)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path, width, dark):
        """Show a file on a screen of so many pixels, and return when it is loaded."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=path.as_uri())
        self._wait(lambda answer: answer.get("method") == "Page.loadEventFired")

    def value(self, expression):
        """Return the value of JavaScript."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key):
        """Press a key and let go of it."""
        code, number, text = KEYS[key]
        options = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", type="keyDown", **options, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **options)

    def picture(self, path):
        """Write what the screen shows as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _wait(self, wanted):
        while True:
            message, end, rest = self._buffer.partition(b"\0")
            if not end:
                ready, _, _ = select.select([self._from], [], [], 60)
                assert ready, "The browser did not answer within a minute."
                data = os.read(self._from, 2**20)
                assert data, "The browser has ended."
                self._buffer += data
                continue
            self._buffer = rest
            if wanted(answer := json.loads(message)):
                return answer
