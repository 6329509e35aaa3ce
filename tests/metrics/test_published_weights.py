"""LPIPS's trunk and FID's network, as their publishers write the files, through our own search."""

import hashlib
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
import torchvision

from semfacediff.metrics.inception import Inception
from semfacediff.metrics.perceptual import LPIPS
from semfacediff.metrics.weights import INCEPTION, LPIPS_ALEXNET, find

CPU = torch.device("cpu")


@pytest.fixture
def in_cache(tmp_path, monkeypatch):
    """``in_cache(weights, state, **saving)``: the state dict in torch's cache under the published name; the entry."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()

    def put(weights, state, **saving):
        (place,) = weights.files[0].kept()
        torch.save(state, place, **saving)
        digest = hashlib.sha256(place.read_bytes()).hexdigest()
        return replace(weights, files=(replace(weights.files[0], sha256=digest),))

    return put


@pytest.mark.slow
def test_pytorch_fids_file_opens_without_the_counters_of_its_normalisations(in_cache):
    """Files of before torch 0.4.1 do not have them, and the network does not use them."""
    torch.manual_seed(1)
    head = {"fc.weight": torch.randn(1008, 2048), "fc.bias": torch.randn(1008)}
    state = OrderedDict(Inception(None, "random", CPU).net.state_dict() | head)
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    assert len(counters) == 94
    older = OrderedDict((name, values) for name, values in state.items() if name not in counters)
    found = find(in_cache(INCEPTION, older), None, None, download=False)
    assert found.comparable
    for name, values in Inception(found.state, found.name, CPU).net.state_dict().items():
        assert torch.equal(values, state[name]), name


@pytest.mark.slow
def test_torchvisions_whole_alexnet_opens_in_both_formats_of_torch(in_cache, pair):
    torch.manual_seed(2)
    state = torchvision.models.AlexNet().state_dict()
    values = []
    for zipped in (True, False):
        found = find(in_cache(LPIPS_ALEXNET, state, _use_new_zipfile_serialization=zipped), None, None, download=False)
        assert found.comparable
        values.append(LPIPS("strict", found.state, found.name, CPU).score(pair())["lpips"])
    assert values[0] > 0
    assert values == [values[0]] * 2
