"""Derived seeds: pinned for ever, in range, and different wherever anything differs."""

import itertools
import subprocess
import sys

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from semfacediff.seeding import derive_seed

PINNED = derive_seed(42, "00001", "hair")


def test_seeds_never_change():
    """Recorded runs depend on these numbers."""
    assert derive_seed(42) == 0x39A3AE5A052B4746
    assert PINNED == 0x12942954E1B4AB4C


def test_another_process_derives_the_same_seed():
    code = "from semfacediff.seeding import derive_seed; print(derive_seed(42, '00001', 'hair'))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) == PINNED


@given(st.lists(st.one_of(st.integers(), st.text(max_size=8)), min_size=1, max_size=4))
def test_seeds_fit_every_generator(parts):
    seed = derive_seed(*parts)
    assert 0 <= seed < 2**63
    torch.Generator().manual_seed(seed)
    np.random.default_rng(seed)


def test_run_sample_and_attribute_each_change_the_seed():
    keys = list(itertools.product(range(5), ("00000", "00001", "1"), ("hair", "lips")))
    assert len({derive_seed(*k) for k in keys}) == len(keys)
    assert derive_seed("a", "bc") != derive_seed("ab", "c")
    assert derive_seed("a", "b") != derive_seed("b", "a")
