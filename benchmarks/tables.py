"""How long it takes to aggregate 100,000 sample rows to tables, and how much memory.

    python benchmarks/tables.py [--photos 2000] [--settings 10] [--tests]

A sweep of ``settings`` runs with ``photos`` x 5 attributes rows each is written to a temporary folder; then every run's
own table and the sweep's table (means and BCa intervals of nine scores in six groups) are made, the latter in all
formats. Permutation tests are timed apart, with ``--tests``. CPU seconds, because the machine may be busy; the peak
memory includes the imported libraries.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd

from semfacediff.metrics.fidelity import SSIM
from semfacediff.metrics.mask_iou import MaskIoU
from semfacediff.metrics.seam import Seam
from semfacediff.records.folder import RunFolder
from semfacediff.records.samples import write_csv, write_parquet
from semfacediff.records.summary import summarise_edits
from semfacediff.tables import ablation
from semfacediff.tables.ablation import ablation_grid
from semfacediff.tables.formats import FORMATS, rendered
from semfacediff.tables.run_tables import editing_grid

ATTRIBUTES = ["hair", "lips", "skin", "eyes", "eyebrows"]
SCORES = ["lpips", "ssim", "iou", "clip", "seam", "geometry_shift_pct", "lpips_raw", "ssim_raw", "iou_raw"]


def write_sweep(folder: Path, photos: int, settings: int) -> None:
    """``settings`` finished runs that differ in the width of the feather."""
    random = np.random.default_rng(0)
    ids = [f"{i:06d}" for i in range(photos)]
    metrics = [SSIM("strict").identity(), MaskIoU("strict").identity(), Seam().identity()]
    for k in range(settings):
        rows = pd.DataFrame([(id_, a) for a in ATTRIBUTES for id_ in ids], columns=["sample_id", "attribute"])
        rows = rows.assign(status="ok", latency_s=0.1, coverage=0.2, prompt="natural brown hair, smooth and shiny")
        for score in SCORES:
            rows[score] = 0.5 + 0.1 * random.standard_normal(len(rows))
        config = {"task": "editing", "protocol": "strict", "region": {"feather_sigma_px": k}, "editor": {"name": "x"}}
        identity = {"config": config, "inputs": {"data": "d", "parser": "p" * 64}}
        head = {"task": "editing", "not_comparable": [], "metrics": metrics, "parser": {"name": "y"}, "data": {}}
        with RunFolder(folder / f"cell-{k}", identity, head, "") as record:
            write_parquet(rows, record.path / "samples.parquet")
            write_csv(summarise_edits(rows, ATTRIBUTES, photos), record.path / "summary.csv")
            (record.path / "samples.jsonl").write_text(json.dumps({"status": "ok"}))
            record.close("done", n=len(rows), n_failed=0)


def timed(what: str, task: Callable[[], object]) -> None:
    """Print CPU seconds of a task, and the peak memory since the process began."""
    cpu = time.process_time()
    task()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what}: {time.process_time() - cpu:.2f} s CPU, peak {peak:.0f} MiB")


def every_table(sweep: Path) -> None:
    """The table of each run from its rows, and the sweep's in all formats, without tests of significance."""
    for run in sorted(sweep.glob("cell-*")):
        rows = pd.read_parquet(
            run / "samples.parquet", columns=["sample_id", "attribute", "status", "latency_s", *SCORES]
        )
        editing_grid(summarise_edits(rows, ATTRIBUTES, rows["sample_id"].nunique()), None)
    with mock.patch.object(ablation, "significantly_best", return_value={}):
        grid = ablation_grid(sweep, SCORES, "")
    for form in FORMATS:
        rendered(grid, form)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--settings", type=int, default=10)
    parser.add_argument("--tests", action="store_true")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        sweep = Path(place)
        write_sweep(sweep, a.photos, a.settings)
        timed("imported and written", lambda: None)
        timed(f"all tables of {a.photos * a.settings * len(ATTRIBUTES):,} rows", lambda: every_table(sweep))
        if a.tests:
            timed("the sweep's with permutation tests", lambda: ablation_grid(sweep, SCORES, ""))


if __name__ == "__main__":
    main()
