"""A browser for the tests of this folder; they are skipped, with a reason, where there is none (`make browser`)."""

import shutil
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make browser")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: make browser")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def shots(repository) -> Path:
    """Where screenshots are kept to be looked at; ignored by git."""
    folder = repository / "outputs" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
