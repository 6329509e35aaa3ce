"""The small parser's shape, size and independence of its batch."""

import pytest
import torch

from semfacediff.parsing import build_parser


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_parser("face_lite").eval()


def test_is_as_small_as_it_says(model):
    assert sum(p.numel() for p in model.parameters()) == 1_753_803 < 2_000_000


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (67, 45)])
def test_logits_have_the_photos_size(model, size):
    assert model(torch.zeros(1, 3, *size)).shape == (1, 19, *size)


def test_other_class_counts():
    assert build_parser("face_lite", classes=11)(torch.zeros(2, 3, 64, 64)).shape == (2, 11, 64, 64)


@torch.inference_mode()
def test_photos_of_a_batch_do_not_meet(model):
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(x), torch.cat([model(one[None]) for one in x]), atol=1e-5, rtol=0)


def test_a_batch_of_one_can_train(model):
    fresh = build_parser("face_lite").train()
    fresh(torch.randn(1, 3, 64, 64)).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in fresh.parameters())
