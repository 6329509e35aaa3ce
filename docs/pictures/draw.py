"""The README's pictures, most of them of one photo in the public domain (NASA's portrait of Eileen Collins).

    make pictures                                 # trains and edits the demo first; needs what `make browser` installs
    python docs/pictures/draw.py --synthesis RUN  # of evaluate.py task=synthesis on drawn faces (docs/synthesis.md)

`before_after.png` shows one edit, `report.png` the demo's report and `web.png` the page of `semfacediff web`, both as a
browser shows them. `synthesis.png` is what a run shows of its model.
"""

import argparse
import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from scipy.spatial import cKDTree

import semfacediff
from semfacediff.labels import CELEBAMASK, palette
from semfacediff.tables.figures import panel_figure

HERE = Path(__file__).parent
DEMO = HERE.parents[1] / "outputs" / "demo"
FACE = (slice(5, 215), slice(125, 335))
"""Rows and columns of the portrait."""
HEAD = (slice(0, 256), slice(96, 352))
"""More of it, with the suit."""
WIDTH = 1400
"""Of the picture of a synthesis run, px."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--synthesis", type=Path, metavar="RUN", help="draw synthesis.png alone, from this run")
    run = arguments.parse_args().synthesis
    if run is None:
        _demo_and_portrait()
    else:
        shown = Image.open(run / "figures" / "showcase.png", formats=("PNG",))
        _small(
            shown.resize((WIDTH, WIDTH * shown.height // shown.width), Image.Resampling.LANCZOS), HERE / "synthesis.png"
        )


def _demo_and_portrait() -> None:
    _before_and_after(np.ascontiguousarray(skimage.data.astronaut()[HEAD]))
    portrait = np.ascontiguousarray(skimage.data.astronaut()[FACE])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(300_000)
        _report(page)
        with _served() as address:
            _web(page, address, portrait)
        browser.close()


def _before_and_after(photo: np.ndarray) -> None:
    """The photo, an edit of it, and the pixels that the edit changed."""
    edit = semfacediff.edit(photo, "hair", "copper red hair", labels=semfacediff.parse(photo))
    changed = (edit != photo).any(-1).astype(np.float32)
    row = [("before", photo), ("after: copper red hair", edit), ("pixels that changed", changed)]
    panel_figure([row], "", HERE / "before_after.png")
    _small(Image.open(HERE / "before_after.png", formats=("PNG",)), HERE / "before_after.png")


def _report(page: Page) -> None:
    page.goto((DEMO / "report" / "index.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    page.locator("#gallery").scroll_into_view_if_needed()
    page.locator("#gallery img").evaluate_all("(all) => Promise.all(all.map((image) => image.decode()))")
    page.locator("#samples").evaluate("(section) => section.scrollIntoView()")
    _shot(page, HERE / "report.png")


def _web(page: Page, address: str, photo: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "png")
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    page.set_input_files("#upload input", {"name": "astronaut.png", "mimeType": "image/png", "buffer": file.getvalue()})
    page.locator("#message", has_text="one face").wait_for()
    page.fill("#prompt input, #prompt textarea", "copper red hair")
    page.locator("#words dd", has_text="copper red").wait_for()
    page.locator("#go:not([disabled])").click()
    page.locator("#history li").wait_for()
    page.locator("#compare img").evaluate_all("(all) => Promise.all(all.map((image) => image.decode()))")
    _shot(page, HERE / "web.png")


@contextlib.contextmanager
def _served() -> Iterator[str]:
    """Address of `semfacediff web` with the parser of the package."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    words = [sys.executable, "-m", "semfacediff.cli", "web", "--port", port]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ)
    try:
        yield process.stdout.readline().split()[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _shot(page: Page, file: Path) -> None:
    _small(Image.open(io.BytesIO(page.screenshot()), formats=("PNG",)), file)


def _small(picture: Image.Image, file: Path) -> None:
    """In 256 colours, white and those of the classes among them: legends, being small, would lose theirs."""
    plain, kept = picture.convert("RGB"), np.vstack([palette(CELEBAMASK), [[255, 255, 255]]])
    common = plain.quantize(256 - len(kept), kmeans=2).getpalette()
    colours = np.vstack([kept, np.reshape(common, (-1, 3))])
    nearest = cKDTree(colours).query(np.asarray(plain))[1].astype(np.uint8)  # Pillow's own search is a rough one
    small = Image.fromarray(nearest)
    small.putpalette(colours.astype(np.uint8).tobytes())
    small.save(file, optimize=True)


def _chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return found or sys.exit("no Chromium: make browser")


if __name__ == "__main__":
    main()
