"""Which parameter gets which rate and decay."""

import pytest
import torch

from semfacediff.parsing import build_parser
from semfacediff.tasks.training.optimisers import adamw, parameter_groups


@pytest.mark.parametrize("name", ["fastscnn_lite", "unet_lite", "face_lite"])
@pytest.mark.parametrize("everything_decays", [True, False])
def test_every_parameter_is_in_one_group(name, everything_decays, settings):
    model = build_parser(name)
    s = settings(encoder_lr=0.125, decoder_lr=0.25, weight_decay=0.5, decay_norms_and_biases=everything_decays)
    groups = parameter_groups(model, s)
    found = [p for g in groups for p in g["params"]]
    assert len(found) == len(list(model.parameters())) == len({id(p) for p in found})
    inside = {id(p) for part in model.encoder for p in getattr(model, part).parameters()}
    for group in groups:
        for p in group["params"]:
            assert group["lr"] == group["base_lr"] == (0.125 if id(p) in inside else 0.25)
            assert group["part"] == ("encoder" if id(p) in inside else "decoder")
            assert group["weight_decay"] == (0.5 if everything_decays or p.ndim > 1 else 0.0)
    assert len(groups) == (2 if everything_decays else 4)


def test_without_decay_a_bias_without_gradient_stays(settings):
    model = build_parser("unet_lite")
    torch.nn.init.ones_(model.output.bias)
    optimiser = adamw(model, settings(weight_decay=0.5, decay_norms_and_biases=False))
    before = model.output.weight.detach().clone()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimiser.step()
    assert torch.equal(model.output.bias, torch.ones(19))
    assert not torch.equal(model.output.weight, before)
