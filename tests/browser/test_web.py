"""``semfacediff web`` in a real browser, from upload to download, by mouse and by keyboard.

The server is the real one, with the parser of the package; faces are drawn. Screenshots are kept in
``outputs/browser``. Skipped where Gradio, Playwright or Chromium is not installed (`make browser`).
"""

import contextlib
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
PROMPT = "#prompt input, #prompt textarea"
EVIL = "<img src=x onerror=alert(1)>${alert(2)}{{7*7}} green"
SLOW = "slowly"
SERVE = f"""
import sys, time
from semfacediff import cli
from semfacediff.web import model_store as store, portrait, styling
edit, make = portrait.edit, styling.make
def wait(stop, on_step, of):
    while True:
        on_step(1, of)
        time.sleep(0.05)
        stop.check()
def edited(at, form, store, stop, on_step):
    if "{SLOW}" in form.prompt:
        wait(stop, on_step, 9)
    return edit(at, form, store, stop, on_step)
def made(first, second, wanted, model, stop, on_step):
    if wanted.options.steps == 200:
        wait(stop, on_step, 200)
    return make(first, second, wanted, model, stop, on_step)
portrait.edit, styling.make = edited, made
plain, tiny = store.base_settings, ["editor.native_size=64", "editor.steps=500"]
store.base_settings = lambda editor, words: plain(editor, tiny if editor == "sd_inpaint" else words)
sys.exit(cli.main(["web", *sys.argv[1:]]))
"""
"""The real server; the tiny pipeline at its own size, and with more steps than anybody waits for.

An edit whose prompt holds ``SLOW`` lasts until it is stopped, and so does a synthesis of 200 steps.
"""


@contextlib.contextmanager
def serving(temporary, repository, *options):
    """Address of a server that keeps its files in ``temporary``; it ends by Ctrl-C, and leaves nothing."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-c", SERVE, "--port", str(port), "--device", "cpu", *map(str, options)]
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(repository / "src")}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        said = process.stdout.readline()
        assert said == f"http://127.0.0.1:{port}/ (Ctrl-C to stop)\n"
        yield said.split()[0]
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
    assert code == 0
    assert not list(temporary.glob("semfacediff-web-*"))


@pytest.fixture(scope="module")
def models(request, tiny_synthesis):
    """Options that name them; a diffusion pipeline with ``--slow`` alone."""
    slow = ["--weights", request.getfixturevalue("tiny_sdxl")] if request.config.getoption("--slow") else []
    return ["--synthesis", tiny_synthesis, *slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory, repository, models):
    """(address, folder that holds the server's temporary files)."""
    temporary = tmp_path_factory.mktemp("temporary")
    with serving(temporary, repository, *models) as address:
        yield address, temporary


@pytest.fixture(scope="module")
def photo(tmp_path_factory, toy_samples):
    """PNG of a drawn face."""
    file = tmp_path_factory.mktemp("photos") / "face.png"
    Image.fromarray(toy_samples(2, 256)[1].photo).save(file)
    return file


@pytest.fixture(scope="module")
def other(photo, toy_samples):
    """PNG of another one, higher than wide."""
    file = photo.with_name("other.png")
    Image.fromarray(toy_samples(3, 256)[2].photo[:, 20:230]).save(file)
    return file


@pytest.fixture
def visit(browser, server):
    """``visit(width, scheme)`` is an open page; the test fails if it errs or asks anything but the server."""
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
        goto(page, server[0])
        contexts.append(context)
        return page

    yield come
    for context in contexts:
        context.close()
    assert said == []


def goto(page, address):
    page.goto(address)
    page.wait_for_selector("html[data-ready]")


def left_open(browser):
    """A page that outlives its server."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    return contextlib.closing(page)


def load(page, file, upload="upload"):
    page.set_input_files(f"#{upload} input[type=file]", file)


def says(page, text, message="message"):
    page.locator(f"#{message}", has_text=text).wait_for()


def load_two(page, first, second):
    """On the tab of two photos."""
    page.get_by_role("tab", name="Two photos").click()
    for upload, file in (("first", first), ("second", second)):
        load(page, file, upload)
        says(page, f"{upload.capitalize()} photo: {file.name}", "style-message")


def choose(page, dropdown, option):
    page.locator(f"#{dropdown} input").click()
    page.get_by_role("option", name=option, exact=True).click()


def begin_a_long_synthesis(page, first, second):
    """200 steps."""
    load_two(page, first, second)
    page.locator("#task input[value=interpolate]").check()
    choose(page, "steps", "200")
    page.locator("#style-go:not([disabled])").click()
    page.locator("#style-cancel:not([disabled])").wait_for()
    page.locator("#result", has_text="/200").wait_for()


def begin_a_long_edit(page, photo):
    load(page, photo)
    says(page, "one face")
    choose(page, "editor", "sd_inpaint")
    page.fill(PROMPT, "straight hair")
    page.locator("#words dd", has_text="of 77 tokens").first.wait_for()
    page.locator("#go:not([disabled])").click()
    page.locator("#cancel:not([disabled])").wait_for()
    page.locator("#compare", has_text="/450").wait_for()


def begin_a_slow_edit(page, photo):
    load(page, photo)
    says(page, "one face")
    enter_a_slow_prompt(page)


def enter_a_slow_prompt(page):
    """By the key."""
    page.locator("#go:not([disabled])").wait_for()
    page.fill(PROMPT, f"bright green, {SLOW}")
    page.locator("#words dd", has_text=SLOW).first.wait_for()
    page.press(PROMPT, "Enter")
    page.locator("#compare", has_text="1/9").wait_for()


def edit(page, attribute, prompt, nth):
    page.locator(f"#attribute input[value={attribute}]").check()
    page.fill(PROMPT, prompt)
    page.locator("#go:not([disabled])").click()
    page.locator("#history li").nth(nth).wait_for()


def downloaded(page, files="files"):
    """(pixels, record) of the files that the page offers."""
    found = []
    for kind in (".png", ".json"):
        with page.expect_download() as download:
            page.locator(f"#{files} a[download$='{kind}']").first.click()
        found.append(download.value.path())
    with Image.open(found[0]) as image:
        return np.asarray(image.convert("RGB")), json.loads(found[1].read_text())


def test_from_upload_to_download_and_back_again(visit, photo, server):
    """An edit, an edit of the edit, undo; and nothing is left when the page was closed."""
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
    assert list(server[1].glob("*/page-*"))
    page.context.close()
    until = time.monotonic() + 60
    while (left := list(server[1].glob("*/page-*"))) and time.monotonic() < until:
        time.sleep(0.2)
    assert left == []
    assert not list(server[1].rglob("face.png"))


@pytest.mark.slow
def test_a_click_on_the_parse_chooses_the_region(visit, photo):
    page = visit()
    load(page, photo)
    picture = page.locator("#parse img")
    picture.wait_for()
    box = picture.bounding_box()
    picture.click(position={"x": 0.5 * box["width"], "y": 0.97 * box["height"]})
    says(page, "Region 'clothing' selected (upper body clothing).")
    assert page.locator("#attribute input:checked").get_attribute("value") == "clothing"
    picture.click(position={"x": 2, "y": 2})
    says(page, "'background' cannot be edited; choose one of hair, lips")


@pytest.mark.slow
def test_the_mask_is_painted_erased_loaded_and_used(visit, photo, tmp_path):
    page = visit()
    load(page, photo)
    says(page, "one face")
    picture = page.locator("#mask img")

    def drag(tool, *places):
        page.locator(f"#brush input[value={tool}]").check()
        picture.scroll_into_view_if_needed()
        box, before = picture.bounding_box(), picture.get_attribute("src")
        for i, (x, y) in enumerate(places):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
            if i == 0:
                page.mouse.down()
        page.mouse.up()
        page.locator(f"#mask img:not([src='{before}'])").wait_for()
        page.wait_for_function("!document.querySelector('canvas.stroke')")

    drag("brush", (0.05, 0.9), (0.3, 0.9))
    says(page, "The mask of 'hair' is your own.")
    drag("eraser", (0.05, 0.9), (0.15, 0.9))
    edit(page, "hair", "bright green", 0)
    made, _ = downloaded(page)
    changed = (made != np.asarray(Image.open(photo))).any(2)
    assert changed[int(0.9 * 256), int(0.25 * 256)]
    assert not changed[int(0.9 * 256), int(0.08 * 256)]
    assert page.locator("#files a[download='face_mask_1.png']").count() == 1
    page.click("#undo")
    says(page, "Undone.")
    page.click("#redo")
    says(page, "Redone.")
    assert np.array_equal(downloaded(page)[0], made)
    page.click("#reset")
    says(page, "The mask of 'hair' is the parse's.")
    Image.new("L", (128, 128), 255).save(tmp_path / "all.png")
    with page.expect_file_chooser() as chooser:
        page.click("#own-mask")
    chooser.value.set_files(tmp_path / "all.png")
    says(page, "The mask of 'hair' is your own.")


@pytest.mark.slow
def test_what_cannot_run_or_changes_nothing_says_so(visit):
    page = visit()
    page.get_by_role("button", name="Example: drawing 1").click()
    says(page, "drawing_1.png: 512 x 512 px")
    page.locator("#editor input").click()
    page.get_by_role("option", name="flux_fill (weights not there)").click()
    says(page, "'flux_fill' cannot run: its weights (black-forest-labs/FLUX.1-Fill-dev) are not there")
    choose(page, "editor", "recolor")
    page.fill(PROMPT, "glossy")
    page.locator("#go:not([disabled])").click()
    says(page, "Nothing changed: the prompt names no colour; name one")
    assert page.locator("#history li").count() == 0


@pytest.mark.slow
def test_by_keyboard_alone(visit, photo):
    page = visit()
    load(page, photo)
    says(page, "one face")
    page.locator("#attribute input[value=hair]").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('#attribute input:checked').value === 'lips'")
    page.locator(PROMPT).focus()
    page.keyboard.type("dark blue, glossy")
    page.locator("#words dd", has_text="dark blue").wait_for()
    page.keyboard.press("Enter")
    page.locator("#history li", has_text="lips: dark blue, glossy").wait_for()
    page.locator("#edge input[type=range]").focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(f"{CUT} > 60")
    assert all(page.locator("#parse img, #mask img, #compare img").evaluate_all("(all) => all.map((i) => i.alt)"))


@pytest.mark.slow
def test_bad_uploads_get_a_sentence(visit, tmp_path):
    page = visit()
    (tmp_path / "page.png").write_bytes(b"<html><script>alert(1)</script></html>")
    load(page, tmp_path / "page.png")
    says(page, "page.png: not a readable image")
    Image.new("1", (12_000, 11_000)).save(tmp_path / "large.png")
    load(page, tmp_path / "large.png")
    says(page, "large.png: 12000x11000 px is over the limit of 120000000 pixels; scale it down.")
    assert page.locator("#go").is_disabled()


@pytest.mark.slow
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


@pytest.mark.slow
def test_two_pages_at_once_keep_their_own_photos(visit, photo, tmp_path):
    pages, files = [visit(), visit()], [photo, tmp_path / "turned.png"]
    Image.open(photo).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(files[1])
    colours = ["bright green", "bright red"]
    for page, file, colour in zip(pages, files, colours, strict=True):
        load(page, file)
        page.fill(PROMPT, colour)
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
def test_enter_during_an_edit_takes_nothing_from_stop(visit, photo):
    """One edit at a time, and that one is stopped; nor does it run again by itself."""
    page = visit()
    begin_a_slow_edit(page, photo)
    with page.expect_response("**/run/predict*"):  # what waits in no queue: whether another edit begins
        page.press(PROMPT, "Enter")
    assert page.locator("#go").is_disabled()
    page.click("#cancel")
    says(page, "Stopped; nothing was changed.")
    page.locator("#go:not([disabled])").wait_for()
    assert page.locator("#cancel").is_disabled()
    edit(page, "hair", "bright green", 0)
    assert page.locator("#history li").count() == 1


def another_can_be_made(page):
    """After an edit that would last for ever."""
    page.locator("#go:not([disabled])").wait_for()
    assert page.locator("#cancel").is_disabled()
    page.locator("#history", has_text="No edit yet.").wait_for()
    edit(page, "hair", "bright green", 0)
    assert page.locator("#history li").count() == 1


@pytest.mark.slow
def test_another_photo_ends_an_edit(visit, photo, other):
    page = visit()
    begin_a_slow_edit(page, photo)
    load(page, other)
    says(page, "other.png: 210 x 256 px, one face.")
    another_can_be_made(page)
    assert downloaded(page)[1]["photo"] == "other.png"


@pytest.mark.slow
def test_undo_during_an_edit_ends_it(visit, photo):
    page = visit()
    load(page, photo)
    says(page, "one face")
    edit(page, "hair", "dark blue", 0)
    enter_a_slow_prompt(page)
    page.click("#undo")
    says(page, "Undone.")
    another_can_be_made(page)
    assert [e["prompt"] for e in downloaded(page)[1]["edits"]] == ["bright green"]


@pytest.mark.slow
def test_a_long_edit_can_be_stopped(visit, photo):
    """Steps of the tiny pipeline."""
    page = visit()
    begin_a_long_edit(page, photo)
    page.click("#cancel")
    says(page, "Stopped; nothing was changed.")
    page.locator("#go:not([disabled])").wait_for()
    assert page.locator("#history li").count() == 0


@pytest.mark.slow
def test_ctrl_c_during_an_edit_ends_the_server(browser, photo, repository, models, tmp_path):
    with left_open(browser) as page, serving(tmp_path, repository, *models) as address:
        goto(page, address)
        begin_a_long_edit(page, photo)


@pytest.mark.slow
def test_a_face_of_two_photos(visit, photo, other, server):
    """From two uploads over a swap and a note to the downloads."""
    page = visit()
    load_two(page, photo, other)
    says(page, "Second photo: other.png, 210 x 256 px, one face; padded with white to a square.", "style-message")
    for which in ("first", "second"):
        classes = page.locator(f"#legend-{which} li")
        classes.filter(has_text="hair").first.wait_for()
        assert classes.count() > 5
    page.locator("#parts label", has_text="hat").locator("input").check()
    choose(page, "steps", "10")
    page.locator("#style-go:not([disabled])").click()
    page.locator("#about", has_text="first photo, second photo, result").wait_for()
    pixels, facts = downloaded(page, "made")
    assert pixels.shape == (32, 32, 3)
    assert (facts["task"], facts["parts"], facts["sampling"]["steps"]) == ("swap_parts", ["hair", "hat"], 10)
    assert (facts["first"]["name"], facts["second"]["name"]) == ("face.png", "other.png")
    assert facts["parser"]["name"] == "face_lite"
    page.locator("#task input[value=generate]").check()
    page.locator("#parts input:disabled").first.wait_for()
    page.locator("#style-go:not([disabled])").click()
    page.locator("#about", has_text="first photo, result").wait_for()
    other_pixels, facts = downloaded(page, "made")
    assert (facts["task"], facts["parts"], facts["second"]) == ("generate", None, None)
    assert (other_pixels != pixels).any()
    assert not list(server[1].rglob("other.png"))


@pytest.mark.slow
def test_without_a_second_photo_the_page_says_so(visit, photo):
    page = visit()
    page.get_by_role("tab", name="Two photos").click()
    assert page.locator("#style-go").is_disabled()
    load(page, photo, "first")
    page.locator("#style-go:not([disabled])").click()
    says(page, "Load a second photo, which provides the style, or choose 'All parts from noise'.", "style-message")


@pytest.mark.slow
def test_a_long_synthesis_can_be_stopped(visit, photo, other):
    page = visit()
    begin_a_long_synthesis(page, photo, other)
    page.click("#style-cancel")
    says(page, "Stopped; nothing was changed.", "style-message")
    page.locator("#style-go:not([disabled])").wait_for()
    assert page.locator("#result img").count() == 0


@pytest.mark.slow
def test_a_page_that_is_closed_ends_what_runs_for_it(visit, photo, other, server):
    """Else the next page would never have a turn."""
    page = visit()
    begin_a_long_synthesis(page, photo, other)
    page.context.close()
    page = visit()
    load_two(page, photo, other)
    choose(page, "steps", "10")
    page.locator("#style-go:not([disabled])").click()
    page.locator("#result img").wait_for()
    assert len(list(server[1].glob("*/page-*"))) == 1


@pytest.mark.slow
def test_ctrl_c_during_a_synthesis_ends_the_server(browser, photo, other, repository, tiny_synthesis, tmp_path):
    with left_open(browser) as page, serving(tmp_path, repository, "--synthesis", tiny_synthesis) as address:
        goto(page, address)
        begin_a_long_synthesis(page, photo, other)


@pytest.mark.slow
def test_runs_can_be_browsed(visit):
    page = visit()
    page.get_by_role("tab", name="Runs").click()
    page.locator("#run input").click()
    page.get_by_role("option", name="runs/recolor_strict").click()
    page.locator("#facts dd", has_text="strict").first.wait_for()
    page.locator("#summary").get_by_text("eyebrows").last.wait_for()
    assert page.locator("#facts img, #summary img").count() == 0


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_how_two_photos_look(visit, photo, other, shots, scheme):
    page = visit(1280, scheme)
    load_two(page, photo, other)
    choose(page, "steps", "10")
    page.locator("#style-go:not([disabled])").click()
    page.locator("#result img").wait_for()
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.locator("#result img").evaluate("(image) => image.decode()")
        page.screenshot(path=shots / f"web_style_{width}_{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
