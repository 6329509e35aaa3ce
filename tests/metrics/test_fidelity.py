"""SSIM, PSNR and the largest change against scikit-image and plain NumPy, under both protocols."""

import dataclasses
import math

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from semfacediff.metrics.fidelity import PSNR, SSIM, luma

PROTOCOLS = ("thesis", "strict")
METRICS = [m(p) for m in (SSIM, PSNR) for p in PROTOCOLS]


def named(metric):
    return f"{type(metric).__name__}-{metric.protocol}"


def grey(photo):
    return np.asarray(Image.fromarray(photo).convert("L"))


def kept_pixels(pair, protocol):
    return pair.blend < 128 if protocol == "thesis" else pair.blend == 0


def covered(pair, value):
    return dataclasses.replace(pair, blend=np.full_like(pair.blend, value))


@pytest.mark.parametrize("metric", METRICS, ids=named)
def test_equal_photos_are_perfect(metric, pair):
    p = pair()
    perfect = {"ssim": 1.0, "psnr_outside": math.inf, "max_abs_outside": 0.0}
    scores = metric.score(dataclasses.replace(p, edit=p.photo))
    assert scores == {c: pytest.approx(perfect[c], abs=1e-12) for c in metric.columns}


@pytest.mark.parametrize("metric", METRICS, ids=named)
def test_damage_inside_the_region_alone_is_not_seen(metric, pair):
    p = pair(damage=0)
    only_inside = np.where((p.blend == 255)[..., None], p.edit, p.photo)
    clean = dataclasses.replace(p, edit=only_inside)
    assert metric.score(clean) == pytest.approx(metric.score(dataclasses.replace(p, edit=p.photo)), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS, ids=named)
def test_more_damage_is_worse(metric, pair):
    steps = [metric.score(pair(damage=d)) for d in (2, 8, 30)]
    for column in metric.columns:
        values = [s[column] for s in steps]
        assert values == sorted(values, reverse=metric.higher_is_better[column])
        assert len(set(values)) == 3


@pytest.mark.parametrize("seed", range(3))
def test_thesis_ssim_is_the_mean_over_the_frame_with_the_region_black(pair, seed):
    p = pair(seed)
    keep = (p.blend < 128).astype(np.uint8)
    expected = structural_similarity(grey(p.photo) * keep, grey(p.edit) * keep, data_range=255)
    assert SSIM("thesis").score(p)["ssim"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_strict_ssim_is_the_mean_of_the_map_where_no_window_sees_the_region(pair, seed):
    p = pair(seed)
    _, map_ = structural_similarity(grey(p.photo), grey(p.edit), data_range=255, win_size=7, full=True)
    height, width = p.blend.shape
    values = [
        map_[y, x]
        for y, x in np.ndindex(height, width)
        if not p.blend[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4].any()
    ]
    assert SSIM("strict").score(p)["ssim"] == pytest.approx(np.mean(values), abs=1e-5)


def test_strict_ssim_does_not_depend_on_what_the_region_holds(pair):
    p = pair()
    edit = np.where((p.blend > 0)[..., None], np.uint8(255), p.edit)
    other = SSIM("strict").score(dataclasses.replace(p, edit=edit))
    assert other == pytest.approx(SSIM("strict").score(p), abs=1e-12)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", range(3))
def test_psnr_and_largest_change_over_the_outside(pair, protocol, seed):
    p = pair(seed)
    keep = kept_pixels(p, protocol)
    scores = PSNR(protocol).score(p)
    expected = peak_signal_noise_ratio(p.photo[keep], p.edit[keep], data_range=255)
    assert scores["psnr_outside"] == pytest.approx(expected, abs=1e-5)
    largest = max(abs(int(a) - int(b)) for a, b in zip(p.photo[keep].ravel(), p.edit[keep].ravel(), strict=True))
    assert scores["max_abs_outside"] == largest


def test_the_rim_counts_under_the_thesis_and_not_under_strict(pair):
    p = pair(damage=0)
    rim = (p.blend > 0) & (p.blend < 128)
    edit = np.where(rim[..., None], 255 - p.photo, p.photo)
    damaged = dataclasses.replace(p, edit=edit)
    assert PSNR("thesis").score(damaged)["max_abs_outside"] > 100
    assert PSNR("strict").score(damaged)["max_abs_outside"] == 0


@pytest.mark.parametrize(
    ("level", "thesis", "strict"), [(0, True, True), (1, True, False), (127, True, False), (128, False, False)]
)
def test_which_mask_levels_are_outside(pair, level, thesis, strict):
    p = covered(pair(), level)
    found = [PSNR(protocol).score(p)["psnr_outside"] is not None for protocol in PROTOCOLS]
    assert found == [thesis, strict]


@pytest.mark.parametrize("metric", METRICS, ids=named)
def test_no_outside(metric, pair):
    expected = {"ssim": 1.0 if metric.protocol == "thesis" else None, "psnr_outside": None, "max_abs_outside": None}
    assert metric.score(covered(pair(), 255)) == {c: expected[c] for c in metric.columns}


def test_strict_ssim_is_missing_where_the_outside_is_thinner_than_a_window(pair):
    p = covered(pair(), 255)
    p.blend[:3] = 0
    assert SSIM("strict").score(p) == {"ssim": None}
    assert PSNR("strict").score(p)["psnr_outside"] > 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_empty_mask_is_the_plain_metric(pair, protocol):
    p = covered(pair(), 0)
    if protocol == "thesis":
        expected = structural_similarity(grey(p.photo), grey(p.edit), data_range=255)
        assert SSIM(protocol).score(p)["ssim"] == pytest.approx(expected, abs=1e-5)
    expected = peak_signal_noise_ratio(p.photo, p.edit, data_range=255)
    assert PSNR(protocol).score(p)["psnr_outside"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("metric", METRICS, ids=named)
def test_a_score_depends_on_its_own_pair_only(metric, pair):
    pairs = [pair(s) for s in range(4)]
    forward = [metric.score(p) for p in pairs]
    assert [metric.score(p) for p in reversed(pairs)] == forward[::-1]


def test_luma_is_pillows():
    photo = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    exact = photo.astype(np.float64) @ [0.299, 0.587, 0.114]
    assert np.abs(luma(photo) - exact).max() <= 1
    assert np.array_equal(luma(photo), grey(photo))


@pytest.mark.parametrize("kind", [SSIM, PSNR])
def test_misspelt_protocol_is_refused(kind):
    with pytest.raises(ValueError, match="protocol: expected one of thesis, strict, got 'thesys'"):
        kind("thesys")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edit": lambda p: p.edit / 255}, r"edit: expected uint8 \[96, 80, 3\].*got float64"),
        ({"photo": lambda p: p.photo.astype(np.float32) / 127.5 - 1}, "photo: expected uint8"),
        ({"edit": lambda p: p.edit[:48]}, r"edit: expected uint8 \[96, 80, 3\].*got uint8 \[48, 80, 3\]"),
        ({"edit": lambda p: p.edit[..., 0]}, r"edit: .*got uint8 \[96, 80\]"),
        ({"blend": lambda p: p.blend / 255}, r"blend: expected uint8 \[96, 80\].*got float64"),
        ({"blend": lambda p: p.blend.T}, r"blend: .*got uint8 \[80, 96\]"),
        ({"before": lambda p: p.before.astype(int)}, "before: expected bool"),
        ({"after": lambda p: p.after[1:]}, r"after: .*got bool \[95, 80\]"),
    ],
)
def test_wrong_type_or_size_is_refused(pair, changes, message):
    p = pair()
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(p, **{name: change(p) for name, change in changes.items()})


@pytest.mark.parametrize("metric", METRICS, ids=named)
def test_identity_tells_protocols_apart(metric):
    other = type(metric)("strict" if metric.protocol == "thesis" else "thesis")
    assert metric.identity() != other.identity()
    assert metric.identity() == type(metric)(metric.protocol).identity()
