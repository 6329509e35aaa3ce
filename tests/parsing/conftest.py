"""Published networks by their manifests: key names, shapes, and weights that need no download."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

FIXTURES = Path(__file__).parents[1] / "fixtures"


def folder_of(name: str) -> Path:
    """Where the fixtures of a published network lie."""
    return FIXTURES / ("segface" if name.startswith("segface_") else "lite_parsers")


def fill(key: str, shape: list[int], gain: float) -> torch.Tensor:
    """float32 ``shape``: the fixtures' deterministic weights of a published key."""
    leaf = key.rsplit(".", 1)[-1]
    z = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    if leaf == "running_mean":
        v = 0.1 * z
    elif leaf == "running_var":
        v = 1.0 + 0.1 * np.abs(z)
    elif leaf == "positional_encoding_gaussian_matrix" or key.endswith("_token.weight"):
        v = z
    elif len(shape) >= 2:
        v = gain * z / np.sqrt(np.prod(shape[1:]))
    elif leaf == "weight":
        v = 1.0 + 0.1 * z
    else:
        v = 0.1 * z
    return torch.from_numpy(np.asarray(v, dtype=np.float32))


@pytest.fixture(scope="session")
def manifest() -> Callable[[str], dict]:
    """``manifest(name)``: what ``<name>.manifest.json`` states of a published network."""
    return lambda name: json.loads((folder_of(name) / f"{name}.manifest.json").read_text())


@pytest.fixture(scope="session")
def outputs() -> Callable[[str], dict[str, np.ndarray]]:
    """``outputs(name)``: input ``x`` and what the published network made of it with the filled weights."""
    return lambda name: dict(np.load(folder_of(name) / f"{name}.npz"))


@pytest.fixture(scope="session")
def filled(manifest) -> Callable[[str], dict[str, torch.Tensor]]:
    """``filled(name)``: a flat state dict under published keys, without what a module constructs itself."""

    def weights(name: str) -> dict[str, torch.Tensor]:
        stated = manifest(name)
        return {key: fill(key, shape, stated["gain"]) for key, shape, _, how, _ in stated["entries"] if how == "fill"}

    return weights
