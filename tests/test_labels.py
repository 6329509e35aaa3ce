"""Label spaces: right order, conversions by name, left and right, attributes."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semfacediff.errors import UserError
from semfacediff.labels import (
    ATTRIBUTES,
    CELEBAMASK,
    LEFT_RIGHT_PAIRS,
    LONG_TAIL,
    SPACES,
    LabelSpace,
    SpaceName,
    attribute_classes,
    attribute_indices,
    conversion,
    palette,
    space,
)

NINETEEN = ("celebamask", "segface", "zllrunning")


@pytest.mark.parametrize(
    ("name", "landmarks"),
    [
        ("celebamask", {"skin": 1, "nose": 2, "eye_g": 3, "mouth": 10, "hair": 13, "hat": 14, "cloth": 18}),
        ("segface", {"neck": 1, "skin": 2, "nose": 10, "u_lip": 13, "hair": 14, "neck_l": 18}),
        ("zllrunning", {"skin": 1, "l_brow": 2, "eye_g": 6, "nose": 10, "cloth": 16, "hair": 17, "hat": 18}),
        ("lapa", {"skin": 1, "l_brow": 2, "nose": 6, "mouth": 8, "hair": 10}),
        ("helen", {"skin": 1, "r_eye": 5, "u_lip": 7, "l_lip": 9, "hair": 10}),
    ],
)
def test_published_orders(name, landmarks):
    assert {c: space(name).index(c) for c in landmarks} == landmarks
    assert space(name).classes[0] == "background"


@pytest.mark.parametrize("name", SPACES)
def test_every_space_is_well_formed(name):
    one = SPACES[name]
    assert one.name == name
    assert len(set(one.classes)) == one.n == (19 if name in NINETEEN else 11)
    assert set(one.classes) <= set(CELEBAMASK.classes)
    if one.paint_order:
        assert sorted(one.paint_order) == sorted(one.classes[1:])


def test_a_configuration_can_name_every_space():
    assert get_args(SpaceName) == tuple(SPACES)


def test_the_canonical_space_is_painted_in_its_own_order():
    assert CELEBAMASK.paint_order == CELEBAMASK.classes[1:]


@pytest.mark.parametrize("name", SPACES)
def test_mirroring_is_an_involution_that_swaps_the_pairs(name):
    one = SPACES[name]
    mirrored = one.mirrored
    assert mirrored.dtype == np.int64
    assert np.array_equal(mirrored[mirrored], np.arange(one.n))
    moved = {one.classes[i] for i in np.flatnonzero(mirrored != np.arange(one.n))}
    assert moved == {c for pair in LEFT_RIGHT_PAIRS for c in pair if c in one.classes}
    assert mirrored[one.index("l_eye")] == one.index("r_eye")


@given(st.sampled_from(NINETEEN), st.sampled_from(NINETEEN), st.lists(st.integers(0, 18), min_size=1, max_size=30))
def test_conversion_goes_by_name_and_back(a, b, values):
    source, target, labels = SPACES[a], SPACES[b], np.array(values)
    converted = conversion(source, target)[labels]
    assert [target.classes[i] for i in converted] == [source.classes[i] for i in values]
    assert np.array_equal(conversion(target, source)[converted], labels)


def test_conversion_from_fewer_classes_keeps_every_name():
    to_canonical = conversion(SPACES["lapa"], CELEBAMASK)
    assert [CELEBAMASK.classes[i] for i in to_canonical] == list(SPACES["lapa"].classes)


def test_a_conversion_that_would_lose_a_class_is_refused():
    with pytest.raises(UserError, match=r"space 'celebamask' cannot be converted to 'lapa', which lacks eye_g, l_ear"):
        conversion(CELEBAMASK, SPACES["lapa"])


def test_attributes_are_unions_of_classes():
    assert len(ATTRIBUTES) == 11
    assert attribute_classes("lips") == ("u_lip", "l_lip")
    assert attribute_indices("eyes", CELEBAMASK) == (4, 5)
    assert attribute_indices("lips", SPACES["segface"]) == (13, 12)
    assert all(c in CELEBAMASK.classes for a in ATTRIBUTES for c in attribute_classes(a))
    assert set(LONG_TAIL) == {"eye_g", "hat", "ear_r", "neck_l"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: space("celeba"), "unknown label space 'celeba'; choose one of celebamask, segface, zllrunning, lapa"),
        (lambda: attribute_classes("beard"), "unknown attribute 'beard'; choose one of hair, lips, skin, eyes"),
        (
            lambda: CELEBAMASK.index("beard"),
            "label space 'celebamask' has no class 'beard'; its classes are background",
        ),
        (lambda: attribute_indices("hat", SPACES["lapa"]), "label space 'lapa' has no class 'hat'"),
    ],
)
def test_an_unknown_name_lists_the_choices(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_palette_gives_a_class_one_colour_in_every_space():
    canonical = palette(CELEBAMASK)
    assert canonical.shape == (19, 3)
    assert canonical.dtype == np.uint8
    assert canonical[0].tolist() == [0x1F, 0x77, 0xB4]  # the first colour of tab20
    assert len(np.unique(canonical, axis=0)) == 19
    for one in SPACES.values():
        assert all((palette(one)[one.index(c)] == canonical[CELEBAMASK.index(c)]).all() for c in one.classes)


def test_a_label_space_cannot_be_changed():
    with pytest.raises(AttributeError):
        CELEBAMASK.name = "other"
    with pytest.raises(TypeError):
        SPACES["other"] = LabelSpace("other", ("background",))
