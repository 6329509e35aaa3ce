"""Published networks by their manifests, weights that need no download, a tiny model whose branches all speak."""

import functools
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from semfacediff.synthesis import PRESETS, SCADM
from semfacediff.synthesis.sampling import SamplingOptions

FIXTURES = Path(__file__).parents[1] / "fixtures" / "sca_dm"


def fill(key: str, shape: list[int]) -> torch.Tensor:
    """float32 ``shape``: the fixtures' deterministic weights of a published key."""
    z = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    z = z / np.sqrt(np.prod(shape[1:])) if len(shape) >= 2 else 0.1 * z + key.endswith("weight")
    return torch.from_numpy(z.astype(np.float32))


@pytest.fixture(scope="session")
def manifest() -> Callable[[str], dict]:
    """``manifest(name)``: what ``<name>.manifest.json`` states of a published network."""
    return lambda name: json.loads((FIXTURES / f"{name}.manifest.json").read_text())


@pytest.fixture(scope="session")
def filled(manifest) -> Callable[[str], dict[str, torch.Tensor]]:
    """``filled(name)``: a state dict under published keys."""
    return lambda name: {key: fill(key, shape) for key, shape in manifest(name)["state_dict"]}


@pytest.fixture(scope="session")
def outputs() -> Callable[[str], dict[str, torch.Tensor]]:
    """``outputs(name)``: inputs and what the published network made of them with the filled weights."""
    return lambda name: {k: torch.from_numpy(v) for k, v in np.load(FIXTURES / f"{name}.npz").items()}


def spoken(model: torch.nn.Module) -> torch.nn.Module:
    """``model`` with noise where it starts as zeros, decoding without quantisation: every branch changes the output."""
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        if not p.any():
            torch.nn.init.normal_(p.data, std=0.2, generator=generator)
    model.first_stage.decode = functools.partial(model.first_stage.decode, quantise=False)
    return model.eval()


@pytest.fixture(scope="session")
def make_tiny() -> Callable[..., SCADM]:
    """``make_tiny(**options)``: a tiny model with seeded random weights."""

    def make(**options) -> SCADM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            plain = {**vars(PRESETS["test"]), **options}
            return spoken(SCADM(type(PRESETS["test"])(**plain)))

    return make


@pytest.fixture(scope="session")
def tiny(make_tiny) -> SCADM:
    """A tiny model, not to be changed."""
    return make_tiny()


@pytest.fixture(scope="session")
def quick() -> SamplingOptions:
    """Two steps."""
    return SamplingOptions(steps=2)
