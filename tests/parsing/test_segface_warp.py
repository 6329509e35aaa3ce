"""The RoI tanh warp against the published grids, and what is half a pixel off in them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from semfacediff.errors import UserError
from semfacediff.parsing.segface.warp import TanhWarp, similarity

FIXTURE = Path(__file__).parents[1] / "fixtures" / "segface" / "segface_lapa_tanh_warp.npz"
SIDE = 128


@pytest.fixture(scope="module")
def stated():
    return dict(np.load(FIXTURE))


@pytest.fixture(scope="module")
def landmarks(stated):
    return torch.from_numpy(stated["landmarks5"])


@pytest.fixture(scope="module")
def warp(landmarks, stated):
    """The fixture's square is larger than its photos are long."""
    return TanhWarp(similarity(landmarks, SIDE), tuple(stated["orig_shape"].tolist()), SIDE)


@pytest.fixture
def at_template():
    """Landmarks of a 128 px photo that are at the template's places already."""
    places = torch.tensor([[(196, 226), (316, 226), (256, 286), (220, 360.4), (292, 360.4)]])
    return places / 256 * (SIDE - 1) / 2


def test_the_similarity_is_the_published_one(warp, stated):
    np.testing.assert_allclose(warp.matrix, stated["matrix"], rtol=0, atol=1e-5)


def test_the_grids_are_the_published_ones(warp, stated):
    s = int(stated["stride"])
    assert tuple(warp.grid().shape) == (2, SIDE, SIDE, 2)
    assert tuple(warp.inverse_grid().shape) == (2, 96, 112, 2)
    np.testing.assert_allclose(warp.grid()[:, ::s, ::s], stated["warp_grid_sub"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(warp.inverse_grid()[:, ::s, ::s], stated["inv_grid_sub"], rtol=0, atol=1e-5)


def test_the_similarity_turns_scales_and_shifts_back(at_template):
    """The best one of points that are exactly similar to the template brings them exactly there."""
    angle, scale = 0.4, 1.7
    turn = scale * torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=torch.float32)
    moved = at_template @ turn.T + torch.tensor([12.0, -5.0])
    m = similarity(moved, SIDE)
    back = moved @ m[:, :2, :2].transpose(1, 2) + m[:, None, :2, 2]
    torch.testing.assert_close(back, at_template, rtol=0, atol=1e-3)


def test_there_and_back_is_the_same_place(warp):
    points = torch.tensor([[20.0, 30.0], [56.0, 48.0], [100.0, 90.0], [64.0, 64.0]])
    torch.testing.assert_close(
        warp.inverse_points(warp.forward_points(points)[:1])[:1], points[None], rtol=0, atol=2e-3
    )


def test_the_middle_is_not_drawn_in(at_template):
    warp = TanhWarp.of(at_template, (SIDE, SIDE))
    inside, outside = torch.tensor([[60.0, 68.0]]), torch.tensor([[10.0, 300.0]])
    torch.testing.assert_close(warp.forward_points(inside)[0], inside, rtol=0, atol=1e-4)
    x, y = warp.forward_points(outside)[0, 0]
    assert 10 < x < 51.2
    assert 76.8 < y < 128


def test_half_a_pixel(at_template):
    """In the middle, where the warp is the identity: as published every pixel is the mean of four."""
    photo = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    middle = (..., slice(56, 72), slice(56, 72))
    aligned, published = (TanhWarp.of(at_template, (SIDE, SIDE), aligned) for aligned in (True, False))
    torch.testing.assert_close(aligned.into_square(photo)[middle], photo[middle], rtol=0, atol=1e-4)
    torch.testing.assert_close(aligned.back(photo)[middle], photo[middle], rtol=0, atol=1e-4)
    before = (..., slice(55, 71), slice(55, 71))
    rows = (..., slice(55, 71), slice(56, 72))
    columns = (..., slice(56, 72), slice(55, 71))
    four = (photo[middle] + photo[before] + photo[rows] + photo[columns]) / 4
    torch.testing.assert_close(published.into_square(photo)[middle], four, rtol=0, atol=1e-4)


def test_beyond_the_photo_and_beyond_the_square_is_nothing(at_template):
    """A face that fills a third of the photo's height: the square's corners show what is beyond the photo."""
    warp = TanhWarp.of(at_template, (SIDE, SIDE))
    square = warp.into_square(torch.ones(1, 3, SIDE, SIDE))
    assert square[..., 0, 0].eq(0).all()
    assert square[..., SIDE // 2, SIDE // 2].eq(1).all()
    small = TanhWarp.of(at_template / 20, (SIDE, SIDE)).back(torch.ones(1, 11, SIDE, SIDE))
    assert small.amax() == 1
    torch.testing.assert_close(small[..., -1, -1], torch.full((1, 11), 0.25), rtol=0, atol=1e-3)


def test_a_photo_of_any_shape_keeps_its_size(landmarks):
    warp = TanhWarp.of(landmarks, (96, 112))
    square = warp.into_square(torch.rand(2, 3, 96, 112))
    assert tuple(square.shape) == (2, 3, 112, 112)
    assert tuple(warp.back(square).shape) == (2, 3, 96, 112)


@pytest.mark.parametrize("shape", [(2, 4, 2), (5, 2), (1, 5, 3)])
def test_other_than_five_points(shape):
    with pytest.raises(UserError, match=rf"expected landmarks \[N, 5, 2\] .*, got \[{', '.join(map(str, shape))}\]"):
        TanhWarp.of(torch.rand(shape), (64, 64))


def test_points_that_give_no_size():
    with pytest.raises(UserError, match="five different landmarks, got a photo with all in one place"):
        TanhWarp.of(torch.zeros(1, 5, 2), (64, 64))


def test_half_precision_moves_nothing(at_template):
    """A ramp across the photo shows its own place: in bfloat16 to within that number's rounding."""
    ramp = torch.arange(SIDE).float().expand(1, 1, SIDE, SIDE) / SIDE
    warp = TanhWarp.of(at_template + 1.3, (SIDE, SIDE))
    half = warp.into_square(ramp.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), warp.into_square(ramp), rtol=0, atol=2**-8 + 1e-6)
