"""``semfacediff web`` in a real browser, from upload to download, by mouse and by keyboard.

The server is the real one, with the parser of the package; faces are drawn. Screenshots are kept in
``outputs/browser``. Skipped where Gradio, Playwright or Chromium is not installed (`make browser`).
"""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="needs Gradio: make browser")
PATIENCE_MS = 180_000
"""A loaded machine is slow, not wrong."""
CUT = "parseFloat(document.querySelectorAll('#compare img')[1].style.clipPath.split(' ').pop())"
"""Where the edit begins, % of the picture's width."""
EVIL = "<img src=x onerror=alert(1)>${alert(2)}{{7*7}} green"


@pytest.fixture(scope="module")
def server(request, tmp_path_factory, repository):
    """(address, folder that holds the server's temporary files); ends by Ctrl-C, and leaves nothing."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    temporary = tmp_path_factory.mktemp("temporary")
    words = [sys.executable, "-m", "semfacediff.cli", "web", "--port", str(port), "--device", "cpu"]
    if request.config.getoption("--slow"):
        words += ["--weights", str(request.getfixturevalue("tiny_sdxl"))]
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(repository / "src")}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    said = process.stdout.readline()
    assert said == f"http://127.0.0.1:{port}/ (Ctrl-C ends it)\n"
    yield said.split()[0], temporary
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert not list(temporary.glob("semfacediff-web-*"))


@pytest.fixture(scope="module")
def photo(tmp_path_factory, toy_samples):
    """PNG of a drawn face."""
    file = tmp_path_factory.mktemp("photos") / "face.png"
    Image.fromarray(toy_samples(2, 256)[1].photo).save(file)
    return file


@pytest.fixture
def visit(browser, server):
    """``visit(width, scheme)`` is a visitor's page; the test fails if it errs or asks anything but the server."""
    contexts, said = [], []

    def come(width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("console", lambda message: message.type != "error" or said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}") or dialog.dismiss())
        known = (server[0], "data:", "blob:")
        page.on("request", lambda r: r.url.startswith(known) or said.append(f"request: {r.url}"))
        page.goto(server[0])
        page.wait_for_selector("html[data-ready]")
        contexts.append(context)
        return page

    yield come
    for context in contexts:
        context.close()
    assert said == []


def load(page, file):
    page.set_input_files("#upload input[type=file]", file)


def says(page, text):
    page.locator("#message", has_text=text).wait_for()


def edit(page, attribute, prompt, nth):
    page.locator(f"#attribute input[value={attribute}]").check()
    page.fill("#prompt input, #prompt textarea", prompt)
    page.locator("#go:not([disabled])").click()
    page.locator("#history li").nth(nth).wait_for()


def downloaded(page):
    """(pixels, record) of the files that the page offers."""
    found = []
    for kind in (".png", ".json"):
        with page.expect_download() as download:
            page.locator(f"#files a[download$='{kind}']").click()
        found.append(download.value.path())
    with Image.open(found[0]) as image:
        return np.asarray(image.convert("RGB")), json.loads(found[1].read_text())


def test_from_upload_to_download_and_back_again(visit, photo, server):
    """An edit, an edit of the edit, undo; and nothing is left when the visitor has gone."""
    page = visit()
    load(page, photo)
    says(page, "face.png: 256 x 256 px, one face.")
    assert "hair" in page.locator("#legend li").all_inner_texts()[-1] or page.locator("#legend li").count() > 5
    edit(page, "hair", "bright green hair", 0)
    first, facts = downloaded(page)
    before = np.asarray(Image.open(photo))
    assert (first != before).any()
    assert facts["outside_all_edits"] == {"psnr_outside": "inf", "max_abs_outside": 0}
    assert (facts["edits"][0]["prompt"], facts["parser"]["name"]) == ("bright green hair", "face_lite")
    edit(page, "clothing", "red", 1)
    second, facts = downloaded(page)
    assert (second != first).any()
    assert [e["attribute"] for e in facts["edits"]] == ["hair", "clothing"]
    assert "largest change outside: 0 of 255" in page.locator("#history").inner_text()
    page.click("#undo")
    says(page, "Undone.")
    assert np.array_equal(downloaded(page)[0], first)
    assert list(server[1].glob("*/visit-*"))
    page.context.close()
    until = time.monotonic() + 60
    while (left := list(server[1].glob("*/visit-*"))) and time.monotonic() < until:
        time.sleep(0.2)
    assert left == []
    assert not list(server[1].rglob("face.png"))


def test_a_click_on_the_parse_chooses_the_region(visit, photo):
    page = visit()
    load(page, photo)
    picture = page.locator("#parse img")
    picture.wait_for()
    box = picture.bounding_box()
    picture.click(position={"x": 0.5 * box["width"], "y": 0.97 * box["height"]})
    says(page, "cloth: the region is 'clothing'.")
    assert page.locator("#attribute input:checked").get_attribute("value") == "clothing"
    picture.click(position={"x": 2, "y": 2})
    says(page, "'background' is no region that can be edited; choose one of hair, lips")


def test_by_keyboard_alone(visit, photo):
    page = visit()
    load(page, photo)
    says(page, "one face")
    page.locator("#attribute input[value=hair]").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('#attribute input:checked').value === 'lips'")
    page.locator("#prompt input, #prompt textarea").focus()
    page.keyboard.type("dark blue, glossy")
    page.locator("#words dd", has_text="dark blue").wait_for()
    page.keyboard.press("Enter")
    page.locator("#history li", has_text="lips: dark blue, glossy").wait_for()
    page.locator("#edge input[type=range]").focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(f"{CUT} > 60")
    assert all(page.locator("#parse img, #mask img, #compare img").evaluate_all("(all) => all.map((i) => i.alt)"))


def test_bad_uploads_get_a_sentence(visit, tmp_path):
    page = visit()
    (tmp_path / "page.png").write_bytes(b"<html><script>alert(1)</script></html>")
    load(page, tmp_path / "page.png")
    says(page, "page.png: not a readable image")
    Image.new("1", (10_000, 10_000)).save(tmp_path / "large.png")
    load(page, tmp_path / "large.png")
    says(page, "large.png: 10000x10000 px is over the limit of 16000000 pixels; scale it down.")
    assert page.locator("#go").is_disabled()


def test_hostile_names_and_words_are_shown_and_do_nothing(visit, photo, tmp_path):
    page, file = visit(), tmp_path / "<img src=x onerror=alert(3)>.png"
    file.write_bytes(photo.read_bytes())
    load(page, file)
    says(page, "px, one face")
    edit(page, "hair", EVIL, 0)
    assert EVIL in page.locator("#history li").inner_text()
    page.locator("#words dd", has_text="onerror").wait_for()
    assert page.locator("img[src='x']").count() == 0
    assert "49" not in page.locator("#history").inner_text()


def test_two_visitors_at_once_keep_their_own_photos(visit, photo, tmp_path):
    pages, files = [visit(), visit()], [photo, tmp_path / "turned.png"]
    Image.open(photo).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(files[1])
    colours = ["bright green", "bright red"]
    for page, file, colour in zip(pages, files, colours, strict=True):
        load(page, file)
        page.fill("#prompt input, #prompt textarea", colour)
    for page in pages:
        page.locator("#go:not([disabled])").click()
    made = []
    for page, colour in zip(pages, colours, strict=True):
        page.locator("#history li", has_text=colour).wait_for()
        assert page.locator("#history li").count() == 1
        _, facts = downloaded(page)
        assert (facts["edits"][0]["prompt"], len(facts["edits"])) == (colour, 1)
        made.append(facts)
    assert [f["photo"] for f in made] == ["face.png", "turned.png"]


@pytest.mark.slow
def test_a_long_edit_can_be_stopped(visit, photo):
    """Fifty steps of the tiny pipeline."""
    page = visit()
    load(page, photo)
    says(page, "one face")
    page.locator("#editor input").click()
    page.get_by_role("option", name="sd_inpaint", exact=True).click()
    page.fill("#prompt input, #prompt textarea", "straight hair")
    page.locator("#words dd", has_text="of 77 tokens").first.wait_for()
    page.locator("#go:not([disabled])").click()
    page.locator("#cancel:not([disabled])").click()
    says(page, "The edit was stopped; the photo is as it was before.")
    page.locator("#go:not([disabled])").wait_for()
    assert page.locator("#history li").count() == 0


def test_runs_can_be_browsed(visit):
    page = visit()
    page.get_by_role("tab", name="Runs").click()
    page.locator("#run input").click()
    page.get_by_role("option", name="runs/recolor_strict").click()
    page.locator("#facts dd", has_text="strict").first.wait_for()
    page.locator("#summary").get_by_text("eyebrows").last.wait_for()
    assert page.locator("#facts img, #summary img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_how_it_looks(visit, photo, shots, scheme):
    """Nothing leaves the page at either width; the pictures are there to be looked at."""
    page = visit(1280, scheme)
    load(page, photo)
    edit(page, "hair", "copper red curly hair", 0)
    page.locator("#words dd", has_text="copper red").wait_for()
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.locator("#compare img").last.evaluate("(image) => image.decode()")
        page.screenshot(path=shots / f"web_{width}_{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.evaluate("document.body.classList.contains('dark')")
    assert dark == (scheme == "dark")
