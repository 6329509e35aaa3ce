"""How many faces a label map shows, and whose a pixel is."""

import numpy as np
import pytest

from semfacediff.labels import CELEBAMASK, SPACES, conversion
from semfacediff.regions.faces import find_faces

SKIN, NOSE, L_EYE, R_EYE, L_BROW, U_LIP, HAIR, HAT = 1, 2, 4, 5, 6, 11, 13, 14


def drawn(labels, x, y, r, hair=True):
    """A round face of radius ``r`` at (x, y) in an int64 ``[H, W]`` map."""
    v, u = np.mgrid[: labels.shape[0], : labels.shape[1]]

    def disc(label, dx, dy, rx, ry):
        labels[((u - x - dx * r) / (rx * r)) ** 2 + ((v - y - dy * r) / (ry * r)) ** 2 <= 1] = label

    if hair:
        disc(HAIR, 0, -0.5, 1.2, 1.0)
    disc(SKIN, 0, 0, 1, 1.2)
    disc(NOSE, 0, 0.1, 0.15, 0.3)
    disc(L_EYE, 0.4, -0.2, 0.2, 0.1)
    disc(R_EYE, -0.4, -0.2, 0.2, 0.1)
    disc(L_BROW, 0.4, -0.45, 0.25, 0.06)
    disc(U_LIP, 0, 0.7, 0.35, 0.12)
    return labels


def blank(height=200, width=300):
    return np.zeros((height, width), np.int64)


def test_one_face():
    labels = drawn(blank(), 150, 100, 50)
    faces = find_faces(labels, CELEBAMASK)
    assert len(faces.shares) == faces.competing == 1
    facial = np.isin(labels, [SKIN, NOSE, L_EYE, R_EYE, L_BROW, U_LIP])
    assert faces.shares[0] == pytest.approx(facial.mean(), rel=0.02)
    assert np.array_equal(faces.only(labels), labels)


@pytest.mark.parametrize("size", [64, 500, 1500])
def test_size_does_not_matter(size):
    labels = drawn(drawn(blank(size, 2 * size), size / 2, size / 2, size / 4), 3 * size / 2, size / 2, size / 6)
    faces = find_faces(labels, CELEBAMASK)
    assert len(faces.shares) == 2
    assert faces.owner.shape == labels.shape


def test_two_faces_and_whose_each_pixel_is():
    left, right = drawn(blank(), 70, 100, 45), drawn(blank(), 230, 100, 35)
    labels = left + right
    faces = find_faces(labels, CELEBAMASK)
    assert faces.competing == 2
    assert faces.shares[0] > faces.shares[1]
    assert np.array_equal(faces.only(labels), left), "its hair too"
    assert np.array_equal(faces.only(labels, 1), right)


def test_a_small_face_in_the_background_does_not_compete():
    labels = drawn(drawn(blank(), 110, 100, 60), 270, 40, 13)
    faces = find_faces(labels, CELEBAMASK)
    assert (len(faces.shares), faces.competing) == (2, 1)
    assert (faces.only(labels)[:, 250:] == 0).all()


@pytest.mark.parametrize(("x", "y"), [(0, 100), (-20, 100), (299, 60), (150, -10), (150, 210), (10, 5)])
def test_a_face_cut_by_the_frame_is_one(x, y):
    faces = find_faces(drawn(blank(), x, y, 60), CELEBAMASK)
    assert len(faces.shares) == 1


def test_skin_alone_is_no_face():
    labels = blank()
    labels[50:150, 50:150] = SKIN
    assert find_faces(labels, CELEBAMASK).shares == ()
    labels[90:100, 90:100] = NOSE
    assert find_faces(labels, CELEBAMASK).shares == ()
    labels[60:70, 60:90] = L_EYE
    assert len(find_faces(labels, CELEBAMASK).shares) == 1


@pytest.mark.parametrize("labels", [blank(), blank() + HAIR, blank(8, 8)])
def test_none(labels):
    faces = find_faces(labels, CELEBAMASK)
    assert faces.shares == ()
    assert faces.only(labels).tolist() == labels.tolist()


def test_specks_are_no_faces():
    labels = drawn(blank(), 150, 100, 60)
    rng = np.random.default_rng(0)
    for y, x in rng.integers(5, 190, (60, 2)):
        labels[y : y + 2, x : x + 2] = rng.choice([SKIN, NOSE, L_EYE, U_LIP])
    assert len(find_faces(labels, CELEBAMASK).shares) == 1


def test_touching_faces_are_told_apart_by_their_noses():
    labels = drawn(drawn(blank(), 105, 100, 50, hair=False), 200, 100, 50, hair=False)
    faces = find_faces(labels, CELEBAMASK)
    assert faces.competing == 2
    assert faces.owner[100, 105] != faces.owner[100, 200]
    assert faces.shares[0] == pytest.approx(faces.shares[1], rel=0.1)


def test_a_nose_in_two_pieces_is_one_face():
    labels = drawn(blank(), 150, 100, 60)
    labels[104:108, 130:170][labels[104:108, 130:170] == NOSE] = SKIN
    assert len(find_faces(labels, CELEBAMASK).shares) == 1


def test_a_strand_of_hair_across_the_face_does_not_part_it():
    labels = drawn(blank(), 150, 100, 60)
    labels[:, 148:150] = HAIR
    assert len(find_faces(labels, CELEBAMASK).shares) == 1


@pytest.mark.parametrize("name", ["segface", "zllrunning"])
def test_other_label_spaces(name):
    labels = drawn(drawn(blank(), 70, 100, 45), 230, 100, 35)
    here, there = (
        find_faces(x, s)
        for x, s in ((labels, CELEBAMASK), (conversion(CELEBAMASK, SPACES[name])[labels], SPACES[name]))
    )
    assert here.shares == there.shares
    assert np.array_equal(here.owner, there.owner)
