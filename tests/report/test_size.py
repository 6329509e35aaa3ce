"""The page of 1,000 photos x 5 attributes: small enough to be sent, whatever is asked for. No time decides a test."""

import itertools
import json
import re
import sys

import pandas as pd
import pytest

from semfacediff.commands.report import pictures as report_pictures
from semfacediff.commands.report.page import ReportOptions, report

pytestmark = pytest.mark.slow

PHOTOS, SPARE = 1000, 5
PER_END, MB = 40, 1_000_000
EMBEDDED = re.compile(r'id="(p\d+)">(data:image/webp;base64,[^<]*)<')


@pytest.fixture(scope="module")
def record(tmp_path_factory, repository):
    """A number in every column; photos and edits of small drawn faces, also of some that are not to be shown."""
    with pytest.MonkeyPatch.context() as m:
        m.setattr(sys, "path", [str(repository / "benchmarks"), *sys.path])
        from report import write_record
    return write_record(tmp_path_factory.mktemp("runs") / "run", PHOTOS, 32, PER_END + SPARE)


@pytest.fixture(scope="module")
def with_photos(record, tmp_path_factory):
    return report([record], tmp_path_factory.mktemp("photos"), ReportOptions(with_photos=True)).read_text()


def samples(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def shown(page):
    """(sample, attribute) -> panel -> name of its picture."""
    data = samples(page)
    return {(data["texts"][r[1]], data["texts"][r[2]]): r[7] for r in data["rows"] if r[7]}


def worst_and_best(record, count):
    rows = pd.read_parquet(record / "samples.parquet")
    for attribute, own in rows.groupby("attribute"):
        for row in pd.concat([own.nsmallest(count, "lpips"), own.nlargest(count, "lpips")]).itertuples():
            yield row.sample_id, attribute


def test_without_photos_it_is_15_mb_or_less(record, tmp_path):
    page = report([record], tmp_path, ReportOptions()).read_text()
    assert len(page.encode()) <= 15 * MB
    assert EMBEDDED.search(page) is None
    data = samples(page)
    assert len(data["rows"]) == 5 * PHOTOS
    names = {c["name"] for c in data["columns"]}
    assert names >= {"lpips", "ssim", "iou", "clip", "psnr_outside", "seam", "parts_lost", "leakage_raw", "coverage"}
    assert all(isinstance(value, float) for row in data["rows"] for value in row[6])


def test_with_photos_it_holds_the_worst_and_best_40_of_each_attribute_and_nothing_else(record, with_photos):
    assert len(with_photos.encode()) <= 40 * MB
    cards = shown(with_photos)
    assert set(cards) == set(worst_and_best(record, PER_END))
    assert all(len(panels) == 7 for panels in cards.values())
    embedded = EMBEDDED.findall(with_photos)
    used = {name for panels in cards.values() for name in panels.values()}
    assert [name for name, _ in embedded] == sorted(used, key=lambda name: int(name[1:]))
    assert with_photos.count("data:image/webp") == len(embedded) == len({uri for _, uri in embedded})


def test_however_heavy_the_pictures_are_it_is_40_mb_or_less(record, tmp_path, monkeypatch):
    """Then the most extreme ones have some, and the page says how many have none."""
    number = itertools.count()
    monkeypatch.setattr(
        report_pictures, "thumbnail", lambda picture, px: f"data:image/webp;base64,{next(number):08d}{'A' * 20_000}"
    )
    page = report([record], tmp_path, ReportOptions(with_photos=True)).read_text()
    assert 30 * MB < len(page.encode()) <= 40 * MB
    cards = set(shown(page))
    assert set(worst_and_best(record, 25)) <= cards < set(worst_and_best(record, PER_END))
    assert f"{5 * 2 * PER_END - len(cards)} less extreme samples are shown without photos" in page
