"""Where what a face lacks is added."""

import numpy as np
import pytest
import torch

from semfacediff.labels import CELEBAMASK
from semfacediff.regions import ADDABLE, attribute_region, task_region

SIZE = 64
PARTS = {
    "skin": (10, 60, 10, 54),
    "hair": (0, 40, 0, 10),
    "l_brow": (20, 22, 16, 26),
    "r_brow": (20, 22, 38, 48),
    "l_eye": (26, 30, 18, 24),
    "r_eye": (26, 30, 40, 46),
    "l_ear": (24, 32, 56, 60),
    "neck": (60, 64, 20, 44),
}


def face(**changed) -> torch.Tensor:
    """A label map of boxes (first row, end, first column, end); ``None`` leaves a part out."""
    labels = torch.zeros(SIZE, SIZE, dtype=torch.int64)
    for name, box in (PARTS | changed).items():
        if box is not None:
            labels[box[0] : box[1], box[2] : box[3]] = CELEBAMASK.index(name)
    return labels


def place(attribute: str, labels: torch.Tensor) -> np.ndarray:
    return task_region(labels, attribute, CELEBAMASK, "add")


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    where = np.zeros((SIZE, SIZE), bool)
    where[top:bottom, left:right] = True
    return where


def test_glasses_cover_eyes_and_brows_and_a_quarter_of_their_distance_around():
    found = place("glasses", face())
    assert found[22, 24:40].all(), "the bridge of the nose lies between the eyes"
    rows, columns = (np.flatnonzero(found.any(axis)) for axis in (1, 0))
    # The eyes' middles are 22 px apart: 5.5 px around rows 20-29 and columns 16-47; OpenCV's distances err by 2 %.
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (15, 34, 11, 52)


def test_a_hat_takes_the_hair_above_the_brows_lower_edge():
    assert np.array_equal(place("hat", face()), box(0, 22, 0, 10))


def test_earrings_hang_from_the_middle_of_a_visible_ear():
    assert np.array_equal(place("earrings", face()), box(28, 36, 56, 60))
    assert np.array_equal(place("earrings", face(l_ear=(60, 64, 56, 60))), box(62, 64, 56, 60)), "cut by the frame"


def test_a_necklace_lies_on_the_neck():
    assert np.array_equal(place("necklace", face()), box(60, 64, 20, 44))


@pytest.mark.parametrize(
    ("attribute", "absent"),
    [("glasses", "l_eye"), ("hat", "hair"), ("earrings", "l_ear"), ("necklace", "neck")],
)
def test_a_face_that_does_not_show_the_place_has_none(attribute, absent):
    assert not place(attribute, face(**{absent: None})).any()


def test_a_hat_needs_brows_to_end_at():
    assert not place("hat", face(l_brow=None, r_brow=None)).any()


@pytest.mark.parametrize("kind", [None, "recolour", "restyle", "remove", "keep"])
def test_other_kinds_edit_the_region_itself(kind):
    labels = face(eye_g=(24, 32, 14, 50))
    for attribute in ADDABLE:
        assert np.array_equal(
            task_region(labels, attribute, CELEBAMASK, kind), attribute_region(labels, attribute, CELEBAMASK)
        )


def test_a_frame_that_is_one_class_has_no_place():
    whole = torch.full((SIZE, SIZE), CELEBAMASK.index("skin"))
    assert not any(place(attribute, whole).any() for attribute in ADDABLE)
