"""``examples/student_walk.sh``, with the packages of this interpreter in place of downloads."""

import json
import os
import subprocess
import sys
import sysconfig

import pandas as pd
import pytest

OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_FORCE_REINSTALL": "1"}


@pytest.mark.more
def test_from_the_wheel_to_tables_and_report(repository, tmp_path):
    given = {"PYTHON": sys.executable, "PYTHONPATH": sysconfig.get_path("purelib"), **OFFLINE}
    command = ["bash", str(repository / "examples" / "student_walk.sh"), "walk"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | given, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    walk = tmp_path / "walk"
    (package,) = walk.glob("env/lib/*/site-packages/semfacediff")
    record = json.loads((walk / "recolor" / "run.json").read_text())
    assert record["command"].startswith("semfacediff evaluate data=toy ")
    assert record["code"]["commit"] is None, f"from the wheel in {package}, not from the checkout"
    summary = pd.read_csv(walk / "recolor" / "summary.csv").set_index("attribute")
    assert list(summary.index) == ["hair", "skin"]
    assert (summary["n"] == 8).all()
    assert summary[["lpips_mean", "clip_mean", "ssim_mean"]].notna().all(axis=None)
    assert {record["scored"][name]["weights"] for name in ("lpips", "clip")} == {"random"}
    assert len(list((walk / "feather").glob("*/summary.csv"))) == 2
    scores, feather = ((walk / f"{name}.tex").read_text() for name in ("scores", "feather"))
    assert "LPIPS" in scores
    assert "not comparable" in scores
    assert "feather sigma (px)" in feather
    for table in (scores, feather):
        assert r"\toprule" in table
        assert table.count(r"\begin{tabular}") == table.count(r"\end{tabular}") == 1
    assert "recolor" in (walk / "report" / "index.html").read_text()
