"""Photos that are no aligned portraits, through a parser that knows portraits alone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage import data

from semfacediff.labels import CELEBAMASK
from semfacediff.parsing.any_photo import parse_any
from semfacediff.parsing.checkpoint import load_parser
from semfacediff.parsing.default import default_parser
from semfacediff.parsing.predict import ModelParser
from semfacediff.regions.faces import find_faces
from semfacediff.regions.portraits import parse_faces

SIZE = 64
SKIN, NOSE, L_EYE, R_EYE, U_LIP, HAIR, CLOTH = 1, 2, 4, 5, 11, 13, 18
PARTS = (
    (HAIR, 0, -0.5, 1.2, 1.0),
    (SKIN, 0, 0, 1, 1.2),
    (NOSE, 0, 0.1, 0.15, 0.3),
    (L_EYE, 0.4, -0.2, 0.2, 0.1),
    (R_EYE, -0.4, -0.2, 0.2, 0.1),
    (U_LIP, 0, 0.7, 0.35, 0.12),
)
"""Ellipses of a face of radius 1: class, middle, half axes."""


def blank(height, width):
    return np.zeros((height, width), np.int64)


def drawn(labels, x, y, r, parts=PARTS):
    """A round face of radius ``r`` at (x, y)."""
    v, u = np.mgrid[: labels.shape[0], : labels.shape[1]]
    for label, dx, dy, rx, ry in parts:
        labels[((u - x - dx * r) / (rx * r)) ** 2 + ((v - y - dy * r) / (ry * r)) ** 2 <= 1] = label
    return labels


class PortraitParser:
    """Knows the labels of each place in a photo made by ``places``; takes hair for clothes where the face is small."""

    label_space = CELEBAMASK
    card = SimpleNamespace(input_size=SIZE)

    def __init__(self, truth):
        self.truth, self.seen = truth, []

    def logits(self, photos):
        row, column, beyond = (photos[0] * 255).round().long()
        labels = np.where(
            beyond > 127,
            0,
            self.truth[row.clamp(max=self.truth.shape[0] - 1), column.clamp(max=self.truth.shape[1] - 1)],
        )
        self.seen.append(labels)
        small = (labels == SKIN).mean() < 0.1
        labels = np.where(small & (labels == HAIR), CLOTH, labels)
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels)[None], 19)
        return one_hot.movedim(-1, 1) * (2.0 if small else 20.0)


def places(truth):
    """A photo whose red and green tell the row and the column; they survive scaling."""
    rows, columns = np.indices(truth.shape)
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)


def test_a_portrait_is_parsed_once():
    truth = drawn(blank(SIZE, SIZE), 32, 32, 20)
    parser, photo = PortraitParser(truth), places(truth)
    parsed = parse_faces(parser, photo)
    assert len(parser.seen) == 1
    assert np.array_equal(parsed.labels, parse_any(parser, photo).labels)


def test_a_small_face_is_parsed_again_in_its_frame():
    truth = drawn(blank(256, 256), 60, 70, 24)
    parser, photo = PortraitParser(truth), places(truth)
    whole = parse_any(parser, photo)
    assert (whole.labels == CLOTH).any()
    parser.seen.clear()
    parsed = parse_faces(parser, photo)
    assert len(parser.seen) == 2
    assert (parser.seen[1] == SKIN).mean() > 2 * (parser.seen[0] == SKIN).mean()
    assert not (parsed.labels == CLOTH).any()
    assert (parsed.labels == truth).mean() > 0.98
    assert parsed.pixels.tolist() == np.bincount(parsed.labels.ravel(), minlength=19).tolist()
    assert parsed.overall > whole.overall
    assert parsed.confidence[SKIN] > 0.99
    assert np.isnan(parsed.confidence[CLOTH])


def test_two_faces_have_a_frame_each():
    truth = drawn(drawn(blank(200, 256), 60, 100, 34), 190, 90, 30)
    parser = PortraitParser(truth)
    parsed = parse_faces(parser, places(truth))
    assert len(parser.seen) == 3
    assert find_faces(parsed.labels, CELEBAMASK).competing == 2
    for column in (60, 190):
        assert {SKIN, NOSE, L_EYE, HAIR} <= set(np.unique(parsed.labels[40:150, column - 45 : column + 45]))


@pytest.mark.parametrize("truth", [blank(100, 100), drawn(blank(250, 250), 125, 125, 20)])
def test_where_no_frame_shows_a_face_the_first_parse_stands(truth, monkeypatch):
    monkeypatch.setattr("semfacediff.regions.portraits._SURE", 1.1)
    parser, photo = PortraitParser(truth), places(truth)
    assert np.array_equal(parse_faces(parser, photo).labels, parse_any(parser, photo).labels)


def test_a_face_that_the_whole_photo_does_not_show_is_found_in_a_window(monkeypatch):
    truth = drawn(blank(250, 250), 180, 70, 20)
    parser, photo = PortraitParser(truth), places(truth)
    whole = parser.logits

    def blind(photos):
        """At a loss where the face is smaller still."""
        logits = whole(photos)
        return logits if (parser.seen[-1] == SKIN).mean() > 0.05 else torch.zeros_like(logits)

    monkeypatch.setattr(parser, "logits", blind)
    parsed = parse_faces(parser, photo)
    assert len(parser.seen) > 9
    faces = find_faces(parsed.labels, CELEBAMASK)
    assert len(faces.boxes) == 1
    assert (parsed.labels[truth == SKIN] == SKIN).mean() > 0.95


def test_a_photo_of_a_person_in_a_suit():
    """The parser in the box is at a loss with the whole of it; in its frame the one face is a portrait."""
    parser = ModelParser(*load_parser(default_parser()), torch.device("cpu"))
    photo = data.astronaut()
    assert parse_any(parser, photo).overall < 0.85
    parsed = parse_faces(parser, photo)
    faces = find_faces(parsed.labels, CELEBAMASK)
    assert len(faces.shares) == 1
    assert parsed.overall > 0.9
    rows, columns = faces.boxes[0]
    assert 60 < rows.start < 95
    assert 150 < rows.stop < 185
    assert 170 < columns.start < columns.stop < 285
    for name, row, column in (("hair", 40, 225), ("nose", 118, 228), ("skin", 100, 228), ("u_lip", 142, 226)):
        around = parsed.labels[row - 8 : row + 9, column - 8 : column + 9]
        assert CELEBAMASK.index(name) in around, name
    assert not (parsed.labels[250:] == SKIN).any()
