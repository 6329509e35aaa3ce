"""The optimiser's settings, with what a test changes."""

import pytest

from semfacediff.tasks.training.optimisers import AdamWSettings


@pytest.fixture(scope="session")
def settings():
    """``settings(**changed)``: rates of 1e-3 along a cosine."""
    plain = {"encoder_lr": 1e-3, "decoder_lr": 1e-3, "weight_decay": 0.01}
    return lambda **changed: AdamWSettings(**plain | changed)
