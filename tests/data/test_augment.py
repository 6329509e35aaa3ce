"""Changes at training time: photo and labels stay together, left stays left, and the generator decides everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semfacediff.data.augment import flip, resized, standard
from semfacediff.labels import CELEBAMASK, SPACES


@pytest.fixture(scope="module")
def face(toy_samples):
    return toy_samples(1, 64)[0]


@given(st.sampled_from(list(SPACES)), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_flipping_twice_changes_nothing(name, height, width, seed):
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (height, width, 3), np.uint8)
    labels = rng.integers(0, SPACES[name].n, (height, width)).astype(np.uint8)
    once = flip(photo, labels, SPACES[name])
    twice = flip(*once, SPACES[name])
    assert np.array_equal(once[0], photo[:, ::-1])
    assert once[1].dtype == np.uint8
    assert np.array_equal(twice[0], photo)
    assert np.array_equal(twice[1], labels)


def test_a_flipped_left_eye_is_a_right_eye_on_the_other_side(face):
    _, flipped = flip(face.photo, face.labels, CELEBAMASK)
    for left, right in (("l_eye", "r_eye"), ("l_brow", "r_brow")):
        before, after = face.labels == CELEBAMASK.index(left), flipped == CELEBAMASK.index(right)
        assert before.any()
        assert np.array_equal(after, before[:, ::-1])
    hair = CELEBAMASK.index("hair")
    assert np.array_equal(flipped == hair, (face.labels == hair)[:, ::-1])


class TestResized:
    def test_the_right_size_is_left_alone(self, face):
        photo, labels = resized(face.photo, face.labels, 64)
        assert photo is face.photo
        assert labels is face.labels

    @pytest.mark.parametrize("size", [32, 48, 100])
    def test_another_size_adds_no_class(self, face, size):
        photo, labels = resized(face.photo, face.labels, size)
        assert photo.shape == (size, size, 3)
        assert labels.shape == (size, size)
        assert photo.dtype == labels.dtype == np.uint8
        assert set(np.unique(labels)) <= set(np.unique(face.labels))

    def test_shrinking_averages_photos_and_picks_labels(self):
        photo = np.zeros((64, 64, 3), np.uint8)
        photo[:, ::2] = 200
        labels = np.repeat(np.arange(16, dtype=np.uint8)[None], 64, axis=0).repeat(4, axis=1)
        small, small_labels = resized(photo, labels, 32)
        assert (small == 100).all()
        assert np.array_equal(small_labels[0], np.arange(16).repeat(2))

    def test_photo_and_labels_of_different_sizes_meet(self, face):
        photo, labels = resized(face.photo.repeat(2, 0).repeat(2, 1), face.labels, 64)
        assert np.array_equal(photo, face.photo)
        assert labels is face.labels

    def test_a_photo_that_is_not_square_fills_the_square(self, face):
        photo, labels = resized(face.photo[:40], face.labels[:40], 64)
        assert (photo.shape, labels.shape) == ((64, 64, 3), (64, 64))


class TestStandard:
    def test_the_generator_decides_everything(self, face):
        a, b, c = (standard(face.photo, face.labels, CELEBAMASK, np.random.default_rng(s)) for s in (1, 1, 2))
        assert np.array_equal(a[0], b[0])
        assert np.array_equal(a[1], b[1])
        assert not np.array_equal(a[0], c[0])

    @pytest.mark.parametrize("seed", range(6))
    def test_shapes_types_and_classes_stay(self, face, seed):
        photo, labels = standard(face.photo, face.labels, CELEBAMASK, np.random.default_rng(seed))
        assert (photo.shape, photo.dtype) == ((64, 64, 3), np.uint8)
        assert (labels.shape, labels.dtype) == ((64, 64), np.uint8)
        allowed = set(np.unique(face.labels)) | set(CELEBAMASK.mirrored[np.unique(face.labels)])
        assert set(np.unique(labels)) <= allowed

    def test_the_sources_are_not_written_to(self, face):
        photo, labels = face.photo.copy(), face.labels.copy()
        for seed in range(4):
            standard(photo, labels, CELEBAMASK, np.random.default_rng(seed))
        assert np.array_equal(photo, face.photo)
        assert np.array_equal(labels, face.labels)

    @pytest.mark.parametrize("seed", range(8))
    def test_photo_and_labels_move_together(self, seed):
        """A bright disc labelled 1 on black: after any change, what is bright is still labelled 1."""
        y, x = np.mgrid[:96, :96]
        disc = (x - 40) ** 2 + (y - 52) ** 2 < 24**2
        photo = np.where(disc[..., None], 200, 0).astype(np.uint8).repeat(3, axis=2)
        changed, labels = standard(photo, disc.astype(np.uint8), CELEBAMASK, np.random.default_rng(seed))
        bright = changed.mean(axis=2) > changed.max() / 2
        assert (bright == (labels == 1)).mean() > 0.97
        assert abs(bright.mean() / disc.mean() - 1) < 0.7
