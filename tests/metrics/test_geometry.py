"""Shifts of face parts that were moved by known amounts."""

import dataclasses

import numpy as np
import pytest
from skimage.measure import regionprops

from semfacediff.labels import CELEBAMASK, SPACES, conversion
from semfacediff.metrics.base import EditPair
from semfacediff.metrics.geometry import FACE_PARTS, GeometryShift, centroids

BOXES = {  # top, left, height, width
    "skin": (20, 30, 70, 60),
    "l_brow": (30, 65, 4, 18),
    "r_brow": (30, 37, 4, 18),
    "l_eye": (40, 70, 6, 10),
    "r_eye": (40, 40, 6, 10),
    "nose": (50, 55, 14, 10),
    "u_lip": (70, 50, 4, 20),
    "l_lip": (76, 50, 5, 20),
}
EYES_PX = 30


def drawn(moves=None, without=(), boxes=BOXES):
    """int64 ``[120, 120]``; ``moves``: part -> (down, right)."""
    labels = np.zeros((120, 120), np.int64)
    for part, (top, left, height, width) in boxes.items():
        if part in without:
            continue
        down, right = (moves or {}).get(part, (0, 0))
        labels[top + down : top + down + height, left + right : left + right + width] = CELEBAMASK.index(part)
    return labels


def pair(before, after, attribute="hair", space=CELEBAMASK):
    photo, mask = np.zeros((*before.shape, 3), np.uint8), np.zeros(before.shape, np.uint8)
    region = mask > 0
    labels = {"labels_before": before, "labels_after": after}
    return EditPair(photo, photo, mask, region, region, attribute=attribute, space=space, **labels)


def score(*args, **more):
    return GeometryShift().score(pair(*args, **more))


def test_the_same_parse_has_not_moved():
    assert score(drawn(), drawn()) == {"geometry_shift_pct": 0.0, "parts_lost": 0.0}


def test_a_face_that_moves_as_a_whole_moves_by_its_shift():
    after = np.roll(drawn(), (3, 4), axis=(0, 1))
    assert score(drawn(), after)["geometry_shift_pct"] == pytest.approx(100 * 5 / EYES_PX)


def test_one_part_of_many():
    """The nose over skin: the skin's centroid moves too, by what the nose uncovers; counted by hand."""
    before, after = drawn(), drawn({"nose": (0, 6)})
    shifts = []
    for part in BOXES:
        places = [np.argwhere(labels == CELEBAMASK.index(part)).mean(0) for labels in (before, after)]
        shifts.append(np.linalg.norm(places[1] - places[0]))
    assert score(before, after)["geometry_shift_pct"] == pytest.approx(100 * np.mean(shifts) / EYES_PX, abs=1e-9)


def test_further_is_worse():
    values = [score(drawn(), drawn({"nose": (0, d)}))["geometry_shift_pct"] for d in (0, 2, 5, 9)]
    assert values == sorted(values)
    assert len(set(values)) == 4


def test_the_edited_part_may_move():
    boxes = {part: box for part, box in BOXES.items() if part != "skin"}
    before, after = drawn(boxes=boxes), drawn({"nose": (0, 6)}, boxes=boxes)
    assert score(before, after, attribute="nose") == {"geometry_shift_pct": 0.0, "parts_lost": 0.0}
    assert score(before, after, attribute="lips")["geometry_shift_pct"] > 0


def test_hair_and_what_is_worn_are_no_part_of_the_face():
    after = drawn()
    after[:15] = CELEBAMASK.index("hair")
    after[100:] = CELEBAMASK.index("cloth")
    assert score(drawn(), after)["geometry_shift_pct"] == 0


def test_a_part_that_is_gone_is_counted_and_has_no_shift():
    boxes = {part: box for part, box in BOXES.items() if part != "skin"}
    assert score(drawn(boxes=boxes), drawn(boxes=boxes, without=("l_brow", "nose"))) == {
        "geometry_shift_pct": 0.0,
        "parts_lost": 2.0,
    }


def test_a_speck_is_no_part():
    before = drawn(without=("nose",))
    before[100, 100] = CELEBAMASK.index("nose")
    assert "nose" not in centroids(before, CELEBAMASK)
    assert score(before, drawn(without=("nose",)))["parts_lost"] == 0


@pytest.mark.parametrize("eye", ["l_eye", "r_eye"])
def test_missing_without_both_eyes(eye):
    assert score(drawn(without=(eye,)), drawn())["geometry_shift_pct"] is None


def test_missing_where_nothing_is_left_to_compare():
    assert score(drawn(), np.zeros((120, 120), np.int64)) == {"geometry_shift_pct": None, "parts_lost": 8.0}


def test_missing_where_the_parser_has_no_opinion():
    missing = {"geometry_shift_pct": None, "parts_lost": None}
    assert GeometryShift().score(dataclasses.replace(pair(drawn(), drawn()), labels_after=None)) == missing


def test_the_size_of_the_photo_cancels_out():
    after = drawn({"nose": (0, 6)})
    big = [labels.repeat(3, 0).repeat(3, 1) for labels in (drawn(), after)]
    assert score(*big)["geometry_shift_pct"] == pytest.approx(score(drawn(), after)["geometry_shift_pct"], rel=1e-12)


@pytest.mark.parametrize("space", ["segface", "zllrunning"])
def test_classes_go_by_name(space):
    table = conversion(CELEBAMASK, SPACES[space])
    before, after = drawn(), drawn({"nose": (0, 6)})
    assert score(table[before], table[after], space=SPACES[space]) == score(before, after)


def test_centroids_are_scikit_images():
    labels = np.random.default_rng(0).integers(0, 19, (60, 90))
    found = centroids(labels, CELEBAMASK)
    expected = {r.label: r.centroid for r in regionprops(labels)}
    assert set(found) == set(FACE_PARTS)
    for part, (x, y) in found.items():
        assert (y, x) == pytest.approx(expected[CELEBAMASK.index(part)], abs=1e-9)


def test_label_maps_of_another_type_or_size_are_refused():
    with pytest.raises(ValueError, match=r"labels_after: expected int64 \[120, 120\].*got uint8"):
        pair(drawn(), drawn().astype(np.uint8))
    with pytest.raises(ValueError, match=r"labels_before: .*got int64 \[120, 120\]"):
        dataclasses.replace(
            pair(drawn()[:60], drawn()[:60]),
            labels_before=drawn(),
        )


def test_identity_names_the_parts():
    said = GeometryShift().identity()
    assert said["metric"] == "geometry_shift_pct, parts_lost"
    assert "l_ear" in said["parts"]
    assert said["higher_is_better"] is False
