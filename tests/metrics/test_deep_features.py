"""Features computed where they can differ are those of a pass over the whole photo."""

import warnings

import cv2
import lpips
import numpy as np
import pytest
import torch

from semfacediff.metrics.base import EditPair
from semfacediff.metrics.outside import outside
from semfacediff.metrics.perceptual import LPIPS

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["thesis", "strict"])
def metric(request) -> LPIPS:
    return LPIPS(request.param, None, "random", CPU)


def case(size: tuple[int, int], box: tuple[int, int, int, int], edited: str) -> EditPair:
    """A feathered box, edited inside or everywhere."""
    rng = np.random.default_rng(size[0] + box[0])
    photo = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    blend = np.zeros(size, np.uint8)
    blend[box[0] : box[1], box[2] : box[3]] = 255
    blend = cv2.GaussianBlur(blend, (5, 5), 2)
    edit = photo.copy()
    if edited == "inside":
        edit[blend > 0] = 255 - edit[blend > 0]
    elif edited == "everywhere":
        edit = np.clip(photo + rng.integers(-20, 21, photo.shape), 0, 255).astype(np.uint8)
    return EditPair(photo, edit, blend, blend > 0, None)


def by_the_package(metric: LPIPS, pair: EditPair) -> float:
    """One pass of the ``lpips`` package over both whole photos."""
    a, b = (torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1 for x in (pair.photo, pair.edit))
    kept = torch.from_numpy(outside(pair.blend, metric.protocol))
    with torch.inference_mode(), warnings.catch_warnings():
        if metric.protocol == "thesis":
            return float(metric.net(a * kept, b * kept))
        return float(metric.net(a, b)[0, 0][kept].double().mean())


@pytest.mark.parametrize("edited", ["inside", "everywhere", "nowhere"])
@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((64, 64), (10, 20, 5, 30)),
        ((97, 130), (0, 9, 100, 130)),
        ((97, 130), (88, 97, 0, 3)),
        ((200, 120), (90, 91, 60, 61)),
        ((64, 64), (6, 64, 0, 58)),
    ],
    ids=["inner", "corner", "other corner", "a pixel", "nearly all"],
)
def test_equals_a_pass_of_the_package_over_both_photos(metric, size, box, edited):
    pair = case(size, box, edited)
    value = metric.score(pair)["lpips"]
    assert value == pytest.approx(by_the_package(metric, pair), rel=1e-5, abs=1e-7)
    if edited == "nowhere":
        assert value == 0


def test_a_photos_features_are_computed_once_for_all_of_its_edits(monkeypatch):
    metric, wholes = LPIPS("strict", None, "random", CPU), []
    whole = metric._trunk._whole
    monkeypatch.setattr(metric._trunk, "_whole", lambda photo: wholes.append(photo) or whole(photo))
    for box in ((10, 20, 5, 30), (40, 50, 5, 30), (30, 35, 30, 35)):
        pair = case((64, 64), (10, 20, 5, 30), "nowhere")
        edit = pair.photo.copy()
        edit[box[0] : box[1], box[2] : box[3]] //= 2
        metric.score(EditPair(pair.photo.copy(), edit, pair.blend, pair.before, None))
    assert len(wholes) == 1, "known by what it holds, not by which array it is"
    other = case((64, 64), (10, 20, 5, 30), "inside")
    metric.score(EditPair(255 - other.photo, other.edit, other.blend, other.before, None))
    assert len(wholes) == 3, "another photo, and an edit unlike it"


def test_the_trunk_has_the_layers_that_are_told_apart():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).net
    kinds = {type(layer).__name__ for k in range(1, 6) for layer in getattr(net, f"slice{k}")}
    assert kinds == {"Conv2d", "ReLU", "MaxPool2d"}
    assert all(not layer.ceil_mode for layer in net.modules() if isinstance(layer, torch.nn.MaxPool2d))
