"""The report in a real browser: nothing is wider than the window, on a desk and on a phone."""

import html as escaping
import json
import re
import shutil
import subprocess

import pytest

from tests.report import samples
from tfapp.report import render

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1280,900 --virtual-time-budget=5000 --dump-dom"
).split()
WIDTHS = (1280, 768, 375, 360, 320)

# Browsers refuse windows as narrow as a phone, but a frame may be as narrow as it likes.
PROBE = """
<script>
addEventListener("load", () => {
  const told = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, root = page.documentElement, width = frame.contentWindow.innerWidth;
    const boxed = e => e && (getComputedStyle(e).overflowX == "auto" || boxed(e.parentElement));
    const wide = [...page.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > width + 1 && !boxed(e));
    const boxes = [...page.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect());
    return {
      page: frame.title, width, scroll: root.scrollWidth, wide: wide.slice(0, 3).map(e => e.outerHTML.slice(0, 120)),
      plots: boxes.length, drawn: boxes.filter(b => b.width > 200 && b.height > 100).length,
      letters: Math.min(...[...page.querySelectorAll("p, td, dd, li")].map(e => parseFloat(getComputedStyle(e).fontSize))),
    };
  });
  document.body.textContent = "PROBE" + JSON.stringify(told) + "END";
});
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH")
def test_nothing_is_wider_than_the_window(tmp_path):
    pages = {name: render(make()) for name, make in samples.SAMPLES.items()} | {"comparison": samples.comparison()}
    frames = [
        f'<iframe title="{name}" style="border:0;width:{width}px;height:900px" srcdoc="{escaping.escape(page)}"></iframe>'
        for name, page in pages.items()
        for width in WIDTHS
    ]
    file = tmp_path / "frames.html"
    file.write_text("<!DOCTYPE html><meta charset='utf-8'><body>" + "".join(frames) + PROBE, encoding="utf-8")
    command = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    told = json.loads(escaping.unescape(re.search(r"PROBE(.*?)END", shown, re.S)[1]))
    assert len(told) == len(pages) * len(WIDTHS)
    for page in told:
        assert page["scroll"] <= page["width"] and not page["wide"], page
        assert page["drawn"] == page["plots"] > 0, page
        assert page["letters"] >= 11, page
