"""Skin tone and pose: exact on flat colours and boxes, and in the order of what was drawn on toy faces."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from skimage import color

from semfacediff.labels import CELEBAMASK
from semfacediff.metrics.face_facts import ita_deg, pose_proxy

SKIN, NOSE, L_EYE, R_EYE = (CELEBAMASK.index(c) for c in ("skin", "nose", "l_eye", "r_eye"))


def face(nose=60, eyes=(40, 80)):
    """int64 ``[120, 120]``: skin from column 20 to 99, eyes and nose at the given columns."""
    labels = np.zeros((120, 120), np.int64)
    labels[20:100, 20:100] = SKIN
    for label, column in zip((R_EYE, L_EYE), eyes, strict=True):
        if column is not None:
            labels[45:50, column - 5 : column + 5] = label
    if nose is not None:
        labels[60:75, nose - 5 : nose + 5] = NOSE
    return labels


def painted(colour, labels):
    photo = np.random.default_rng(0).integers(0, 256, (*labels.shape, 3)).astype(np.uint8)
    photo[labels == SKIN] = colour
    return photo


@pytest.mark.parametrize("colour", [(245, 222, 200), (224, 172, 140), (141, 85, 60), (70, 45, 35)])
def test_angle_of_a_flat_skin(colour):
    lightness, _, b = color.rgb2lab(np.array(colour, np.uint8)[None, None])[0, 0]
    expected = np.degrees(np.arctan((lightness - 50) / b))
    assert ita_deg(painted(colour, face()), face(), CELEBAMASK) == pytest.approx(expected, abs=0.2)


def test_lighter_skin_has_the_greater_angle():
    tones = [(60, 40, 30), (120, 80, 60), (190, 140, 110), (240, 215, 190)]
    angles = [ita_deg(painted(t, face()), face(), CELEBAMASK) for t in tones]
    assert angles == sorted(angles)


def test_stray_pixels_weigh_little():
    photo = painted((200, 150, 120), face())
    clean = ita_deg(photo, face(), CELEBAMASK)
    photo[20:30, 20:100] = 255
    assert ita_deg(photo, face(), CELEBAMASK) == pytest.approx(clean, abs=1e-6)


def test_no_angle_without_skin():
    labels = np.zeros((120, 120), np.int64)
    labels[:5, :5] = SKIN
    assert ita_deg(painted((200, 150, 120), labels), labels, CELEBAMASK) is None
    assert ita_deg(painted((0, 0, 0), labels * 0), labels * 0, CELEBAMASK) is None


@pytest.mark.parametrize(("nose", "expected"), [(60, 0.0), (64, 0.1), (52, -0.2)])
def test_nose_between_the_eyes(nose, expected):
    assert pose_proxy(face(nose), CELEBAMASK) == pytest.approx(expected, abs=1e-12)


def test_mirrored_faces_turn_the_other_way():
    labels = face(66)
    swapped = CELEBAMASK.mirrored[labels[:, ::-1]]
    assert pose_proxy(swapped, CELEBAMASK) == pytest.approx(-pose_proxy(labels, CELEBAMASK), abs=1e-12)


def test_a_tilted_head_is_not_a_turned_one():
    labels = np.zeros((200, 200), np.int64)
    for label, (u, v), half in ((R_EYE, (-30, -20), 5), (L_EYE, (30, -20), 5), (NOSE, (0, 15), 8)):
        tilt = np.radians(20)
        x, y = 100 + u * np.cos(tilt) - v * np.sin(tilt), 100 + u * np.sin(tilt) + v * np.cos(tilt)
        labels[round(y) - half : round(y) + half, round(x) - half : round(x) + half] = label
    assert abs(pose_proxy(labels, CELEBAMASK)) < 0.02


def test_the_edges_of_the_face_stand_in_for_a_missing_eye():
    middle = pose_proxy(face(60, eyes=(40, None)), CELEBAMASK)
    turned = pose_proxy(face(80, eyes=(40, None)), CELEBAMASK)
    assert middle == pytest.approx(0, abs=1e-12)
    assert turned == pytest.approx(0.5 * 20 / 80)


def test_no_pose_without_a_nose():
    assert pose_proxy(face(nose=None), CELEBAMASK) is None


def test_both_follow_what_was_drawn(toy_samples):
    faces = toy_samples(40, 64)
    pose = [pose_proxy(s.labels.astype(np.int64), CELEBAMASK) for s in faces]
    tone = [ita_deg(s.photo, s.labels.astype(np.int64), CELEBAMASK) for s in faces]
    assert spearmanr(pose, [s.attributes["yaw"] for s in faces]).statistic > 0.9
    assert spearmanr(tone, [s.attributes["skin_tone"] for s in faces]).statistic > 0.9
