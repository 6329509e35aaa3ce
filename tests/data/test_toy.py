"""Drawn faces: the same face whatever surrounds it, exact labels, every class, the data set's own left and right."""

import json

import numpy as np
import pytest

from semfacediff.data.toy import ToyFaces, draw_face
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, LONG_TAIL


@pytest.fixture(scope="module")
def faces():
    return list(ToyFaces(80, size=128))


def same(a, b):
    return (
        a.id == b.id
        and np.array_equal(a.photo, b.photo)
        and np.array_equal(a.labels, b.labels)
        and a.attributes == b.attributes
    )


def test_a_face_depends_on_seed_and_index_alone(faces):
    again = ToyFaces(3, size=128, first=7)
    assert again.ids == ["00007", "00008", "00009"]
    assert all(same(again[i], faces[7 + i]) for i in (2, 0, 1, 0))
    assert not same(ToyFaces(1, size=128, seed=1, first=7)[0], faces[7])


def test_it_is_a_sequence(faces):
    data = ToyFaces(4, size=32, first=99_998)
    assert len(data) == 4
    assert data.label_space is CELEBAMASK
    assert data.ids == ["99998", "99999", "100000", "100001"] == [sample.id for sample in data]
    assert same(data[-1], data[3])
    with pytest.raises(IndexError):
        data[4]
    assert len(ToyFaces(0)) == 0


@pytest.mark.parametrize("size", [16, 33, 200])
def test_photo_and_labels(size):
    sample = ToyFaces(1, size=size)[0]
    assert sample.photo.shape == (size, size, 3)
    assert sample.labels.shape == (size, size)
    assert sample.photo.dtype == sample.labels.dtype == np.uint8
    assert sample.photo.flags.c_contiguous
    assert sample.photo.flags.owndata or sample.photo.base is None
    assert sample.labels.max() < CELEBAMASK.n
    assert np.ptp(sample.photo.astype(int)) > 80


def test_every_class_occurs_and_the_long_tail_rarely(faces):
    with_class = [sum((f.labels == c).any() for f in faces) for c in range(CELEBAMASK.n)]
    assert min(with_class) >= 1
    for name in LONG_TAIL:
        assert with_class[CELEBAMASK.index(name)] < 0.25 * len(faces), name
    for name in ("skin", "nose", "u_lip", "l_lip", "cloth"):
        assert with_class[CELEBAMASK.index(name)] == len(faces), name
    assert 0.25 < with_class[CELEBAMASK.index("mouth")] / len(faces) < 0.75


def test_left_is_the_subjects_left(faces):
    """As in CelebAMask-HQ, where l_eye has its mean column at 0.62 of the width and r_eye at 0.38."""

    def column(name):
        return np.mean([np.nonzero(f.labels == CELEBAMASK.index(name))[1].mean() for f in faces if name_in(f, name)])

    def name_in(face, name):
        return (face.labels == CELEBAMASK.index(name)).any()

    for part in ("eye", "brow", "ear"):
        assert column(f"l_{part}") > 64 + 8, part
        assert column(f"r_{part}") < 64 - 8, part
    for face in faces:
        if name_in(face, "l_eye") and name_in(face, "r_eye"):
            left, right = ((face.labels == CELEBAMASK.index(n)).nonzero()[1].mean() for n in ("l_eye", "r_eye"))
            assert left > right


def test_attributes_say_what_was_drawn(faces):
    drawn = {"hat": "hat", "eyeglasses": "eye_g", "necklace": "neck_l", "mouth_open": "mouth"}
    for face in faces:
        assert json.loads(json.dumps(face.attributes)) == face.attributes
        for attribute, name in drawn.items():
            assert face.attributes[attribute] == bool((face.labels == CELEBAMASK.index(name)).any()), (face.id, name)
        if (face.labels == CELEBAMASK.index("ear_r")).any():
            assert face.attributes["earrings"]
    tones = [f.attributes["skin_tone"] for f in faces]
    assert min(tones) < -20 < 50 < max(tones)


def test_distinct_faces_differ(faces):
    maps = {f.labels.tobytes() for f in faces}
    assert len(maps) == len(faces)
    assert len({f.attributes["hair_style"] for f in faces}) >= 6
    assert len({f.attributes["hair_colour"] for f in faces}) >= 6


@pytest.mark.parametrize("index", [0, 3, 10, 21])
def test_the_same_drawing_at_every_size(faces, index):
    _, large, _ = draw_face(0, index, 256)
    assert (large[::2, ::2] == faces[index].labels).mean() > 0.95
    photo = draw_face(0, index, 256)[0].reshape(128, 2, 128, 2, 3).mean((1, 3))
    assert np.abs(photo - faces[index].photo).mean() < 8


def test_colour_does_not_give_the_class_away(faces):
    """Neck, nose and skin share their colours, so that a parser must look at form and place."""

    def mean_colour(face, name):
        return face.photo[face.labels == CELEBAMASK.index(name)].mean(0)

    gaps = [np.abs(mean_colour(f, "skin") - mean_colour(f, "nose")).max() for f in faces]
    assert np.median(gaps) < 30


def test_mistakes_are_one_sentence():
    with pytest.raises(UserError, match="size of at least 16 px, got 15"):
        ToyFaces(1, size=15)
    with pytest.raises(UserError, match="at least 16 px, got 8"):
        draw_face(0, 0, 8)
    with pytest.raises(UserError, match="n=-1, first=0"):
        ToyFaces(-1)
