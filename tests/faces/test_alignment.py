"""Faces brought upright: against dlib's own squares, and motions whose inverse is known."""

import dlib
import numpy as np
import pytest

from semfacediff.faces.alignment import MEAN_POINTS, aligned, places, similarity
from semfacediff.faces.detection import FIVE_POINTS, model_file

TURN = 0.4


def test_a_similarity_is_found_again():
    cos, sin = 1.7 * np.cos(TURN), 1.7 * np.sin(TURN)
    expected = np.array([[cos, -sin, 12.0], [sin, cos, -3.5]])
    moved = MEAN_POINTS @ expected[:, :2].T + expected[:, 2]
    assert similarity(MEAN_POINTS, moved) == pytest.approx(expected, abs=1e-12)


def test_what_no_similarity_can_do_is_split_evenly():
    """Of two points the distance can be met, of a square that became a rectangle the mean side."""
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float)
    assert similarity(square, square * (2, 4)) == pytest.approx(np.array([[3, 0, -0.5], [0, 3, 0.5]]), abs=1e-12)


def test_dlibs_square_is_ours(face_detector, portrait):
    """Up to its interpolation: dlib reads from a pyramid, and places the square's rim half a pixel farther out."""
    (face,) = face_detector.faces(portrait)
    left, top, right, bottom = face.box
    shape = dlib.shape_predictor(str(model_file(FIVE_POINTS)))(
        portrait, dlib.rectangle(left, top, right - 1, bottom - 1)
    )
    theirs = dlib.get_face_chip(portrait, shape, 150, 0.25)
    ours = aligned(portrait, similarity(face.points, places(150, 0.25)), 150)
    assert np.abs(ours.astype(int) - theirs).mean() < 2
    moved = similarity(face.points, places(150, 0.25) + 1)
    assert np.abs(aligned(portrait, moved, 150).astype(int) - theirs).mean() > 4


@pytest.mark.parametrize("zoom", [0.25, 0.4, 1.0, 1.6])
def test_a_picture_of_straight_edges_is_where_the_matrix_says(zoom):
    y, x = np.mgrid[:200, :240]
    photo = np.where((x < 120) & (y < 100), 255, 0).astype(np.uint8)
    size = round(200 * zoom)
    found = aligned(photo, np.array([[zoom, 0, zoom / 2 - 0.5], [0, zoom, zoom / 2 - 0.5]]), size)
    # The edges lie between pixels: 120 and 100 of the photo's sides, 120 zoom and 100 zoom of the square's.
    assert found.mean() / 255 == pytest.approx(0.5 * 0.6, abs=0.01)
    row, column = found[2].astype(float), found[:, 2].astype(float)
    assert row.sum() / 255 == pytest.approx(min(120 * zoom, size), abs=0.6)
    assert column.sum() / 255 == pytest.approx(100 * zoom, abs=0.6)


def test_what_is_reduced_is_averaged():
    stripes = np.tile(np.array([0, 255], np.uint8), (128, 64))
    found = aligned(stripes, np.array([[0.25, 0, 0], [0, 0.25, 0]]), 24)
    assert np.abs(found[2:, 2:].astype(int) - 128).max() <= 1


def test_beyond_the_photo_there_is_nothing():
    found = aligned(np.full((20, 20, 3), 200, np.uint8), np.array([[1.0, 0, 10], [0, 1, 10]]), 40)
    assert (found[10:30, 10:30] == 200).all()
    assert found[:9].max() == found[:, 31:].max() == 0
