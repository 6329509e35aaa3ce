"""Whether it is still the same person: known faces and strangers, faces that are not there, and calibration."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from semfacediff.controls import contradicted, relations
from semfacediff.editing.base import EditRequest
from semfacediff.editing.control import Control
from semfacediff.errors import UserError
from semfacediff.faces.detection import Face
from semfacediff.labels import ATTRIBUTES, CELEBAMASK
from semfacediff.metrics.base import EditPair
from semfacediff.metrics.identity import (
    METRIC,
    OF_DLIB,
    WHOLE,
    Calibration,
    Identity,
    calibration_file,
    edited_face,
    overlap,
    read_calibration,
)
from semfacediff.regions.masks import RegionRule, region_masks
from semfacediff.types import to_tensor, to_uint8

SCORES = METRIC.columns[:-1]
GREY = 128


@pytest.fixture(scope="module")
def metric():
    return Identity()


@pytest.fixture(scope="module")
def hair(portrait) -> np.ndarray:
    """uint8 ``[256, 256]``: a region above the brows of the portrait."""
    mask = np.zeros(portrait.shape[:2], np.uint8)
    mask[30:85, 70:185] = 255
    return mask


def pair(photo, edit, blend=None, attribute="hair"):
    blend = np.zeros(photo.shape[:2], np.uint8) if blend is None else blend
    return EditPair(photo, edit, blend, blend > 0, None, attribute=attribute)


def framed(stranger):
    """At the portrait's size."""
    return np.pad(stranger, ((28, 28), (28, 28), (0, 0)), mode="edge")


def blank(photo):
    return np.full_like(photo, GREY)


def darker(photo):
    return (photo * 0.6).astype(np.uint8)


def test_an_edit_that_equals_the_photo_to_the_bit(metric, portrait, hair):
    said = metric.score(pair(portrait, portrait.copy(), hair))
    assert [said[c] for c in SCORES] == [1, 0, 1, 0]
    assert said["no_face"] is None


def test_the_same_person_in_another_light_mirrored_and_grey(metric, portrait):
    grey = np.repeat(cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=-1)
    for edit in (darker(portrait), np.ascontiguousarray(portrait[:, ::-1]), grey):
        said = metric.score(pair(portrait, edit))
        assert said["identity_distance"] < 0.35
        assert said["identity"] > 0.6
    assert metric.score(pair(grey, grey.copy()))["identity"] == 1


def test_strangers_are_strangers(metric, portrait, strangers):
    for a, b in ((portrait, framed(strangers[0])), (strangers[0], strangers[1]), (strangers[1], strangers[2])):
        said = metric.score(pair(a, b))
        assert said["identity_distance"] > 0.6, "dlib's threshold for one person"
        assert said["identity"] < 0.4


def test_the_distance_has_no_direction(metric, strangers):
    there, back = (metric.score(pair(strangers[a], strangers[b])) for a, b in ((0, 1), (1, 0)))
    assert there == back


def test_a_face_that_is_not_there_is_named(metric, portrait):
    for photo, edit, where in (
        (blank(portrait), portrait, "photo"),
        (portrait, blank(portrait), "edit"),
        (blank(portrait), blank(portrait), "photo, edit"),
    ):
        said = metric.score(pair(photo, edit))
        assert said["no_face"] == where
        assert [said[c] for c in SCORES] == [None] * 4


def test_what_happens_in_the_region_is_hidden(metric, portrait, hair):
    noise = np.random.default_rng(0).integers(0, 256, portrait.shape, dtype=np.uint8)
    said = metric.score(pair(portrait, np.where(hair[..., None] > 0, noise, portrait), hair))
    assert said["identity_outside_distance"] < said["identity_distance"]
    # Beside the region nothing changed: what is left is where the five points were found.
    assert said["identity_outside_distance"] < 0.15
    assert said["identity_outside"] > 0.9
    lower = np.where(hair[..., None] > 0, portrait, darker(portrait))
    assert metric.score(pair(portrait, lower, hair))["identity_outside_distance"] > 0.05


def test_a_region_that_covers_the_face_leaves_nothing_to_compare(metric, portrait, strangers):
    whole = np.full(portrait.shape[:2], 255, np.uint8)
    said = metric.score(pair(portrait, darker(portrait), whole, "skin"))
    assert said["identity"] > 0.6
    assert (said["identity_outside"], said["identity_outside_distance"]) == (None, None)
    assert said["no_face"] is None


def beside(left, right):
    return np.concatenate([left, right], axis=1)


def test_of_two_faces_the_edited_one_counts(metric, portrait, strangers):
    photo = beside(portrait, framed(strangers[0]))
    none = np.zeros(portrait.shape[:2], np.uint8)
    edit, upper = beside(portrait, framed(strangers[1])), none.copy()
    upper[:100] = 255
    assert metric.score(pair(photo, edit, beside(upper, none)))["identity_distance"] == 0
    assert metric.score(pair(photo, edit, beside(none, upper)))["identity_distance"] > 0.6


def test_a_face_somewhere_else_is_not_the_one_of_the_photo(metric, portrait):
    there, elsewhere = beside(portrait, blank(portrait)), beside(blank(portrait), portrait)
    said = metric.score(pair(there, elsewhere))
    assert said["no_face"] == "edit"
    assert said["identity_distance"] is None


def test_the_largest_face_where_no_region_is_and_overlap_is_that_of_boxes():
    points = np.zeros((5, 2))
    small, large = Face((0, 0, 10, 10), points), Face((20, 0, 40, 20), points)
    nowhere = np.zeros((40, 60), bool)
    assert edited_face([small, large], nowhere) is large
    near = nowhere.copy()
    near[:12, :8] = True
    assert edited_face([small, large], near) is small
    assert edited_face([], near) is None
    assert overlap((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(50 / 150)
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert overlap((-5, -5, 5, 5), (-5, -5, 5, 5)) == 1


def test_the_score_is_linear_between_one_person_and_two():
    known = Calibration("w", {WHOLE: (0.1, 0.9)}, "d")
    distances = [0, 0.1, 0.3, 0.5, 0.9, 2]
    assert [known.score(d, WHOLE) for d in distances] == pytest.approx([1, 1, 0.75, 0.5, 0, 0])
    assert known.score(0.5, "hair") is None


def test_the_calibration_in_the_package_knows_every_attribute(metric):
    plain = json.loads(OF_DLIB.read_text())
    assert set(metric.calibration.anchors) == {WHOLE, *ATTRIBUTES}
    assert plain["photos"] == 250
    for same, different in metric.calibration.anchors.values():
        assert 0.02 < same < 0.2
        assert 0.5 < different < 1  # with the skin hidden, little is left of a face
    assert {"skin_tone", "pose", "glasses"} == set(plain["groups"])


def test_a_calibration_of_other_weights_or_of_none_is_refused(metric, tmp_path):
    plain = json.loads(OF_DLIB.read_text())
    file = calibration_file(tmp_path / "face.onnx")
    assert file.name == "face.onnx.json"
    for text, message in (
        ("no json", "no calibration of identity"),
        (json.dumps({"weights": "sha256:0"}), "no calibration of identity"),
        (json.dumps(plain | {"weights": "sha256:0"}), "made with weights sha256:0, the network has sha256:"),
        (json.dumps(plain | {"anchors": {WHOLE: {"same": 0.9, "different": 0.1}}}), "must be below that of two"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=f"{message}.*'python benchmarks/identity.py --arcface .*face.onnx"):
            read_calibration(file, metric.network)
    file.write_text(json.dumps(plain))
    assert read_calibration(file, metric.network).anchors == metric.calibration.anchors


def test_a_network_without_calibration_has_distances_alone(metric, portrait):
    bare = Identity.__new__(Identity)
    bare.__dict__ = metric.__dict__ | {"calibration": None}
    said = bare.score(pair(portrait, darker(portrait)))
    assert said["identity"] is said["identity_outside"] is None
    assert said["identity_distance"] == metric.score(pair(portrait, darker(portrait)))["identity_distance"]


def test_what_it_says_of_itself(metric):
    said = metric.identity()
    assert said["weights"] == json.loads(OF_DLIB.read_text())["weights"]
    assert said["metric"].split(", ") == list(METRIC.columns)
    assert said["range"]["identity"] == (0, 1)
    assert said["range"]["identity_distance"] == (0, None)
    assert said["calibration"]
    assert set(METRIC.orders) == set(SCORES)


def test_controls_are_ordered_as_declared(metric, portrait, strangers, tmp_path):
    """Of the portrait and two strangers, whose faces are the region; donors are yet other faces."""
    for i, one in enumerate((strangers[0], strangers[2])):
        Image.fromarray(one).save(tmp_path / f"{i}.png")
    close = cv2.resize(portrait[55:198, 55:198], (200, 200), interpolation=cv2.INTER_CUBIC)
    labels = torch.zeros((200, 200), dtype=torch.int64)
    labels[70:190, 50:170] = CELEBAMASK.index("skin")
    masks = region_masks(labels, "skin", CELEBAMASK, RegionRule())
    blend = np.rint(masks.blend[0].numpy() * 255).astype(np.uint8)
    chains = [chain for of_column in METRIC.orders.values() for chain in of_column]
    kinds = sorted({name for chain in chains for a, _, b in relations(chain) for name in (a, b)})
    means = {}
    for kind in kinds:
        editor = Control(kind, donors=str(tmp_path))
        scores = []
        for i, photo in enumerate((close, strangers[1])):
            request = EditRequest(f"face{i}", "skin", to_tensor(photo), masks, "skin", None, i)
            scores.append(metric.score(pair(photo, to_uint8(editor.edit([request])[0]), blend, "skin")))
        assert all(one["no_face"] is None for one in scores), kind
        means[kind] = {c: float(np.mean([one[c] for one in scores])) for c in SCORES}
    for column, orders in METRIC.orders.items():
        wrong, checked = contradicted(orders, {kind: means[kind][column] for kind in kinds})
        assert not wrong, column
        assert checked


def test_a_metric_that_scored_others_scores_the_same(metric, portrait, strangers, hair):
    first = metric.score(pair(portrait, darker(portrait), hair))
    metric.score(pair(strangers[0], strangers[1]))
    assert metric.score(pair(portrait, darker(portrait), hair)) == first
    shifted = dataclasses.replace(pair(portrait, darker(portrait), hair), attribute="lips")
    again = metric.score(shifted)
    assert again["identity_outside_distance"] == first["identity_outside_distance"]
