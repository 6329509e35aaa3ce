"""The whole program as a user starts it, against committed numbers.

After an intended change: SEMFACEDIFF_UPDATE_GOLDEN=1 pytest tests/tasks/test_golden.py, then read the difference.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = REPOSITORY / "tests" / "golden"
RUNS = {
    "editing": "parser.root=parses protocol=thesis working_size=96 region.feather_sigma_px=32",
    "parsing": "parser.root=shifted task=parsing",
}


MOTION = ("shift_px", "zoom_pct", "rotation_deg", "ssim_raw_registered")
VARYING = ("latency", "shift px", "zoom", "rotation", "registered")
"""Headings of what differs every time, and of motions, which are found to a tenth of a pixel."""


def printed_table(stdout: str) -> str:
    """The table on stdout, without the columns of :data:`VARYING`."""
    lines = [line.split("|") for line in stdout.splitlines() if line.startswith("|")]
    kept = [i for i, heading in enumerate(lines[0]) if not any(name in heading for name in VARYING)]
    return "\n".join("|".join(line[i] for i in kept) for line in lines) + "\n"


@pytest.fixture(scope="module")
def root(write_files, tmp_path_factory):
    root = write_files(tmp_path_factory.mktemp("golden"), [(64, 64)] * 6, ["hair", "lips", "skin"])
    shutil.copytree(root / "parses" / "after" / "hair", root / "shifted" / "before")
    return root


@pytest.mark.parametrize("name", RUNS)
def test_record_and_printed_table_are_the_committed_ones(root, tmp_path, name):
    folder = tmp_path / "run"
    overrides = "data=folder metrics=no_weights attributes=[hair,lips,skin] strips=1 runtime.device=cpu".split()
    overrides += f"data.root={root} parser=precomputed editor=precomputed editor.root=edits".split()
    overrides += [*RUNS[name].split(), f"hydra.run.dir={folder}"]
    command = [sys.executable, str(REPOSITORY / "evaluate.py"), *overrides]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    summary = pd.read_csv(folder / "summary.csv").drop(columns="latency_s_median", errors="ignore")
    printed = printed_table(done.stdout)
    if os.environ.get("SEMFACEDIFF_UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        summary.to_csv(GOLDEN / f"{name}.csv", index=False, float_format="%.10g")
        (GOLDEN / f"{name}.txt").write_text(printed)
    expected = pd.read_csv(GOLDEN / f"{name}.csv")
    # CIEDE2000 is some hundred operations in float32, each rounded to 6e-8 of its value; all else is at most about 1.
    colour = [c for c in expected if c.startswith(("change_de", "changed_pct", "toward_prompt", "structure_change"))]
    assert list(summary) == list(expected)
    pd.testing.assert_frame_equal(summary[colour], expected[colour], rtol=1e-5, atol=1e-6)
    # A tenth of a pixel is that of a zoom by 0.2 % and of a turn by 0.1 degrees at the frame's edge, 48 px away.
    motion = [c for c in expected if c.startswith(MOTION)]
    pd.testing.assert_frame_equal(summary[motion], expected[motion], rtol=0, atol=0.2)
    rest = [c for c in expected if c not in {*colour, *motion}]
    pd.testing.assert_frame_equal(summary[rest], expected[rest], rtol=0, atol=1e-6)
    assert printed == (GOLDEN / f"{name}.txt").read_text()
