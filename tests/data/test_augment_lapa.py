"""SegFace's augmentation for LaPa: photo, labels and landmarks stay together."""

import numpy as np
import pytest
import torch

from semfacediff.data.augment.lapa import ANGLE_DEG, SCALE, SHIFT_PX, lapa
from semfacediff.data.batches import TrainingView, loader
from semfacediff.errors import UserError
from semfacediff.labels import SPACES
from semfacediff.types import FaceSample

HEIGHT, WIDTH = 120, 160
MARKS = np.float32([[60, 50], [100, 48], [80, 65], [66, 80], [95, 78]])


class Drawn:
    """``uniform`` gives what is listed."""

    def __init__(self, *values):
        self.values = list(values)

    def uniform(self, low, high, size=None):
        value = self.values.pop(0)
        assert np.all((low <= np.asarray(value)) & (np.asarray(value) <= high))
        return np.asarray(value, float) if size else value


def marked(landmarks=MARKS) -> FaceSample:
    """Five white squares of 5 px on black, each of its own label, centred on the landmarks."""
    photo, labels = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    for k, (x, y) in enumerate(MARKS.astype(int)):
        photo[y - 2 : y + 3, x - 2 : x + 3] = 255
        labels[y - 2 : y + 3, x - 2 : x + 3] = k + 1
    return FaceSample("a", photo, labels, landmarks=landmarks)


def middles(labels):
    """(x, y) of the middle of each label's pixels, NaN where it has gone."""
    found = np.full((5, 2), np.nan)
    for k in range(5):
        rows, columns = (labels == k + 1).nonzero()
        if len(rows):
            found[k] = columns.mean() + 0.5, rows.mean() + 0.5
    return found


@pytest.mark.parametrize(("angle", "scale", "shift"), [(0, 1, (0, 0)), (25, 1.3, (-7, 12)), (-30, 0.8, (20, -20))])
def test_landmarks_stay_on_what_they_mark(angle, scale, shift):
    side = 240
    photo, labels, marks = lapa(marked(), side, Drawn(angle, scale, shift))
    assert (photo.shape, labels.shape, photo.dtype, labels.dtype) == ((side, side, 3), (side, side), np.uint8, np.uint8)
    assert (marks.shape, marks.dtype) == ((5, 2), np.float32)
    # Landmarks are the numbers of pixels, whose middles lie half a pixel further.
    np.testing.assert_allclose(middles(labels), marks, rtol=0, atol=2.5)
    inside = np.rint(marks).astype(int)
    assert (photo[inside[:, 1], inside[:, 0]] > 128).all()
    assert labels[inside[:, 1], inside[:, 0]].tolist() == [1, 2, 3, 4, 5]


def test_a_turn_is_clockwise_and_a_shift_comes_last():
    middle = np.array([WIDTH, HEIGHT]) / 2
    sample = FaceSample("a", marked().photo, marked().labels, landmarks=np.float32([middle + (20, 0)] * 5))
    _, _, marks = lapa(sample, 160, Drawn(30, 2, (5, -10)))
    x, y = middle + 40 * np.array([np.cos(np.pi / 6), np.sin(np.pi / 6)]) + (5, -10)  # y points down
    np.testing.assert_allclose(marks[0], (x, y * 160 / HEIGHT), rtol=0, atol=1e-3)


def test_labels_of_another_size_move_with_the_photo():
    same, half = marked(), marked()
    half = FaceSample("a", half.photo, half.labels[::2, ::2].copy())
    drawn = (10, 1.2, (18, -9))
    labels, halved = (lapa(s, 64, Drawn(*drawn))[1] for s in (same, half))
    np.testing.assert_allclose(middles(halved), middles(labels), rtol=0, atol=1.5)


def test_what_moves_in_is_black_background():
    white = FaceSample("a", np.full((HEIGHT, WIDTH, 3), 255, np.uint8), np.ones((HEIGHT, WIDTH), np.uint8))
    photo, labels, marks = lapa(white, 64, Drawn(0, 0.5, (0, 0)))
    assert not photo[:12].any()
    assert not labels[:12].any()
    assert photo[20:44, 20:44].min() == 255
    assert np.isnan(marks).all()


def test_draws_are_within_the_published_ranges():
    assert (ANGLE_DEG, SCALE, SHIFT_PX) == ((-30, 30), (0.5, 3), (-20, 20))
    made = [lapa(marked(), 64, np.random.default_rng(k % 3))[0] for k in range(6)]
    assert np.array_equal(made[0], made[3])
    assert not np.array_equal(made[0], made[1])


class Faces(list):
    label_space = SPACES["lapa"]

    @property
    def ids(self):
        return [s.id for s in self]


@pytest.fixture
def faces():
    return Faces([marked(), marked(None)])


class TestView:
    @pytest.mark.parametrize("augment", ["lapa", "none"])
    def test_batches_bring_landmarks(self, faces, augment):
        view = TrainingView(faces, 32, augment, 0, landmarks=True)
        (photos, labels, marks), *_ = view.placed(loader(view, 2, epoch=0), torch.device("cpu"))
        assert (tuple(photos.shape), tuple(labels.shape), tuple(marks.shape)) == (
            (2, 3, 32, 32),
            (2, 32, 32),
            (2, 5, 2),
        )
        assert marks.dtype == torch.float32
        assert sorted(m.isnan().all().item() for m in marks) == [False, True]
        if augment == "none":
            expected = torch.from_numpy(MARKS * [32 / WIDTH, 32 / HEIGHT]).float()
            torch.testing.assert_close(marks[~marks.isnan().all(-1).all(-1)][0], expected)

    def test_kept_in_memory_they_are_the_same(self, faces):
        kept, read = (TrainingView(faces, 32, "none", 0, keep_in_memory=k, landmarks=True) for k in (True, False))
        for a, b in zip(kept[0, 0], read[0, 0], strict=True):
            assert torch.equal(a, b)

    def test_without_being_asked_there_are_none(self, faces):
        assert len(TrainingView(faces, 32, "lapa", 0)[0, 0]) == 2
        assert len(TrainingView(faces, 32, "lapa", 0, landmarks=True).unaugmented()[0, 0]) == 2

    def test_a_recipe_that_loses_them_is_refused(self, faces):
        with pytest.raises(UserError, match=r"train.augment=standard does not move the landmarks .* none or lapa"):
            TrainingView(faces, 32, "standard", 0, landmarks=True)
