"""The optimiser's settings, with what a test changes."""

import pytest
import yaml

from semfacediff import config


@pytest.fixture(scope="session")
def settings(repository):
    """``settings(**changed)``: ``conf/optim/adamw.yaml`` without warm-up: rates of 1e-3 along a cosine."""
    plain = yaml.safe_load((repository / "conf/optim/adamw.yaml").read_text()) | {"warmup_steps": 0}
    return lambda **changed: config.AdamWConfig(**plain | changed)
