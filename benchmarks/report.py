"""The report of 1,000 photos x 5 attributes: how long it takes to build, how large it is, and when it can be used.

    python benchmarks/report.py [--photos 1000] [--size 512] [--turns 3]

The record is made up: every score is drawn at random, and the worst and best edits of all attributes are of the same
drawn faces, so that few of them have to be drawn. There is no plain way beside it, but a bound. The page can be used
when its table is there and a click on a heading has sorted it, in Chromium, which is running already; without
Playwright or Chromium that is not measured (`make browser`).
"""

import argparse
import importlib.util
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch
import yaml
from comparing import Comparison, shown

from semfacediff import config
from semfacediff.commands.report.page import ReportOptions, report
from semfacediff.data.opening import open_data
from semfacediff.data.toy import ToyFaces
from semfacediff.hydra_app import composed
from semfacediff.labels import CELEBAMASK
from semfacediff.records.folder import RunFolder
from semfacediff.records.samples import write_csv, write_parquet
from semfacediff.records.summary import summarise_edits
from semfacediff.records.writing import write_bytes
from semfacediff.regions import RegionRule, region_masks
from semfacediff.tasks.editing.sample_row import COLUMNS, MASKS, digest_of_mask, edit_file, encoded_png

ATTRIBUTES = ("hair", "lips", "skin", "eyes", "eyebrows")
HIGHER_IS_BETTER = {
    "lpips": False,
    "ssim": True,
    "iou": True,
    "clip": True,
    "psnr_outside": True,
    "max_abs_outside": False,
    "seam": False,
    "geometry_shift_pct": False,
    "parts_lost": False,
    "leakage": False,
}
"""Every score of an edit; each has a column before the composite too."""
PER_END = 40
BUILT_S, USABLE_S, PLAIN_MB, PHOTOS_MB = 20, 2, 15, 40
"""What is promised."""
_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_SCORE = "iou"


def made_up(photos: int, prompts: Mapping[str, str]) -> pd.DataFrame:
    """Rows of ``photos`` x 5 edits with a number in every column that can hold one; the same whenever it is called."""
    random = np.random.default_rng(0)
    ids = [f"{i:05d}" for i in range(photos)]
    rows = pd.MultiIndex.from_product([ATTRIBUTES, ids], names=["attribute", "sample_id"]).to_frame(False)
    n, told = len(rows), rows["attribute"].map(prompts)
    scores = {name: random.random(n) for score in HIGHER_IS_BETTER for name in (score, f"{score}_raw")}
    # By the first score samples are ranked: the same photos come first and last whatever was edited.
    scores["lpips"] = np.tile(np.sort(random.random(photos)), len(ATTRIBUTES))
    facts = {"coverage": 0.6, "latency_s": 3.0, "peak_memory_mib": 4e3, "ita_deg": 70.0, "pose_proxy": 0.2}
    scores |= {name: most * random.random(n) for name, most in facts.items()}
    rows = rows.assign(prompt=told, expanded_prompt=told, negative_prompt="plastic, deformed", **scores)
    rows = rows.assign(status="ok", seed=random.integers(2**63, size=n), error=None, inputs_sha256=None)
    rows["note"] = np.where(random.random(n) < 0.1, "CLIP reads 77 tokens, the prompt has 92", None)
    rows["traits"] = [f'{{"smiling": {str(x < 0.5).lower()}, "yaw": {60 * x - 30:.1f}}}' for x in random.random(n)]
    return rows.assign(edit_sha256=[f"{x:016x}" for x in random.integers(2**63, size=n)])


def write_record(folder: Path, photos: int = 1000, size: int = 512, pictured: int = 0) -> Path:
    """A finished editing run of drawn faces.

    Args:
        size: side of photos and edits, px.
        pictured: so many photos at either end of the ranking have edits in files, and masks in their rows.
    """
    words = f"data=toy data.count={photos} data.size={size} parser=ground_truth editor=recolor metrics=full"
    overrides = [*words.split(), f"attributes=[{','.join(ATTRIBUTES)}]"]
    settings = config.typed(composed("evaluate", overrides, config.repository()), config.EditingEvaluation)
    rows, rule = made_up(photos, settings.prompts), RegionRule(**settings.region.model_dump())
    at_ends = sorted({*range(min(pictured, photos)), *range(max(photos - pictured, 0), photos)})
    masks = {key: facts for i in at_ends for key, facts in _edited(folder, ToyFaces(photos, size), i, rule).items()}
    keys = list(zip(rows["sample_id"], rows["attribute"], strict=True))
    for kind in MASKS:
        rows[f"mask_{kind}"] = [masks.get(key, {}).get(kind, "0" * 16) for key in keys]
    rows = rows.assign(width=size, height=size)[COLUMNS]
    plain, ours = settings.model_dump(mode="json"), {"implementation": "made up", "version": "1", "unit": "1"}
    head = {
        "task": "editing",
        "command": f"python evaluate.py {' '.join(overrides)}",
        "not_comparable": [],
        "parser": {"name": "ground_truth", "label_space": CELEBAMASK.name},
        "editor": {"name": settings.editor.name},
        "data": {"skipped": {}},
        "metrics": [{"metric": m, "higher_is_better": up, **ours} for m, up in HIGHER_IS_BETTER.items()],
        "n_expected": len(rows),
    }
    identity = {"config": plain, "inputs": {"data": open_data(settings.data).digest, "parser": None}}
    with RunFolder(folder, identity, head, yaml.safe_dump(plain, sort_keys=False)) as record:
        write_parquet(rows, folder / "samples.parquet")
        write_csv(summarise_edits(rows, list(ATTRIBUTES), photos), folder / "summary.csv")
        write_csv(_leakage(), folder / "leakage.csv")
        record.close("done", n=len(rows), n_failed=0)
    return folder


def _edited(folder: Path, faces: ToyFaces, i: int, rule: RegionRule) -> dict[tuple[str, str], dict[str, str]]:
    """Edits of a photo, written; (sample, attribute) -> digests of the masks."""
    face, found = faces[i], {}
    labels = torch.from_numpy(face.labels).long()
    for attribute in ATTRIBUTES:
        masks = region_masks(labels, attribute, CELEBAMASK, rule)
        weight = masks.blend[0].numpy()[..., None]
        edit = np.rint(face.photo + 0.5 * weight * (np.array([200, 60, 90]) - face.photo)).astype(np.uint8)
        write_bytes(edit_file(folder, attribute, face.id), encoded_png(edit))
        found[face.id, attribute] = {kind: digest_of_mask(getattr(masks, kind)) for kind in MASKS}
    return found


def _leakage() -> pd.DataFrame:
    random = np.random.default_rng(1)
    names = pd.MultiIndex.from_product([ATTRIBUTES, *[CELEBAMASK.classes] * 2], names=["attribute", "before", "after"])
    return names.to_frame(False).assign(pixels=random.integers(1, 100_000, len(names)))


def comparisons(photos: int = 1000, size: int = 512, turns: int = 3) -> Iterator[Comparison]:
    """Seconds and MB of the page without and with photos, each beside what is promised."""
    command = f"python benchmarks/report.py --photos {photos} --size {size} --turns {turns}"
    samples = f"{photos} x {len(ATTRIBUTES)}"

    def bounded(what: str, ours: float, most: float, unit: str, note: str = "") -> Comparison:
        name = f"report of {samples}: {what}"
        return Comparison(name, ours, None, None, most, unit, command, at_most=True, note=note)

    with tempfile.TemporaryDirectory() as place:
        record = write_record(Path(place) / "run", photos, size, PER_END)
        plain, with_photos = (Path(place) / name for name in ("plain", "photos"))
        built = _seconds(lambda: report([record], plain, ReportOptions()), turns)
        yield bounded("built", built, BUILT_S, "s")
        yield bounded("size", _megabytes(plain), PLAIN_MB, "MB")
        built = _seconds(lambda: report([record], with_photos, ReportOptions(with_photos=True)), 1)
        drawn = f"drawn faces of {size} px"
        yield bounded("built with photos", built, BUILT_S, "s", drawn)
        yield bounded("size with photos", _megabytes(with_photos), PHOTOS_MB, "MB", drawn)
        if _CHROMIUM and importlib.util.find_spec("playwright"):
            for name, folder in (("", plain), (" with photos", with_photos)):
                yield bounded(f"usable{name}", _usable_s(folder / "index.html", turns), USABLE_S, "s", "Chromium")


def _seconds(task: Callable[[], object], turns: int) -> float:
    taken = []
    for _ in range(turns):
        start = time.perf_counter()
        task()
        taken.append(time.perf_counter() - start)
    return median(taken)


def _megabytes(folder: Path) -> float:
    return (folder / "index.html").stat().st_size / 1e6


def _usable_s(file: Path, turns: int) -> float:
    """From the address to a table that a click has sorted; every turn in a new page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox", "--disable-gpu"])

        def used() -> None:
            with browser.new_context() as context:
                page = context.new_page()
                page.goto(file.as_uri(), wait_until="commit")
                page.locator(f'#rows button[data-key="{_SCORE}"]').click()
                page.locator(f'#rows th[aria-sort]:has(button[data-key="{_SCORE}"])').wait_for()

        taken = _seconds(used, turns)
        browser.close()
    return taken


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--photos", type=int, default=1000)
    arguments.add_argument("--size", type=int, default=512)
    arguments.add_argument("--turns", type=int, default=3)
    options = arguments.parse_args()
    shown(comparisons(options.photos, options.size, options.turns))
