"""Label maps: one-hot masks, parts by name, painting, moving, removing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, space
from semfacediff.synthesis import one_hot
from semfacediff.synthesis.layouts import move, paint, part_indices, remove


def test_one_hot_is_undone_by_argmax():
    labels = torch.randint(0, 19, (2, 5, 4), generator=torch.Generator().manual_seed(0))
    mask = one_hot(labels, 19)
    assert mask.dtype == torch.float32
    assert mask.shape == (2, 19, 5, 4)
    assert torch.equal(mask.sum(1), torch.ones(2, 5, 4))
    assert torch.equal(mask.argmax(1), labels)
    assert torch.equal(one_hot(labels.numpy().astype(np.uint8), 19), mask)


@pytest.mark.parametrize("value", [19, 255, -1])
def test_a_foreign_label_is_named(value):
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    labels[0, 0, 0] = value
    with pytest.raises(UserError, match=rf"label maps: expected labels 0\.\.18, got .*{value}.*; convert them to the"):
        one_hot(labels, 19)


class TestParts:
    def test_classes_and_attributes(self):
        assert part_indices("hair", CELEBAMASK) == [13]
        assert part_indices(["lips", "hair", "u_lip"], CELEBAMASK) == [11, 12, 13]
        assert part_indices(["hair"], space("segface")) == [14]

    @pytest.mark.parametrize(
        ("name", "hint"),
        [("hairs", "did you mean hair"), ("l_eyes", "did you mean l_eye or eyes"), ("glass", "did you mean glasses")],
    )
    def test_a_near_miss_is_named(self, name, hint):
        with pytest.raises(UserError, match=rf"^parts: label space 'celebamask' has no part '{name}'; {hint}"):
            part_indices(["nose", name], CELEBAMASK)

    def test_a_name_like_none_gets_the_list(self):
        with pytest.raises(UserError, match=r"has no part 'xyz'; choose of background, skin, .*, clothing$"):
            part_indices("xyz", CELEBAMASK)

    def test_an_attribute_that_the_space_lacks(self):
        with pytest.raises(UserError, match=r"label space 'lapa' has no part 'hat'"):
            part_indices("hat", space("lapa"))

    def test_none_at_all(self):
        with pytest.raises(UserError, match=r"parts: expected at least one name, got none; choose of background"):
            part_indices([], CELEBAMASK)


@pytest.fixture
def labels():
    """Skin with a nose of 2 x 2, hair in the top row, background in the bottom row."""
    found = np.ones((8, 8), dtype=np.uint8)
    found[0], found[7] = 13, 0
    found[3:5, 3:5] = 2
    return found


class TestEditing:
    def test_painting(self, labels):
        where = np.zeros((8, 8), dtype=bool)
        where[2, 2] = True
        painted = paint(labels, "hat", where)
        assert painted.dtype == np.uint8
        assert painted[2, 2] == 14
        assert (painted != labels).sum() == 1

    def test_removing_fills_with_what_is_nearest(self, labels):
        assert (remove(labels, "nose")[3:5, 3:5] == 1).all()
        assert (remove(labels, "hair")[0] == 1).all()
        assert (remove(labels, "nose", fill="background")[3:5, 3:5] == 0).all()

    def test_moving(self, labels):
        moved = move(labels, "nose", right=2, down=-1)
        assert np.argwhere(moved == 2).tolist() == [[2, 5], [2, 6], [3, 5], [3, 6]]
        assert (moved[3:5, 3:5] == 1).all()

    def test_an_attribute_moves_with_all_its_classes(self, labels):
        labels[5, 3:5], labels[6, 3:5] = 11, 12
        moved = move(labels, "lips", right=1, down=0)
        assert (moved[5:7, 3] == 1).all()
        assert moved[5:7, 4:6].tolist() == [[11, 11], [12, 12]]

    def test_what_is_moved_past_the_border_is_lost(self, labels):
        assert (move(labels, "nose", right=4, down=0) == 2).sum() == 2
        assert not (move(labels, "nose", right=0, down=-8) == 2).any()

    @settings(max_examples=10)
    @given(right=st.integers(-9, 9), down=st.integers(-9, 9))
    def test_moving_leaves_the_argument_and_stays_in_the_space(self, right, down):
        labels = np.arange(64, dtype=np.uint8).reshape(8, 8) % 19
        before = labels.copy()
        moved = move(labels, "hair", right, down)
        assert (labels == before).all()
        assert set(np.unique(moved)) <= set(range(19))
        there = np.roll(labels == 13, (down, right), (0, 1)) if abs(right) < 8 and abs(down) < 8 else labels == -1
        assert (there >= (moved == 13)).all()  # nothing where no part was moved to

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda y: remove(y, "hat"), r"the label map has no 'hat'; its parts are background, skin, nose, hair"),
            (lambda y: move(y, "nos", 1, 1), r"has no part 'nos'; did you mean nose"),
            (
                lambda y: paint(y, "lips", y == 1),
                r"paint 'lips': expected one class, got several; paint u_lip and l_lip",
            ),
            (
                lambda y: paint(y, "hat", np.ones((2, 2))),
                r"paint 'hat': expected an area .* size \[8, 8\], got \[2, 2\]",
            ),
            (lambda y: remove(y * 0 + 1, "skin"), r"remove 'skin': the label map holds nothing else to fill it from"),
        ],
    )
    def test_what_cannot_be_is_said(self, labels, edit, message):
        with pytest.raises(UserError, match=message):
            edit(labels)
