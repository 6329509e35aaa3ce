"""Records written by hand: small, quick, and with whatever a test needs in them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from semfacediff.records.samples import write_csv, write_parquet
from semfacediff.records.summary import summarise_edits

METRICS = [
    {"metric": "ssim", "implementation": "x", "version": "1", "higher_is_better": True, "unit": "1"},
    {"metric": "iou", "implementation": "x", "version": "1", "higher_is_better": True, "unit": "1"},
    {"metric": "seam", "implementation": "x", "version": "1", "higher_is_better": False, "unit": "1"},
]
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}"
"""What a prompt or a file's name may hold."""


def edits(n: int, attributes=("hair", "lips"), prompt: str = "purple hair", shift: float = 0.0) -> pd.DataFrame:
    """Rows of ``n`` photos; scores are drawn from a fixed seed."""
    random = np.random.default_rng(3)
    rows = pd.MultiIndex.from_product([[f"{i:04d}" for i in range(n)], attributes]).to_frame(False)
    rows.columns = ["sample_id", "attribute"]
    scores = {"ssim": 1 - 0.1 * random.random(len(rows)), "iou": 0.5 + shift + 0.4 * random.random(len(rows))}
    scores |= {"seam": random.random(len(rows)), "psnr_outside": np.inf, "coverage": random.random(len(rows))}
    scores |= {"ssim_raw": scores["ssim"] / 2, "latency_s": 0.1, "ita_deg": 60 * random.random(len(rows))}
    return rows.assign(prompt=prompt, status="ok", note=None, error=None, **scores)


def write_editing(folder: Path, rows: pd.DataFrame, config: dict | None = None, **facts) -> Path:
    """A finished editing run with these rows; ``facts`` replace those of ``run.json``."""
    attributes = list(dict.fromkeys(rows["attribute"]))
    settings = {
        "protocol": "strict",
        "attributes": attributes,
        "region": {"feather_sigma_px": 7.0},
        "data": {"name": "toy"},
        "editor": {"name": "recolor"},
    }
    run = {
        "schema_version": 1,
        "run_id": folder.name,
        "status": "done",
        "task": "editing",
        "command": f"python evaluate.py hydra.run.dir={folder.name}",
        "not_comparable": [],
        "parser": {"name": "fastscnn_lite", "digest": "ab" * 32},
        "editor": {"name": "recolor"},
        "data": {"skipped": {}},
        "metrics": METRICS,
        "n": len(rows),
        "n_expected": len(rows),
        "identity": {"config": settings | (config or {}), "inputs": {"data": "d" * 64, "parser": "ab" * 32}},
    }
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(run | facts))
    (folder / "config.yaml").write_text("task: editing\n")
    write_parquet(rows, folder / "samples.parquet")
    write_csv(summarise_edits(rows, attributes, len(rows) // len(attributes)), folder / "summary.csv")
    leakage = [("hair", "skin", "skin", 990), ("hair", "skin", "neck", 10), ("hair", "nose", "nose", 50)]
    write_csv(pd.DataFrame(leakage, columns="attribute before after pixels".split()), folder / "leakage.csv")
    return folder


def write_parsing(folder: Path, **facts) -> Path:
    """A finished parsing run of two classes."""
    folder.mkdir(parents=True)
    inputs = {"data": "e" * 64}
    run = {"schema_version": 1, "run_id": folder.name, "status": "done", "task": "parsing", "n": 3, "n_expected": 3}
    run |= {"identity": {"config": {"protocol": "strict"}, "inputs": inputs}, "parser": {"name": "unet_lite"}}
    (folder / "run.json").write_text(json.dumps(run | {"not_comparable": [], "data": {}, "command": "x"} | facts))
    (folder / "config.yaml").write_text("task: parsing\n")
    classes = [("background", 0.9, 0.85, 0.95, 0.947, 3), ("skin", 0.5, 0.4, 0.6, 0.667, 3), ("hat", *[np.nan] * 5)]
    classes += [("miou", 0.7, 0.6, 0.8, np.nan, np.nan), ("pixel_accuracy", *[np.nan] * 3, 0.93, np.nan)]
    table = pd.DataFrame(classes, columns="class iou iou_low iou_high f1 images".split())
    write_csv(table, folder / "summary.csv")
    truth = pd.DataFrame({"truth": ["background", "skin", "hat"], "background": [90, 1, 0], "skin": [10, 3, 0]})
    write_csv(truth.assign(hat=0), folder / "confusion.csv")
    rows = pd.DataFrame({"sample_id": ["a", "b", "c"], "status": "ok", "miou": [0.2, 0.9, 0.5]})
    write_parquet(rows, folder / "samples.parquet")
    return folder


@pytest.fixture(scope="session")
def written() -> dict[str, Callable]:
    """:func:`edits`, :func:`write_editing` and :func:`write_parsing` by name."""
    return {"edits": edits, "editing": write_editing, "parsing": write_parsing, "evil": EVIL}
