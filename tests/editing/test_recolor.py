"""Recolouring on drawn textures: where it acts, toward what, and what it must keep."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from semfacediff.colours.grammar import find_colours
from semfacediff.colours.oklab import rgb_to_oklab
from semfacediff.editing.base import EditRequest
from semfacediff.editing.identity import Identity
from semfacediff.editing.recolor import NOTE_NO_COLOUR, Recolor
from semfacediff.errors import UserError
from semfacediff.types import RegionMasks

SIZE = 128


def request(prompt: str, attribute: str = "hair", base=(0.35, 0.2, 0.12), size: int = SIZE, seed: int = 3):
    """Strands (stretched noise) under a light that falls off, an ellipse as the region."""
    rng = np.random.default_rng(size)
    strands = cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), sigmaX=1, sigmaY=6)
    light = 1 + 0.12 * strands / strands.std() + np.linspace(-0.25, 0.25, size, dtype=np.float32)[None]
    photo = (np.array(base, np.float32)[:, None, None] * light).clip(0, 1)
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    mask = torch.from_numpy(((x / 0.4) ** 2 + (y / 0.35) ** 2 < 1).astype(np.float32))[None]
    masks = RegionMasks(mask, mask, mask, float(mask.mean()))
    return EditRequest("drawn", attribute, torch.from_numpy(photo).contiguous(), masks, prompt, "", seed)


def edit(req: EditRequest, **options) -> torch.Tensor:
    return Recolor(**options).edit([req])[0]


def inner_lab(req: EditRequest, photo: torch.Tensor) -> np.ndarray:
    """OKLab [3, N] well inside the region, away from its soft edge."""
    core = cv2.erode(req.masks.generation[0].numpy(), np.ones((9, 9))) > 0.5
    return rgb_to_oklab(photo.numpy().astype(np.float64))[:, core]


def hue(lab: np.ndarray) -> float:
    return float(np.degrees(np.arctan2(lab[2].mean(), lab[1].mean())))


@pytest.mark.parametrize("attribute", ["hair", "lips", "eyes", "eyebrows", "skin", "clothing", "nose"])
@pytest.mark.parametrize("prompt", ["purple", "blonde and blue", "darker", "silver highlights"])
def test_outside_the_generation_mask_not_a_bit_changes(attribute, prompt):
    req = request(prompt, attribute)
    result = edit(req)
    outside = req.masks.generation[0] == 0
    assert torch.equal(result[:, outside], req.photo[:, outside])
    assert result.shape == req.photo.shape
    assert result.dtype == torch.float32
    assert 0 <= result.min() <= result.max() <= 1


def test_the_edge_is_soft():
    req = request("blonde hair")
    change = (edit(req) - req.photo).abs().mean(0).numpy()
    depth = cv2.distanceTransform((req.masks.generation[0].numpy() > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    assert change[(depth > 0) & (depth < 1.5)].mean() < 0.65 * change[depth > 6].mean()


@pytest.mark.parametrize(
    "base", [(0.08, 0.06, 0.05), (0.35, 0.2, 0.12), (0.75, 0.6, 0.4)], ids=["black", "brown", "blonde"]
)
@pytest.mark.parametrize("prompt", ["blonde hair", "black hair", "purple hair", "dark hair"])
def test_texture_is_kept(base, prompt):
    req = request(prompt, base=base)
    before, after = (rgb_to_oklab(p.numpy().astype(np.float64))[0] for p in (req.photo, edit(req)))
    core = cv2.erode(req.masks.generation[0].numpy(), np.ones((25, 25))) > 0.5
    fine = [(image - cv2.GaussianBlur(image, (0, 0), 3))[core] for image in (before, after)]
    assert np.corrcoef(*fine)[0, 1] > 0.9
    assert fine[1].std() > 0.4 * fine[0].std(), "strands must stay visible"


@pytest.mark.parametrize("colour", ["purple", "teal", "auburn", "dusty rose", "emerald green", "royal blue"])
def test_mean_hue_moves_to_the_target(colour):
    req = request(f"{colour} hair")
    target = rgb_to_oklab(np.array(find_colours(colour)[0].rgb)[:, None] / 255)
    away = (hue(inner_lab(req, edit(req, strength=1.0))) - hue(target) + 180) % 360 - 180
    assert abs(away) < 12


def test_lightness_moves_the_right_way_and_part_of_it():
    dark, light = request("blonde hair", base=(0.08, 0.06, 0.05)), request("black hair", base=(0.75, 0.6, 0.4))
    assert 0.5 < inner_lab(dark, edit(dark))[0].mean() < 0.8
    assert 0.15 < inner_lab(light, edit(light))[0].mean() < 0.45


def test_a_farther_target_changes_more():
    changes = [
        (edit(request(f"{colour} hair")) - request("").photo).abs().mean().item()
        for colour in ("brown", "light brown", "platinum blonde")
    ]
    assert changes == sorted(changes)
    assert changes[0] < 0.6 * changes[2]


def test_strength_scales_the_change():
    req = request("teal hair")
    half, full = ((edit(req, strength=s) - req.photo).abs().mean().item() for s in (0.5, 1.0))
    assert half == pytest.approx(full / 2, rel=0.01)
    assert torch.equal(edit(req, strength=0), req.photo)


@pytest.mark.parametrize(("word", "sign"), [("dark", -1), ("light", 1)])
def test_bare_shades_keep_the_hue(word, sign):
    req = request(f"{word} eyebrows", "eyebrows")
    before, after = inner_lab(req, req.photo), inner_lab(req, edit(req))
    assert sign * (after[0].mean() - before[0].mean()) > 0.02
    assert abs(hue(after) - hue(before)) < 3


def test_highlights_depend_on_the_seed_alone():
    one = request("purple hair with silver highlights")
    assert torch.equal(edit(one), edit(one))
    assert not torch.equal(edit(one), edit(replace(one, seed=4)))
    plain = edit(replace(one, prompt="purple hair"))
    assert torch.equal(plain, edit(replace(one, prompt="purple hair", seed=4)))
    spread = [np.hypot(*inner_lab(one, image)[1:]).std() for image in (plain, edit(one))]
    assert spread[1] > 1.5 * spread[0], "silver strands have less chroma than purple ones"


def test_ombre_runs_from_top_to_bottom():
    lab = rgb_to_oklab(edit(request("ombre from dark brown to blonde")).numpy().astype(np.float64))
    assert lab[0, 95:105, 54:74].mean() - lab[0, 23:33, 54:74].mean() > 0.15


def test_the_white_of_the_eye_and_the_catchlight_stay():
    size, photo = 96, np.full((3, 96, 96), 0.85, np.float32)
    y, x = np.mgrid[0:size, 0:size]
    mask = ((x - 48) / 36.0) ** 2 + ((y - 48) / 16.0) ** 2 < 1
    distance = np.hypot(x - 52, y - 48)
    photo[:, distance < 14] = np.array([0.3, 0.2, 0.12], np.float32)[:, None]
    photo[:, distance < 5] = 0.03
    photo[:, np.hypot(x - 58, y - 42) < 2.5] = 0.98
    on = torch.from_numpy(mask.astype(np.float32))[None]
    req = EditRequest("eye", "eyes", torch.from_numpy(photo), RegionMasks(on, on, on, 0.2), "green eyes", "", 0)
    change = (edit(req) - req.photo).abs().mean(0).numpy()
    ring = (distance > 7) & (distance < 12) & (y > 48)
    assert change[ring].mean() > 0.05
    assert change[mask & (distance > 18)].max() < 0.01
    assert change[np.hypot(x - 58, y - 42) < 1.5].max() < 0.01
    assert change[distance < 3].max() < 0.05


def test_a_batch_equals_single_edits():
    requests = [
        request("teal hair"),
        request("pink lipstick", "lips", size=96),
        request("blue and green hair", size=80),
    ]
    together = Recolor().edit(requests)
    for req, result in zip(requests, together, strict=True):
        assert torch.equal(result, edit(req))


@pytest.mark.parametrize("pixels", [0, 1, 3])
def test_empty_and_tiny_masks(pixels):
    req = request("purple hair with silver highlights and pink tips")
    mask = torch.zeros_like(req.masks.generation)
    mask[0, 40, 40 : 40 + pixels] = 1
    for attribute in ("hair", "eyes", "eyebrows"):
        result = edit(replace(req, attribute=attribute, masks=RegionMasks(mask, mask, mask, 0.0)))
        assert torch.equal(result[:, mask[0] == 0], req.photo[:, mask[0] == 0])
        assert torch.isfinite(result).all()


def test_photos_are_not_written_to():
    req = request("teal hair")
    before = req.photo.clone()
    edit(req)
    assert torch.equal(req.photo, before)


def test_without_a_colour_the_region_is_kept_and_noted():
    editor, req = Recolor(), request("smooth skin, even complexion", "skin")
    editor.check({"skin": req.prompt})
    assert editor.note(req) == NOTE_NO_COLOUR
    assert torch.equal(editor.edit([req])[0], req.photo)
    assert editor.note(request("teal hair")) is None


def test_strict_mode_names_attribute_prompt_and_examples():
    editor = Recolor(no_colour="error")
    editor.check({"hair": "natural brown hair", "eyebrows": "well-defined dark eyebrows"})
    with pytest.raises(UserError, match=r"'skin' in the prompt 'smooth skin'.*'auburn'.*no_colour=keep"):
        editor.check({"hair": "brown hair", "skin": "smooth skin"})


@pytest.mark.parametrize(("options", "message"), [({"no_colour": "x"}, "keep, error"), ({"strength": 2}, "0 to 1")])
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Recolor(**options)


def test_identity_returns_the_photo():
    req = request("teal hair")
    (result,) = Identity().edit([req])
    assert torch.equal(result, req.photo)
    assert Identity().note(req) is None
    assert Identity().check({"hair": "anything"}) is None
