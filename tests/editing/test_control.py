"""Controls do the damage that they are named after, and nothing else."""

import hashlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from semfacediff import config, plugins
from semfacediff.colours.oklab import oklab_to_rgb, rgb_to_oklab
from semfacediff.controls import PIXELS, SYSTEM, contradicted, relations
from semfacediff.editing.base import EditRequest
from semfacediff.editing.control import NOISE_SD, Control
from semfacediff.editing.opening import open_editor
from semfacediff.editing.recolor import NOTE_NO_COLOUR
from semfacediff.errors import UserError
from semfacediff.types import RegionMasks, to_uint8

OF_REGION = ("region_blur", "region_noise", "asked_colour", "wrong_colour", "other_face")


def request(size=(96, 80), mask="ellipse", prompt="purple hair", seed=5, photo=None) -> EditRequest:
    """Smooth waves, and a mask that is an ellipse, empty or full."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    waves = [0.5 + 0.3 * np.sin(x / (5 + c) + c) * np.cos(y / (7 - c)) for c in range(3)]
    photo = torch.from_numpy(np.stack(waves).astype(np.float32)) if photo is None else photo
    inside = ((x / width - 0.5) / 0.3) ** 2 + ((y / height - 0.5) / 0.2) ** 2 < 1
    inside = {"ellipse": inside, "empty": np.zeros(size, bool), "full": np.ones(size, bool)}[mask]
    m = torch.from_numpy(inside[None].astype(np.float32))
    return EditRequest("a", "hair", photo, RegionMasks(m, m, m, float(m.mean())), prompt, None, seed)


def edit(kind: str, req: EditRequest, **options) -> torch.Tensor:
    return Control(kind, **options).edit([req])[0]


@pytest.mark.parametrize("kind", PIXELS)
@pytest.mark.parametrize(
    ("size", "mask"), [((96, 80), "ellipse"), ((33, 50), "empty"), ((17, 16), "full"), ((1, 7), "full")]
)
def test_any_size_and_mask_and_the_photo_is_not_written(kind, size, mask):
    req = request(size, mask)
    before = req.photo.clone()
    made = edit(kind, req)
    assert (made.shape, made.dtype) == (req.photo.shape, torch.float32)
    assert made.is_contiguous()
    assert 0 <= made.min() <= made.max() <= 1
    assert torch.equal(req.photo, before)
    assert torch.equal(edit(kind, req), made)
    made.zero_()
    assert torch.equal(req.photo, before)


@pytest.mark.parametrize("kind", OF_REGION)
def test_edits_of_the_region_change_all_of_it_and_nothing_else(kind):
    req = request()
    inside = req.masks.generation[0] > 0.5
    changed = (edit(kind, req) != req.photo).any(0)
    assert not changed[~inside].any()
    assert changed[inside].float().mean() > 0.95
    assert torch.equal(edit(kind, request(mask="empty")), req.photo)


@pytest.mark.parametrize("kind", ["photo_noise", "region_noise", "shift_3px", "other_face"])
def test_another_seed_makes_another_edit(kind):
    assert not torch.equal(edit(kind, request(seed=4)), edit(kind, request(seed=5)))


@pytest.mark.parametrize(("kind", "px"), [("shift_1px", 1), ("shift_3px", 3)])
@pytest.mark.parametrize(("seed", "axis", "sign"), [(0, 2, 1), (1, 2, -1), (2, 1, 1), (3, 1, -1)])
def test_a_shift_at_1024_moves_by_whole_pixels(kind, px, seed, axis, sign):
    req = request((1024, 24), seed=seed)
    moved = torch.roll(req.photo, sign * px, axis)
    inner = (slice(None), slice(4, -4), slice(4, -4))
    # A spline passes through its values; filter and sum are some 20 float32 products of size 1 an axis.
    torch.testing.assert_close(edit(kind, req)[inner], moved[inner], rtol=0, atol=40 * 2**-23)


def test_a_smaller_photo_is_shifted_by_less():
    req = request((256, 256), seed=0)
    y, x = np.mgrid[:256, :256]
    waves = np.stack([0.5 + 0.3 * np.sin((x - 0.75) / (5 + c) + c) * np.cos(y / (7 - c)) for c in range(3)])
    inner = np.s_[:, 4:-4, 4:-4]
    # Cubic interpolation errs by at most (h^3 max |f'''|) / 6 with h = 1 px; f''' = 0.3 / 5^3 here
    assert np.abs(edit("shift_3px", req).numpy() - waves)[inner].max() < 0.3 / 5**3 / 6


def test_the_zoom_keeps_the_centre_and_enlarges_by_one_per_cent():
    y, x = np.mgrid[:101, :101] / 100.0
    made = edit(
        "zoom_1pct", request((101, 101), photo=torch.from_numpy(np.stack([x, y, x]).astype(np.float32)))
    ).numpy()
    assert made[:, 50, 50] == pytest.approx([0.5, 0.5, 0.5], abs=1e-6)
    slope = np.diff(made[0, 50, 10:90])
    assert slope == pytest.approx(np.full(slope.shape, 0.01 / 1.01), abs=1e-6)


def test_noise_has_its_standard_deviation():
    req = request((128, 128), photo=torch.full((3, 128, 128), 0.5))
    noise = edit("photo_noise", req) - 0.5
    n = noise.numel()
    assert abs(noise.mean()) < 5 * NOISE_SD / n**0.5
    assert abs(noise.std() / NOISE_SD - 1) < 5 / (2 * n) ** 0.5


def test_jpeg_is_pillows_at_quality_50(tmp_path):
    req = request()
    Image.fromarray(to_uint8(req.photo)).save(tmp_path / "q50.jpg", quality=50)
    theirs = np.asarray(Image.open(tmp_path / "q50.jpg")).astype(int)
    assert np.abs(to_uint8(edit("jpeg_50", req)).astype(int) - theirs).max() <= 3  # two decoders' rounding


def test_resampling_loses_what_half_the_size_cannot_hold():
    y, x = np.mgrid[:64, :64]
    checks = torch.from_numpy(np.broadcast_to((x + y) % 2, (3, 64, 64)).astype(np.float32).copy())
    assert edit("resampled", request((64, 64), photo=checks)).sub(0.5).abs().max() < 1e-6
    flat = torch.full((3, 64, 64), 0.25)
    torch.testing.assert_close(edit("resampled", request((64, 64), photo=flat)), flat)


def median_lab(req, made) -> np.ndarray:
    inside = req.masks.generation[0].numpy() > 0.5
    return np.median(rgb_to_oklab(made.numpy().astype(np.float64))[:, inside], axis=1)


def test_the_region_takes_the_colour_that_the_prompt_names_or_the_opposite_hue():
    grey = torch.full((3, 40, 40), 0.5) + 0.02 * torch.randn(1, 40, 40, generator=torch.Generator().manual_seed(1))
    req = request((40, 40), prompt="teal hair", photo=grey)
    asked, wrong = (median_lab(req, edit(kind, req)) for kind in ("asked_colour", "wrong_colour"))
    teal = rgb_to_oklab(np.array([2, 147, 134]) / 255)  # "teal" of the XKCD table
    assert asked == pytest.approx(teal, abs=0.02)
    rim = np.clip(oklab_to_rgb(teal * (1, -1, -1)), 0, 1)
    assert wrong == pytest.approx(rgb_to_oklab(rim), abs=0.03)
    assert float(np.dot(asked[1:], wrong[1:])) < 0


@pytest.mark.parametrize(("prompt", "level"), [("black hair", 1), ("white hair", 0)])
def test_the_opposite_of_a_grey_is_black_or_white(prompt, level):
    req = request((40, 40), prompt=prompt, photo=torch.full((3, 40, 40), 0.5))
    made = edit("wrong_colour", req)[:, req.masks.generation[0] > 0.5]
    torch.testing.assert_close(made, torch.full_like(made, level), rtol=0, atol=1e-5)


@pytest.mark.parametrize("prompt", ["smooth hair", "dark hair", "not red"])
def test_a_prompt_without_a_colour_keeps_the_photo_and_says_so(prompt):
    req = request(prompt=prompt)
    for kind in ("asked_colour", "wrong_colour"):
        assert torch.equal(edit(kind, req), req.photo)
        assert Control(kind).note(req) == NOTE_NO_COLOUR
        assert Control(kind).understood(prompt, "hair") == []
    assert Control("half_outside").note(req) is None
    assert not torch.equal(edit("half_outside", req), req.photo)
    assert Control("asked_colour").note(request()) is None
    assert Control("asked_colour").understood("purple hair", "hair") == ["purple"]


def test_half_of_the_edit_lies_outside_next_to_the_region():
    req = request((64, 64))
    inside = req.masks.generation[0].numpy() > 0.5
    changed = (edit("half_outside", req) != req.photo).any(0).numpy()
    assert changed[inside].all()
    assert (changed & ~inside).sum() == inside.sum()
    distance = np.rint(cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) ** 2)
    assert distance[changed & ~inside].max() <= distance[~changed].min()
    asked = edit("asked_colour", req)
    torch.testing.assert_close(edit("half_outside", req)[:, inside], asked[:, inside], rtol=0, atol=1e-6)


def test_donors_are_other_people(tmp_path):
    for name, level in (("a", 10), ("b", 120), ("c", 230)):
        Image.fromarray(np.full((40, 50, 3), level, np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("no photo")
    seen = set()
    for seed in range(8):
        req = request(seed=seed)
        made = to_uint8(edit("other_face", req, donors=str(tmp_path)))[req.masks.generation[0].numpy() > 0.5]
        assert len(np.unique(made)) == 1
        seen.add(int(made[0, 0]))
    assert seen == {120, 230}, "never the photo's own file"
    control = Control("other_face", str(tmp_path))
    kept = control.fingerprint("a", "hair")
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "d.png")
    assert Control("other_face", str(tmp_path)).fingerprint("a", "hair") != kept
    assert Control("nothing", str(tmp_path)).fingerprint("a", "hair") is None


def test_what_cannot_be_made_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"editor.kind: expected one of nothing, shift_1px, .*, got 'blur'$"):
        Control("blur")
    with pytest.raises(
        UserError, match=r"editor.donors: expected a folder with at least 2 photos at .*, found 0; name"
    ):
        Control("other_face", str(tmp_path / "absent"))


def test_it_is_chosen_by_name_and_the_preset_runs_every_kind(repository, compose):
    import yaml

    assert plugins.find("editor", "control") is Control
    preset = yaml.safe_load((repository / "experiments/experiment/controls.yaml").read_text())
    assert tuple(preset["hydra"]["sweeper"]["params"]["editor.kind"].split(",")) == PIXELS + SYSTEM
    cfg = compose("evaluate", "experiment=controls", "editor.kind=zoom_1pct")
    editor, facts = open_editor(config.typed(cfg, config.EditingEvaluation).editor, torch.device("cpu"))
    assert (type(editor), editor.kind) == (Control, "zoom_1pct")
    code = repository / "src/semfacediff/editing/control.py"
    assert facts == {"name": "control", "digest": hashlib.sha256(code.read_bytes()).hexdigest(), "numerics": None}


def test_a_chain_of_controls_and_what_contradicts_it():
    assert list(relations("nothing = jpeg_50<photo_noise")) == [
        ("nothing", "=", "jpeg_50"),
        ("jpeg_50", "<", "photo_noise"),
    ]
    for bad, said in (
        ("nothing", "at least two controls"),
        ("", "at least two controls"),
        ("nothing < blur", "known controls, got 'blur'"),
        ("nothing <", "known controls, got ''"),
        ("nothing > jpeg_50 < zoom_1pct", "known controls, got 'nothing > jpeg_50'"),
    ):
        with pytest.raises(ValueError, match=f"order '{bad}': expected {said} between"):
            list(relations(bad))
    inf = float("inf")
    assert contradicted(["shift_3px < nothing"], {"shift_3px": 30.0, "nothing": inf}) == ([], 1)
    assert contradicted(["nothing = jpeg_50"], {"jpeg_50": inf, "nothing": inf}) == ([], 1)
    assert contradicted(["nothing < jpeg_50"], {"jpeg_50": 1.0}) == ([], 0)
    assert contradicted(["nothing < jpeg_50"], {"jpeg_50": 1.0, "nothing": float("nan")}) == ([], 0)
    wrong, n = contradicted(
        ["nothing < jpeg_50 = photo_noise", "nothing < zoom_1pct"],
        {"nothing": 2.0, "jpeg_50": 1.0, "photo_noise": 1.1, "zoom_1pct": 2.0},
    )
    assert (wrong, n) == (
        ["nothing < jpeg_50 (2 and 1)", "jpeg_50 = photo_noise (1 and 1.1)", "nothing < zoom_1pct (2 and 2)"],
        3,
    )


def test_noise_is_drawn_from_the_requests_seed():
    made = edit("photo_noise", request((1, 2), "full", photo=torch.full((3, 1, 2), 0.5)))
    expected = 0.5 + NOISE_SD * np.random.default_rng(5).standard_normal((1, 2, 3), np.float32)
    assert made.permute(1, 2, 0).numpy() == pytest.approx(expected, abs=1e-7)
