"""Records of editing runs without any editing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from semfacediff.metrics.fidelity import SSIM
from semfacediff.metrics.seam import Seam
from semfacediff.records.folder import RunFolder
from semfacediff.records.samples import write_csv, write_parquet
from semfacediff.records.summary import summarise_edits

ATTRIBUTES = ["hair", "lips"]


def edits(n: int, shift: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Scored rows: SSIM by photo with ``shift`` added, seam noise around 1."""
    faces, noise = np.random.default_rng(9), np.random.default_rng(seed)
    rows = [(f"{i:03d}", a) for a in ATTRIBUTES for i in range(n)]
    table = pd.DataFrame(rows, columns=["sample_id", "attribute"]).assign(status="ok", latency_s=0.5, coverage=0.2)
    table["ssim"] = 0.5 + 0.1 * faces.random(len(table)) + shift + 0.01 * noise.random(len(table))
    table["seam"] = 1 + 0.1 * np.random.default_rng(seed + 100).random(len(table))
    return table


@pytest.fixture(scope="session")
def edited_run():
    """``edited_run(folder, rows, **config)``: a finished editing run of those rows."""

    def make(folder: Path, rows: pd.DataFrame, facts: dict | None = None, status: str = "done", **config) -> Path:
        plain = {"task": "editing", "protocol": "strict", "editor": {"name": "recolor"}, **config}
        identity = {"config": plain, "inputs": {"data": "abc"}}
        head = {"task": "editing", "not_comparable": [], "parser": {"name": "fastscnn_lite"}, "editor": plain["editor"]}
        head |= {"metrics": [SSIM(plain["protocol"]).identity(), Seam().identity()], "data": {"skipped": {}}}
        head |= {"n_expected": len(rows), "empty_columns": {}, "set_notes": [], **(facts or {})}
        with RunFolder(folder, identity, head, "") as record:
            write_parquet(rows, folder / "samples.parquet")
            write_csv(summarise_edits(rows, ATTRIBUTES, len(rows) // 2), folder / "summary.csv")
            record.close(status, n=len(rows), n_failed=0)
        return folder

    return make


@pytest.fixture(scope="session")
def sweep(tmp_path_factory, edited_run):
    """Feather 3, 7 and 15 of 30 photos; 15 has the best SSIM by far, the others are alike; read it, never write."""
    folder = tmp_path_factory.mktemp("sweep")
    for k, (sigma, shift) in enumerate([(15.0, 0.2), (3.0, 0.0), (7.0, 0.0)]):
        edited_run(folder / f"cell-{k}", edits(30, shift, seed=k), region={"feather_sigma_px": sigma})
    return folder
