"""The report in a real browser: sorting, filtering, the slider, the keyboard, and how it looks.

Screenshots are kept in ``outputs/browser``. Skipped where Playwright or Chromium is not installed (`make browser`).
"""

from itertools import pairwise
from pathlib import Path

import pytest

from semfacediff import config, tasks
from semfacediff.commands.report.page import ReportOptions, report
from semfacediff.hydra_app import composed

REPOSITORY = Path(__file__).resolve().parents[2]
EVIL = "</script><img src=x onerror=alert(1)> purple hair"
PATIENCE_MS = 180_000
"""A loaded machine is slow, not wrong."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Sixty edits of thirty drawn faces with a hostile prompt, with their pictures."""
    root = tmp_path_factory.mktemp("report")
    words = (
        "data=toy data.split=all data.count=30 data.size=64 parser=ground_truth editor=recolor attributes=[hair,lips]"
    )
    words += " metrics=no_weights weights.download=false strips=0 runtime.device=cpu runtime.workers=0"
    overrides = [*words.split(), f"prompts.hair='{EVIL}'"]
    assert (
        tasks.start(config.typed(composed("evaluate", overrides, REPOSITORY), config.EditingEvaluation), root / "toy")
        == 0
    )
    return report([root / "toy"], root / "out", ReportOptions(with_photos=True))


@pytest.fixture(scope="module")
def faces(tmp_path_factory, tiny_synthesis, tiny_checkpoint):
    """Two label maps of drawn faces, and what a model with random weights makes of them, with their pictures."""
    root = tmp_path_factory.mktemp("faces")
    words = "task=synthesis data=toy data.count=2 data.size=32 runtime.device=cpu runtime.workers=0"
    words += " weights.download=false synthesis.steps=1 synthesis.diversity_samples=0"
    words += " synthesis.latency_steps=[1,2] synthesis.showcase=2"
    words += f" metrics.columns=[ssim,iou] synthesis.checkpoint={tiny_synthesis} parser.checkpoint={tiny_checkpoint}"
    overrides = words.split()
    settings = config.typed(composed("evaluate", overrides, REPOSITORY), config.SynthesisEvaluation)
    assert tasks.start(settings, root / "toy") == 0
    return report([root / "toy"], root / "out", ReportOptions(with_photos=True))


@pytest.fixture
def opened(browser, file):
    """``opened(width, scheme)`` is the page; the test fails if its console says anything, or it asks the network."""
    pages, said = [], []

    def open_page(width=1280, scheme="light", file=file):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}") or dialog.dismiss())
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or said.append(f"request: {r.url}"))
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert said == []


def column(page, heading):
    """The cells of the table's column as texts."""
    headings = [text.rstrip(" ▲▼") for text in page.locator("#rows thead th").all_inner_texts()]
    place = headings.index(heading) + 1
    return page.locator(f"#rows tbody tr > :nth-child({place})").all_inner_texts()


def test_a_click_on_a_heading_sorts_and_a_second_one_turns_it_round(opened):
    page = opened()
    button = page.locator('#rows th button[data-key="coverage"]')
    button.click()
    rising = [float(text) for text in column(page, "region %")]
    assert rising == sorted(rising)
    assert page.locator('#rows th:has(button[data-key="coverage"])').get_attribute("aria-sort") == "ascending"
    button.press("Enter")  # the keyboard does the same, and keeps its place
    falling = [float(text) for text in column(page, "region %")]
    assert falling == sorted(falling, reverse=True)
    assert falling[0] > rising[0]
    assert page.evaluate("document.activeElement.dataset.key") == "coverage"


def test_worst_comes_first_and_then_best(opened):
    page = opened()
    page.select_option("#f-sort", "seam")  # lower is better
    page.select_option("#f-order", "worst")
    label = page.locator('#rows th button[data-key="seam"]').inner_text().rstrip(" ▲▼")
    worst = [float(text) for text in column(page, label) if text]
    assert worst == sorted(worst, reverse=True)
    page.select_option("#f-order", "best")
    best = [float(text) for text in column(page, label) if text]
    assert best == sorted(best)


def test_filters_keep_what_was_asked_for(opened):
    page = opened()
    assert page.locator("#count").inner_text() == "60 of 60 samples"
    page.select_option("#f-attribute", "lips")
    assert set(column(page, "attribute")) == {"lips"}
    page.fill("#f-text", "onerror=alert")
    assert page.locator("#count").inner_text() == "0 of 60 samples"
    page.select_option("#f-attribute", "")
    assert set(column(page, "attribute")) == {"hair"}
    assert page.locator("#count").inner_text() == "30 of 60 samples"


def test_pages_are_turned(opened):
    page = opened()
    first = column(page, "sample")
    assert len(first) == 50
    page.click("#t-on")
    assert page.locator("#t-place").inner_text() == "51–60 of 60"
    assert page.locator("#t-on").is_disabled()
    assert len(column(page, "sample")) == 10


def test_the_slider_uncovers_the_edit(opened):
    page = opened()
    card = page.locator(".card:has(.compare .after)").first
    after, clip = card.locator(".after"), "(node) => getComputedStyle(node).clipPath"
    before = after.evaluate(clip)
    slider = card.locator("input[type=range]")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    moved = after.evaluate(clip)
    assert before == "inset(0px 0px 0px 50%)"
    assert moved == "inset(0px 0px 0px 53%)"
    assert slider.get_attribute("aria-label").startswith("Position between photo and edit")


def test_cards_show_every_panel_with_words(opened):
    page = opened()
    card = page.locator(".card:has(.compare .after)").first
    captions = card.locator("figcaption").all_inner_texts()
    assert captions == ["parse", "semantic mask", "generation mask", "blend mask", "difference × 4"]
    pictures = page.locator("#gallery img")
    assert pictures.evaluate_all("(all) => all.every((i) => i.alt)")
    pictures.evaluate_all("(all) => Promise.all(all.map((i) => i.decode()))")
    assert pictures.evaluate_all("(all) => all.every((i) => i.naturalWidth === 64)")


def test_a_hostile_prompt_is_shown_and_does_nothing(opened):
    page = opened()
    page.select_option("#f-attribute", "hair")
    assert EVIL in page.locator(".card p").first.inner_text()
    assert page.locator("img[src='x']").count() == 0


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_generated_faces_are_seen_by_eye_keyboard_and_ear(opened, faces, shots, width, scheme):
    page = opened(width, scheme, faces)
    page.screenshot(path=shots / f"report_faces_{width}_{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    pictures = page.locator("#generated img")
    assert pictures.evaluate_all("(all) => all.every((i) => i.alt)")
    pictures.evaluate_all("(all) => Promise.all(all.map((i) => i.decode()))")
    assert pictures.evaluate_all("(all) => all.length > 20 && all.every((i) => i.naturalWidth === 32)")
    strip = page.locator("#generated .strip.wide")
    strip.focus()
    hidden = "(node) => node.scrollWidth - node.clientWidth"
    assert strip.evaluate(hidden) <= 0 if width == 1280 else strip.evaluate(hidden) > 0
    page.keyboard.press("ArrowRight")
    if width == 390:
        # Scrolling is smooth; the page's policy forbids what wait_for_function does.
        strip.evaluate(
            "(n) => new Promise((done) => (function look() { n.scrollLeft > 0 ? done() : setTimeout(look, 20); })())"
        )
    card = page.locator(".card").first
    assert card.locator(".ends span").all_inner_texts() == ["photo", "generated photo"]
    assert card.locator("figcaption").all_inner_texts() == ["label map"]
    assert page.locator("#f-raw").is_hidden()  # there is no composite


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overlaps_or_leaves_the_page(opened, shots, width, scheme):
    page = opened(width, scheme)
    page.screenshot(path=shots / f"report_{width}_{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    sections = page.locator("main > section").evaluate_all(
        "(all) => all.map((s) => s.getBoundingClientRect().toJSON())"
    )
    assert all(above["bottom"] <= below["top"] for above, below in pairwise(sections))
    light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(251, 251, 250)"
    assert light == (scheme == "light")
