"""Records of earlier versions are of the same measurement, and only where they are."""

import json

import pytest

from semfacediff.metrics.fidelity import PSNR, SSIM
from semfacediff.metrics.mask_iou import MaskIoU
from semfacediff.records.folder import read_run
from semfacediff.records.legacy_metrics import compared, completed

# As version 0.1.0 wrote them.
EARLIER = {
    "ssim": {
        "metric": "ssim",
        "implementation": "scikit-image {}",
        "protocol": "strict",
        "range": [-1, 1],
        "input": "8-bit luma (Pillow L)",
        "window": "uniform 7x7",
    },
    "psnr": {
        "metric": "psnr_outside, max_abs_outside",
        "implementation": "semfacediff 1",
        "protocol": "strict",
        "input": "8-bit RGB",
        "unit": "dB, 8-bit levels",
    },
    "iou": {"metric": "iou", "implementation": "semfacediff 1", "range": [0, 1], "both_empty": None},
}


@pytest.mark.parametrize(("name", "metric"), [("ssim", SSIM), ("psnr", PSNR), ("iou", MaskIoU)])
def test_what_was_left_unsaid_is_what_is_computed_today(name, metric):
    today = metric("strict").identity()
    earlier = EARLIER[name] | ({"implementation": "scikit-image 0.26.0"} if name == "ssim" else {})
    assert json.loads(json.dumps(completed(earlier))) == json.loads(json.dumps(compared(today)))
    assert completed(today) is today


def test_another_version_or_protocol_stays_another():
    today, iou = compared(SSIM("strict").identity()), compared(MaskIoU("strict").identity())
    old = EARLIER["ssim"] | {"implementation": "scikit-image 0.26.0"}
    assert completed(old) == today
    assert completed(old | {"protocol": "thesis"}) != today
    assert completed(old | {"window": "gaussian"}) != today
    assert completed(EARLIER["iou"] | {"implementation": "semfacediff 2"}) != iou


@pytest.mark.parametrize(
    "strange", [{"metric": "beauty", "implementation": "x 1"}, {"metric": "ssim", "implementation": "x"}, {}]
)
def test_what_is_not_known_is_left_as_it_is(strange):
    assert completed(strange) is strange


def test_the_two_networks_are_named_apart():
    old = {"metric": "lpips", "implementation": "lpips 0.1.4, AlexNet", "range": [0, None], "weights": "sha256:a"}
    new = completed(old)
    assert (new["implementation"], new["version"], new["network"]) == ("semfacediff", "1", "AlexNet")
    assert (new["weights"], new["range"]) == ("sha256:a", [0, None])


def test_committed_records_declare_everything(repository):
    for file in sorted((repository / "results" / "runs").glob("*/run.json")):
        run = read_run(file.parent)
        for metric in run.get("metrics", []):
            assert {"version", "range", "unit", "higher_is_better", "resize", "weights"} <= metric.keys(), file
        for name, metric in run["identity"]["inputs"].get("metrics", {}).items():
            assert metric == next(m for m in run["metrics"] if m["metric"] == name)


def test_a_damaged_identity_is_a_sentence(tmp_path):
    (tmp_path / "run.json").write_text('{"schema_version": 1, "status": "done", "identity": "none"}')
    with pytest.raises(Exception, match=r"run\.json: not a run's record \(AttributeError\); name the folder of a run"):
        read_run(tmp_path)
