"""Pairs of photo and edit, and an AlexNet that nobody trained."""

from pathlib import Path

import numpy as np
import pytest
import torch

from semfacediff.metrics.base import EditPair


def made_pair(seed=0, height=96, width=80, damage=12, after_shift=3) -> EditPair:
    """A textured photo, a region with a feathered rim, an edit that changes the region a lot and the rest by noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = np.stack([y * 2.0, x * 2.5, 120 + 60 * np.sin(x / 5) * np.cos(y / 7)], axis=-1)
    photo = np.clip(base + random.normal(0, 12, base.shape), 0, 255).astype(np.uint8)
    distance = np.hypot(y - height / 2, x - width / 2)
    blend = np.clip((min(height, width) / 3 - distance) / 8, 0, 1)
    noise = random.normal(0, 1, base.shape) * damage
    edit = np.clip(photo + noise + 70 * blend[..., None], 0, 255).astype(np.uint8)
    region = blend > 0.5
    return EditPair(photo, edit, np.rint(blend * 255).astype(np.uint8), region, np.roll(region, after_shift, axis=1))


@pytest.fixture(scope="session")
def pair():
    """:func:`made_pair`."""
    return made_pair


@pytest.fixture(scope="session")
def alexnet() -> dict[str, torch.Tensor]:
    """A torchvision AlexNet state dict with random weights; of its classifier, which LPIPS ignores, only a stub."""
    from torchvision.models import AlexNet

    with torch.random.fork_rng(), torch.device("meta"):
        shapes = AlexNet().features.state_dict()
    generator = torch.Generator().manual_seed(11)
    state = {f"features.{k}": 0.05 * torch.randn(v.shape, generator=generator) for k, v in shapes.items()}
    return state | {"classifier.6.bias": torch.zeros(1000)}


@pytest.fixture(scope="session")
def alexnet_file(alexnet, tmp_path_factory) -> Path:
    """:func:`alexnet` in a file."""
    file = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save(alexnet, file)
    return file
