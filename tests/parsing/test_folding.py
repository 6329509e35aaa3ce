"""Batch norms in the convolutions: the same function."""

import copy

import pytest
import torch
from torch import nn

from semfacediff.parsing import build_parser
from semfacediff.parsing.folding import fold_batch_norms


@pytest.mark.parametrize("name", ["face_lite", "fastscnn_lite"])
def test_the_network_gives_the_same_logits(name):
    torch.manual_seed(0)
    model = build_parser(name).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    folded = copy.deepcopy(model)
    fold_batch_norms(folded)
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-4)
    kinds = [sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) for net in (model, folded)]
    assert kinds[0] > 20
    assert kinds[1] < kinds[0] / 4
