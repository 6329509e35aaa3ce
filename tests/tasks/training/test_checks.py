"""What is known to fail before a training starts."""

import pytest
import torch
from torch import nn

from semfacediff.parsing import build_parser
from semfacediff.tasks.training.checks import single_value_norms


def test_norms_over_single_pixels_are_found_by_name():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))
    assert single_value_norms(model.train(), 8) == ["3"]
    assert single_value_norms(model, 2) == ["1", "3"]
    assert model.training
    assert torch.all(model[1].running_mean == 0)


NORMS = {
    ("fastscnn_lite", 32): None,  # many: its maps are 1x1 from the bottlenecks on
    ("fastscnn_lite", 64): ["global_feature_extractor.ppm.stages.0.1.1"],
    ("deeplabv3plus_lite", 32): ["aspp.bn5"],
    ("segformer_lite", 32): ["decoder.projections.3.1"],
    ("segformer_lite", 64): [],
    ("unet_lite", 32): [],
    ("segformer_b0", 32): None,
    ("face_lite", 32): None,
}


@pytest.mark.parametrize(("name", "size"), NORMS, ids=lambda v: str(v))
def test_they_are_those_that_cannot_train_on_one_photo(name, size):
    """Looked for in eval mode, as training would stop at the first; here training shows them with two photos."""
    model = build_parser(name)
    found = single_value_norms(model, size)
    alone = []
    for n, m in model.named_modules():
        if isinstance(m, nn.BatchNorm2d):
            m.register_forward_pre_hook(lambda _, x, n=n: alone.append(n) if x[0].shape[2:] == (1, 1) else None)
    model.train()(torch.randn(2, 3, size, size))
    assert found == alone
    if NORMS[name, size] is not None:
        assert found == NORMS[name, size]
    photo = torch.randn(1, 3, size, size)
    if found:
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            model(photo)
    else:
        assert torch.isfinite(model(photo)).all()
