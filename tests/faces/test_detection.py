"""Faces found in photos with one, two and none, at any size; and what is said where the extra is absent."""

import importlib.util
import sys

import cv2
import numpy as np
import pytest

from semfacediff.faces.detection import Detector, MissingFacesError


def test_the_box_and_the_five_points_of_a_face(face_detector, portrait):
    (face,) = face_detector.faces(portrait)
    left, top, right, bottom = face.box
    assert (left, top) == pytest.approx((83, 83), abs=8)
    assert (right, bottom) == pytest.approx((171, 171), abs=8)
    assert not face.thorough
    # Seen in the photo: corners of the eyes from the outer right to the inner left one, and the base of the nose.
    assert face.points == pytest.approx(np.array([(159, 104), (141, 105), (99, 101), (116, 103), (128, 135)]), abs=4)


def test_the_largest_of_two_faces_comes_first(face_detector, portrait):
    small = cv2.resize(portrait, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA)
    both = np.concatenate([np.pad(small, ((0, len(portrait) - len(small)), (0, 0), (0, 0))), portrait], axis=1)
    first, second = face_detector.faces(both)
    assert first.area > second.area
    assert second.box[0] < small.shape[1] < first.box[0]


@pytest.mark.parametrize("size", [(80, 120), (200, 64)])
def test_no_face(face_detector, size):
    assert face_detector.faces(np.full((*size, 3), 128, np.uint8)) == []


def test_a_large_photo_has_the_same_face_at_its_own_size(face_detector, portrait):
    large = cv2.resize(portrait, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    (face,) = face_detector.faces(large)
    (expected,) = face_detector.faces(cv2.resize(large, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    assert np.array(face.box) == pytest.approx(2 * np.array(expected.box), abs=2)
    assert face.points == pytest.approx(2 * expected.points, abs=0.05 * (face.box[2] - face.box[0]))


def test_the_cnn_looks_where_the_hog_detector_finds_nothing(face_detector, portrait):
    """A face on its side is what the first detector does not know."""
    turned = np.ascontiguousarray(np.rot90(portrait[40:216, 40:216]))
    (face,) = face_detector.faces(turned)
    assert face.thorough
    left, top, right, bottom = face.box
    assert left < 88 < right
    assert top < 88 < bottom


def test_the_frame_of_an_array_does_not_matter(face_detector, portrait):
    (expected,), (found,) = face_detector.faces(portrait), face_detector.faces(np.asfortranarray(portrait))
    assert found.box == expected.box
    assert np.array_equal(found.points, expected.points)


def test_without_dlib_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MissingFacesError, match=r"dlib-bin is not here; .* pip install 'semfacediff\[faces\]'$"):
        Detector()


def test_without_the_models_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingFacesError, match=r"face-recognition-models .* pip install 'semfacediff\[faces\]'$"):
        Detector()


def test_the_package_of_the_models_is_not_imported_and_its_68_points_stay_closed(face_detector, repository):
    assert "face_recognition_models" not in sys.modules
    files = (repository / "src").rglob("*.py")
    assert not [file for file in files if "68_face_landmarks" in file.read_text()]
